"""`headstart.fit` from Python: the invariants of docs/design.md, and every task the whole way through."""

from __future__ import annotations

import builtins
import json
import pickle
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

import headstart
from headstart import adapt, places, registry
from headstart.backbones.base import Backbone
from headstart.deploy.model import Model
from headstart.engine import freeze
from headstart.errors import BackboneError, DataError, PlanError
from headstart.evidence import planner
from headstart.evidence.plan import Plan
from headstart.problem import Problem, pose
from headstart.progress import Progress
from headstart.strategies.probe import Probe
from headstart.wishes import Wishes
from headstart.workshop import Workshop, load_backbone, open_workshop
from tests.conftest import BAD, GOOD, THINGS, review_rows
from tests.test_backbones import WORDS, save_tiny

TEXTS, LABELS = (list(column) for column in zip(*review_rows(), strict=True))
SCRATCH = "same network from scratch"


def fit(data: Any, **said: Any) -> Model:
    """A probe, whose depth is measured, and nothing trained: what is not about the search takes seconds."""
    return headstart.fit(data, **{"strategy": "probe", "scratch": False, **said})


def split_reviews() -> pd.DataFrame:
    """The reviews with splits of their own: every fifth is val, every fifth test."""
    splits = [("train", "val", "train", "test", "train")[i % 5] for i in range(len(TEXTS))]
    return pd.DataFrame({"text": TEXTS, "label": LABELS, "split": splits})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random BERT of three layers, on which a whole search takes seconds."""
    return str(save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "MOST_EPOCHS", 2)
    monkeypatch.setattr(adapt, "MOST_SCRATCH_EPOCHS", 1)


def pets() -> pd.DataFrame:
    """120 texts of words that the tiny tokenizer knows, about a cat or about dogs; every fifth is val, every fifth
    test."""
    rng = np.random.default_rng(0)
    texts: dict[str, str] = {}
    while len(texts) < 120:
        pet = ("cat", "dogs")[len(texts) % 2]
        words = [word for word in rng.choice(WORDS, rng.integers(3, 8)) if word not in ("cat", "dogs")]
        words.insert(int(rng.integers(len(words) + 1)), pet)
        texts.setdefault(" ".join(words), pet)
    splits = [("train", "val", "train", "test", "train")[i % 5] for i in range(len(texts))]
    return pd.DataFrame({"text": list(texts), "label": list(texts.values()), "split": splits})


def timeless(plan: Plan) -> Plan:
    """The plan without what a clock said."""
    return replace(plan, candidates=tuple(replace(one, seconds=0.0) for one in plan.candidates))


def test_five_lines(tmp_path: Path) -> None:
    model = fit(headstart.read(TEXTS, LABELS))
    assert model.evidence.paid is not False
    assert model.predict(["what a superb lamp", "a dreadful song"]) == ["good", "bad"]
    model.save(tmp_path / "run")
    again = headstart.load(tmp_path / "run")
    assert again.evidence == model.evidence
    assert again.plan == model.plan
    assert (again.predict_proba(TEXTS) == model.predict_proba(TEXTS)).all()
    assert again.save(tmp_path / "copy") == tmp_path / "copy"
    for path in (tmp_path / "run").iterdir():
        assert path.read_bytes() == (tmp_path / "copy" / path.name).read_bytes()


def shop_of(problem: Problem, network: Any) -> Workshop:
    return open_workshop(problem, network, problem.task.metrics(), Wishes(), 0, Progress())


def test_1_cached_equals_uncached() -> None:
    """The head from the cache is the head from ordinary forward passes over padded batches, to 1e-5."""
    problem = pose(headstart.read(split_reviews()), 0, Progress())
    network = load_backbone(None, problem.modality, Progress())
    shop = shop_of(problem, network)
    for cut in (1, 4, 7):
        from_cache = shop.solve(Probe(freeze=cut))
        plain = shop_of(problem, network)
        plain.frozen = Plain(problem, network, cut)  # type: ignore[assignment]  (in place of the cached pass)
        uncached = plain.solve(Probe(freeze=cut))
        assert from_cache.stages == uncached.stages == (cut - 1,)
        assert from_cache.adapted.strength == uncached.adapted.strength
        for one, other in zip(
            vars(from_cache.adapted.head).values(), vars(uncached.adapted.head).values(), strict=True
        ):
            assert np.abs(one - other).max() < 1e-5 * max(1, np.abs(other).max())


class Plain:
    """Stands in for Features: transformers' own hidden states, eight texts at a time, in the order given."""

    def __init__(self, problem: Problem, network: Any, cut: int) -> None:
        inputs, self.features = problem.dataset.inputs, []
        for start in range(0, len(inputs), 8):
            batch = network.collate(inputs[start : start + 8])
            with torch.inference_mode():
                hidden = network.network(**batch, output_hidden_states=True).hidden_states[cut - 1]
            mask = batch["attention_mask"][..., None]
            self.features += list(((hidden * mask).sum(1) / mask.sum(1)).numpy())

    def stage(self, index: int, rows: np.ndarray) -> np.ndarray:
        return np.stack([self.features[row] for row in rows])


def fooled(table: pd.DataFrame) -> pd.DataFrame:
    """Each label of the test split turned into the other one."""
    table, rows = table.copy(), table["split"] == "test"
    one, other = sorted(set(table["label"]))
    table.loc[rows, "label"] = table.loc[rows, "label"].map({one: other, other: one})
    return table


def assert_only_the_score_differs(honest: Model, misled: Model) -> None:
    assert (misled.head.weight == honest.head.weight).all()
    assert timeless(misled.plan) == timeless(honest.plan)
    one, other = ({"model": m.evidence.metrics, **m.evidence.baselines} for m in (honest, misled))
    assert one.keys() == other.keys()
    for name in one.keys() - {"majority guess"}:
        assert other[name]["accuracy"].value == pytest.approx(1 - one[name]["accuracy"].value), name


def test_3_nothing_is_chosen_on_the_test_split() -> None:
    """Other labels on the test examples change the score and nothing else."""
    table = split_reviews()
    assert_only_the_score_differs(fit(table), fit(fooled(table)))


@pytest.mark.usefixtures("few_epochs")
def test_3_no_search_looks_at_the_test_split(tiny: str) -> None:
    """Nor does the choice of strategy, cut, epochs, the comparison from scratch, or what is shipped."""
    table = pets()
    honest, misled = (headstart.fit(one, backbone=tiny) for one in (table, fooled(table)))
    assert {one.strategy for one in honest.plan.candidates} == {"probe", "partial", "full", "lora"}
    assert_only_the_score_differs(honest, misled)
    if honest.changes is not None:
        assert misled.changes is not None
        assert misled.changes.sha256 == honest.changes.sha256
    assert SCRATCH in honest.evidence.baselines


@pytest.mark.parametrize("scratch", [False, True])
@pytest.mark.usefixtures("few_epochs")
def test_4_no_number_without_its_interval_and_its_comparison(scratch: bool, tiny: str) -> None:
    evidence = fit(pets(), backbone=tiny, scratch=scratch).evidence
    assert set(evidence.baselines) == set(evidence.differences)
    assert len(evidence.baselines) == 2 + scratch
    assert (SCRATCH in evidence.baselines) == scratch
    for scores in (evidence.metrics, *evidence.baselines.values(), *evidence.differences.values()):
        assert scores.keys() == evidence.titles.keys()
        assert all(score.low <= score.high for score in scores.values())


def test_5_a_saved_model_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(split_reviews(), out=tmp_path / "run")
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {
        ".safetensors",
        ".json",
        ".parquet",
        ".html",
        ".md",
    }

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was unpickled or run")

    for owner, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (builtins, "eval"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    assert headstart.load(tmp_path / "run").task.score_names == ("bad", "good")


def test_several_labels(tmp_path: Path) -> None:
    labels = [[label, thing] for (_, label), thing in zip(review_rows(), np.repeat(THINGS, 12), strict=True)]
    model = fit({"text": TEXTS, "labels": labels}, out=tmp_path / "run")
    assert registry.plugin_name(model.task) == "multilabel"
    assert model.evidence.primary == "average_precision"
    assert model.evidence.paid is not False
    assert "film" in headstart.load(tmp_path / "run").predict("what a wonderful film, I would say so 0 times")[0]


def test_a_number(tmp_path: Path) -> None:
    numbers = [(5.5 if label == "good" else 1.5) + i % 7 / 10 for i, label in enumerate(LABELS)]
    model = fit({"text": TEXTS, "stars": numbers}, out=tmp_path / "run")
    assert registry.plugin_name(model.task) == "regression"
    high, low = headstart.load(tmp_path / "run").predict(["what a lovely chair", "an awful, dull phone"])
    assert high > low + 2
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["metrics"]["mae"]["value"] < told["baselines"]["median guess"]["mae"]["value"]


def test_groups_stay_whole_and_are_resampled_whole() -> None:
    words = [next(word for word in GOOD + BAD if word in text) for text in TEXTS]
    table = pd.DataFrame({"text": TEXTS, "label": LABELS, "patient": [f"{w}{i % 2}" for i, w in enumerate(words)]})
    dataset = headstart.read(table, group="patient")
    problem = pose(dataset, 0, Progress())
    sides = pd.DataFrame({"group": problem.dataset.groups, "split": problem.dataset.column("split")})
    assert (sides.groupby("group")["split"].nunique() == 1).all()
    by_group = fit(dataset).evidence.metrics["log_loss"]
    assert by_group.low <= by_group.value <= by_group.high


def test_time_tests_on_the_latest() -> None:
    table = pd.DataFrame({"text": TEXTS, "label": LABELS, "day": range(len(TEXTS))})
    problem = pose(headstart.read(table, time="day"), 0, Progress())
    assert problem.rows["test"].tolist() == list(range(96, 120))


def test_a_test_split_of_one_class_falls_back_to_a_metric_that_it_defines() -> None:
    table = split_reviews()
    table = table[(table["split"] != "test") | (table["label"] == "good")]
    evidence = fit(table).evidence
    assert "roc_auc" not in evidence.metrics
    assert evidence.primary in evidence.metrics
    with pytest.raises(PlanError, match="not defined"):
        fit(table, metric="roc_auc")


def test_data_without_labels_say_what_to_do() -> None:
    with pytest.raises(DataError, match="no labels"):
        fit(headstart.read(TEXTS))


def test_evaluate_on_new_data() -> None:
    model = fit(split_reviews())
    texts, labels = ["a charming hotel", "a clumsy game", "superb", "so so"], ["good ", "bad", "good", "fair"]
    found = model.evaluate(headstart.read(texts, labels))
    assert (found.n, found.metrics["accuracy"].value) == (3, 1.0)
    assert found.notes == ("left out 1 that have a label that the model does not know (it knows bad, good)",)


def test_evaluate_leaves_out_what_the_model_was_fitted_on() -> None:
    table = split_reviews()
    model = fit(table)
    as_fitted = model.evaluate(table)
    assert as_fitted.metrics == model.evidence.metrics
    unsplit = model.evaluate(table.drop(columns="split"))
    assert unsplit.n == (table["split"] == "test").sum()
    with pytest.raises(DataError, match="96 that were used to fit"):
        model.evaluate(headstart.read(*(table.loc[table["split"] != "test", c].tolist() for c in ("text", "label"))))


def test_val_alone_serves_as_the_test_in_fit_and_in_evaluate() -> None:
    table = split_reviews()
    table = table[table["split"] != "test"]
    model = fit(table)
    assert model.evaluate(table).metrics == model.evidence.metrics


def test_probabilities_are_the_calibrated_ones(tmp_path: Path) -> None:
    """The saved predictions, the evidence and the model's own answers are one and the same."""
    table = split_reviews()
    model = fit(table, out=tmp_path / "run")
    assert model.plan.temperature != 1.0
    saved = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    tested = table[table["split"] == "test"]
    assert saved["label"].tolist() == tested["label"].tolist()
    assert saved["input"].tolist() == tested["text"].tolist()
    again = model.predict_proba(tested["text"].tolist())
    assert np.allclose(saved[["p(bad)", "p(good)"]], again, atol=1e-4)
    true = again[np.arange(len(tested)), (tested["label"] == "good").astype(int)]
    assert model.evidence.metrics["log_loss"].value == pytest.approx(-np.log(true).mean(), abs=1e-3)
    logits = np.log(again[:, 1] / again[:, 0]) * model.plan.temperature
    inputs = tested["text"].tolist()

    def look(backbone: Backbone, batch: dict[str, Any]) -> list[np.ndarray]:
        pooled = backbone.pooled(batch)
        return [np.concatenate([pooled[stage].numpy() for stage in model.stages], axis=1)]

    rows, found = zip(*freeze.run(model.backbone, model.modality, inputs, look), strict=True)
    features = np.concatenate([one for (one,) in found])[np.argsort(np.concatenate(rows))]
    expected = model.head.logits(features)
    assert np.allclose(logits, expected[:, 1] - expected[:, 0], atol=1e-3)


def run_again(folder: Path, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(metrics.json of a run, that of the run which its own command makes)."""
    from headstart import cli

    told = json.loads((folder / "metrics.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*shlex.split(told["command"]), "--out", str(out), "--quiet"])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    return told, json.loads((out / "metrics.json").read_text())


def assert_made_again(folder: Path, out: Path) -> None:
    told, again = run_again(folder, out)
    for key in ("metrics", "baselines", "differences", "verdict", "n", "strategy", "cut"):
        assert again[key] == told[key]
    assert again["command"].replace(str(out), str(folder)) == told["command"]
    assert Plan.read(out) == Plan.read(folder)  # to the second: nothing was tried again
    weights, expected = (load_file(run / "model.safetensors") for run in (out, folder))
    assert weights.keys() == expected.keys()
    assert all((array == expected[name]).all() for name, array in weights.items())


def test_the_command_makes_the_run_again(reviews: Path, tmp_path: Path) -> None:
    fit(headstart.read(reviews, label="label"), freeze=5, metric="accuracy", seed=3, out=tmp_path / "one")
    assert Plan.read(tmp_path / "one").cut == 5
    assert_made_again(tmp_path / "one", tmp_path / "two")
    assert json.loads(fit(split_reviews()).files["metrics.json"])["command"] == ""


def test_the_command_is_for_the_folder_where_the_run_was_made(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all paths were relative, they still lead to the data and to the plan."""
    monkeypatch.chdir(tmp_path)
    pets().to_csv("pets.csv", index=False)
    fit("pets.csv", backbone=tiny, out="runs/one")
    assert_made_again(Path("runs/one"), Path("runs/two"))


@pytest.mark.parametrize("strategy", ["partial", "lora"])
@pytest.mark.usefixtures("few_epochs")
def test_the_command_trains_again_what_was_trained(strategy: str, tiny: str, tmp_path: Path) -> None:
    """The same weights, those from scratch included, since all scores agree."""
    pets().to_csv(tmp_path / "pets.csv", index=False)
    model = headstart.fit(tmp_path / "pets.csv", backbone=tiny, strategy=strategy, freeze=2, out=tmp_path / "one")
    assert model.changes is not None
    assert SCRATCH in model.evidence.baselines
    assert_made_again(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("strategy", ["partial", "full", "lora"])
@pytest.mark.usefixtures("few_epochs")
def test_a_trained_model_is_saved_and_answers_alike(strategy: str, tiny: str, tmp_path: Path) -> None:
    table = pets()
    model = headstart.fit(table, backbone=tiny, strategy=strategy, scratch=False, out=tmp_path / "run")
    assert model.plan.strategy == strategy
    assert model.changes is not None
    again = headstart.load(tmp_path / "run")
    assert again.evidence == model.evidence
    assert (again.predict_proba(table["text"]) == model.predict_proba(table["text"])).all()
    assert again.evaluate(table).metrics == model.evidence.metrics
    pretrained = load_backbone(tiny, model.modality, Progress())
    assert again.backbone.fingerprint == model.backbone.fingerprint != pretrained.fingerprint


@pytest.mark.usefixtures("few_epochs")
def test_a_run_ships_the_classical_model_where_validation_prefers_it(tiny: str, tmp_path: Path) -> None:
    """The tiny backbone knows hardly a word of the reviews. What is measured, saved and asked is what is shipped."""
    table = split_reviews()
    table.to_csv(tmp_path / "reviews.csv", index=False)
    model = headstart.fit(tmp_path / "reviews.csv", backbone=tiny, scratch=False, out=tmp_path / "one")
    assert model.plan.ships == "classical"
    assert "this run ships it" in model.evidence.verdict
    assert model.evidence.paid is False
    assert not any(name == model.plan.classical for name in model.evidence.baselines)
    transfer = next(scores for name, scores in model.evidence.baselines.items() if name != "majority guess")
    assert model.evidence.metrics["accuracy"].value > 0.9 > transfer["accuracy"].value
    arrays = load_file(tmp_path / "one" / "model.safetensors")
    assert all(name.startswith("classical.") for name in arrays)
    again = headstart.load(tmp_path / "one")
    assert (again.predict_proba(TEXTS) == model.predict_proba(TEXTS)).all()
    assert again.evaluate(table).metrics == model.evidence.metrics
    assert again.predict(["what a superb lamp", "a dreadful song"]) == ["good", "bad"]
    saved = pd.read_parquet(tmp_path / "one" / "predictions.parquet")
    expected = again.predict_proba(saved["input"].tolist())
    assert np.allclose(saved[["p(bad)", "p(good)"]], expected, atol=1e-4)
    assert_made_again(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("wish", [{"strategy": "probe"}, {"strategy": "partial"}, {"freeze": 2}])
@pytest.mark.usefixtures("few_epochs")
def test_who_names_a_strategy_or_a_cut_gets_it(wish: dict[str, Any], tiny: str) -> None:
    """Whatever validation says of the classical model."""
    model = headstart.fit(split_reviews(), backbone=tiny, scratch=False, **wish)
    assert (model.plan.ships, model.classical) == ("transfer", None)
    assert model.plan.strategy == wish.get("strategy", model.plan.strategy)
    assert model.plan.cut == wish.get("freeze", model.plan.cut)
    assert model.plan.classical in model.evidence.baselines


def test_the_trials_of_a_fit_are_forgotten_with_its_end(tiny: str, few_epochs: None) -> None:
    headstart.fit(pets(), backbone=tiny, strategy="partial", freeze=3)
    assert [path for path in places.trials().glob("*") if not path.name.startswith("pace-")] == []


def test_a_fit_that_was_killed_does_not_train_again_what_it_had(
    tiny: str, few_epochs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the last step, and begun again: every trial is read, and the run is the same."""
    from headstart import inductive
    from headstart.engine import train as engine

    whole = headstart.fit(pets(), backbone=tiny)
    with monkeypatch.context() as patch:

        def kill(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(inductive, "test_once", kill)
        with pytest.raises(KeyboardInterrupt):
            headstart.fit(pets(), backbone=tiny)

    def refuse(*_: Any) -> None:
        raise AssertionError("something was trained again")

    monkeypatch.setattr(engine, "train", refuse)
    again = headstart.fit(pets(), backbone=tiny)
    assert timeless(again.plan) == timeless(whole.plan)
    assert again.evidence == whole.evidence


def test_a_table_is_not_taken_for_its_column_names() -> None:
    model = fit(split_reviews())
    with pytest.raises(DataError, match="one of them"):
        model.predict(split_reviews())
    assert len(model.predict(split_reviews()["text"])) == 120


@pytest.mark.parametrize("family", ["distilbert", "vit"])
def test_a_hugging_face_folder_is_a_backbone(family: str, tmp_path: Path, pictures: Path) -> None:
    folder = save_tiny(family, tmp_path / "tiny")
    data = pictures if family == "vit" else headstart.read(TEXTS, LABELS)
    fit(data, backbone=str(folder), out=tmp_path / "run")
    model = headstart.load(tmp_path / "run")
    items = sorted((pictures / "plain").iterdir())[:3] if family == "vit" else TEXTS[:3]
    assert len(model.predict(items)) == 3
    folder.rename(tmp_path / "moved")
    with pytest.raises(BackboneError, match="tiny"):
        headstart.load(tmp_path / "run").predict(items)
    assert headstart.load(tmp_path / "run", str(tmp_path / "moved")).predict(items) == model.predict(items)
