"""Logistic regression along a path of penalties against scikit-learn's, converged to the last digits in float64."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from headstart.engine.features import Features
from headstart.evidence import depth
from headstart.evidence.compare import Judge
from headstart.evidence.intervals import resamples
from headstart.tasks import linear
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import Multilabel

PROBABILITY = 1e-3  # how far a probability may be from the converged one, at any strength


def problem(n: int, d: int, n_classes: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features (N, D) float32 around a centre for each class, and y (N,); class 0 is twice as frequent."""
    rng = np.random.default_rng(0)
    y = np.maximum(rng.integers(-1, n_classes, n), 0)
    y[:n_classes] = np.arange(n_classes)
    latent = rng.normal(size=(n_classes, d))[y] + 3 * spread * rng.normal(size=(n, d))
    mixed = latent * np.geomspace(1, 0.03, d) @ rng.normal(size=(d, d))
    return ((mixed - mixed.mean(axis=0)) / mixed.std(axis=0)).astype(np.float32), y


def probabilities(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(N, K) of the softmax, of the sigmoid for one row."""
    logits = features.astype(float) @ weight.T.astype(float) + bias
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def agree(features: np.ndarray, y: np.ndarray, class_weight: str | None = None) -> list[linear.Solved]:
    """The path's solutions, all of which are scikit-learn's."""
    exact = LogisticRegression(solver="newton-cg", tol=1e-8, max_iter=2000, warm_start=True, class_weight=class_weight)
    found = []
    for strength, (weight, bias) in linear.logistic_path(features, y, class_weight):
        exact.set_params(C=strength).fit(features.astype(float), y)
        expected = exact.predict_proba(features.astype(float))
        np.testing.assert_allclose(
            probabilities(features, weight, bias), expected, atol=PROBABILITY, err_msg=f"C={strength}"
        )
        found.append((weight, bias))
    assert len(found) == len(linear.C_TIMES_ROW)
    return found


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestAgreement:
    """With other solvers and other units."""

    @pytest.mark.parametrize("class_weight", [None, "balanced"])
    @pytest.mark.parametrize("n_classes", [2, 5])
    @pytest.mark.parametrize(("n", "d"), [(400, 30), (60, 150), (40, 40)])
    def test_overlapping_classes(self, n: int, d: int, n_classes: int, class_weight: str | None) -> None:
        agree(*problem(n, d, n_classes), class_weight)

    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_separable_classes_at_the_weakest_penalty(self, n_classes: int) -> None:
        features, y = problem(200, 20, n_classes, spread=0.05)
        weight, bias = agree(features, y)[-1]
        assert (probabilities(features, weight, bias).argmax(axis=1) == y).all()
        assert np.isfinite(weight).all()

    @pytest.mark.parametrize("n", [100, 15])
    def test_constant_and_repeated_columns(self, n: int) -> None:
        features, y = problem(n, 20, 3)
        features[:, 3], features[:, 5], features[:, 7] = 0.0, 2.5, features[:, 8]
        for weight, _ in agree(features, y):
            assert np.abs(weight[:, [3, 5]]).max() < 1e-5
            np.testing.assert_allclose(weight[:, 7], weight[:, 8], atol=1e-4)

    @pytest.mark.parametrize("scale", [1e5, 1e-4])
    def test_columns_of_any_scale(self, scale: float) -> None:
        """The stopping rules know no unit: the same probabilities, whatever the features are measured in."""
        features, y = problem(300, 10, 3)
        pairs = zip(linear.logistic_path(features, y), linear.logistic_path(scale * features, y), strict=True)
        for (_, plain), (_, (weight, bias)) in pairs:
            scaled = probabilities(features, weight * scale, bias)
            np.testing.assert_allclose(scaled, probabilities(features, *plain), atol=PROBABILITY)

    def test_columns_far_from_zero(self) -> None:
        """The bias is not penalised, so that an offset changes nothing but the bias."""
        features, y = problem(300, 10, 3)
        offset = np.float32(16)
        strengths = 1 / linear.mean_squared_length(features + offset) * linear.C_TIMES_ROW
        exact = LogisticRegression(solver="newton-cg", tol=1e-8, max_iter=2000)
        for strength, (_, (weight, bias)) in zip(strengths, linear.logistic_path(features + offset, y), strict=True):
            expected = exact.set_params(C=strength).fit(features.astype(float), y).predict_proba(features.astype(float))
            found = probabilities(features + offset, weight, bias)
            np.testing.assert_allclose(found, expected, atol=PROBABILITY)

    def test_one_example_of_a_class(self) -> None:
        features, y = problem(50, 20, 3)
        y[y == 2] = 1
        y[-1] = 2
        agree(features, y)


def test_all_columns_constant_leave_the_frequencies() -> None:
    y = np.array([0, 0, 0, 1, 2, 2])
    for _, (weight, bias) in linear.logistic_path(np.ones((6, 4), dtype=np.float32), y):
        assert not weight.any()
        np.testing.assert_allclose(probabilities(np.zeros((1, 4)), weight, bias)[0], [1 / 2, 1 / 6, 1 / 3], atol=1e-5)


def test_rows_for_several_classes_sum_to_nothing() -> None:
    """As scikit-learn's do; a class that train lacks is given its logit on that understanding."""
    for _, (weight, bias) in linear.logistic_path(*problem(100, 12, 4)):
        np.testing.assert_allclose(weight.sum(axis=0), 0, atol=1e-4)
        assert bias.sum() == pytest.approx(0, abs=1e-4)


def test_several_labels_share_a_factorisation_and_equal_one_by_one() -> None:
    features, y = problem(120, 15, 4)
    labels = (y[:, None] == np.arange(3)).astype(np.float32)
    alone = [list(linear.logistic_path(features, labels[:, k])) for k in range(3)]
    for step, (strength, (weight, bias)) in enumerate(linear.logistic_path(features, labels)):
        for k in range(3):
            expected_strength, (expected_weight, expected_bias) = alone[k][step]
            assert strength == expected_strength
            np.testing.assert_array_equal(weight[[k]], expected_weight)
            np.testing.assert_array_equal(bias[[k]], expected_bias)


@pytest.mark.parametrize("constant", [[0], [0, 1]])
def test_labels_that_do_not_vary_are_left_out(constant: list[int]) -> None:
    features, y = problem(30, 5, 2)
    labels = np.stack([y, 1 - y], axis=1).astype(np.float32)
    labels[:, constant] = 1.0
    heads = list(Multilabel(class_names=("a", "b")).heads(features, labels, 0))
    assert len(heads) == len(linear.C_TIMES_ROW)
    assert not heads[-1][1].weight[constant].any()
    assert heads[-1][1].bias[0] == pytest.approx(np.log(29.5 / 0.5), rel=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_same_twice(n_classes: int) -> None:
    features, y = problem(200, 30, n_classes)
    first, second = (list(linear.logistic_path(features, y)) for _ in range(2))
    for (_, (weight, bias)), (_, (again, bias_again)) in zip(first, second, strict=True):
        np.testing.assert_array_equal(weight, again)
        np.testing.assert_array_equal(bias, bias_again)


def test_stages_solved_at_the_same_time_equal_one_by_one() -> None:
    """In the order of the stages, whatever is ready first."""
    probing = _probing()
    found = depth.profile(probing)
    assert [one.point.stages for one in found] == [(0,), (1,), (2,), (3,), *(one.point.stages for one in found[4:])]
    assert len(found) == 4 + 3
    for one in found:
        with threadpool_limits(1, user_api="blas"):
            alone = probing.solve(one.point.stages)
        np.testing.assert_array_equal(one.adapted.head.weight, alone.adapted.head.weight)
        assert one.point == alone.point


def _probing() -> depth.Probing:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=90)
    stages = [rng.normal(size=(90, d)).astype(np.float32) + s * y[:, None] for s, d in enumerate((40, 5, 9, 6))]
    shard = SimpleNamespace(stage=lambda index: stages[index])
    task = Classification(class_names=("a", "b", "c"), positive="c")
    train, val = np.arange(60), np.arange(60, 90)
    judge = Judge(metric=task.metrics()[0], y=y[val], weights=resamples(30, 20, 0))
    return depth.Probing(
        task=task,
        features=Features([shard], np.zeros(90, dtype=np.int64), np.arange(90)),  # type: ignore[list-item]
        y=y,
        train=train,
        val=val,
        names=("one", "two", "three", "four"),
        judge=judge,
        seed=0,
    )
