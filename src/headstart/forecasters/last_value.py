"""The last value again and again: the best forecast of a random walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.forecasters.naive import Naive, carried


@dataclass(frozen=True, kw_only=True)
class LastValue(Naive):
    """What was last observed stays."""

    title = "last value"

    def points(self, values: np.ndarray, season: int, origins: np.ndarray, horizon: int) -> np.ndarray:
        """The value last observed, (K, H)."""
        return np.repeat(carried(values).value[origins][:, None], horizon, axis=1)
