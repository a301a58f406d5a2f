"""Fit a chatbot: adapters at several depths, what was chosen and shown, and what a run does afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.deploy.model import Model
from headstart.errors import PlanError
from headstart.evidence.chat_verdict import UNTOUCHED
from headstart.evidence.retrieval import TFIDF
from tests.conftest import call
from tests.language_models import save_language_model

COLOURS = ("red", "blue", "green", "grey", "pink", "gold", "teal", "lime", "plum", "navy")
THINGS = ("cup", "hat", "car", "pen", "bag", "box")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_language_model(tmp_path_factory.mktemp("llama"), "llama"))


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 conversations, each with a question and an answer of its own, some with one more."""
    lines = []
    for i, thing in enumerate(THINGS):
        for k, colour in enumerate(COLOURS):
            said = [("user", f"is the {thing} {colour}"), ("assistant", f"yes, {colour} {thing}")]
            said += [("user", "sure"), ("assistant", "the end")] if (i + k) % 4 == 0 else []
            lines.append({"messages": [{"role": role, "content": text} for role, text in said]})
    file = tmp_path_factory.mktemp("data") / "talks.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def fit(talks: Path, backbone: str, **wishes: Any) -> Model:
    return headstart.fit(headstart.read(talks), backbone=backbone, **wishes)


@pytest.fixture(scope="module")
def run(talks: Path, backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Adapters above the embedding, in large steps: a tiny random network learns something."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return fit(talks, backbone, strategy="lora", freeze=1, learning_rate=0.02, out=out)


def test_a_chatbot_is_better_at_what_it_learnt(run: Model) -> None:
    evidence = run.evidence
    assert evidence.primary == "perplexity"
    assert evidence.metrics["perplexity"].value < evidence.baselines[UNTOUCHED]["perplexity"].value
    assert evidence.differences[UNTOUCHED]["perplexity"].high < 0
    assert {"token_f1", "rouge_l"} <= evidence.baselines[TFIDF].keys()
    assert "perplexity" not in evidence.baselines[TFIDF]
    assert run.plan.strategy == "lora"
    assert run.plan.cut == 1


def test_a_run_answers_as_it_did_before_it_was_saved(run: Model) -> None:
    assert run.run is not None
    asked = ["is the cup red", "is the hat plum"]
    assert headstart.load(run.run).predict(asked) == run.predict(asked)
    assert {"report.html", "README.md", "metrics.json", "answers.jsonl", "plan.json"} <= {
        path.name for path in run.run.iterdir()
    }
    answered = [json.loads(line) for line in (run.run / "answers.jsonl").read_text().splitlines()]
    assert len(answered) == 12
    assert all(one["truth"] for one in answered)


def test_what_was_forgotten_and_copied_is_told(run: Model) -> None:
    assert run.run is not None
    told = json.loads((run.run / "metrics.json").read_text())["chat"]
    assert told["forgetting"]["ratio"]["value"] > 0
    assert told["samples"][0]["answers"].keys() >= {"model", UNTOUCHED}
    assert [one["split"] for one in told["lengths"]] == ["train", "val", "test"]
    page = (run.run / "report.html").read_text()
    assert "is the" in page


def test_every_depth_is_tried_and_the_plan_is_done_again(talks: Path, backbone: str, tmp_path: Path) -> None:
    model = fit(talks, backbone, out=tmp_path / "run", seed=1)
    tried = [(one.strategy, one.cut) for one in model.plan.candidates]
    assert tried[0] == ("zero_shot", 4)
    assert {("lora", 1), ("lora", 2), ("lora", 3)} <= set(tried)
    assert [one.outcome for one in model.plan.candidates].count("chosen") == 1
    again = fit(talks, backbone, plan=tmp_path / "run")
    assert again.evidence.metrics == model.evidence.metrics


def test_untouched_is_a_way(talks: Path, backbone: str) -> None:
    model = fit(talks, backbone, strategy="zero_shot")
    assert model.plan.strategy == "zero_shot"
    assert model.talker is not None
    assert model.talker.changes is None  # type: ignore[union-attr]
    assert model.evidence.metrics["perplexity"] == model.evidence.baselines[UNTOUCHED]["perplexity"]
    assert model.evidence.paid is not True


@pytest.mark.parametrize(("strategy", "cut"), [("partial", 2), ("full", 0)])
def test_weights_themselves_are_trained_where_that_is_asked_for(
    talks: Path, backbone: str, strategy: str, cut: int, tmp_path: Path
) -> None:
    model = fit(talks, backbone, strategy=strategy, out=tmp_path / "run")
    assert (model.plan.strategy, model.plan.cut) == (strategy, cut)
    assert headstart.load(tmp_path / "run").predict(["is the cup red"]) == model.predict(["is the cup red"])


def test_what_cannot_be_done_is_said(talks: Path, backbone: str) -> None:
    with pytest.raises(PlanError, match="does not write"):
        fit(talks, "minilm")
    with pytest.raises(PlanError, match="zero_shot, lora, partial, full"):
        fit(talks, backbone, strategy="probe")
    with pytest.raises(PlanError, match="freeze 0 to 3"):
        fit(talks, backbone, freeze=9, strategy="lora")
    with pytest.raises(PlanError, match="no head to train"):
        fit(talks, backbone, freeze=4)
    with pytest.raises(PlanError, match="name one"):
        headstart.fit(headstart.read(talks), backbone=[backbone, "smollm2-135m"])


def test_a_language_model_reads_plain_texts_too(reviews: Path, backbone: str) -> None:
    model = headstart.fit(reviews, backbone=backbone, strategy="probe", scratch=False)
    assert model.plan.n_stages == 4
    assert len(model.predict(["what a great film"])) == 1


def test_from_the_command_line(talks: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = ["fit", str(talks), "--backbone", backbone, "--strategy", "lora", "--freeze", "3", "--out", str(out)]
    assert call(*command, "--system", "Answer in short.") == 0
    shown = capsys.readouterr()
    assert "perplexity" in shown.out + shown.err
    assert headstart.load(out).talker.system == "Answer in short."  # type: ignore[union-attr]
