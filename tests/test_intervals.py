"""Bootstrap intervals and calibration against brute force, simulation and arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.special import expit

from headstart.evidence.calibration import fit_temperature, reliability
from headstart.evidence.intervals import compare, resamples, score
from headstart.tasks.base import Task
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression

BINARY = Classification(class_names=("a", "b"), positive="b")


def binary(n: int, seed: int = 0, strength: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and scores (n, 2) that know something of them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    p = expit(strength * (y - 0.5) * 2 + rng.normal(size=n) * 2)
    return y, np.stack([1 - p, p], axis=1)


def test_a_resample_draws_as_many_as_there_are() -> None:
    weights = resamples(50, 400, seed=3)
    assert weights.shape == (400, 50)
    assert (weights.sum(axis=1) == 50).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.25)  # sd of the mean of 400 Poisson(1) is 0.05
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)
    np.testing.assert_array_equal(weights, resamples(50, 400, seed=3))
    assert (weights != resamples(50, 400, seed=4)).any()


def test_groups_are_drawn_whole() -> None:
    groups = ["x", "y", "x", "z", "y", "x"]
    weights = resamples(6, 200, seed=0, groups=groups).astype(int)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 5])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()  # three groups, three draws


def test_equal_to_a_loop_over_resampled_examples() -> None:
    n, n_resamples = 60, 80
    (y, a), (_, b) = binary(n), binary(n, seed=1)
    weights = resamples(n, n_resamples, seed=0)
    references = {
        "roc_auc": lambda y, s: sk.roc_auc_score(y, s[:, 1]),
        "average_precision": lambda y, s: sk.average_precision_score(y, s[:, 1]),
        "accuracy": lambda y, s: sk.accuracy_score(y, s.argmax(1)),
        "balanced_accuracy": lambda y, s: sk.balanced_accuracy_score(y, s.argmax(1)),
        "macro_f1": lambda y, s: sk.f1_score(y, s.argmax(1), average="macro"),
        "log_loss": lambda y, s: sk.log_loss(y, s, labels=[0, 1]),
    }
    scores, differences = compare(BINARY.metrics(), y, {"model": a, "other": b}, "model", weights)
    for name, reference in references.items():
        drawn = [np.repeat(np.arange(n), row) for row in weights]
        of_a, of_b = (np.array([reference(y[rows], s[rows]) for rows in drawn]) for s in (a, b))
        low, high = np.percentile(of_a, [2.5, 97.5])
        found = scores["model"][name]
        assert (found.value, found.low, found.high) == pytest.approx((reference(y, a), low, high)), name
        low, high = np.percentile(of_a - of_b, [2.5, 97.5])
        found = differences["other"][name]
        assert (found.value, found.low, found.high) == pytest.approx((reference(y, a) - reference(y, b), low, high))
    assert set(differences) == {"other"}


def test_compare_says_the_same_as_its_parts() -> None:
    (y, a), (_, b) = binary(40), binary(40, seed=1)
    weights = resamples(40, 50, seed=0)
    scores, differences = compare(BINARY.metrics(), y, {"a": a, "b": b}, "a", weights)
    assert scores == {"a": score(BINARY.metrics(), y, a, weights), "b": score(BINARY.metrics(), y, b, weights)}
    assert differences["b"].keys() == scores["a"].keys()
    for name, difference in differences["b"].items():
        assert difference.value == pytest.approx(scores["a"][name].value - scores["b"][name].value)


def test_nothing_differs_from_itself() -> None:
    y, scores = binary(40)
    systems = {"a": scores, "b": scores.copy()}
    found = compare(BINARY.metrics(), y, systems, "a", resamples(40, 200, seed=0))[1]["b"]
    assert len(found) == len(BINARY.metrics())
    assert all((d.value, d.low, d.high) == (0, 0, 0) for d in found.values())


def test_pairing_makes_the_interval_of_like_systems_narrower() -> None:
    y, a = binary(200)
    b = a.copy()
    b[:10] = b[:10, ::-1]  # the same but for ten answers
    scores, differences = compare(BINARY.metrics(), y, {"a": a, "b": b}, "a", resamples(200, 500, seed=0))
    own, paired = scores["a"]["accuracy"], differences["b"]["accuracy"]
    assert paired.high - paired.low < 0.7 * (own.high - own.low)


def test_the_interval_of_a_mean_covers_the_truth_nineteen_times_in_twenty() -> None:
    mae = Regression().metrics()[:1]  # the mean of |error|; here errors are exponential, their mean is 2
    rng, n, n_trials = np.random.default_rng(0), 100, 400
    covered = 0
    for trial in range(n_trials):
        found = score(mae, np.zeros(n), rng.exponential(2, (n, 1)), resamples(n, 400, seed=trial))["mae"]
        covered += found.low <= 2 <= found.high
    assert 0.91 <= covered / n_trials <= 0.98  # sd 0.011; the percentile interval is a little short at n = 100


def test_copies_do_not_make_an_interval_narrower_when_drawn_as_groups() -> None:
    y, scores = binary(60)
    four_y, four_scores, patient = (
        np.repeat(y, 4),
        np.repeat(scores, 4, axis=0),
        np.repeat(np.arange(60), 4).astype(str),
    )

    def width(y: np.ndarray, scores: np.ndarray, groups: list[str] | None) -> float:
        found = score(BINARY.metrics(), y, scores, resamples(len(y), 1000, 0, groups))["accuracy"]
        return found.high - found.low

    plain = width(four_y, four_scores, None)
    grouped = width(four_y, four_scores, patient.tolist())
    assert grouped == pytest.approx(width(y, scores, None), rel=0.15)
    assert plain == pytest.approx(grouped / 2, rel=0.15)  # four times as many examples, or so it seems


def test_what_is_undefined_stays_out() -> None:
    y, scores = np.zeros(10, dtype=int), binary(10)[1]
    found = score(BINARY.metrics(), y, scores, resamples(10, 100, seed=0))
    assert "accuracy" in found
    assert not {"roc_auc", "average_precision"} & set(found)


def test_resamples_that_leave_a_metric_undefined_are_passed_over() -> None:
    y = np.array([1] + [0] * 9)  # a third of the resamples lack the one positive
    scores = np.stack([np.linspace(0, 1, 10), np.linspace(1, 0, 10)], axis=1)
    found = score(BINARY.metrics(), y, scores, resamples(10, 300, seed=0))["roc_auc"]
    assert (found.value, found.low, found.high) == (1, 1, 1)


def simulated(task: Task, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels drawn from exactly the probabilities that the logits mean."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, len(task.score_names))) * 2
    p = task.scores(logits)
    if isinstance(task, Multilabel):
        return logits, (rng.random(p.shape) < p).astype(np.float32)
    return logits, (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)


TASKS = [Classification(class_names=("a", "b", "c"), positive="c"), Multilabel(class_names=("a", "b"))]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("factor", [1.0, 3.0, 0.4])
def test_temperature_undoes_a_factor_on_calibrated_logits(task: Task, factor: float) -> None:
    logits, y = simulated(task, 20_000)
    assert fit_temperature(task, factor * logits, y) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("task", TASKS)
def test_temperature_goes_with_the_size_of_the_logits(task: Task) -> None:
    logits, y = simulated(task, 20_000)
    assert fit_temperature(task, 3 * logits, y) == pytest.approx(3 * fit_temperature(task, logits, y), rel=0.01)


def test_temperature_improves_the_loss() -> None:
    logits, y = simulated(TASKS[0], 500)
    before, after = (
        TASKS[0].losses(y, TASKS[0].scores(4 * logits, t)).mean()
        for t in (1.0, fit_temperature(TASKS[0], 4 * logits, y))
    )
    assert after < before - 0.1


def test_a_few_right_answers_do_not_make_certainty() -> None:
    y = np.array([0, 1] * 10)
    logits = np.stack([1 - 2 * y, 2 * y - 1], axis=1).astype(np.float32)  # all right, each with p = 0.88
    temperature = fit_temperature(BINARY, logits, y)
    assert 0.4 < temperature < 1  # the loss alone would take the smallest there is


def test_numbers_have_no_temperature() -> None:
    assert fit_temperature(Regression(), np.zeros((5, 1)), np.ones(5)) == 1.0


@pytest.mark.parametrize("task", TASKS)
def test_a_calibrated_model_lies_on_the_diagonal(task: Task) -> None:
    logits, y = simulated(task, 20_000)
    bins = reliability(y, task.scores(logits), n_bins=8)
    assert sum(b.count for b in bins) == y.size
    for b in bins:
        assert abs(b.accuracy - b.confidence) < 4 * np.sqrt(0.25 / b.count)
    assert [b.confidence for b in bins] == sorted(b.confidence for b in bins)


def test_reliability_by_hand() -> None:
    scores = np.array([[0.55, 0.45], [0.4, 0.6], [0.05, 0.95], [1.0, 0.0]])
    bins = reliability(np.array([0, 0, 1, 0]), scores, n_bins=10)
    assert [(round(b.confidence, 6), b.accuracy, b.count) for b in bins] == [(0.575, 0.5, 2), (0.975, 1.0, 2)]


def test_a_calibration_error_lies_within_its_own_interval() -> None:
    """Noise only raises it, and resamples are noisier: their percentiles alone would lie above it."""
    task, rng = Classification(class_names=("a", "b"), positive="b"), np.random.default_rng(0)
    ece = [metric for metric in task.metrics() if metric.name == "ece"]
    for n in (60, 500):
        p = rng.uniform(size=n)
        y, scores = (rng.uniform(size=n) < p).astype(int), np.stack([1 - p, p], axis=1)
        weights = resamples(n, 500, 0)
        found = score(ece, y, scores, weights)["ece"]
        plain = ece[0].compute(y, scores, weights)
        assert np.percentile(plain, 2.5) > found.low
        assert 0 <= found.low <= found.value <= found.high
