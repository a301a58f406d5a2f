"""Fit the line that makes confidences mean what they say (Platt 1999, Advances in Large Margin Classifiers)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from headstart.engine.platt import Line, log_odds

PRIOR_SLOPE, PRIOR_OFFSET = 0.5, 1.0  # standard deviations: of log slope, and of the offset in log-odds


def fitted(confidence: np.ndarray, right: np.ndarray, near: Line) -> Line:
    """The most probable line, given which of the answers (n,) were right and that it lies somewhere near `near`.

    The slope stays above 0, so that ranks stay.
    """
    if not len(right):
        return near
    odds, sign = log_odds(confidence), np.where(right, 1.0, -1.0)
    centre = np.array([np.log(near.slope), near.offset])
    width = np.array([PRIOR_SLOPE, PRIOR_OFFSET])

    def surprise(line: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (np.exp(line[0]) * odds + line[1])
        away = (line - centre) / width
        pull = -sign * expit(-margin)  # derivative of the loss in the logit
        gradient = np.array([pull @ odds * np.exp(line[0]), pull.sum()]) + away / width
        return float(np.logaddexp(0, -margin).sum() + away @ away / 2), gradient

    bounds = [(-4.0, 4.0), (-20.0, 20.0)]
    best = minimize(surprise, centre, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Line(slope=float(np.exp(best[0])), offset=float(best[1]))
