"""Models of statsforecast (https://github.com/Nixtla/statsforecast), fitted once a series and carried on from there.

A model keeps the parameters that it was fitted with; at each origin its state is filtered anew through the values up
to that origin. Missing values are dropped, as the models know no gaps. Bands are Gaussian with the standard deviation
that the model gives each step.
"""

from __future__ import annotations

import importlib
import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from headstart.errors import MissingExtraError
from headstart.forecasters.base import Fitted, Forecaster, band
from headstart.forecasters.last_value import LastValue
from headstart.tasks.forecasting import LEVELS

FEWEST = 10  # observed values that a model is fitted to
NORMAL = norm.ppf(LEVELS)  # (Q,)
INSIDE = 80  # per cent of the band by which a model is asked for its standard deviation
STEPS, SEASONS = 1000, 10  # fitted to, whichever is longer
TOO_FAR = 10  # a point forecast that leaves the past by so many times its range has exploded


@dataclass(frozen=True, kw_only=True)
class Statistical(Forecaster):
    """A model of statsforecast that can be carried on to new values."""

    @abstractmethod
    def model(self, season: int) -> Any:
        """The statsforecast model, not yet fitted."""

    def history(self, season: int) -> int:
        """How many of the latest observed values are fitted to."""
        return max(STEPS, SEASONS * season)

    def deviation(self, model: Any, seen: np.ndarray, forecast: dict[str, np.ndarray]) -> np.ndarray:
        """(H,) standard deviation of each step of a model's forecast from the values `seen` (n,)."""
        return (forecast[f"hi-{INSIDE}"] - forecast[f"lo-{INSIDE}"]) / (2 * norm.ppf(0.5 + INSIDE / 200))

    def fit(self, values: np.ndarray, season: int, until: int) -> Fitted:
        """Fit to the latest observed values before `until`; what cannot be fitted repeats the last value."""
        past = np.asarray(values[:until], dtype=np.float64)
        observed = np.flatnonzero(np.isfinite(past))
        observed = observed[-self.history(season) :]
        spare = LastValue().fit(past, season, until)
        if len(observed) < FEWEST:
            return _Spare(spare, f"{len(observed)} values to fit to")
        seen = past[observed]
        if seen.min() == seen.max():
            return _Spare(spare, "constant")
        try:
            with quiet():
                return _FittedStatistical(self, self.model(season).fit(seen.copy()), int(observed[0]), spare)
        except MissingExtraError:
            raise
        except Exception as error:  # the library raises plain Exceptions
            return _Spare(spare, f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class _Spare(Fitted):
    """The last value, in place of a model that could not be fitted."""

    last_value: Fitted
    why: str

    @property
    def fallback(self) -> str:
        return self.why

    def forecasts(self, values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
        return self.last_value.forecasts(values, origins, horizon)


@dataclass
class _FittedStatistical(Fitted):
    forecaster: Statistical
    model: Any
    start: int  # the first step that the model was fitted to: its initial state belongs there
    spare: Fitted
    failures: list[str] = field(default_factory=list)  # of single origins

    @property
    def fallback(self) -> str:
        return self.failures[0] if self.failures else ""

    def forecasts(self, values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
        rows = np.empty((len(origins), horizon, len(LEVELS)))
        for row, origin in enumerate(origins):
            try:
                rows[row] = self._at(values[self.start : origin + 1], horizon)
            except Exception as error:  # the library raises plain Exceptions
                self.failures.append(f"{type(error).__name__}: {error}")
                rows[row] = self.spare.forecasts(values, np.array([origin]), horizon)[0]
        return rows

    def _at(self, values: np.ndarray, horizon: int) -> np.ndarray:
        """(H, Q) after the last of values (n,)."""
        seen = np.ascontiguousarray(values[np.isfinite(values)], dtype=np.float64)
        with quiet():
            forecast = self.model.forward(seen.copy(), horizon, level=[INSIDE], fitted=True)
            deviation = np.asarray(self.forecaster.deviation(self.model, seen, forecast), dtype=np.float64)
        point = np.asarray(forecast["mean"], dtype=np.float64)
        if not (np.isfinite(point).all() and np.isfinite(deviation).all()):
            raise ArithmeticError("the forecast is not finite")
        reach = TOO_FAR * (seen.max() - seen.min())
        if point.max() > seen.max() + reach or point.min() < seen.min() - reach:
            raise ArithmeticError("the forecast explodes")
        return band(point, deviation[:, None] * NORMAL)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of libraries, and of numbers that overflow; what comes of those is looked at."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def models() -> Any:
    """statsforecast's models."""
    try:
        with quiet():
            return importlib.import_module("statsforecast.models")
    except ImportError:
        raise MissingExtraError("statsforecast", "forecasting") from None


def root_steps(deviation: float, alpha: float, horizon: int) -> np.ndarray:
    """(H,) standard deviation of simple exponential smoothing: σ √(1 + (h − 1) α²) (Hyndman & Billah 2003)."""
    return deviation * np.array([math.sqrt(1 + step * alpha**2) for step in range(horizon)])
