"""Forecasters that repeat what was seen; their bands are the errors that they would have made in the past."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from headstart.forecasters.base import Fitted, Forecaster, band
from headstart.tasks.forecasting import LEVELS

TO_SETTLE = 4  # one in so many of the steps fitted to makes no errors that count: drift has seen too little there
MOST_ERRORS = 5000  # latest origins whose errors make the band


@dataclass(frozen=True, kw_only=True)
class Naive(Forecaster):
    """A forecast that follows from the past without any parameter but the season."""

    @abstractmethod
    def points(self, values: np.ndarray, season: int, origins: np.ndarray, horizon: int) -> np.ndarray:
        """Point forecasts (K, H) at origins (K,) of values (T,), from values at or before each origin."""

    def fit(self, values: np.ndarray, season: int, until: int) -> Fitted:
        """Keep the past, of which the errors are taken once the horizon is known."""
        return _FittedNaive(self, np.array(values[:until], dtype=np.float64), season)


@dataclass(frozen=True)
class _FittedNaive(Fitted):
    forecaster: Naive
    past: np.ndarray  # (until,)
    season: int

    def forecasts(self, values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
        point = self.forecaster.points(values, self.season, origins, horizon)
        return band(point, self._widths(horizon))

    def _widths(self, horizon: int) -> np.ndarray:
        """(H, Q): as far to either side as absolute errors of the past went, so that the point is the median.

        A step that the past is too short for is as sure as the one before it.
        """
        n = len(self.past)
        origins = np.arange(max(n // TO_SETTLE, n - MOST_ERRORS), max(n - 1, 0))
        point = self.forecaster.points(self.past, self.season, origins, horizon)
        inside = np.array([2 * abs(level - 0.5) for level in LEVELS])
        side = np.sign(np.array(LEVELS) - 0.5)
        widths = np.zeros((horizon, len(LEVELS)))
        for step in range(horizon):
            at = origins[: max(0, len(origins) - step)]
            errors = np.abs(self.past[at + step + 1] - point[: len(at), step])
            errors = errors[np.isfinite(errors)]
            widths[step] = side * np.quantile(errors, inside) if len(errors) else widths[max(step - 1, 0)]
        return widths


@dataclass(frozen=True)
class Carried:
    """The value last observed at or before each step, and when that was."""

    value: np.ndarray  # (T,) NaN before the first
    step: np.ndarray  # (T,) int64, −1 before the first


def carried(values: np.ndarray) -> Carried:
    """Of values (T,)."""
    step = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    return Carried(np.where(step >= 0, values[np.maximum(step, 0)], np.nan), step)
