"""Judge models on validation: one metric, its interval, and the paired gain of one over another with its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.evidence.base import Score
from headstart.evidence.intervals import score
from headstart.tasks.base import Metric, Weights


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The metric that models are chosen by, on the validation examples and their resamples."""

    metric: Metric
    y: np.ndarray  # encoded labels of validation
    weights: Weights  # (B, n_val) resamples
    n_units: int | None = None  # groups, None where examples are independent

    def score(self, scores: np.ndarray) -> Score:
        """The metric of scores (n_val, K) with its interval; NaN where validation does not define it."""
        found = score([self.metric], self.y, scores, self.weights, self.n_units)
        return found.get(self.metric.name, Score(float("nan"), float("nan"), float("nan")))

    def gain(self, value: float) -> float:
        """The value, turned so that more is better."""
        return value if self.metric.better == "higher" else -value

    def gain_over(self, scores: np.ndarray, other: np.ndarray) -> tuple[float, float]:
        """(how much better the first is, standard error of that), on the same resamples."""
        plain = np.ones((1, len(self.y)))
        values = [
            [self.gain(1.0) * self.metric.compute(self.y, one, w) for w in (plain, self.weights)]
            for one in (scores, other)
        ]
        resampled = values[0][1] - values[1][1]
        error = float(np.nanstd(resampled)) if np.isfinite(resampled).any() else 0.0
        return float(values[0][0][0] - values[1][0][0]), error
