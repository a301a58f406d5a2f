"""Confidences that mean what they say: a line through the log-odds of scores (Platt 1999)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

EDGE = 1e-6  # of a score that is calibrated: 0 and 1 have no log-odds


@dataclass(frozen=True, kw_only=True)
class Line:
    """What scores mean."""

    slope: float = 1.0
    offset: float = 0.0

    def of(self, scores: np.ndarray) -> np.ndarray:
        """The calibrated confidences of scores."""
        return np.asarray(expit(self.slope * log_odds(scores) + self.offset))


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Of scores in 0 … 1, those at the ends drawn in a little."""
    return np.asarray(logit(np.clip(np.asarray(scores, dtype=np.float64), EDGE, 1 - EDGE)))
