"""From a labelled source to an unlabelled target: nothing there teaches or chooses, and the run says what it knows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headstart
from headstart.deploy.model import Model
from headstart.domains import bring, read_target
from headstart.errors import DataError, MissingExtraError, PlanError
from headstart.evidence.adaptation import Adaptation
from headstart.progress import Progress
from tests.conftest import call
from tests.test_backbones import save_tiny

pytest.importorskip("skada")


def rows(n: int, frame: tuple[str, ...], seed: int) -> list[tuple[str, str]]:
    """n texts about a cat or about dogs, in one domain's own words; all are words that the tiny tokenizer knows."""
    rng = np.random.default_rng(seed)
    texts: dict[str, str] = {}
    while len(texts) < n:
        pet = ("cat", "dogs")[len(texts) % 2]
        words = list(rng.choice(frame, rng.integers(3, 8)))
        words.insert(int(rng.integers(len(words) + 1)), pet)
        texts.setdefault(" ".join(words), {"cat": "quiet", "dogs": "loud"}[pet])
    return list(texts.items())


SOURCE = rows(120, ("the", "sat", "on", "a", "mat", "ran"), 0)
TARGET = rows(80, ("while", "far", "away", "and", "nobody", "saw", "them"), 1)


def write(path: Path, rows: list[tuple[str, str]], columns: tuple[str, ...] = ("text", "label")) -> Path:
    pd.DataFrame(rows, columns=["text", "label"])[list(columns)].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny("bert", tmp_path_factory.mktemp("tiny") / "bert"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("data") / "homes.csv", SOURCE))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("data") / "roads.csv", TARGET, ("text",)))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("data") / "roads.csv", TARGET))


@pytest.fixture(scope="module")
def labelled(source: str, told: str, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A run with a labelled target, solved ways only."""
    out = tmp_path_factory.mktemp("runs") / "labelled"
    return headstart.fit(source, to=told, target_labels="label", backbone=tiny, budget="1s", out=out)


def adaptation(model: Model) -> Adaptation:
    return Adaptation.from_json(json.loads(model.files["metrics.json"])["adaptation"])


def table(model: Model, name: str) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(model.files[name]))


def test_domains_lie_side_by_side_and_labels_apart(source: str, told: str) -> None:
    own = headstart.read(source)
    domains = bring(own, read_target(told, own, "auto"), 0, Progress())
    both, rows = domains.both, domains.rows
    assert len(both.dataset) == len(both.digests) == len(both.y) == len(SOURCE) + len(TARGET)
    assert (both.y[rows] == -1).all()  # what must not be read says nothing
    assert [both.dataset.inputs[row] for row in rows] == [text for text, _ in TARGET]
    names = domains.source.task.score_names
    assert [names[k] for k in domains.truth] == [label for _, label in TARGET]
    bare = bring(own, read_target(told, own, None), 0, Progress()).both  # the same, whether labels measure or not
    assert all(np.array_equal(both.rows[name], bare.rows[name]) for name in ("train", "val", "test", "target"))
    assert not (set(rows) & set(both.rows["train"]) | set(rows) & set(both.rows["val"]))


def test_without_labels_the_source_keeps_a_test_and_nothing_is_known(source: str, told: str) -> None:
    own = headstart.read(source)
    domains = bring(own, read_target(told, own, None), 0, Progress())  # the labels are there, but nobody named them
    assert not domains.measured
    assert len(domains.both.rows["test"]) > 0


def test_the_targets_labels_do_nothing_but_measure(source: str, tiny: str, labelled: Model, tmp_path: Path) -> None:
    """With every label of the target turned round, the choice and the model are the same, to the bit."""
    turned = write(tmp_path / "roads.csv", [(text, {"quiet": "loud", "loud": "quiet"}[y]) for text, y in TARGET])
    again = headstart.fit(source, to=str(turned), target_labels="label", backbone=tiny, budget="1s")
    assert np.array_equal(again.head.weight, labelled.head.weight)
    assert adaptation(again).chosen.title == adaptation(labelled).chosen.title
    assert [way.gains for way in adaptation(again).ways] == [way.gains for way in adaptation(labelled).ways]
    accuracy = [model.evidence.metrics["accuracy"].value for model in (again, labelled)]
    assert sum(accuracy) == pytest.approx(1)


def test_what_is_measured_is_what_the_table_says(labelled: Model) -> None:
    answers = table(labelled, "target.parquet")
    truth = [label for _, label in TARGET]
    share = float(np.mean(answers["prediction"].to_numpy() == np.array(truth)))
    found = adaptation(labelled)
    assert labelled.evidence.primary == "accuracy"
    assert labelled.evidence.metrics["accuracy"].value == pytest.approx(share)
    assert found.chosen.measured is not None
    assert found.chosen.measured.value == pytest.approx(share)
    assert found.n_labelled == found.n_target == len(TARGET)
    assert {"probe", "coral", "transport", "subspace"} <= {way.strategy for way in found.ways}
    assert labelled.evidence.paid is None or found.chosen is not found.source_only


def test_a_saved_run_answers_alike(labelled: Model, told: str) -> None:
    assert labelled.run is not None
    loaded = headstart.load(labelled.run)
    answers = table(labelled, "target.parquet")
    assert loaded.predict([text for text, _ in TARGET]) == answers["prediction"].tolist()
    found = loaded.evaluate(told)  # without labels it taught nothing, so that all of it may be measured on
    assert found.n == len(TARGET)
    assert found.metrics["accuracy"].value == pytest.approx(labelled.evidence.metrics["accuracy"].value)


def test_a_run_without_labels_claims_nothing_of_the_target(
    source: str, bare: str, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("fit", source, "--to", bare, "--backbone", tiny, "--budget", "1s", "--out", tmp_path / "run") == 0
    shown = capsys.readouterr().out
    model = headstart.load(tmp_path / "run")
    assert model.evidence.paid is None
    assert "Nothing was measured in the target" in model.evidence.verdict
    assert "estimate" in model.evidence.verdict
    assert model.evidence.verdict in " ".join(shown.split())
    assert adaptation(model).n_labelled == 0
    assert all(way.measured is None for way in adaptation(model).ways)
    page = model.files["report.html"].decode()
    assert "The estimate is not a measurement" in page
    assert "Proxy A-distance" in page
    assert call("report", tmp_path / "run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["adaptation"]["n_target"] == len(TARGET)


@pytest.mark.parametrize("strategy", ["coral", "probe", "together", "deep_coral"])
def test_a_named_way_ships_whatever_the_scores_say(
    source: str, told: str, tiny: str, strategy: str, tmp_path: Path
) -> None:
    model = headstart.fit(source, to=told, target_labels="auto", backbone=tiny, strategy=strategy, out=tmp_path / "run")
    found = adaptation(model)
    assert model.plan.strategy == found.chosen.strategy == strategy
    assert found.asked_for
    if strategy != "probe":
        again = headstart.fit(source, to=told, target_labels="auto", plan=tmp_path / "run", backbone=tiny)
        assert np.array_equal(again.head.weight, model.head.weight)
        assert again.plan.reason == model.plan.reason


def wrong(source: str, told: str, **said: Any) -> None:
    headstart.fit(source, to=said.pop("to", told), **said)


def test_what_cannot_be_is_said(source: str, told: str, tiny: str, tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(PlanError, match="not a way to adapt"):
        wrong(source, told, strategy="corall", backbone=tiny)
    with pytest.raises(PlanError, match="Name it with --to"):
        headstart.fit(source, target_labels="label", backbone=tiny)
    with pytest.raises(DataError, match="holds texts, but the target"):
        wrong(source, told, to=str(pictures), backbone=tiny)
    with pytest.raises(DataError, match="needs at least 20"):
        wrong(source, told, to=str(write(tmp_path / "few.csv", TARGET[:9])), backbone=tiny)
    other = [(text, f"kind {i % 2}") for i, (text, _) in enumerate(TARGET)]
    with pytest.raises(DataError, match="None of the target's labels"):
        wrong(source, told, to=str(write(tmp_path / "other.csv", other)), target_labels="label", backbone=tiny)
    numbers = headstart.read([text for text, _ in SOURCE], [i + 0.5 for i in range(len(SOURCE))])
    with pytest.raises(PlanError, match="classification"):
        headstart.fit(numbers, to=told, backbone=tiny)


def test_classes_that_the_source_lacks_are_not_measured_on(source: str, tiny: str, tmp_path: Path) -> None:
    mixed = [(text, "odd" if i < 10 else label) for i, (text, label) in enumerate(TARGET)]
    model = headstart.fit(
        source, to=str(write(tmp_path / "m.csv", mixed)), target_labels="label", backbone=tiny, strategy="coral"
    )
    found = adaptation(model)
    assert (found.n_target, found.n_labelled) == (len(TARGET), len(TARGET) - 10)
    findings = json.loads(model.files["metrics.json"])["findings"]
    assert any(finding["kind"] == "open set" for finding in findings)


def test_a_missing_extra_is_named_before_anything_is_run(
    source: str, told: str, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.across.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"headstart\[align\]"):
        wrong(source, told, backbone=tiny)
