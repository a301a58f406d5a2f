"""Linear heads solved rather than trained, along a path of regularisation strengths: logistic and ridge regression.

Strengths are set relative to the mean squared length of a row (D for standardised features, 1 for TF-IDF rows): the
logit or number that a given penalty allows scales with it, so one grid fits features of any width and kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.class_weight import compute_sample_weight

from headstart.tasks import logistic
from headstart.tasks.logistic import Solved

C_TIMES_ROW = np.logspace(-2, 3, 11)  # strongest first; validation chose 3 to 100 on SST-2 and TREC, words or dense
ALPHA_PER_ROW = np.logspace(3, -4, 15)  # strongest first


def counted(
    features: Any, y: np.ndarray, sample_weight: np.ndarray | None
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """The rows that count, and their weights (N,) with mean 1; all of them where there are no weights."""
    if sample_weight is None:
        return features, y, None
    rows = np.flatnonzero(sample_weight > 0)
    return features[rows], y[rows], sample_weight[rows] / sample_weight[rows].mean()


def logistic_path(
    features: Any, y: np.ndarray, class_weight: str | None = None, sample_weight: np.ndarray | None = None
) -> Iterator[tuple[float, Solved]]:
    """(C as in scikit-learn, (weight, bias)) of logistic regression, strongest regularisation (smallest C) first.

    y (N,) holds two or more classes: one row for two, one each for more. y (N, K) 0/1 holds several labels, none of
    them constant: one row a label. With `class_weight` "balanced" every class counts the same; `sample_weight` (N,)
    multiplies it.
    """
    strengths = C_TIMES_ROW / mean_squared_length(features)
    columns = [y] if y.ndim == 1 else list(y.T)
    if sparse.issparse(features):
        paths = [_sparse_logistic(features, one, strengths, class_weight, sample_weight) for one in columns]
    else:
        rotated = logistic.Rotated.of(features)
        paths = [
            logistic.path(rotated, one, 1 / strengths, _weights(class_weight, one, sample_weight)) for one in columns
        ]
    none = np.empty((0, features.shape[1]), dtype=np.float32)  # no label, no row
    for strength, *solved in zip(strengths, *paths, strict=True):
        weight = np.concatenate([none, *(weight for weight, _ in solved)])
        yield float(strength), (weight, np.concatenate([none[:, 0], *(bias for _, bias in solved)]))


def mean_squared_length(features: Any) -> float:
    """Mean over rows of the sum of squares; 1 when all features are 0. Dense (N, D) or sparse."""
    norm = sparse.linalg.norm if sparse.issparse(features) else np.linalg.norm
    return float(norm(features)) ** 2 / features.shape[0] or 1.0


def _weights(class_weight: str | None, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
    own = 1.0 if sample_weight is None else sample_weight
    return np.asarray(compute_sample_weight(class_weight, y) * own)


def _sparse_logistic(
    features: Any, y: np.ndarray, strengths: np.ndarray, class_weight: str | None, sample_weight: np.ndarray | None
) -> Iterator[Solved]:
    # Three to six Newton steps a strength: 2 to 10 times faster here than L-BFGS, and closer to the solution.
    model = LogisticRegression(solver="newton-cg", tol=1e-5, max_iter=200, warm_start=True, class_weight=class_weight)
    # The tolerance is on the gradient, which shrinks with the features: rows shorter than 1 are solved at length 1.
    length = min(1.0, mean_squared_length(features) ** 0.5)
    scaled = features if length == 1.0 else features * (1 / length)
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # float32 may run out of digits; validation judges the head in any case
            model.set_params(C=strength * length**2).fit(scaled, y, sample_weight)
        yield model.coef_ / length, model.intercept_


def ridge_path(features: Any, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Iterator[tuple[float, Solved]]:
    """(alpha, (weight (1, D), bias (1,))) of ridge regression on y (N,), strongest first; the bias is not penalised."""
    features, y, sample_weight = counted(features, y, sample_weight)
    alphas = ALPHA_PER_ROW * mean_squared_length(features)
    yield from (_sparse_ridge if sparse.issparse(features) else _dense_ridge)(features, y, alphas, sample_weight)


def _dense_ridge(
    features: np.ndarray, y: np.ndarray, alphas: np.ndarray, sample_weight: np.ndarray | None
) -> Iterator[tuple[float, Solved]]:
    """One factorisation for all strengths: the eigenvalues of the Gram matrix on its smaller side, in float64."""
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    mean, y_mean = weight @ features / weight.sum(), weight @ y / weight.sum()
    root = np.sqrt(weight)
    centred, deviations = (features - mean) * root[:, None], (y - y_mean) * root
    n, d = centred.shape
    if n > d:
        values, basis = np.linalg.eigh(centred.T @ centred)
        projected, back = basis.T @ (centred.T @ deviations), basis
    else:  # X'(XX' + a)^-1 y, the same answer
        values, basis = np.linalg.eigh(centred @ centred.T)
        projected, back = basis.T @ deviations, centred.T @ basis
    for alpha in alphas:
        weight = back @ (projected / (np.maximum(values, 0) + alpha))
        yield float(alpha), (weight[None], np.array([y_mean - mean @ weight]))


def _sparse_ridge(
    features: Any, y: np.ndarray, alphas: np.ndarray, sample_weight: np.ndarray | None
) -> Iterator[tuple[float, Solved]]:
    for alpha in alphas:
        model = Ridge(alpha=alpha, solver="sparse_cg", tol=1e-6).fit(features, y, sample_weight)
        yield float(alpha), (model.coef_[None], np.array([model.intercept_]))
