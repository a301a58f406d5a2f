"""A fit on plain tables, from the files to the run folder and back; few labels, none, and what cannot work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import headstart
from headstart import TableTransferClassifier, TableTransferRegressor, load, registry, study
from headstart.deploy.bundle import bundle
from headstart.deploy.export import export
from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.settings import Settings
from headstart.errors import DataError, HeadstartError, PlanError
from headstart.evidence.base import Score
from headstart.evidence.carried import Carried, verdict
from headstart.tasks.base import Metric
from tests.conftest import call

AUC: Metric = registry.TASKS.get("classification").from_labels(["no", "yes"]).metrics()[0]


def table(n: int, seed: int, shift: float = 0.0, flip: bool = False) -> pd.DataFrame:
    """People: two columns say most of whether they are ill, one is a word, some cells are missing."""
    rng = np.random.default_rng(seed)
    age, dose = rng.normal(50 + 10 * shift, 10, n).round(), rng.normal(shift, 1, n).round(2)
    ill = ((age - 50) / 10 - dose) * (-1 if flip else 1) + rng.normal(0, 0.7, n) > 0
    frame = pd.DataFrame(
        {
            "id": [f"p{seed}-{i}" for i in range(n)],
            "age": age,
            "dose": dose,
            "ward": rng.choice(["north", "south", "east"] if shift else ["north", "south"], n),
            "ill": np.where(ill, "yes", "no"),
        }
    )
    frame.loc[rng.random(n) < 0.1, "dose"] = np.nan
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source.csv, target.csv with 24 labels of 60, and new.csv with a ward that nobody saw."""
    where = tmp_path_factory.mktemp("tables")
    target = table(60, 1, shift=0.5).assign(tall=np.arange(60) % 7)
    target.loc[24:, "ill"] = ""
    target.to_csv(where / "target.csv", index=False)
    table(80, 0).assign(old=1.5).to_csv(where / "source.csv", index=False)
    table(30, 2, shift=0.5).assign(ward="west", tall=3).to_csv(where / "new.csv", index=False)
    return where


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run of few labels, made by the command line."""
    out = folder / "run"
    words = ("--source", folder / "source.csv", "--label", "ill", "--strategy", "pooled", "--out", out, "--quiet")
    assert call("fit", folder / "target.csv", *words) == 0
    return out


def test_the_run_says_what_was_measured_and_how(run: Path) -> None:
    told = json.loads((run / "metrics.json").read_text())
    assert "by cross-validation over the 24 labelled rows of the target" in told["verdict"]
    assert set(told["baselines"]) == {"majority guess", "target only", "source only, as it is"}
    assert told["n"] == {"train": 24, "val": 0, "test": 0, "source": 80}
    assert told["backbone"] is None
    assert {one["name"]: one["left_out"] for one in told["tables"]["columns"] if one["left_out"]} == {
        "id": "an id", "old": "only in the source",
    }  # fmt: skip
    assert told["tables"]["apart"]["value"] > 0.5
    plan = json.loads((run / "plan.json").read_text())
    assert plan["backbone"] == ""
    assert plan["reason"] == "as asked for: pooled"
    assert {one["strategy"] for one in plan["candidates"]} == {"pooled", "source_only", "target_only"}


def test_the_report_and_the_card_are_true(run: Path) -> None:
    report, card = (run / "report.html").read_text(), (run / "README.md").read_text()
    for text in ("Which ways to learn have a say", "The columns on both sides", "24 of the target with a label"):
        assert text in report
    assert "Cross-validation stands in for a test" in card
    assert "| backbone | none |" in card
    assert "headstart predict RUN TABLE.csv" in card
    assert "pretrained network keeps" not in card


def test_rows_without_a_label_are_predicted(run: Path) -> None:
    found = pd.read_parquet(run / "unlabelled.parquet")
    assert len(found) == 36
    assert set(found["prediction"]) <= {"no", "yes"}
    assert len(pd.read_parquet(run / "predictions.parquet")) == 24


def test_a_run_comes_back_to_the_last_bit(run: Path, folder: Path) -> None:
    model = load(run)
    rows = pd.read_csv(folder / "new.csv")
    again = load(model.save(folder / "again"))
    assert (again.predict_proba(rows) == model.predict_proba(rows)).all()
    assert model.provenance is None
    with pytest.raises(PlanError, match="stands on no pretrained network"):
        _ = model.backbone
    assert "rows" in repr(model)


def test_a_frame_a_list_and_a_row_are_predicted_alike(run: Path, folder: Path) -> None:
    model, frame = load(run), pd.read_csv(folder / "new.csv")
    expected = model.predict_proba(frame)
    records = frame.drop(columns=["id", "ill"]).to_dict("records")
    assert (model.predict_proba(records) == expected).all()
    assert (model.predict_proba(records[0]) == expected[:1]).all()
    assert (model.predict_proba([json.dumps({k: v for k, v in records[0].items() if v == v})]) == expected[:1]).all()
    with pytest.raises(DataError, match="empty row"):
        model.predict([{"age": None}])
    with pytest.raises(DataError, match="none of the columns that the model learnt from"):
        model.predict([{"Age": 50}])


def test_the_command_line_predicts_evaluates_and_reports(run: Path, folder: Path, capsys: Any) -> None:
    assert call("predict", run, folder / "new.csv", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 30
    assert call("evaluate", run, folder / "new.csv", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 30
    assert found["metrics"]["roc_auc"]["value"] > 0.8
    assert call("report", run) == 0
    assert "Chosen: as asked for: pooled" in capsys.readouterr().out


def test_what_was_learnt_from_is_not_measured_on(run: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="were used to fit the model"):
        load(run).evaluate(folder / "source.csv")


def test_a_bundle_needs_no_backbone_and_an_export_says_why_not(run: Path, tmp_path: Path) -> None:
    packed = bundle(load(run), tmp_path / "bundle")
    assert load(packed).predict([{"age": 80, "dose": -2}]) == ["yes"]
    assert (packed / "requirements.txt").read_text().startswith("headstart==")
    with pytest.raises(PlanError, match="the server takes texts, pictures, sounds and series"):
        create_app({"t": load(run)}, Settings())
    with pytest.raises(PlanError, match="cannot be exported"):
        export(load(run), "onnx", tmp_path / "onnx")


def test_a_seed_repeats_and_no_label_at_all_is_said(folder: Path) -> None:
    target, source = table(40, 3, shift=0.5).drop(columns="ill"), headstart.read(table(60, 0), label="ill")
    models = [headstart.fit(target, source=source, strategy="source_only") for _ in range(2)]
    rows = table(10, 4)
    assert (models[0].predict_proba(rows) == models[1].predict_proba(rows)).all()
    evidence = models[0].evidence
    assert evidence.metrics == {}
    assert evidence.paid is None
    assert "the target has no labels, so that nothing was measured on it" in evidence.verdict
    assert "an estimate, not a measurement" in evidence.verdict


def test_many_labels_hold_a_test_back_and_numbers_are_learnt(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=320)
    frame = pd.DataFrame({"x": x, "noise": rng.normal(size=320), "y": 3 * x + rng.normal(0, 0.5, 320) + 0.123})
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    model = headstart.fit(headstart.read(path, label="y"))
    assert model.evidence.verdict.startswith("Nothing was transferred, as there is no source")
    assert json.loads(model.files["metrics.json"])["n"] == {"train": 256, "val": 0, "test": 64}
    assert model.evidence.metrics["r2"].value > 0.9
    assert model.predict([{"x": 1.0, "noise": 0.0}])[0] == pytest.approx(3.1, abs=0.5)


def test_a_given_test_split_is_measured_on_though_no_label_teaches() -> None:
    target = table(40, 5, shift=0.5).assign(split=["train"] * 10 + ["test"] * 30)
    target.loc[:9, "ill"] = ""
    model = headstart.fit(target, source=headstart.read(table(60, 0), label="ill"), strategy="source_only")
    assert "the target has no labels to learn from. ROC AUC" in model.evidence.verdict
    assert "on 30 test rows" in model.evidence.verdict
    assert model.evidence.metrics["roc_auc"].value > 0.7


# --- what cannot work says what to do -------------------------------------------------------------------------------


def small(**columns: list[Any]) -> dict[str, list[Any]]:
    return {"x": [float(i % 9) + 0.5 for i in range(24)], "y": ["a", "b"] * 12, **columns}


@pytest.mark.parametrize(
    ("target", "source", "wish", "says"),
    [
        (small(), {"x": [1.5, 2.5], "z": ["a", "b"]}, {}, "has no labels, so that there is nothing to carry over"),
        (small(), {"w": [1.5, 2.5] * 9, "y": ["a", "b"] * 9}, {}, "they share none"),
        (small(), {"x": [1.75, 2.75] * 9, "y": ["c", "d"] * 9}, {}, "share no class"),
        (small(), small(), {}, "are mostly one table"),
        (small(y=["a"] * 24), None, {}, "Every example has the same label"),
        ({"x": [1.5, 2.5, 3.5] * 2, "y": ["a", "b"] * 3}, None, {}, "at least 20 are needed without a source"),
        (small(x=[""] * 24, w=[1] * 24), None, {}, "No column is left to learn from"),
        (small(), None, {"backbone": "minilm"}, "--backbone means nothing to a plain table"),
        (small(), None, {"freeze": 1, "budget": "2m"}, "--freeze, --budget mean nothing"),
        (small(), None, {"strategy": "poled"}, "Did you mean 'pooled'"),
        (small(), None, {"strategy": "pooled"}, "learns from a source"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(target: Any, source: Any, wish: dict[str, Any], says: str) -> None:
    with pytest.raises(HeadstartError, match=says):
        headstart.fit(headstart.read(target, label="y") if source is None else target, source=source, **wish)


def test_ranking_backbones_for_a_table_says_that_there_are_none() -> None:
    with pytest.raises(PlanError, match="Nothing is pretrained for rows"):
        study.rank(headstart.read(small(), label="y"))


# --- verdicts -------------------------------------------------------------------------------------------------------


def carried(**known: Any) -> Carried:
    usual = {"n_labels": 50, "n_test": 50, "crosswise": False, "has_source": True, "say": 0.9}
    return Carried(metric=AUC, **{**usual, "score": Score(0.8, 0.7, 0.9), **known})


@pytest.mark.parametrize(
    ("known", "paid", "says"),
    [
        ({"over_target": Score(0.1, 0.02, 0.2)}, True, "Transfer paid: ROC AUC 0.800"),
        ({"over_target": Score(-0.1, -0.2, -0.02)}, False, "worse than target-only by 0.100 (0.020 to 0.200)"),
        ({"over_target": Score(0.0, -0.1, 0.1)}, None, "which includes zero"),
        (
            {"over_target": Score(0.0, 0.0, 0.0), "say": 0.1},
            None,
            "The source was given 10\N{NO-BREAK SPACE}% of the say",
        ),
        ({"over_target": Score(0.1, 0.02, 0.2), "n_groups": 4}, None, "too few for an interval to be trusted"),
        ({"over_source": Score(0.1, 0.02, 0.2)}, None, "That is above the source's model as it is"),
        ({"score": None, "n_labels": 3}, None, "3 labels are too few, or too much alike, to measure by"),
        (
            {"over_target": Score(-0.1, -0.2, -0.02), "source_over_target": Score(-0.3, -0.4, -0.2)},
            False,
            "check that its label and its columns mean the same",
        ),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval(known: dict[str, Any], paid: bool | None, says: str) -> None:
    sentence, found = verdict(carried(**known))
    assert found is paid
    assert says in sentence


# --- scikit-learn ---------------------------------------------------------------------------------------------------


def test_estimators_keep_scikit_learns_conventions() -> None:
    source, target = table(60, 0), table(30, 1, shift=0.5)
    X, y = target.drop(columns="ill"), target["ill"]
    model = TableTransferClassifier("pooled", repeats=1, seed=2)
    assert clone(model).get_params() == {"strategy": "pooled", "repeats": 1, "seed": 2}
    model.fit(X, y, X_source=source.drop(columns="ill"), y_source=source["ill"])
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.n_features_in_ == 4
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert model.score(X, y) > 0.7
    assert model.weights_ == {"pooled": pytest.approx(1)}
    alone = TableTransferClassifier("source_only").fit(X, None, source.drop(columns="ill"), source["ill"] == "yes")
    assert alone.predict(X).dtype == bool


def test_the_regressor_takes_arrays_with_gaps() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    y = X[:, 0] * 2 + 1
    X[::7, 1] = np.nan
    model = TableTransferRegressor(repeats=1).fit(X[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > 0.8
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :2])
    with pytest.raises(DataError, match="There are no labels"):
        TableTransferRegressor().fit(X)
