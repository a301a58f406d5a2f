"""Forecasts: quantiles of the next steps of a series; scored by MASE, weighted quantile loss, sMAPE and direction.

A window is one series seen up to one origin. Its y (N, H + 2) holds the outcomes of the H steps after it, NaN where
missing, the scale of the series and the value last observed. Its scores (N, H, Q) are quantiles at LEVELS in the
unit of the series, sorted along Q. A window without any observed outcome counts nothing in any metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.data.stretches import LEVELS as LEVELS
from headstart.errors import DataError
from headstart.tasks.base import Metric, Task, Weights

MIDDLE = LEVELS.index(0.5)
BANDS = {"80": (LEVELS.index(0.1), LEVELS.index(0.9)), "95": (0, len(LEVELS) - 1)}  # band -> columns of its ends
ROWS_AT_ONCE = 128  # resamples that are multiplied together, so that a large B needs little memory

Sums = tuple[np.ndarray, np.ndarray]  # what is added up and what it is divided by, (N,) each


def outcomes(y: np.ndarray) -> np.ndarray:
    """(N, H): what happened, NaN where it was not observed."""
    return y[:, :-2]


def scale(y: np.ndarray) -> np.ndarray:
    """(N,): mean absolute seasonal difference of each window's series, before anything that is judged."""
    return y[:, -2]


def last(y: np.ndarray) -> np.ndarray:
    """(N,): the value last observed at the origin."""
    return y[:, -1]


def median(scores: np.ndarray) -> np.ndarray:
    """(N, H): the point forecast of quantiles (N, H, Q)."""
    return scores[..., MIDDLE]


def last_values(y: np.ndarray) -> np.ndarray:
    """(N, H, Q): each window's last value at every step and level, the forecast of a random walk without a band."""
    shape = (len(y), y.shape[1] - 2, len(LEVELS))
    return np.broadcast_to(last(y)[:, None, None], shape).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Forecasting(Task):
    """The next `horizon` steps of each series, as quantiles."""

    title = "forecasts"
    naive_title = "last value"

    horizon: int
    season: int = 1  # steps after which a pattern comes again; 1 is none
    directions: bool = False  # whether it matters if the sign is right: prices and returns
    returns: bool = False  # the values are changes themselves: their sign counts, not that of value minus last
    non_negative: bool = False  # no value was ever below zero, so no forecast may be

    @property
    def walk_title(self) -> str:
        """The forecast that is best of a random walk: of returns no change, of levels the last value."""
        return "no change" if self.returns else self.naive_title

    @classmethod
    def from_labels(cls, labels: Sequence[dict[str, Sequence[float | None]]]) -> Forecasting:
        """The horizon of windows {"past": [...], "future": [...]}, None or NaN where missing; without a season."""
        lengths = {len(label["future"]) for label in labels}
        if len(lengths) != 1 or lengths == {0}:
            raise DataError(
                f"Windows have futures of {sorted(lengths) or 'no'} steps, but all must have the same, at least one."
            )
        values = np.concatenate([_numbers([*label["past"], *label["future"]]) for label in labels])
        return cls(horizon=lengths.pop(), non_negative=not (values < 0).any())

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Forecasting:
        """The inverse of `to_json`."""
        return cls(**saved)

    def encode(self, labels: Sequence[dict[str, Sequence[float | None]]]) -> np.ndarray:
        """y (N, H + 2) of windows as in `from_labels`; the scale is that of each window's own past."""
        rows = []
        for label in labels:
            past, future = _numbers(label["past"]), _numbers(label["future"])
            if len(future) != self.horizon:
                raise DataError(f"A window's future has {len(future)} steps, but the horizon is {self.horizon}.")
            seen = past[np.isfinite(past)]
            rows.append([*future, seasonal_scale(past, self.season), seen[-1] if len(seen) else np.nan])
        return np.array(rows, dtype=np.float64).reshape(len(labels), self.horizon + 2)

    def naive(self, y: np.ndarray, n: int) -> np.ndarray:
        """Each window's last value at every level (n, H, Q).

        It looks at the window's own past, so it is only a forecast of the windows that y (N, H + 2) describes: n = N.
        For another n they are gone through again from the first, which serves to ask what metrics are defined.
        """
        return np.resize(last_values(y), (n, self.horizon, len(LEVELS)))

    def decode(self, scores: np.ndarray) -> list[dict[str, list[float]]]:
        """Each window as {"0.025": [H numbers], ..., "0.5": [...], ...}."""
        names = [str(level) for level in LEVELS]
        return [dict(zip(names, one.T.tolist(), strict=True)) for one in np.asarray(scores)]

    def proper(self, scores: np.ndarray) -> np.ndarray:
        """Quantiles (N, H, Q) that do not cross, and are not below zero where no value ever was."""
        ordered = np.sort(scores, axis=-1)
        return np.maximum(ordered, 0) if self.non_negative else ordered

    def metrics(self) -> tuple[Metric, ...]:
        """MASE first, which is defined for every unit; direction where a sign is worth something."""
        found = [
            Metric("mase", "MASE", "lower", _measure(_mase)),
            Metric("wql", "weighted quantile loss", "lower", _measure(_wql)),
            Metric("smape", "sMAPE (%)", "lower", _measure(_smape)),
        ]
        if self.directions:
            compute = _measure(_returns_direction if self.returns else _direction)
            found.append(Metric("direction", "direction accuracy", "higher", compute, proportion=True))
        return tuple(found)

    def window_losses(self, metric: str, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(N,): what each window adds to a metric, less being better; NaN where it adds nothing.

        MASE and sMAPE are the means of these. Of the weighted quantile loss it is twice the mean pinball loss, in the
        unit of the series over its scale, so that no series outweighs others by its unit only; of direction the share
        of wrong steps.
        """
        if metric == "wql":
            total, _ = _wql(y, scores)
            n = np.isfinite(outcomes(y)).sum(axis=1)
            return _over(total, n * _positive(scale(y)))
        sums = {"mase": _mase, "smape": _smape, "direction": _returns_direction if self.returns else _direction}
        value = _over(*sums[metric](y, scores))
        return 1 - value if metric == "direction" else value


def seasonal_scale(values: np.ndarray, season: int) -> float:
    """The scale of MASE (Hyndman & Koehler 2006, doi:10.1016/j.ijforecast.2006.03.001) of values (T,).

    Mean absolute difference at lag `season` where both are observed; of steps that follow one another where a season
    never went by; NaN where there is none.
    """
    for lag in dict.fromkeys((season, 1)):
        differences = np.abs(values[lag:] - values[:-lag])
        if np.isfinite(differences).any():
            return float(np.nanmean(differences))
    return math.nan


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    try:
        return np.array([math.nan if one is None else float(one) for one in values], dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{values!r} are not numbers. Give numbers, and nothing where one is missing.") from None


def _measure(sums: Callable[[np.ndarray, np.ndarray], Sums]) -> Callable[[np.ndarray, np.ndarray, Weights], Any]:
    """A metric (B,) that is a ratio of weighted sums; windows are added up first, so that B costs little."""

    def compute(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
        both = np.stack(sums(y, scores), axis=1)  # (N, 2)
        parts = [weights[at : at + ROWS_AT_ONCE] @ both for at in range(0, len(weights), ROWS_AT_ONCE)]
        total = np.concatenate(parts) if parts else np.empty((0, 2))
        return _over(total[:, 0], total[:, 1])

    return compute


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is not positive."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _positive(values: np.ndarray) -> np.ndarray:
    """0 in place of what is missing."""
    return np.where(values > 0, values, 0.0)


def _mean_of_windows(errors: np.ndarray) -> Sums:
    """The mean over windows of each one's mean error (N, H), NaN where there is none."""
    observed = np.isfinite(errors)
    means = _over(np.where(observed, errors, 0.0).sum(axis=1), observed.sum(axis=1))
    defined = np.isfinite(means)
    return np.where(defined, means, 0.0), defined.astype(np.float64)


def _mase(y: np.ndarray, scores: np.ndarray) -> Sums:
    """Absolute error of the median in units of the scale; a series that never changed has none, and is left out."""
    unit = scale(y)
    errors = np.abs(outcomes(y) - median(scores))
    return _mean_of_windows(errors / np.where(unit > 0, unit, np.nan)[:, None])


def _smape(y: np.ndarray, scores: np.ndarray) -> Sums:
    """200 |y - f| / (|y| + |f|), as the M4 competition has it (doi:10.1016/j.ijforecast.2019.04.014); 0 / 0 is 0."""
    truth, point = outcomes(y), median(scores)
    size = np.abs(truth) + np.abs(point)
    return _mean_of_windows(200 * np.abs(truth - point) / np.where(size == 0, 1.0, size))


def _wql(y: np.ndarray, scores: np.ndarray) -> Sums:
    """Twice the pinball loss, averaged over LEVELS, over the sum of |y|, as GluonTS has it (arXiv:1906.05264).

    The mean over levels approximates the continuous ranked probability score (Gneiting & Raftery 2007,
    doi:10.1198/016214506000001437).
    """
    truth = outcomes(y)
    total = np.zeros(len(y))
    for column, level in enumerate(LEVELS):
        gap = truth - scores[..., column]
        total += np.nansum(np.maximum(level * gap, (level - 1) * gap), axis=1)
    return 2 * total / len(LEVELS), np.nansum(np.abs(truth), axis=1)


def _direction(y: np.ndarray, scores: np.ndarray) -> Sums:
    """Steps whose change since the last value has the sign foretold."""
    since = last(y)[:, None]
    return _signs(outcomes(y) - since, median(scores) - since)


def _returns_direction(y: np.ndarray, scores: np.ndarray) -> Sums:
    """Steps whose value has the sign foretold."""
    return _signs(outcomes(y), median(scores))


def _signs(change: np.ndarray, foretold: np.ndarray) -> Sums:
    """Right signs of those that there were (N, H); to foretell no change is half right, and none to foretell is out."""
    moved = np.isfinite(change) & (change != 0)
    right = np.where(foretold == 0, 0.5, np.sign(foretold) == np.sign(change))
    return np.where(moved, right, 0.0).sum(axis=1), moved.sum(axis=1).astype(np.float64)


def coverage(band: str) -> Metric:
    """The share of outcomes within a band of BANDS, its ends included."""
    low, high = BANDS[band]

    def sums(y: np.ndarray, scores: np.ndarray) -> Sums:
        truth = outcomes(y)
        inside = (truth >= scores[..., low]) & (truth <= scores[..., high])  # never where it is NaN
        return inside.sum(axis=1).astype(np.float64), np.isfinite(truth).sum(axis=1).astype(np.float64)

    return Metric(f"coverage_{band}", f"coverage of the {band} % band", "higher", _measure(sums), proportion=True)
