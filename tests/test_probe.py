"""The linear probe against scikit-learn's own pipeline, and the contract of every strategy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headstart.errors import DataError, PlanError
from headstart.registry import STRATEGIES
from headstart.strategies import probe
from headstart.strategies.base import Part
from headstart.strategies.probe import Probe, standardised
from headstart.tasks.base import LinearHead
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression


def blobs(n_classes: int, spread: float, n: int = 300, d: int = 12) -> tuple[Part, Part, Part]:
    """Train, validation and test of Gaussian blobs in features of very different size and offset."""
    rng = np.random.default_rng(0)
    centres, y = rng.normal(size=(n_classes, d)), rng.integers(n_classes, size=n)
    features = centres[y] + spread * rng.normal(size=(n, d))
    features = (features * np.logspace(-2, 3, d) + np.linspace(-50, 50, d)).astype(np.float32)
    return tuple(Part(features[i::3], y[i::3]) for i in range(3))  # type: ignore[return-value]


def classes(n: int) -> Classification:
    return Classification(class_names=tuple(map(str, range(n))), positive="0")


@pytest.mark.parametrize("name", STRATEGIES.names())
@pytest.mark.parametrize("n_stages", [1, 7])
def test_contract_cut_is_within_range(name: str, n_stages: int) -> None:
    """As it is made without settings, and for every `freeze` that it takes; any other is refused."""
    found = STRATEGIES.get(name)
    own = {field.name: field for field in fields(found)}
    if all(field.default is not MISSING for field in own.values()):
        assert 0 <= found().cut(n_stages) <= n_stages
    if "freeze" not in own:
        return
    taken = []
    for freeze in range(-1, n_stages + 2):
        try:
            cut = found(freeze=freeze).cut(n_stages)
        except PlanError:
            continue
        assert cut == freeze
        assert 0 <= cut <= n_stages
        taken.append(cut)
    assert taken or (name, n_stages) == ("partial", 1)  # one stage cannot be frozen in part


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_contract_settings_are_plain_json_values(name: str) -> None:
    found = STRATEGIES.get(name)
    one = found(freeze=2) if "freeze" in {field.name for field in fields(found)} else found()
    assert json.loads(json.dumps(one.settings())) == one.settings()
    assert found(**one.settings()) == one
    both = Probe(stages=(1, 3)).settings()
    assert json.loads(json.dumps(both)) == both


@pytest.mark.parametrize(("freeze", "cut"), [(None, 6), (1, 1), (6, 6)])
def test_freeze_says_where_the_cut_is(freeze: int | None, cut: int) -> None:
    assert Probe(freeze=freeze).cut(6) == cut


@pytest.mark.parametrize("freeze", [-1, 0, 7])
def test_freeze_out_of_range(freeze: int) -> None:
    with pytest.raises(PlanError, match=rf"freeze={freeze}, but this backbone has 6 stages\. Pass a value from 1 to 6"):
        Probe(freeze=freeze).cut(6)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_separable_classes_are_found(n_classes: int) -> None:
    train, val, test = blobs(n_classes, spread=0.3)
    head = Probe().adapt(classes(n_classes), train, val, seed=0).head
    assert (head.logits(test.features).argmax(axis=1) == test.y).mean() > 0.98


@pytest.mark.parametrize("n_classes", [2, 4])
def test_probabilities_equal_those_of_a_scikit_learn_pipeline(n_classes: int) -> None:
    train, val, test = blobs(n_classes, spread=1.5)
    task = classes(n_classes)
    adapted = Probe().adapt(task, train, val, seed=0)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=adapted.strength, max_iter=5000, tol=1e-7))
    expected = pipeline.fit(train.features.astype(float), train.y).predict_proba(test.features.astype(float))
    np.testing.assert_allclose(task.scores(adapted.head.logits(test.features)), expected, atol=1e-3)


def test_several_labels_equal_scikit_learns_one_versus_rest() -> None:
    (train, val, test), task = blobs(3, spread=1.5), Multilabel(class_names=("a", "b", "c"))
    train, val = (Part(p.features, np.stack([p.y == 0, p.y > 0, p.y != 1], 1).astype(np.float32)) for p in (train, val))
    adapted = Probe().adapt(task, train, val, seed=0)
    one = LogisticRegression(C=adapted.strength, max_iter=5000, tol=1e-7)
    pipeline = make_pipeline(StandardScaler(), OneVsRestClassifier(one))
    expected = pipeline.fit(train.features.astype(float), train.y).predict_proba(test.features.astype(float))
    np.testing.assert_allclose(task.scores(adapted.head.logits(test.features)), expected, atol=1e-3)


def test_strength_is_the_best_on_validation() -> None:
    train, val, _ = blobs(3, spread=2.5)
    task = classes(3)
    features, unfold = standardised(train.features)
    path = [
        (float(task.losses(val.y, task.scores(unfold(head).logits(val.features))).mean()), strength)
        for strength, head in task.heads(features, train.y, 0)
    ]
    adapted = Probe().adapt(task, train, val, seed=0)
    assert (adapted.val_loss, adapted.strength) == min(path)
    assert path[0][1] < adapted.strength < path[-1][1]  # the grid reaches past the best on both sides


def test_folded_head_equals_standardise_then_linear() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(50, 6)) * np.logspace(-1, 2, 6) + 5).astype(np.float32)
    features[:, 2], features[:, 3] = 7.1, 0.0  # two columns that do not vary
    features[::2, 2] = np.nextafter(features[::2, 2], np.float32(8))  # but for rounding
    ready, unfold = standardised(features)
    head = LinearHead(rng.normal(size=(3, 6)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    varying = [0, 1, 4, 5]
    expected = StandardScaler().fit_transform(features[:, varying].astype(float))
    np.testing.assert_allclose(ready[:, varying], expected, atol=1e-4)
    np.testing.assert_allclose(unfold(head).logits(features), head.logits(ready), atol=1e-4)
    assert np.abs(ready[:, [2, 3]]).max() < 1e-5


def test_a_column_of_rounding_errors_is_not_blown_up() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    features[:, 1] *= 1e-33
    ready, unfold = standardised(features)
    assert np.abs(ready[:, 1]).max() < 1e-30
    head = LinearHead(np.ones((2, 4), dtype=np.float32), np.zeros(2, dtype=np.float32))
    assert np.abs(unfold(head).weight).max() < 10


def test_regression_recovers_a_line_in_its_own_unit() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(100, 10, (300, 4)).astype(np.float32)
    y = (5000 + features @ np.array([3.0, -2.0, 0.0, 50.0])).astype(np.float32)
    adapted = Probe().adapt(Regression(), Part(features[:200], y[:200]), Part(features[200:], y[200:]), seed=0)
    np.testing.assert_allclose(adapted.head.logits(features)[:, 0], y, rtol=1e-3)


def test_sparse_features_are_not_standardised() -> None:
    train, val, test = blobs(2, spread=0.3)
    sparse_parts = [Part(sparse.csr_matrix(np.abs(p.features) / 1000), p.y) for p in (train, val, test)]
    adapted = Probe().adapt(classes(2), sparse_parts[0], sparse_parts[1], seed=0)
    one = LogisticRegression(C=adapted.strength, solver="newton-cholesky", tol=1e-8)
    one.fit(sparse_parts[0].features, train.y)
    scores = classes(2).scores(adapted.head.logits(sparse_parts[2].features))
    np.testing.assert_allclose(scores, one.predict_proba(sparse_parts[2].features), atol=1e-3)


def test_the_same_twice() -> None:
    train, val, _ = blobs(3, spread=1.5)
    first, second = (Probe().adapt(classes(3), train, val, seed=0) for _ in range(2))
    np.testing.assert_array_equal(first.head.weight, second.head.weight)


def test_an_empty_validation_split_is_refused() -> None:
    train, val, _ = blobs(2, spread=1.0)
    with pytest.raises(DataError, match="val split is empty"):
        Probe().adapt(classes(2), train, Part(val.features[:0], val.y[:0]), seed=0)


@dataclass(frozen=True, kw_only=True)
class _Scripted(Regression):
    """A task whose path of heads has the validation losses that the test wants; it counts how many were asked for."""

    losses_to_come: tuple[float, ...]
    asked: list[float]

    def heads(
        self,
        features: Any,
        y: np.ndarray,
        seed: int,
        class_weight: str | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> Iterator[tuple[float, LinearHead]]:
        for strength, loss in enumerate(self.losses_to_come):
            self.asked.append(loss)
            yield float(strength), LinearHead(np.zeros((1, 2), np.float32), np.array([loss**0.5], np.float32))


@pytest.mark.parametrize(
    ("losses", "n_asked", "chosen"),
    [((3, 2, 1), 3, 2), ((3, 1, 2, 2, 0), 4, 1), ((3, 1, 2, 0, 4, 4, 4), 6, 3), ((1, 1, 1, 0), 3, 0)],
)
def test_the_path_is_left_after_two_that_are_no_better(losses: tuple, n_asked: int, chosen: int) -> None:
    task = _Scripted(losses_to_come=losses, asked=[])
    part = Part(np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32), np.zeros(5, np.float32))
    adapted = Probe().adapt(task, part, part, seed=0)
    assert (len(task.asked), adapted.strength) == (n_asked, chosen)


def test_cross_validated_logits_come_from_heads_that_have_not_seen_the_example() -> None:
    """Against five folds done by hand at the chosen strength; the head itself learns from all."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4)).astype(np.float32)
    y = (features[:, 0] + 0.5 * rng.normal(size=30) > 0).astype(np.int64)
    task = Classification(class_names=("a", "b"), positive="b")
    adapted, logits = Probe().cross_adapt(task, Part(features, y), 0)
    for fold in probe._folds(y, 0):
        rest = np.setdiff1d(np.arange(30), fold)
        paths = probe.Probe()._path(task, Part(features[rest], y[rest]), 0)
        candidates = [head.logits(features[fold]) for _, head in paths]
        assert any(np.allclose(logits[fold], one, atol=1e-6) for one in candidates)
    whole = dict(Probe()._path(task, Part(features, y), 0))
    assert adapted.strength in whole
    np.testing.assert_allclose(adapted.head.weight, whole[adapted.strength].weight)
    loss = float(task.losses(y, task.scores(logits)).mean())
    assert adapted.val_loss == pytest.approx(loss)


def test_groups_are_not_torn_apart_by_the_folds() -> None:
    y, groups = np.array([0, 1] * 12), np.repeat(list("abcd"), 6)
    folds = probe._folds(y, 0, groups)
    assert sorted(np.concatenate(folds)) == list(range(24))
    assert len(folds) == 4
    assert all(len(set(groups[fold])) == 1 for fold in folds)
    assert len(probe._folds(y, 0, np.repeat("a", 24))) == 5  # one group can only be divided


def test_every_class_is_spread_over_the_folds() -> None:
    y = np.array([0] * 10 + [1] * 5)
    folds = probe._folds(y, 0)
    assert sorted(np.concatenate(folds)) == list(range(15))
    assert all((y[fold] == 1).sum() == 1 for fold in folds)


def test_variants_teach_as_examples_of_their_own_and_do_not_tell_of_the_fold_they_belong_to() -> None:
    rng = np.random.default_rng(0)
    task = Classification(class_names=("a", "b"), positive="b")
    y, features = rng.integers(0, 2, 60), rng.normal(size=(60, 40)).astype(np.float32)
    other = (features + 0.3).astype(np.float32)
    val = Part(rng.normal(size=(20, 40)).astype(np.float32), rng.integers(0, 2, 20))
    both = Probe().adapt(task, Part(features, y, variants=(other,)), val, 0)
    stacked = Probe().adapt(task, Part(np.concatenate([features, other]), np.tile(y, 2)), val, 0)
    np.testing.assert_allclose(both.head.weight, stacked.head.weight, atol=1e-6)
    _, logits = Probe().cross_adapt(task, Part(features, y, variants=(features.copy(),)), 0)
    right = (task.scores(logits).argmax(1) == y).mean()  # labels are random: a leak would make nearly all right
    assert right < 0.75
