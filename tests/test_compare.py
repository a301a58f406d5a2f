"""The judge's score, gain and standard error against plain numpy over the resamples drawn out, example by example."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.evidence.compare import Judge
from headstart.evidence.intervals import resamples
from headstart.tasks.base import Metric
from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression

N, B = 60, 200
TASK = Classification(class_names=("a", "b"), positive="b")


def metric_of(name: str) -> Metric:
    return next(one for one in (*TASK.metrics(), *Regression().metrics()) if one.name == name)


def judge_of(name: str, y: np.ndarray, groups: list[str] | None = None) -> Judge:
    weights = resamples(len(y), B, 0, groups)
    return Judge(metric=metric_of(name), y=y, weights=weights, n_units=None if groups is None else len(set(groups)))


def some_scores(y: np.ndarray, seed: int, skill: float) -> np.ndarray:
    """(N, 2) probabilities that know the labels to a degree."""
    seen = np.random.default_rng(seed).normal(skill * (2 * y - 1), 1.0)
    p = 1 / (1 + np.exp(-seen))
    return np.stack([1 - p, p], axis=1)


def drawn(weights: np.ndarray) -> list[np.ndarray]:
    """The examples of each resample, one by one."""
    return [np.repeat(np.arange(weights.shape[1]), row) for row in weights]


def accuracy(y: np.ndarray, scores: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == y).mean())


def log_loss(y: np.ndarray, scores: np.ndarray) -> float:
    return float(-np.log(scores[np.arange(len(y)), y]).mean())


def mae(y: np.ndarray, scores: np.ndarray) -> float:
    return float(np.abs(scores[:, 0] - y).mean())


Y = np.random.default_rng(0).integers(2, size=N)
NUMBERS = np.random.default_rng(1).normal(size=N).astype(np.float32)
CASES = {
    "accuracy": (accuracy, Y, some_scores(Y, 1, 1.0), some_scores(Y, 2, 0.4), 1.0),
    "log_loss": (log_loss, Y, some_scores(Y, 1, 1.0), some_scores(Y, 2, 0.4), -1.0),
    "mae": (
        mae,
        NUMBERS,
        NUMBERS[:, None] + np.random.default_rng(2).normal(0, 0.3, (N, 1)),
        NUMBERS[:, None] + np.random.default_rng(3).normal(0, 0.6, (N, 1)),
        -1.0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_gain_and_its_error_are_those_of_paired_resamples(name: str) -> None:
    plain, y, one, other, sign = CASES[name]
    judge = judge_of(name, y)
    differences = [sign * (plain(y[rows], one[rows]) - plain(y[rows], other[rows])) for rows in drawn(judge.weights)]
    gain, error = judge.gain_over(one, other)
    assert gain == pytest.approx(sign * (plain(y, one) - plain(y, other)), abs=1e-6)
    assert error == pytest.approx(np.std(differences), rel=1e-4)
    assert gain > 0  # the first is better, whichever way the metric points
    assert judge.gain_over(other, one) == pytest.approx((-gain, error))


@pytest.mark.parametrize("name", CASES)
def test_the_score_is_the_value_with_its_percentiles(name: str) -> None:
    plain, y, one, _, sign = CASES[name]
    judge = judge_of(name, y)
    found = judge.score(one)
    low, high = np.percentile([plain(y[rows], one[rows]) for rows in drawn(judge.weights)], [2.5, 97.5])
    assert (found.value, found.low, found.high) == pytest.approx((plain(y, one), low, high), abs=1e-6)
    assert judge.gain(found.value) == sign * found.value


def test_what_both_find_hard_cancels_out() -> None:
    """The error of a difference is that of the examples on which they differ, not of each by itself."""
    right = np.arange(N) % 3 > 0
    scores = np.where((Y == 1) == right, 0.9, 0.1)
    one = np.stack([1 - scores, scores], axis=1)
    other = one.copy()
    other[np.flatnonzero(right)[0]] = other[np.flatnonzero(right)[0]][::-1]  # one mistake more
    judge = judge_of("accuracy", Y)
    gain, error = judge.gain_over(one, other)
    assert gain == pytest.approx(1 / N)
    assert error == pytest.approx(np.std(judge.weights[:, np.flatnonzero(right)[0]] / N))
    assert error < 0.3 * np.std([accuracy(Y[rows], one[rows]) for rows in drawn(judge.weights)])


def test_a_model_is_no_better_than_itself() -> None:
    judge = judge_of("accuracy", Y)
    assert judge.gain_over(some_scores(Y, 1, 1.0), some_scores(Y, 1, 1.0)) == (0.0, 0.0)


def test_groups_are_resampled_whole() -> None:
    """Ten groups of six alike examples: the error is that of ten, not of sixty."""
    groups = [f"g{i // 6}" for i in range(N)]
    y = np.repeat(np.arange(10) % 2, 6)
    good = np.repeat(np.arange(10) < 8, 6)  # right in eight groups, wrong in two
    p = np.where((y == 1) == good, 0.9, 0.1)
    scores, perfect = np.stack([1 - p, p], axis=1), np.eye(2)[y]
    whole, single = (judge_of("accuracy", y, one).gain_over(perfect, scores) for one in (groups, None))
    assert whole[0] == single[0] == pytest.approx(0.2)
    assert whole[1] == pytest.approx(np.sqrt(0.2 * 0.8 / 10), rel=0.15)
    assert single[1] == pytest.approx(np.sqrt(0.2 * 0.8 / 60), rel=0.15)
    sure = judge_of("accuracy", y, groups).score(perfect)
    assert sure.low == pytest.approx(10 / (10 + 1.959964**2))  # Wilson: ten of ten groups


def test_a_metric_that_validation_does_not_define_is_nan() -> None:
    judge = judge_of("roc_auc", np.zeros(N, dtype=np.int64))
    assert np.isnan([judge.score(some_scores(Y, 1, 1.0)).value]).all()


def test_resamples_that_leave_the_metric_undefined_are_passed_over() -> None:
    """With two positives, a tenth of the resamples draw none, and have no ROC AUC."""
    y = (np.arange(N) < 2).astype(np.int64)
    judge = judge_of("roc_auc", y)
    one, other = some_scores(y, 4, 1.0), some_scores(y, 5, 0.5)
    values = [judge.metric.compute(y, scores, judge.weights) for scores in (one, other)]
    defined = judge.weights[:, :2].sum(axis=1) > 0
    assert 0 < (~defined).sum() < B
    assert np.isnan(values[0][~defined]).all()
    gain, error = judge.gain_over(one, other)
    assert np.isfinite(gain)
    assert error == pytest.approx(np.std((values[0] - values[1])[defined]))
