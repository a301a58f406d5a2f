"""Returns and volatility of a panel of prices, and whether a panel looks like prices at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headstart.data.panel import Panel
from headstart.errors import DataError, listed

_LEAST = 30  # steps, below which nothing is said of a series
_VARIANCE_RATIO = 0.3  # how far from 1 it may be
_UNIT_ROOT = -2.86  # 5 % point of the Dickey-Fuller test with a constant


def as_returns(panel: Panel) -> Panel:
    """Log returns over the last valid value before each step, NaN where there is none today; the first step is lost.

    DataError where a value is not above 0.
    """
    bad = np.flatnonzero((panel.values <= 0).any(axis=1))
    if len(bad):
        low = np.nanmin(panel.values[bad[0]])
        raise DataError(
            f"Log returns need values above 0, and {len(bad):,} of {len(panel):,} series have others "
            f"({listed((panel.ids[i] for i in bad), 3)}; the least is {low:g}). If they are returns already, take them "
            "as they are: --as levels."
        )
    return replace(_from_second(panel, log_returns(panel.values)), as_="returns")


def as_volatility(panel: Panel) -> Panel:
    """Absolute log returns; of a panel that holds returns already, their absolute values, and then no step is lost."""
    if holds_returns(panel):
        note = "the values lie around 0 and are taken as returns already: volatility is their absolute value"
        return replace(panel, values=np.abs(panel.values), as_="volatility", notes=(*panel.notes, note))
    returns = as_returns(panel)
    return replace(returns, values=np.abs(returns.values), as_="volatility")


def holds_returns(panel: Panel) -> bool:
    """Whether most series take both signs about evenly and stay small beside their own spread, as returns do."""
    low, high = np.nanmean(panel.values < 0, axis=1), np.nanmean(panel.values > 0, axis=1)
    return bool(np.median(np.minimum(low, high)) > 0.2)


def log_returns(values: np.ndarray) -> np.ndarray:
    """(S, T) to (S, T - 1): log of each value over the last one before it that is there."""
    logs = np.log(values)
    return (logs - before(logs))[:, 1:]


def before(values: np.ndarray) -> np.ndarray:
    """(S, T): the last value strictly before each step; NaN before the first."""
    steps = np.where(np.isfinite(values), np.arange(values.shape[1]), -1)
    last = np.maximum.accumulate(steps, axis=1)
    last = np.concatenate([np.full((len(values), 1), -1), last[:, :-1]], axis=1)
    found = np.take_along_axis(values, np.maximum(last, 0), axis=1)
    return np.where(last < 0, np.nan, found)


def _from_second(panel: Panel, values: np.ndarray) -> Panel:
    known = {name: one[:, 1:] for name, one in panel.known.items()}
    return replace(panel, values=values, times=panel.times[1:], known=known)


def looks_like_prices(panel: Panel) -> bool:
    """Whether most series are positive, have a unit root, and hardly correlated log returns.

    The last by the variance ratio (Lo and MacKinlay 1988, RFS 1:41-66) at lags 2 and 8: 1 for a random walk.
    """
    judged = [_walks(one[np.isfinite(one)]) for one in panel.values if np.isfinite(one).sum() >= _LEAST]
    return bool(judged) and sum(judged) > len(judged) / 2


def _walks(series: np.ndarray) -> bool:
    """(T,) without gaps."""
    if series.min() <= 0 or series.std() == 0:
        return False
    logs = np.log(series)
    allowed = max(_VARIANCE_RATIO, 2 * np.sqrt(2 * 7 / len(logs)))
    ratios = [variance_ratio(logs, lag) for lag in (2, 8)]
    return bool(max(abs(ratio - 1) for ratio in ratios) < allowed and _dickey_fuller(logs) > _UNIT_ROOT)


def variance_ratio(logs: np.ndarray, lag: int) -> float:
    """Variance of changes over `lag` steps, over `lag` times that of changes over one; (T,) without gaps."""
    drift = (logs[-1] - logs[0]) / (len(logs) - 1)
    one = np.mean((np.diff(logs) - drift) ** 2)
    many = np.mean((logs[lag:] - logs[:-lag] - lag * drift) ** 2)
    return float(many / (lag * one)) if one > 0 else 0.0


def _dickey_fuller(logs: np.ndarray) -> float:
    """The t statistic of the last level in a regression of the change on it and a constant."""
    level, change = logs[:-1] - logs[:-1].mean(), np.diff(logs)
    spread = level @ level
    slope = level @ change / spread
    error = change - change.mean() - slope * level
    unsure = float(np.sqrt(error @ error / (len(change) - 2) / spread))
    return float(slope) / unsure if unsure > 0 else -np.inf  # a pattern that comes again exactly
