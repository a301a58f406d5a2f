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
    wide = 0.5 * unit if exact or not rounds else 1.5 * unit  # the middle of two rounded numbers is rounded again
    found = asked & (np.abs(change) <= wide)
    rest = np.sort(np.abs(change[asked & ~found]))
    if len(rest) < 10 or found.sum() < _LEAST:
        return none
    near = rest[len(rest) // 10]  # a tenth of the others lie nearer
    expected = 0.1 * len(rest) * wide / near
    return found if expected < _BY_CHANCE * n and found.sum() > 4 * expected + _LEAST else none


def resolution(series: np.ndarray) -> tuple[float, bool]:
    """The unit in which a series is written, and whether it is rounded to decimals; else the rounding of float64."""
    there = series[np.isfinite(series)]
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = there * 10.0**decimals
        if np.all(np.abs(scaled - np.rint(scaled)) <= 1e-9 * np.maximum(np.abs(scaled), 1.0)):
            return 10.0**-decimals, True
    return 16 * float(np.finfo(np.float64).eps * np.abs(there).max(initial=0.0)), False
