"""Put a model's logits on the target's scale: one slope and a shift for each class (Platt 1999).

A model of the source may order the target's rows well and yet be wrong about how frequent each class is there. Slope
and shifts have normal priors around 1 and 0, so that few labels change little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from headstart.tasks.base import LinearTask

SLOPE_WIDTH, SHIFT_WIDTH = 0.5, 1.0  # standard deviations of log slope and of a shift in logits
NUMBER_WIDTH = 0.5  # of slope and shift (in the label's standard deviations) for a number


@dataclass(frozen=True)
class Calibration:
    """logits * slope + shift."""

    slope: float
    shift: np.ndarray  # (K,) float64

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """(N, K) of (N, K)."""
        return logits.astype(np.float64) * self.slope + self.shift


def identity(n_outputs: int) -> Calibration:
    """Nothing is changed."""
    return Calibration(1.0, np.zeros(n_outputs))


def calibrate(task: LinearTask, logits: np.ndarray, y: np.ndarray) -> Calibration:
    """The most probable slope and shifts given logits (n, K) of rows that the model did not learn from."""
    if not len(y):
        return identity(logits.shape[1])
    return _classes(logits.astype(np.float64), y) if task.score_names else _numbers(logits[:, 0], y)


def _classes(logits: np.ndarray, y: np.ndarray) -> Calibration:
    truth = np.eye(logits.shape[1])[y]
    width = np.array([SLOPE_WIDTH, *np.full(logits.shape[1], SHIFT_WIDTH)])

    def surprise(at: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.exp(at[0])
        p = softmax(logits * slope + at[1:], axis=1)
        loss = -np.log(np.maximum((p * truth).sum(axis=1), 1e-15)).sum() + (at**2 / (2 * width**2)).sum()
        off = p - truth
        return float(loss), np.array([(off * logits).sum() * slope, *off.sum(axis=0)]) + at / width**2

    start = np.zeros(1 + logits.shape[1])
    best = minimize(surprise, start, jac=True, method="L-BFGS-B", bounds=[(-3, 3), *[(-8, 8)] * logits.shape[1]]).x
    return Calibration(float(np.exp(best[0])), best[1:])


def _numbers(said: np.ndarray, y: np.ndarray) -> Calibration:
    """Ridge regression of what is missing, in standard deviations of the label."""
    scale, middle = float(y.std()) or 1.0, float(said.mean())
    X = np.stack([(said - middle) / scale, np.ones(len(y))], axis=1).astype(np.float64)
    missing = (y - said).astype(np.float64) / scale
    slope, shift = np.linalg.solve(X.T @ X + np.eye(2) / NUMBER_WIDTH**2, X.T @ missing)
    return Calibration(float(1 + slope), np.array([shift * scale - slope * middle]))
