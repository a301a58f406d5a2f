"""Regularised linear models of weighted rows: logistic or ridge regression, by scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np

from headstart.strategies.base import Part
from headstart.tasks.base import LinearHead, LinearTask

TOLERANCE, MOST_STEPS = 1e-4, 100


def solve(task: LinearTask, rows: Part, strength: float, weight: np.ndarray | None = None) -> LinearHead:
    """The head of rows (n, D) that count `weight` (n,); `strength` is the variance of each weight's prior.

    Rows of one class only, or none at all, give the guess that looks at no input.
    """
    if not len(rows.y):
        return _constant(np.zeros((len(task.score_names) or 1, rows.features.shape[1])), 0.0)
    weight = np.ones(len(rows.y)) if weight is None else weight
    if not task.score_names:
        return _ridge(rows, strength, weight)
    return _logistic(len(task.score_names), rows, strength, weight)


def _constant(weights: np.ndarray, bias: np.ndarray | float) -> LinearHead:
    return LinearHead(weights.astype(np.float32), np.broadcast_to(bias, len(weights)).astype(np.float32))


def _ridge(rows: Part, strength: float, weight: np.ndarray) -> LinearHead:
    """In units of the label's own spread, so that a strength means the same for metres and millimetres."""
    from sklearn.linear_model import Ridge

    mean = np.average(rows.y, weights=weight)
    scale = np.sqrt(np.average((rows.y - mean) ** 2, weights=weight)) or 1.0
    model = Ridge(alpha=1 / strength).fit(rows.features, (rows.y - mean) / scale, sample_weight=weight)
    return _constant(model.coef_[None] * scale, model.intercept_ * scale + mean)


def _logistic(n_classes: int, rows: Part, strength: float, weight: np.ndarray) -> LinearHead:
    """A class that the rows lack gets a constant logit that amounts to half a row."""
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(rows.y)
    weights = np.zeros((n_classes, rows.features.shape[1]))
    bias = np.full(n_classes, np.log(0.5 / len(rows.y)))
    if len(present) == 1:
        bias[present] = 0.0
        return _constant(weights, bias)
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=TOLERANCE, max_iter=MOST_STEPS)
    with warnings.catch_warnings(), config_context(assume_finite=True, skip_parameter_validation=True):
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few digits less are no loss here
        model.fit(rows.features, rows.y, sample_weight=weight)
    own, shift = model.coef_, model.intercept_
    if len(present) == 2:  # one logit z; the softmax of (-z/2, z/2) is its sigmoid
        own, shift = np.concatenate([-own, own]) / 2, np.concatenate([-shift, shift]) / 2
    weights[present], bias[present] = own, shift
    return _constant(weights, bias)
