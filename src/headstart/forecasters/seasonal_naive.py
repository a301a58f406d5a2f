"""The value of one season ago: that of the same hour yesterday, of the same month last year."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.forecasters.naive import Naive, carried


@dataclass(frozen=True, kw_only=True)
class SeasonalNaive(Naive):
    """What was last observed at the same place of the season."""

    title = "seasonal naive"

    def points(self, values: np.ndarray, season: int, origins: np.ndarray, horizon: int) -> np.ndarray:
        """(K, H): a missing value is taken from the season before; where there was none, the last value stays."""
        n = len(values)
        padded = np.full(-(-n // season) * season, np.nan)
        padded[:n] = values
        phases = [carried(phase).value for phase in padded.reshape(-1, season).T]
        again = np.stack(phases, axis=1).ravel()  # (T,) last value at the same place of the season, up to each step
        steps = np.arange(1, horizon + 1)
        found = np.full((len(origins), horizon), np.nan)
        before = origins[:, None] + steps - season * -(-steps // season)
        found[before >= 0] = again[before[before >= 0]]
        return np.where(np.isfinite(found), found, carried(values).value[origins][:, None])
