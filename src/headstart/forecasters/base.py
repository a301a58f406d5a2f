"""A classical forecaster is fitted to the past of one series and then forecasts at many origins without refitting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.tasks.forecasting import LEVELS


class Fitted(ABC):
    """A forecaster with the parameters of one series."""

    @property
    def fallback(self) -> str:
        """Why the last value is repeated in place of this forecaster's own forecast; "" where it is not."""
        return ""

    @abstractmethod
    def forecasts(self, values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
        """Quantiles (K, H, Q) at LEVELS for the steps after each origin (K,), of the series' values (T,).

        Only values at or before an origin go into its forecasts, whatever else `values` holds. A window without any
        value up to its origin is NaN.
        """


@dataclass(frozen=True, kw_only=True)
class Forecaster(ABC):
    """A way to forecast one series from its own past. One public subclass a file, named after the file."""

    title: ClassVar[str]  # for people: "seasonal naive"

    @abstractmethod
    def fit(self, values: np.ndarray, season: int, until: int) -> Fitted:
        """Learn from values[:until] of values (T,), NaN where missing. To forecast what is not yet, until is T."""


def band(point: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """(K, H, Q) about points (K, H), from how far each level lies above them, (H, Q) or (K, H, Q)."""
    return np.asarray(point[..., None] + widths, dtype=np.float64).reshape(*point.shape, len(LEVELS))
