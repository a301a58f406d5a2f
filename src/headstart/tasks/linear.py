"""Linear heads solved rather than trained, along a path of regularisation strengths: logistic and ridge regression.

Strengths are set relative to the mean squared length of a row (D for standardised features, 1 for TF-IDF rows): the
logit or number that a given penalty allows scales with it, so one grid fits features of any width and kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

NEWTON_WIDTH = 2048  # widest features whose Hessian is factorised: 0.3 s a step

Solved = tuple[np.ndarray, np.ndarray]  # weight (K, D) and bias (K,)

C_TIMES_ROW = np.logspace(-2, 3, 11)  # strongest first; validation chose 3 to 100 on SST-2 and TREC, words or dense
ALPHA_PER_ROW = np.logspace(3, -4, 15)  # strongest first


def logistic_strengths(features: Any) -> np.ndarray:
    """Values of scikit-learn's C to try, strongest regularisation (smallest C) first."""
    return C_TIMES_ROW / mean_squared_length(features)


def mean_squared_length(features: Any) -> float:
    """Mean over rows of the sum of squares; 1 when all features are 0. Dense (N, D) or sparse."""
    norm = sparse.linalg.norm if sparse.issparse(features) else np.linalg.norm
    return float(norm(features)) ** 2 / features.shape[0] or 1.0


def logistic_solver(features: Any, y: np.ndarray) -> Callable[[float], Solved]:
    """A function from C to (weight, bias) that starts each time from its last answer; one row for two classes."""
    model = LogisticRegression(max_iter=1000, warm_start=True, **_method(features, y))

    def solve(strength: float) -> Solved:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges the head, converged or not
            model.set_params(C=strength).fit(features, y)
        return model.coef_, model.intercept_

    return solve


def _method(features: Any, y: np.ndarray) -> dict[str, Any]:
    """Newton where the Hessian (D × D for two classes) is small: three steps a strength, and exact.

    Elsewhere L-BFGS. Its default tolerance, 1e-4, leaves probabilities up to 0.02 from the solution, so a tighter one
    is used unless there are so many classes that it would take minutes.
    """
    n_classes = len(np.unique(y))
    if n_classes == 2 and not sparse.issparse(features) and features.shape[1] <= NEWTON_WIDTH:
        return {"solver": "newton-cholesky", "tol": 1e-6}
    return {"solver": "lbfgs", "tol": 1e-5 if n_classes <= 20 else 1e-4}


def ridge_path(features: Any, y: np.ndarray) -> Iterator[tuple[float, Solved]]:
    """(alpha, (weight (1, D), bias (1,))) of ridge regression on y (N,), strongest first; the bias is not penalised."""
    alphas = ALPHA_PER_ROW * mean_squared_length(features)
    yield from (_sparse_ridge if sparse.issparse(features) else _dense_ridge)(features, y, alphas)


def _dense_ridge(features: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> Iterator[tuple[float, Solved]]:
    """One factorisation for all strengths: the eigenvalues of the Gram matrix on its smaller side, in float64."""
    mean, y_mean = features.mean(axis=0, dtype=np.float64), y.mean(dtype=np.float64)
    centred, deviations = features - mean, y - y_mean
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


def _sparse_ridge(features: Any, y: np.ndarray, alphas: np.ndarray) -> Iterator[tuple[float, Solved]]:
    for alpha in alphas:
        model = Ridge(alpha=alpha, solver="sparse_cg", tol=1e-6).fit(features, y)
        yield float(alpha), (model.coef_[None], np.array([model.intercept_]))
