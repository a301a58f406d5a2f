"""Probabilities that mean what they say: one temperature, fitted on validation (Guo et al. 2017, arXiv:1706.04599).

A small validation split that happens to be all right would ask for certainty: the loss falls for ever as the
temperature goes to 0. So log T has a normal prior around 0, worth less the more examples there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from headstart.tasks.base import LinearTask
from headstart.tasks.metrics import bin_index, decisions

RANGE = (0.05, 20.0)  # of the temperature
PRIOR_WIDTH = 0.5  # standard deviation of log T: for heads chosen on validation, T was 0.8 to 1.15 in the median


@dataclass(frozen=True)
class Bin:
    """One point of a calibration curve."""

    confidence: float  # mean probability of what was decided
    accuracy: float  # share of these decisions that were right
    count: int
    interval: tuple[float, float] | None = None  # of the accuracy; None is Wilson's, for independent examples


def fit_temperature(task: LinearTask, logits: np.ndarray, y: np.ndarray) -> float:
    """The most probable temperature given logits (N, K) and y: the least mean loss, but for a weak prior around 1.

    1.0 where scores are no probabilities.
    """
    if not task.calibrated:
        return 1.0

    def loss(log_temperature: float) -> float:
        surprise = log_temperature**2 / (2 * PRIOR_WIDTH**2)
        return float(task.losses(y, task.scores(logits, float(np.exp(log_temperature)))).mean() + surprise / len(y))

    best = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


def reliability(y: np.ndarray, scores: np.ndarray, n_bins: int = 10) -> list[Bin]:
    """The calibration curve, from the least sure bin to the surest, empty ones left out; for calibrated tasks only.

    Bins are of equal width. Scores are (N, K); for class indices y (N,) the top label of each example counts, for
    0/1 y (N, K) each yes or no.
    """
    confidence, correct = (values.ravel() for values in decisions(y, scores))
    return binned(confidence, correct, n_bins)


def binned(confidence: np.ndarray, correct: np.ndarray, n_bins: int = 10) -> list[Bin]:
    """The same of decisions (n,): how sure each was, and whether it was right."""
    index = bin_index(confidence, n_bins)
    counts = np.bincount(index, minlength=n_bins)
    sums = [np.bincount(index, values, n_bins) for values in (confidence, correct)]
    return [Bin(float(c / n), float(a / n), int(n)) for c, a, n in zip(*sums, counts, strict=True) if n]
