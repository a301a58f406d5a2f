"""Whether a pattern comes again: the seasonality test of the M4 competition (Makridakis et al. 2020, IJF 36:54-74).

A season m is accepted for a series of n steps where acf(m) > 1.645 sqrt((1 + 2 sum_{i<m} acf(i)^2) / n). There it is
|acf(m)|; a pattern that comes again correlates positively, so the sign is kept here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headstart.data.panel import Panel
from headstart.errors import listed

_MOST_SERIES, _MOST_STEPS = 200, 5000  # looked at; more tell no more
_TRENDING = 0.5  # a series whose acf(1) is above it is differenced first: a trend would pass for any season
UNDATED = (24, 12, 7, 4)  # tried where nothing says how long a step is
_DAY, _HOUR = 86400.0, 3600.0


def with_season(panel: Panel, given: int | None) -> Panel:
    """The season that is named, else the usual one of the frequency where the data show it."""
    if given:
        return replace(panel, season=given)
    tried = candidates(panel.frequency, panel.n_steps)
    found = season_of(panel.values, tried)
    if not tried:
        text = f"no season is usual for frequency {panel.frequency}: season 1 (--season N sets another)"
    elif found > 1:
        text = f"season {found}: most series pass the M4 competition's test of it"
    else:
        text = f"season 1: the M4 competition's test finds none of {listed(tried)} in most series (--season N sets one)"
    return replace(panel, season=found, notes=(*panel.notes, text))


def candidates(frequency: str, n_steps: int) -> tuple[int, ...]:
    """Usual seasons of a frequency; () where there is none."""
    if not frequency:
        return UNDATED
    import pandas as pd

    offset = pd.tseries.frequencies.to_offset(frequency)
    base = offset.name.split("-")[0]
    months = {"M": 12, "BM": 12, "Q": 4, "BQ": 4, "W": 52}.get(base.removesuffix("S").removesuffix("E"))
    if months:
        m = months // offset.n if months % offset.n == 0 else 1
        return (m,) if m > 1 and (base != "W" or n_steps >= 3 * m) else ()
    if not isinstance(offset, (pd.offsets.Tick, pd.offsets.Day)):
        return ()
    seconds = pd.Timedelta(1, "D").total_seconds() * offset.n if base == "D" else pd.Timedelta(offset).total_seconds()
    whole = 7 * _DAY if seconds >= _DAY else _DAY if seconds >= 600 else _HOUR if seconds >= 60 else 60.0
    m = whole / seconds
    return (int(m),) if m == int(m) and m > 1 else ()


def season_of(values: np.ndarray, tried: tuple[int, ...]) -> int:
    """The season, of those tried, that most series of (S, T) show most clearly; 1 where none is accepted by most."""
    rows = np.linspace(0, len(values) - 1, min(len(values), _MOST_SERIES)).astype(int)
    sample = [stationary(values[row, -_MOST_STEPS:]) for row in np.unique(rows)]
    strengths = {m: _strength(sample, m) for m in tried}
    best = max(strengths, key=lambda m: strengths[m], default=1)
    return best if strengths.get(best, 0.0) > 0 else 1


def _strength(sample: list[np.ndarray], m: int) -> float:
    """Mean acf(m) of the series; 0 where half of those long enough or more fail the test, or it is no peak.

    Slow ups and downs pass the test at every short m; only where a pattern comes again is acf(m) above its neighbours.
    """
    long = [one for one in sample if np.isfinite(one).sum() >= 3 * m]
    if not long or sum(is_seasonal(one, m) for one in long) <= len(long) / 2:
        return 0.0
    before, at, after = np.mean([autocorrelations(one, m + 1)[m - 1 :] for one in long], axis=0)
    return float(at) if at > max(before, after) else 0.0


def stationary(series: np.ndarray) -> np.ndarray:
    """(T,) without what is missing at both ends, differenced where it trends."""
    there = np.flatnonzero(np.isfinite(series))
    if len(there) < 3:
        return series[:0]
    series = series[there[0] : there[-1] + 1]
    return np.diff(series) if autocorrelations(series, 1)[1] > _TRENDING else series


def is_seasonal(series: np.ndarray, m: int) -> bool:
    """The test itself, on one series (T,) as it stands; what is missing is left out of each sum."""
    acf = autocorrelations(series, m)
    n = int(np.isfinite(series).sum())
    return bool(acf[m] > 1.645 * np.sqrt((1 + 2 * np.sum(acf[1:m] ** 2)) / max(n, 1)))


def autocorrelations(series: np.ndarray, most: int) -> np.ndarray:
    """(most + 1,) at lags 0 …; pairs with a gap count as 0, so that they are shrunk and never blown up."""
    centred = np.nan_to_num(series - np.nanmean(series)) if np.isfinite(series).any() else np.zeros(len(series))
    total = float(centred @ centred)
    out = np.zeros(most + 1)
    if total <= 0:
        return out
    for lag in range(min(most, len(centred) - 1) + 1):
        out[lag] = centred[: len(centred) - lag] @ centred[lag:] / total
    return out
