"""A random walk with drift: the last value, and on as it went from the first value to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.forecasters.naive import Naive, carried


@dataclass(frozen=True, kw_only=True)
class Drift(Naive):
    """The line through the first and the last value."""

    title = "drift"

    def points(self, values: np.ndarray, season: int, origins: np.ndarray, horizon: int) -> np.ndarray:
        """last + h (last − first) / steps between them, (K, H); the last value where there is but one."""
        last = carried(values)
        seen = np.flatnonzero(np.isfinite(values))
        first = seen[0] if len(seen) else 0
        between = last.step[origins] - first
        rise = np.where(between > 0, (last.value[origins] - values[first]) / np.maximum(between, 1), 0.0)
        ahead = origins[:, None] - last.step[origins][:, None] + np.arange(1, horizon + 1)
        return np.asarray(last.value[origins][:, None] + rise[:, None] * ahead)
