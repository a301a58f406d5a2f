"""Values that look filled in: on the straight line between their neighbours, or the one before once more.

A value interpolated over a holiday holds half of tomorrow's change, so that a model which sees it sees tomorrow. True
values lie on such a line by chance too, the more often the coarser they are written; what chance gives is taken off.
"""

from __future__ import annotations

import numpy as np

from headstart.data.panel import Panel

_LEAST = 3  # cells of a series
_BY_CHANCE = 0.02  # of the cells: above it nothing can be told
_MOST_DECIMALS = 6
_CALM = 101  # steps over which the size of changes is taken as one
_AROUND = 41  # steps in which a series keeps to one number of decimals


def interpolated(panel: Panel) -> np.ndarray:
    """(S, T) bool: values on the line between both neighbours, in series where there are more than by chance."""
    out = np.zeros(panel.values.shape, bool)
    for row, series in enumerate(panel.values):
        bend = series[:-2] - 2 * series[1:-1] + series[2:]
        moved = (np.diff(series)[:-1] != 0) & np.isfinite(bend)
        out[row, 1:-1] = _more_than_chance(bend, moved, series)
    return out


def carried_forward(panel: Panel) -> np.ndarray:
    """(S, T) bool: values that are the one before once more, in series that hardly ever stand still by chance."""
    out = np.zeros(panel.values.shape, bool)
    for row, series in enumerate(panel.values):
        change = np.diff(series)
        found = _more_than_chance(change, np.isfinite(change), series, exact=True)
        if found.mean() < 0.1:  # a pegged price or a count stands still for reasons of its own
            out[row, 1:] = found
    return out


def shared_holidays(panel: Panel, filled: np.ndarray) -> np.ndarray:
    """(S, T) bool: those of `filled` that can be set to missing without asking.

    In series where more than 1 % of the values inside are filled, on dates, and on weekdays, that most filled series
    share with another one, as markets share holidays.
    """
    if panel.values.dtype.kind != "f" or panel.times.dtype.kind != "M" or not filled.any():
        return np.zeros_like(filled)
    inside = np.maximum(np.isfinite(panel.values).sum(axis=1) - 2, 1)
    often = filled.sum(axis=1) > 0.01 * inside
    days = panel.times[: panel.n_steps].astype("datetime64[D]").astype(np.int64)
    weekday = (days + 3) % 7 < 5  # 1 January 1970 was a Thursday
    shared = filled.sum(axis=0) >= 2
    return filled & often[:, None] & (weekday & shared)[None, :]


def _more_than_chance(change: np.ndarray, asked: np.ndarray, series: np.ndarray, exact: bool = False) -> np.ndarray:
    """(N,) bool: where `change` is nothing up to rounding; none where chance explains as many."""
    n = int(asked.sum())
    none = np.zeros(len(change), bool)
    if n < 10:
        return none
    unit, rounds = resolution(series)
    wide = (unit * np.where(rounds & (not exact), 1.5, 0.5))[1 : len(change) + 1]  # a middle is rounded once more
    found = asked & (np.abs(change) <= wide)
    if found.sum() < _LEAST:
        return none
    others = np.where(asked & ~found, np.abs(change), np.nan)
    _, n_same = np.unique(np.rint(others[asked & ~found] / unit.min()), return_counts=True)
    expected = max(_by_chance(others, wide, asked), n_same.max(initial=0) / 2)  # multiples of 7 meet at 0 as at 7
    return found if expected < _BY_CHANCE * n and found.sum() > 2 * expected + 3 * np.sqrt(expected) + _LEAST else none


def _by_chance(sizes: np.ndarray, wide: np.ndarray, asked: np.ndarray) -> float:
    """How many of the cells asked fall within `wide` of 0 by chance; `sizes` (N,) of those that do not, NaN elsewhere.

    A tenth of the sizes around a step are below `near`, so that the density at 0 is about 0.1 / near: a calm time has
    more by chance than a wild one.
    """
    import pandas as pd

    near = pd.Series(sizes).rolling(_CALM, center=True, min_periods=10).quantile(0.1).to_numpy()
    with np.errstate(divide="ignore"):
        share = np.where(np.isnan(near), 1.0, np.minimum(0.1 * wide / near, 1.0))
    return float(share[asked].sum())


def resolution(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) the unit in which values around each step are written, and whether it is decimal; else float64's rounding.

    Most values around count: a filled one among them has more decimals, and some end in 0 by chance.
    """
    import pandas as pd

    decimals = np.where(np.isfinite(series), _MOST_DECIMALS + 1.0, np.nan)
    for n in range(_MOST_DECIMALS, -1, -1):
        scaled = series * 10.0**n
        decimals[np.abs(scaled - np.rint(scaled)) <= 1e-9 * np.maximum(np.abs(scaled), 1.0)] = n
    around = pd.Series(decimals).rolling(_AROUND, center=True, min_periods=1).quantile(0.75).to_numpy()
    around = np.ceil(np.nan_to_num(around, nan=_MOST_DECIMALS + 1.0))
    rounds = around <= _MOST_DECIMALS
    largest = np.abs(series[np.isfinite(series)]).max(initial=0.0)
    return np.where(rounds, 10.0**-around, 16 * np.finfo(np.float64).eps * largest), rounds
