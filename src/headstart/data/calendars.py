"""The calendar of a panel: its frequency, and the steps that belong to it though nobody has a value there."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

TRADING = "B"  # business days with holidays: the calendar is the dates that occur
_DAY = np.timedelta64(1, "D")
_WEEKENDS = 0.02  # of the dates of a trading calendar may be special sessions
_LONGEST = 100_000  # steps that are made of dates however few
_SPARSE = 10  # a regular calendar this many times as long as the dates that occur is not filled up


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Steps in order, and what they are."""

    times: np.ndarray  # (T,) datetime64[ns] or int64
    frequency: str  # pandas offset alias; "" without dates
    notes: tuple[str, ...] = ()


def calendar_of(times: np.ndarray, given: str | None = None) -> Calendar:
    """The calendar on which `times`, each once and in order, stand; `given` overrules the frequency.

    A regular one is completed, so that a gap is a step without a value; a trading calendar is not. DataError for a
    frequency that pandas does not know or that the times do not keep to.
    """
    import pandas as pd

    if times.dtype.kind == "i":
        return _of_steps(times)
    index = pd.DatetimeIndex(times)
    if given:
        return _of_given(index, given)
    if _is_trading(index):
        return _trading(index)
    frequency = (pd.infer_freq(index) if len(index) > 2 else None) or _usual(index)
    return _completed(index, frequency)


def _of_steps(times: np.ndarray) -> Calendar:
    """Plain numbers, completed to equal steps."""
    step = int(np.gcd.reduce(np.diff(times))) if len(times) > 1 else 1
    n = int(times[-1] - times[0]) // step + 1
    if n > _SPARSE * len(times):
        return Calendar(
            times=times, frequency="", notes=("the steps are uneven: taken as they stand, one after another",)
        )
    full = times[0] + step * np.arange(n, dtype=np.int64)
    return Calendar(times=full, frequency="", notes=_gaps(n - len(times), n))


def _of_given(index: pd.DatetimeIndex, given: str) -> Calendar:
    import pandas as pd

    try:
        offset = pd.tseries.frequencies.to_offset(given)
    except ValueError as error:
        raise DataError(
            f"frequency {given!r} is none that pandas knows. Usual ones are min, h, D, B (trading days), W, MS, QS, YS."
        ) from error
    alias = offset.freqstr
    if alias == TRADING:
        return _trading(index)
    if alias.startswith(("W", "M", "Q", "Y")) and "-" not in given and (usual := _usual(index)):
        alias = usual if usual[0] == alias[0] else alias  # "W" on Fridays is W-FRI
    _check_sparse(index, alias)
    full = pd.date_range(index[0], index[-1], freq=alias)
    off = ~index.isin(full)
    if off.any():
        raise DataError(
            f"{off.sum():,} of {len(index):,} times do not keep to frequency {given!r} (the first is "
            f"{index[off][0]}). Name another frequency, or leave it out to have it found."
        )
    return _completed(index, alias)


def _check_sparse(index: pd.DatetimeIndex, frequency: str) -> None:
    """DataError where a calendar of this frequency would be many times as long as the dates that occur."""
    import pandas as pd

    one, two = pd.date_range(index[0], periods=2, freq=frequency)
    n = (index[-1] - index[0]) / (two - one)
    if n > max(_LONGEST, _SPARSE * len(index)):
        raise DataError(
            f"{len(index):,} times from {index[0]} to {index[-1]} would make {n:,.0f} steps of frequency "
            f"{frequency!r}. Name a lower frequency, or take out times that are far from the others."
        )


def _is_trading(index: pd.DatetimeIndex) -> bool:
    """Daily dates that leave out the weekends."""
    if len(index) < 6 or (index - index.normalize()).nunique() > 1:
        return False
    days = np.diff(index.to_numpy()) / _DAY
    return bool(np.median(days) == 1 and (index.dayofweek >= 5).mean() < _WEEKENDS and days.max() >= 3)


def _trading(index: pd.DatetimeIndex) -> Calendar:
    import pandas as pd

    n_closed = len(pd.bdate_range(index[0], index[-1]).difference(index))
    holidays = f"; {n_closed:,} weekdays without any row are taken as holidays" if n_closed else ""
    note = f"trading calendar: the {len(index):,} dates that occur{holidays}"
    return Calendar(times=index.to_numpy().astype("datetime64[ns]"), frequency=TRADING, notes=(note,))


def _usual(index: pd.DatetimeIndex) -> str:
    """The offset whose step occurs most often."""
    import pandas as pd

    if len(index) < 2:
        return "D"
    step = Counter(np.diff(index.to_numpy())).most_common(1)[0][0]
    days = step / _DAY
    if days == 7:
        return f"W-{index[0].day_name()[:3].upper()}"
    for least, most, name in ((28, 31, "M"), (89, 92, "Q"), (365, 366, "Y")):
        if least <= days <= most:
            side = "E" if (index.day > 20).mean() > 0.5 else "S"
            return name + side + ("" if name == "M" else f"-{_anchor(index, side, name)}")
    return str(pd.tseries.frequencies.to_offset(pd.Timedelta(step)).freqstr)


def _anchor(index: pd.DatetimeIndex, side: str, name: str) -> str:
    """The month that quarters or years are named after: "QS-JAN", "QE-DEC"."""
    import pandas as pd

    month = int(index[0].month)
    if name == "Q" and side == "E":
        month = (month - 1) % 3 + 10  # of October, November and December
    elif name == "Q":
        month = (month - 1) % 3 + 1
    return pd.Timestamp(2000, month, 1).strftime("%b").upper()


def _completed(index: pd.DatetimeIndex, frequency: str) -> Calendar:
    """With the steps that are missing, where the dates keep to the frequency."""
    import pandas as pd

    times = index.to_numpy().astype("datetime64[ns]")
    span = (times[-1] - times[0]) / (np.median(np.diff(times)) if len(times) > 1 else _DAY)
    if span > _SPARSE * len(times):
        note = f"the times are far apart and uneven (frequency {frequency}): taken one after another"
        return Calendar(times=times, frequency=frequency, notes=(note,))
    full = pd.date_range(index[0], index[-1], freq=frequency)
    off = 1.0 - float(index.isin(full).mean())
    if off:
        note = f"{math.ceil(100 * off)} % of the times do not keep to frequency {frequency}: taken one after another"
        return Calendar(times=times, frequency=frequency, notes=(note,))
    n = len(full)
    return Calendar(times=full.to_numpy().astype("datetime64[ns]"), frequency=frequency, notes=_gaps(n - len(times), n))


def _gaps(n_missing: int, n: int) -> tuple[str, ...]:
    return (f"{n_missing:,} of {n:,} steps have no row: left without values",) if n_missing else ()


def after(times: np.ndarray, frequency: str, n: int) -> np.ndarray:
    """The n steps that follow the last of `times`; on a trading calendar the next weekdays, holidays not known."""
    import pandas as pd

    if times.dtype.kind == "i" or not frequency:
        step = times[-1] - times[-2] if len(times) > 1 else 1
        return np.asarray(times[-1] + step * np.arange(1, n + 1), dtype=times.dtype)
    following = pd.date_range(times[-1], periods=n + 1, freq=frequency)
    if following[0] != times[-1]:  # the last step keeps to no such frequency
        following = pd.date_range(times[-1], periods=n + 2, freq=frequency)
    return np.asarray(following[following > times[-1]][:n], dtype="datetime64[ns]")
