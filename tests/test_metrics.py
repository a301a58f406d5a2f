"""Every metric against scikit-learn (calibration error: a plain loop), on weights of one and on random resamples."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.tasks import metrics
from headstart.tasks.base import Metric, Task
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression

Reference = Callable[[np.ndarray, np.ndarray, np.ndarray], float]  # (y, scores, weights (N,)) -> value or NaN

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 40)


def resample_weights(rng: np.random.Generator, n: int) -> np.ndarray:
    """The plain sample and eight multinomial resamples, (9, n)."""
    return np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=8)])


def agree(task: Task, references: dict[str, Reference], y: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> None:
    computed = {m.name: m.compute(y, scores, weights) for m in task.metrics()}
    assert set(computed) == set(references)
    for name, reference in references.items():
        expected = []
        for row in weights:
            kept = row > 0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn's, of classes that are not there
                expected.append(reference(y[kept], scores[kept], row[kept]))
        np.testing.assert_allclose(computed[name], expected, rtol=1e-9, atol=1e-9, err_msg=name)


def mean_defined(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def auc(truth: np.ndarray, scores: np.ndarray, w: np.ndarray) -> float:
    return sk.roc_auc_score(truth, scores, sample_weight=w) if 0 < truth.mean() < 1 else float("nan")


def average_precision(truth: np.ndarray, scores: np.ndarray, w: np.ndarray) -> float:
    return sk.average_precision_score(truth, scores, sample_weight=w) if truth.any() else float("nan")


def ece(confidence: np.ndarray, correct: np.ndarray, w: np.ndarray) -> float:
    total = 0.0
    for k in range(15):
        low, high = k / 15, (k + 1) / 15
        inside = (confidence > low) & (confidence <= high) | ((k == 0) & (confidence == 0))
        if inside.any():
            gap = np.average(confidence[inside], weights=w[inside]) - np.average(correct[inside], weights=w[inside])
            total += w[inside].sum() / w.sum() * abs(gap)
    return total


def binary_log_loss(truth: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    return sk.log_loss(truth, np.stack([1 - p, p], axis=1), sample_weight=w, labels=[0, 1])


CLASSIFICATION: dict[str, Reference] = {
    "accuracy": lambda y, s, w: sk.accuracy_score(y, s.argmax(1), sample_weight=w),
    "balanced_accuracy": lambda y, s, w: sk.balanced_accuracy_score(y, s.argmax(1), sample_weight=w),
    "macro_f1": lambda y, s, w: sk.f1_score(y, s.argmax(1), average="macro", sample_weight=w, zero_division=0),
    "roc_auc": lambda y, s, w: mean_defined([auc(y == k, s[:, k], w) for k in range(s.shape[1])]),
    "log_loss": lambda y, s, w: sk.log_loss(y, s, sample_weight=w, labels=range(s.shape[1])),
    "ece": lambda y, s, w: ece(s.max(1), s.argmax(1) == y, w),
}

MULTILABEL: dict[str, Reference] = {
    "average_precision": lambda y, s, w: mean_defined(
        [average_precision(y[:, k] > 0, s[:, k], w) for k in range(s.shape[1])]
    ),
    "roc_auc": lambda y, s, w: mean_defined([auc(y[:, k] > 0, s[:, k], w) for k in range(s.shape[1])]),
    "macro_f1": lambda y, s, w: sk.f1_score(y, s >= 0.5, average="macro", sample_weight=w, zero_division=np.nan),
    "micro_f1": lambda y, s, w: sk.f1_score(y, s >= 0.5, average="micro", sample_weight=w, zero_division=np.nan),
    "subset_accuracy": lambda y, s, w: sk.accuracy_score(y, s >= 0.5, sample_weight=w),
    "log_loss": lambda y, s, w: float(np.mean([binary_log_loss(y[:, k], s[:, k], w) for k in range(s.shape[1])])),
    "ece": lambda y, s, w: ece(np.maximum(s, 1 - s).ravel(), ((s >= 0.5) == (y > 0)).ravel(), np.repeat(w, s.shape[1])),
}

REGRESSION: dict[str, Reference] = {
    "mae": lambda y, s, w: sk.mean_absolute_error(y, s[:, 0], sample_weight=w),
    "rmse": lambda y, s, w: sk.root_mean_squared_error(y, s[:, 0], sample_weight=w),
    "r2": lambda y, s, w: sk.r2_score(y, s[:, 0], sample_weight=w) if len(set(y)) > 1 else float("nan"),
}


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n=SIZES, n_classes=st.integers(2, 5), tied=st.booleans())
def test_classification_metrics_equal_scikit_learn(seed: int, n: int, n_classes: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    mass = rng.integers(1, 4, (n, n_classes)) if tied else rng.uniform(0.01, 1, (n, n_classes))
    scores = mass / mass.sum(axis=1, keepdims=True)
    names = tuple("abcde"[:n_classes])
    references = CLASSIFICATION
    if n_classes == 2:
        references = references | {"average_precision": lambda y, s, w: average_precision(y == 0, s[:, 0], w)}
    agree(Classification(class_names=names, positive="a"), references, y, scores, resample_weights(rng, n))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 40), n_classes=st.integers(2, 4), tied=st.booleans())
def test_multilabel_metrics_equal_scikit_learn(seed: int, n: int, n_classes: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    y = (rng.random((n, n_classes)) < rng.random(n_classes)).astype(np.float32)
    scores = rng.integers(1, 8, (n, n_classes)) / 8 if tied else rng.uniform(0.001, 0.999, (n, n_classes))
    agree(Multilabel(class_names=tuple("abcd"[:n_classes])), MULTILABEL, y, scores, resample_weights(rng, n))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 40), offset=st.sampled_from([0.0, -3.0, 1e6]))
def test_regression_metrics_equal_scikit_learn(seed: int, n: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    y = (offset + rng.integers(0, 6, n)).astype(np.float32)
    agree(Regression(), REGRESSION, y, offset + rng.normal(2, 2, (n, 1)), resample_weights(rng, n))


def test_macro_auc_is_scikit_learns_one_versus_rest() -> None:
    rng = np.random.default_rng(0)
    y, scores = rng.integers(4, size=200), rng.dirichlet(np.ones(4), 200)
    computed = metrics.macro_roc_auc(metrics.one_hot(y, 4), scores, np.ones((1, 200)))
    assert computed[0] == pytest.approx(sk.roc_auc_score(y, scores, multi_class="ovr"))


def test_resamples_are_computed_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    y, scores, weights = rng.integers(2, size=30), rng.dirichlet(np.ones(2), 30), rng.integers(0, 3, (50, 30))
    task = Classification(class_names=("a", "b"), positive="b")
    whole = [m.compute(y, scores, weights) for m in task.metrics()]
    monkeypatch.setattr(metrics, "BLOCK", 30 * 7)  # seven resamples a block: the last holds one
    for m, expected in zip(task.metrics(), whole, strict=True):
        np.testing.assert_allclose(m.compute(y, scores, weights), expected, rtol=1e-12)


def test_undefined_is_nan() -> None:
    y, scores = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    by_name: dict[str, Metric] = {m.name: m for m in Classification(class_names=("a", "b"), positive="b").metrics()}
    without_b = np.array([[2, 1, 0], [1, 1, 1]])
    assert np.isnan(by_name["roc_auc"].compute(y, scores, without_b)).tolist() == [True, False]
    assert np.isnan(by_name["average_precision"].compute(y, scores, without_b)).tolist() == [True, False]
    assert by_name["balanced_accuracy"].compute(y, scores, without_b)[0] == pytest.approx(2 / 3)


def test_a_constant_score_ranks_like_a_coin() -> None:
    task = Classification(class_names=("a", "b"), positive="b")
    y = np.array([0] * 7 + [1] * 3)
    value = {m.name: m.compute(y, task.naive(y, 10), np.ones((1, 10)))[0] for m in task.metrics()}
    assert value["roc_auc"] == 0.5
    assert value["average_precision"] == pytest.approx(0.3)  # the share of positives
    assert value["accuracy"] == pytest.approx(0.7)
    assert value["ece"] == pytest.approx(0.0)
