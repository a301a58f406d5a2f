"""No change: what the random walk says of returns, which are changes themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.forecasters.naive import Naive


@dataclass(frozen=True, kw_only=True)
class NoChange(Naive):
    """Every return is zero: prices stay."""

    title = "no change"

    def points(self, values: np.ndarray, season: int, origins: np.ndarray, horizon: int) -> np.ndarray:
        """Zeros (K, H)."""
        return np.zeros((len(origins), horizon))
