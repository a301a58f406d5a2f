"""Transferability scores against brute force, closed forms and what must leave them unchanged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, ortho_group
from sklearn.covariance import ledoit_wolf

from headstart.errors import DataError
from headstart.evidence.transferability import (
    Transferability,
    _subsample,
    h_score,
    leep,
    linear_probe_cv,
    logme,
    nce,
    score_features,
    transrate,
    weighted_kendall,
)

BY_CLASS = (logme, h_score, transrate, linear_probe_cv)


def blobs(
    n: int = 90, d: int = 6, gap: float = 1.0, n_classes: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) around a mean for each class, `gap` times as far apart, and class indices (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    means = rng.normal(size=(n_classes, d))
    return gap * means[y] + rng.normal(size=(n, d)), y


def source_head(n: int = 60, n_source: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, n_source) that know something of the classes (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    logits = rng.normal(size=(n, n_source)) + 2 * np.eye(3, n_source)[y]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), y


def greatest_evidence(F: np.ndarray, target: np.ndarray) -> float:
    """Maximum over alpha and beta of log N(target; 0, I / beta + F Fᵀ / alpha) / N, by a general optimiser."""

    def minus(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = np.eye(len(F)) / beta + F @ F.T / alpha
        return -multivariate_normal.logpdf(target, np.zeros(len(F)), covariance) / len(F)

    starts = [(0.0, 0.0), (3.0, 1.0)]
    return max(-minimize(minus, start, method="Nelder-Mead", options={"xatol": 1e-5}).fun for start in starts)


@pytest.mark.parametrize(("n", "d"), [(40, 5), (15, 30)], ids=["N above D", "N below D"])
def test_logme_is_the_greatest_evidence(n: int, d: int) -> None:
    X, y = blobs(n, d, n_classes=2)
    by_class = [greatest_evidence(X, (y == c).astype(float)) for c in range(2)]
    assert logme(X, y) == pytest.approx(np.mean(by_class), abs=1e-5)
    labels = np.stack([y == 0, y == 1, X[:, 0] > 0, np.ones(n)], axis=1).astype(float)  # the last tells nothing
    by_label = [*by_class, greatest_evidence(X, labels[:, 2])]
    assert logme(X, labels) == pytest.approx(np.mean(by_label), abs=1e-5)
    number = X @ np.linspace(-1, 1, d) + np.random.default_rng(0).normal(size=n)
    assert logme(X, 7 + 3 * number) == pytest.approx(
        greatest_evidence(X, (number - number.mean()) / number.std()), abs=1e-5
    )


def test_logme_finds_the_higher_of_two_maxima() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        X = 2 + rng.normal(size=(60, 17)) * np.exp(3 * rng.normal(size=17))  # uncentred, of unlike scales
        y = ((X - 2) / X.std(axis=0)) @ rng.normal(size=17) + rng.normal(size=60)
        number = (y - y.mean()) / y.std()
        ratios = np.geomspace(1e-12, 1e12, 4000) * np.linalg.norm(X, 2) ** 2
        values, vectors = np.linalg.eigh(X @ X.T)
        spread = 1 + np.maximum(values, 0) / ratios[:, None]  # eigenvalues of I + F Fᵀ / t
        per_beta = ((vectors.T @ number) ** 2 / spread).mean(axis=1)
        by_ratio = -0.5 * (np.log(2 * np.pi * per_beta) + 1 + np.log(spread).mean(axis=1))
        assert logme(X, y) == pytest.approx(by_ratio.max(), abs=1e-4)


def test_logme_of_features_that_know_nothing_is_that_of_noise() -> None:
    X, y = np.eye(6)[:, :1], np.array([0.0, -1, 1, 1, -1, 0])  # y is orthogonal to the only feature
    assert logme(X, y) == pytest.approx(-0.5 * (math.log(2 * math.pi) + 1))  # standardised: variance 1


def test_logme_stays_finite_where_the_fit_is_exact() -> None:
    X, _ = blobs(30, 4)
    assert math.isfinite(logme(X, X[:, 0] - X[:, 0].mean()))
    assert math.isfinite(logme(np.hstack([X, X]), np.arange(30) % 2))  # a singular Gram matrix


def between_and_total(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    g = np.stack([X[y == label].mean(axis=0) for label in y])  # E[f|y], row by row
    return np.cov(g, rowvar=False, ddof=0), np.cov(X, rowvar=False, ddof=0)


def test_h_score_is_the_trace_by_hand() -> None:
    X, y = blobs()
    between, total = between_and_total(X, y)
    assert h_score(X, y, shrinkage=False) == pytest.approx(np.trace(np.linalg.inv(total) @ between))
    shrunk, amount = ledoit_wolf(X)
    assert 0 < amount < 1
    assert h_score(X, y) == pytest.approx(np.trace(np.linalg.inv(shrunk) @ (between * (1 - amount))))


def test_h_score_of_one_feature_is_the_share_of_variance() -> None:
    X, y = np.array([[0.0], [2], [6], [8]]), np.array([0, 0, 1, 1])
    for shrinkage in (True, False):
        assert h_score(X, y, shrinkage=shrinkage) == pytest.approx(9 / 10)


def test_only_shrinkage_tells_wide_features_apart() -> None:
    (near, y), (far, _) = blobs(20, 200, gap=0.1), blobs(20, 200, gap=2)
    assert h_score(near, y, shrinkage=False) == pytest.approx(2)  # C - 1, whatever the features are
    assert h_score(far, y, shrinkage=False) == pytest.approx(2)
    assert h_score(near, y) < 1.2 < 1.8 < h_score(far, y) < 2


@pytest.mark.parametrize("d", [4, 150])
def test_transrate_is_the_difference_of_log_determinants(d: int) -> None:
    X, y = blobs(50, d)
    y[:15] = 0  # classes of unlike sizes
    Z, eps = X - X.mean(axis=0), 1e-2

    def rates(Z: np.ndarray) -> tuple[float, float]:
        narrow = np.linalg.slogdet(np.eye(d) + Z.T @ Z / (len(Z) * eps))[1] / 2
        wide = np.linalg.slogdet(np.eye(len(Z)) + Z @ Z.T / (len(Z) * eps))[1] / 2
        return narrow, wide

    for k in range(2):
        expected = rates(Z)[k] - sum((y == c).mean() * rates(Z[y == c])[k] for c in range(3))
        assert transrate(X, y, eps) == pytest.approx(expected)


def test_transrate_is_never_negative() -> None:
    rng = np.random.default_rng(0)
    for d in (1, 3, 40):
        assert transrate(rng.normal(size=(30, d)), (rng.random(30) > 0.9).astype(int) + (np.arange(30) == 0)) >= 0


def test_leep_is_the_loop_of_the_paper() -> None:
    theta, y = source_head()
    n, n_source = theta.shape
    joint = {(c, z): sum(theta[i, z] for i in range(n) if y[i] == c) / n for c in range(3) for z in range(n_source)}
    given = {(c, z): joint[c, z] / sum(joint[b, z] for b in range(3)) for c, z in joint}
    expected = sum(math.log(sum(given[y[i], z] * theta[i, z] for z in range(n_source))) for i in range(n)) / n
    assert leep(theta, y) == pytest.approx(expected)
    assert leep(np.hstack([theta, np.zeros((n, 2))]), y) == pytest.approx(expected)  # source classes never seen


def test_nce_is_the_loop_of_the_paper() -> None:
    theta, y = source_head()
    z, n, expected = theta.argmax(axis=1), len(y), 0.0
    for a in set(z):
        for c in set(y[z == a]):
            both = ((z == a) & (y == c)).sum() / n
            expected += both * math.log(both / ((z == a).sum() / n))
    assert nce(z, y) == pytest.approx(expected)
    assert nce(z * 100 - 7, y + 3) == pytest.approx(expected)  # names of the classes do not matter


def test_leep_and_nce_bound_each_other() -> None:
    theta, y = source_head()
    z = theta.argmax(axis=1)
    assert leep(np.eye(theta.shape[1])[z], y) == pytest.approx(nce(z, y))
    assert leep(theta, y) >= nce(z, y) + np.log(theta[np.arange(len(y)), z]).mean()  # property 2 of the LEEP paper
    entropy = -sum(p * math.log(p) for p in np.bincount(y) / len(y))
    assert nce(np.zeros(len(y), dtype=int), y) == pytest.approx(-entropy)  # a source that says nothing
    assert leep(np.full((len(y), 4), 0.25), y) == pytest.approx(-entropy)
    assert nce(y, y) == 0


@pytest.mark.parametrize("score", [logme, h_score, transrate])
def test_rotation_and_order_change_nothing(score: Callable[..., float]) -> None:
    X, y = blobs()
    turned = X @ ortho_group.rvs(X.shape[1], random_state=0)
    order = np.random.default_rng(1).permutation(len(y))
    assert score(turned, y) == pytest.approx(score(X, y))
    assert score(X[order], y[order]) == pytest.approx(score(X, y))


def test_scale_and_shift_change_nothing_where_they_should_not() -> None:
    X, y = blobs()
    for score in (logme, h_score, linear_probe_cv):
        assert score(1000 * X, y) == pytest.approx(score(X, y))
    for score in (h_score, transrate, linear_probe_cv):
        assert score(X + 3, y) == pytest.approx(score(X, y))
    mixed = X @ np.random.default_rng(0).normal(size=(6, 6))
    assert h_score(mixed, y, shrinkage=False) == pytest.approx(h_score(X, y, shrinkage=False))


@pytest.mark.parametrize("score", BY_CLASS)
@pytest.mark.parametrize("d", [6, 120])
def test_classes_further_apart_score_more(score: Callable[..., float], d: int) -> None:
    found = [score(*blobs(90, d, gap=gap)) for gap in (0, 0.6, 1.5)]
    assert found == sorted(found)
    assert found[0] < found[2]


def test_the_probe_scores_what_it_should() -> None:
    X, y = blobs(200, 5, gap=20)
    assert linear_probe_cv(X, y) == 1
    noise = np.random.default_rng(0).normal(size=(400, 3))
    assert linear_probe_cv(noise, np.arange(400) % 2) == pytest.approx(0.5, abs=0.1)
    number = noise @ np.array([1.0, 2, -1])
    assert linear_probe_cv(noise, number) == pytest.approx(1, abs=1e-3)
    assert linear_probe_cv(noise[::-1], number) == pytest.approx(0, abs=0.1)
    labels = (noise > 0).astype(float)
    assert linear_probe_cv(noise, labels) > 0.99
    assert linear_probe_cv(noise[::-1], labels) == pytest.approx(0.5, abs=0.1)


def test_the_probe_is_seeded_and_takes_rare_classes() -> None:
    X, y = blobs(60, 4, gap=0.5)
    assert linear_probe_cv(X, y, seed=3) == linear_probe_cv(X, y, seed=3)
    assert len({linear_probe_cv(X, y, seed=seed) for seed in range(5)}) > 1
    y[0] = 9  # a class of one example: never predicted right, but no reason to stop
    assert 0 < linear_probe_cv(X, y) < 1
    assert linear_probe_cv(X[:4], np.array([0, 0, 1, 1]), n_folds=10) >= 0


def test_every_task_gets_its_scores() -> None:
    X, y = blobs(80, 4)
    theta = np.full((80, 3), 0.1) + 0.7 * np.eye(3)[y]
    scores = score_features(X, y, source_probabilities=theta, stage=2, name="layer 3")
    scaled = X / np.sqrt(X.var(axis=0).sum())
    assert scores == Transferability(
        stage=2,
        name="layer 3",
        logme=logme(X, y),
        h_score=h_score(X, y),
        transrate=transrate(scaled, y),
        probe_cv=linear_probe_cv(X, y),
        leep=leep(theta, y),
        nce=nce(y, y),
    )
    assert Transferability(**json.loads(json.dumps(scores.to_json()))) == scores
    for other in (X[:, 0], (X > 0).astype(float)):
        scores = score_features(X, other, source_probabilities=theta, stage=0, name="a")
        assert scores.logme is not None
        assert scores.probe_cv is not None
        assert (scores.h_score, scores.transrate, scores.leep, scores.nce) == (None, None, None, None)
    assert score_features(X, y, stage=0, name="a").leep is None


def test_the_scale_of_a_stage_changes_no_score() -> None:
    X, y = blobs(80, 4)
    a, b = (score_features(X * factor, y, stage=0, name="a").to_json() for factor in (1, 64))
    assert a == pytest.approx(b)


def test_a_subsample_keeps_the_shares_and_the_rare() -> None:
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [6000, 3000, 998, 2]))
    drawn = _subsample(y, 100, seed=0)
    assert len(set(drawn)) == 100
    np.testing.assert_allclose(np.bincount(y[drawn]), [60, 30, 10, 2], atol=3)
    np.testing.assert_array_equal(drawn, _subsample(y, 100, seed=0))
    assert (drawn != _subsample(y, 100, seed=1)).any()
    assert len(set(_subsample(np.zeros(500), 100, seed=0))) == 100
    np.testing.assert_array_equal(_subsample(y[:50], 100, seed=0), np.arange(50))


def test_weighted_kendall_cares_for_the_top() -> None:
    a = np.arange(6.0)
    assert weighted_kendall(a, a**3) == pytest.approx(1)
    assert weighted_kendall(a, -a) == pytest.approx(-1)
    top, bottom = a[[0, 1, 2, 3, 5, 4]], a[[1, 0, 2, 3, 4, 5]]
    assert weighted_kendall(a, top) < weighted_kendall(a, bottom) < 1
    with pytest.raises(DataError, match="one length"):
        weighted_kendall(a, a[:3])
    with pytest.raises(DataError, match="NaN"):
        weighted_kendall(a, np.array([math.nan, *a[1:]]))


@pytest.mark.parametrize("score", BY_CLASS)
def test_what_no_score_can_use(score: Callable[..., float]) -> None:
    X, y = blobs(12, 3)
    with pytest.raises(DataError, match="11 rows, but y has 12"):
        score(X[1:], y)
    with pytest.raises(DataError, match=r"1 class.*at least 2"):
        score(X, np.zeros(12, dtype=int))
    with pytest.raises(DataError, match="same for every example"):
        score(np.ones((12, 3)), y)
    with pytest.raises(DataError, match=r"must be \(N, D\)"):
        score(X[:, 0], y)
    with pytest.raises(DataError, match="at least 2"):
        score(X[:1], y[:1])
    X[3, 1] = math.nan
    with pytest.raises(DataError, match="1 of 12 examples hold NaN"):
        score(X, y)


def test_labels_that_no_score_can_use() -> None:
    X, y = blobs(12, 3)
    theta = np.full((12, 2), 0.5)
    cases: list[tuple[str, Callable[[], object]]] = [
        ("class indices", lambda: h_score(X, X[:, 0])),
        ("is the same", lambda: logme(X, np.ones(12))),
        ("NaN", lambda: logme(X, np.full(12, math.nan))),
        ("other than 0 and 1", lambda: logme(X, X)),
        ("all examples or to none", lambda: logme(X, np.ones((12, 2)))),
        ("Pass class indices", lambda: logme(X, y.astype(str))),
        ("at least 2 folds", lambda: linear_probe_cv(X, y, n_folds=1)),
        ("two examples or more", lambda: linear_probe_cv(X, np.arange(12))),
        ("above 0", lambda: transrate(X, y, eps=0)),
        ("sum to 1", lambda: leep(theta * 2, y)),
        ("11 rows", lambda: leep(theta[1:], y)),
        ("NaN", lambda: leep(theta * math.nan, y)),
        (r"\(N, Z\)", lambda: leep(y, y)),
        ("argmax", lambda: nce(theta, y)),
        ("11 rows", lambda: nce(y[1:], y)),
        ("11 rows", lambda: score_features(X[1:], y, stage=0, name="a")),
        ("11 rows", lambda: score_features(X, y, source_probabilities=theta[1:], stage=0, name="a")),
    ]
    for message, call in cases:
        with pytest.raises(DataError, match=message):
            call()
