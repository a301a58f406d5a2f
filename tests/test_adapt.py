"""The search the whole way through: what it tries, ships, says and keeps; a plan repeats it, a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headstart
from headstart import places, transfer
from headstart.errors import PlanError
from headstart.evidence.plan import Plan
from headstart.problem import pose, some_of_each
from headstart.progress import Progress
from headstart.study import compare, draw, rank
from headstart.wishes import Wishes, seconds_of
from tests.test_backbones import WORDS, save_tiny

N = 240


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of three small layers with random weights, in the hub's layout."""
    return str(save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny"))


def texts(n: int = N) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 6)) + f" number {i}" for i in range(n)]


def write(path: Path, labels: list[str]) -> Path:
    pd.DataFrame({"text": texts(len(labels)), "label": labels}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def cats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whether the text speaks of a cat: words tell it, and a network can learn it."""
    labels = ["cat" if "cat" in text.split() else "none" for text in texts()]
    return write(tmp_path_factory.mktemp("data") / "cats.csv", labels)


@pytest.fixture(scope="module")
def searched(tiny: str, cats: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Model:
    out = tmp_path_factory.mktemp("runs") / "cats"
    return transfer.fit(str(cats), backbone=tiny, out=out, strategy="auto")


def test_the_plan_holds_the_depth_profile_and_every_candidate(searched: headstart.Model) -> None:
    plan = searched.plan
    single = [point for point in plan.depth if len(point.stages) == 1]
    assert [point.stages for point in single] == [(stage,) for stage in range(plan.n_stages)]
    assert all(point.score.low <= point.score.value <= point.score.high for point in plan.depth)
    assert {one.strategy for one in plan.candidates} >= {"probe", "partial"}
    assert sum(one.outcome == "chosen" for one in plan.candidates) == 1
    chosen = next(one for one in plan.candidates if one.outcome == "chosen")
    assert (chosen.strategy, chosen.cut) == (plan.strategy, plan.cut)
    trained = [one for one in plan.candidates if one.round]
    assert sum(one.cost_passes for one in trained) <= plan.budget_passes
    assert searched.evidence.baselines["same network from scratch"]
    assert not list(places.trials().glob("*.safetensors"))  # a fit that is done leaves no trials


def test_a_saved_plan_repeats_the_fit_exactly(searched: headstart.Model, cats: Path) -> None:
    assert searched.run is not None
    again = transfer.fit(str(cats), plan=searched.run)
    assert again.evidence.metrics == searched.evidence.metrics
    assert again.evidence.baselines == searched.evidence.baselines
    assert again.plan.reason == searched.plan.reason
    assert Plan.read(searched.run / "plan.json").to_json() == searched.plan.to_json()


@pytest.mark.parametrize(
    "choice", [{"strategy": "partial", "freeze": 2}, {"strategy": "full"}, {"strategy": "lora", "freeze": 1}]
)
def test_a_trained_model_answers_after_loading_as_it_did_on_test(
    choice: dict[str, Any], tiny: str, cats: Path, tmp_path: Path
) -> None:
    model = transfer.fit(str(cats), backbone=tiny, scratch=False, out=tmp_path / "run", **choice)
    assert (model.plan.strategy, model.plan.cut) == (choice["strategy"], choice.get("freeze", 0))
    loaded = headstart.load(tmp_path / "run")
    saved = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    said = loaded.predict_proba(saved["input"].tolist())
    np.testing.assert_allclose(said, saved[["p(cat)", "p(none)"]].to_numpy(), atol=1e-5)
    assert loaded.backbone.changes is not None


def test_a_trained_network_that_was_asked_for_keeps_examples_to_stop_by(tiny: str, tmp_path: Path) -> None:
    """Probes on so few labels are cross-validated; a network that is trained must not stop by what taught it."""
    labels = ["cat" if "cat" in text.split() else "none" for text in texts(60)]
    table = str(write(tmp_path / "few.csv", labels))
    told = []
    for choice in ({"strategy": "partial", "freeze": 2}, {"strategy": "probe"}):
        model = transfer.fit(table, backbone=tiny, scratch=False, out=tmp_path / choice["strategy"], **choice)
        told.append(json.loads(model.files["metrics.json"])["n"])
    assert told == [{"train": 36, "val": 12, "test": 12}, {"train": 48, "val": 0, "test": 12}]
    again = transfer.fit(table, plan=tmp_path / "partial")
    saved = json.loads((tmp_path / "partial" / "metrics.json").read_text())
    assert json.loads(again.files["metrics.json"])["metrics"] == saved["metrics"]


def test_where_words_are_better_the_classical_model_ships(tiny: str, tmp_path: Path) -> None:
    """Words that the network's tokenizer does not know: the run says so, ships TF-IDF, and is no worse than it."""
    labels = [str(label) for label in np.random.default_rng(1).permutation(np.repeat(["lion", "zebra"], N // 2))]
    table = pd.DataFrame({"text": [f"{t} {w}s" for t, w in zip(texts(), labels, strict=True)], "label": labels})
    table.to_csv(tmp_path / "zoo.csv", index=False)
    model = transfer.fit(str(tmp_path / "zoo.csv"), backbone=tiny, scratch=False, out=tmp_path / "run", budget="1s")
    assert model.plan.ships == "classical"
    assert "did not pay" in model.evidence.verdict
    assert "ships" in model.evidence.verdict
    assert model.evidence.paid is False
    assert model.evidence.metrics["accuracy"].value == 1.0
    loaded = headstart.load(tmp_path / "run")
    saved = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    np.testing.assert_allclose(loaded.predict_proba(saved["input"].tolist())[:, 0], saved["p(lion)"], atol=1e-6)
    assert loaded.predict(["the lions ran", "zebras on a mat"]) == ["lion", "zebra"]
    assert "classical" in (tmp_path / "run" / "report.html").read_text()


def test_shuffled_labels_are_not_said_to_pay(tiny: str, tmp_path: Path) -> None:
    labels = [str(label) for label in np.random.default_rng(1).permutation(np.repeat(["a", "b"], N // 2))]
    model = transfer.fit(str(write(tmp_path / "noise.csv", labels)), backbone=tiny)
    assert model.evidence.paid is not True
    score = model.evidence.metrics["roc_auc"]
    assert score.low <= 0.5 <= score.high


def test_wishes_are_checked_before_the_long_pass() -> None:
    for wishes, message in [
        (Wishes(strategy="parital"), "Did you mean 'partial'"),
        (Wishes(strategy="partial", freeze=4), "can freeze 1 to 3"),
        (Wishes(strategy="full", freeze=2), "freezes nothing"),
        (Wishes(freeze=9), "from 0 to 4"),
        (Wishes(budget="soon"), "not a time"),
    ]:
        with pytest.raises(PlanError, match=message):
            wishes.check(4)


@pytest.mark.parametrize(("given", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1.5h", 5400), (30, 30)])
def test_budgets_are_times(given: Any, seconds: float) -> None:
    assert seconds_of(given) == seconds


def test_a_plan_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(PlanError, match="not a plan"):
        Plan.read(tmp_path)


def test_a_part_holds_some_of_each_class() -> None:
    y = np.array([0] * 90 + [1] * 9 + [2])
    rows = some_of_each(y, 20, 0)
    assert set(y[rows]) == {0, 1, 2}
    assert 18 <= len(rows) <= 22
    assert np.array_equal(rows, some_of_each(y, 20, 0))


def test_ranking_trains_nothing(tiny: str, cats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr("headstart.workshop.Workshop.train", refuse)
    ranking = rank(str(cats), [tiny])
    (only,) = ranking.ranked
    assert len(only.stages) == 4
    assert all(stage.logme is not None for stage in only.stages)
    assert json.dumps(ranking.to_json())


def test_learning_curves_are_over_the_same_test_examples(tiny: str, cats: Path) -> None:
    found = compare(str(cats), ["probe", "classical"], labels=[16, "all"], seeds=2, backbone=tiny)
    assert {(point.system, point.n_labels) for point in found.points} == {
        (system, n) for system in ("probe", "classical") for n in (16, 192)
    }
    assert all(len(point.scores) == 2 for point in found.points)
    problem = pose(headstart.read(str(cats)), 0, Progress())
    one, other = draw(problem, 64, 0), draw(problem, 64, 1)
    assert np.array_equal(one.rows["test"], other.rows["test"])
    assert not np.array_equal(one.rows["train"], other.rows["train"])
    held_out = draw(problem, 16, 0, crosswise=False)
    assert len(held_out.rows["val"]) > 0
    assert not set(held_out.rows["val"]) & set(held_out.rows["train"])
    many = replace(problem, y=np.arange(len(problem.y)) // 2)  # two of each class, one of them drawn
    assert len(draw(many, 16, 0, crosswise=False).rows["val"]) > 0


def test_a_killed_fit_ends_as_an_undisturbed_one(
    searched: headstart.Model, tiny: str, cats: Path, tmp_path: Path
) -> None:
    """SIGKILL while it trains, three times over, then once more to the end: the same metrics to the last digit."""
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "headstart.cli", "fit", str(cats), "--backbone", tiny, "--strategy", "auto"]
    environment = {**os.environ, "HEADSTART_HOME": str(home), "OMP_NUM_THREADS": "1"}
    for n_trials in (1, 3):
        running = subprocess.Popen([*command, "--out", str(tmp_path / "run"), "--quiet"], env=environment)
        deadline = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < deadline:
            if len(list((home / "trials").glob("*.json"))) >= n_trials:
                break
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
        if (tmp_path / "run").exists():
            break
    assert running.returncode == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    subprocess.run([*command, "--out", str(tmp_path / "run"), "--quiet"], env=environment, check=True)
    killed = headstart.load(tmp_path / "run")
    assert killed.evidence.metrics == searched.evidence.metrics
    assert killed.plan.cut == searched.plan.cut
    assert [c.score for c in killed.plan.candidates] == [c.score for c in searched.plan.candidates]


def test_few_labels_are_cross_validated_and_all_of_them_teach(tiny: str, tmp_path: Path) -> None:
    """Sixteen labels: no depth can be chosen, so that the upper half of the network is read, and nothing is trained."""
    labels = ["cat" if "cat" in text.split() else "none" for text in texts(120)]
    splits = ["train"] * 40 + ["test"] * 80
    table = pd.DataFrame({"text": texts(120), "label": labels, "split": splits})
    table.to_csv(tmp_path / "few.csv", index=False)
    model = transfer.fit(str(tmp_path / "few.csv"), backbone=tiny, scratch=False, strategy="auto")
    assert model.plan.strategy == "probe"
    assert model.stages == (2, 3)
    assert len(model.seen) == 40
    assert any("cross-validation" in note for note in json.loads(model.files["metrics.json"])["data"]["notes"])
