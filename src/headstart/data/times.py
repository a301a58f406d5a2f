"""Times as people write them, to datetime64[ns] in UTC, or to int64 steps where they are plain numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.raw import is_missing
from headstart.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_ZONE = r"\s*(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})$"
_ZONED = r"\d{1,2}:\d{2}.*\d" + _ZONE
_SLASHED = r"\s*(\d{1,2})([./-])(\d{1,2})[./-](\d{4}|\d{2})(?:[ T,]+(.*\S))?\s*"
_PERIOD = r"\s*(\d{4})[-\s]?([QM])(\d{1,2})\s*"
_WEEK = r"\s*(\d{4})[-\s]?W(\d{1,2})\s*"
_SAMPLE = 200
_FEW_BAD = 0.2  # of the values: more, and the column is none of dates
_DATED_NAMES = re.compile(r"year|yr|date|day|month|period|time|^ds$", re.IGNORECASE)
ISO = "Write dates as 2024-06-14 (year, month, day)."


def times_of(values: Sequence[Any], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N,) datetime64[ns] or int64, NaT where one is missing, and notes. DataError when they are no times."""
    import pandas as pd

    column = pd.Series(values)
    if isinstance(column.dtype, pd.PeriodDtype):
        return _plain(column.dt.to_timestamp()), ()
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _without_zone(column.dt.tz_localize(None), column.dt.tz_convert("UTC").dt.tz_localize(None), name)
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return _plain(column), ()
    missing = column.map(is_missing).to_numpy(bool)
    there = column[~missing]
    found = _numbered(there, name)
    times, notes = (found, ()) if found is not None else _written(there.map(str), name)
    if times.dtype.kind == "i" and missing.any():
        raise DataError(f"Column {name!r} has {missing.sum():,} empty times. Fill them in, or take these rows out.")
    out = np.full(len(column), np.datetime64("NaT"), "datetime64[ns]") if missing.any() else np.empty_like(times)
    out[~missing] = times
    return out, notes


def look_like_times(values: Sequence[Any]) -> bool:
    """Whether a column holds dates; plain numbers are none."""
    import pandas as pd

    column = pd.Series(values)
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or isinstance(column.dtype, pd.PeriodDtype):
        return True
    there = column[~column.map(is_missing).to_numpy(bool)]
    sample = there.iloc[:: max(1, len(there) // _SAMPLE)]
    if sample.empty or pd.to_numeric(sample, errors="coerce").notna().any():
        return False
    text = sample.map(str)
    return bool(text.str.fullmatch(_SLASHED).all()) or _dates(text)[0] is not None


def check_dates(column: pd.Series) -> None:
    """DataError where most of a column's values are dates, and some are none."""
    import pandas as pd

    text = column[~column.map(is_missing).to_numpy(bool)].map(str)
    bad = pd.to_datetime(text, errors="coerce", format="mixed").isna()
    if len(text) and 0 < bad.mean() < _FEW_BAD:
        row = int(bad.to_numpy().argmax())
        raise DataError(
            f"Column {column.name!r} holds {text.iloc[row][:40]!r} (row {int(text.index[row]) + 1:,}), and "
            f"{int(bad.sum()):,} of its {len(text):,} values are no dates. Mend these, or take their rows out."
        )


def _numbered(column: pd.Series, name: str) -> np.ndarray | None:
    """Whole numbers as years, 20240614, seconds or milliseconds since 1970, or as steps; None where they are none."""
    import pandas as pd

    numbers = pd.to_numeric(column.map(str), errors="coerce").to_numpy(float)
    if not len(numbers) or np.isnan(numbers).any() or (numbers != np.rint(numbers)).any():
        return None
    low, high = numbers.min(), numbers.max()
    whole = pd.Series(numbers.astype(np.int64))
    for first, last, form in ((1500, 2200, "%Y"), (150001, 220012, "%Y%m"), (15000101, 22001231, "%Y%m%d")):
        if first <= low and high <= last and (form == "%Y%m%d" or _DATED_NAMES.search(name)):
            dates = pd.to_datetime(whole.map(str), format=form, errors="coerce")
            if dates.notna().all():
                return _plain(dates)
    for least, most, unit in ((4e8, 4.2e9, "s"), (4e11, 4.2e12, "ms")):
        if least <= low and high <= most:
            return _plain(pd.to_datetime(whole, unit=unit))
    return whole.to_numpy()


def _written(text: pd.Series, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Dates in words and digits."""
    if text.str.fullmatch(_SLASHED).all():
        return _slashed(text, name)
    times, zoned = _dates(text)
    if times is None:
        import pandas as pd

        bad = pd.to_datetime(text.str.replace(_ZONE, "", regex=True), format="ISO8601", errors="coerce").isna()
        row = int(np.argmax(bad.to_numpy())) if bad.any() else 0
        raise DataError(f"Column {name!r} holds {text.iloc[row]!r} (value {row + 1:,}), which is no time. {ISO}")
    if not zoned:
        return _plain(times), ()
    local = _dates(text.str.replace(_ZONE, "", regex=True))[0]
    return _without_zone(times if local is None else local, times, name)


def _dates(text: pd.Series) -> tuple[pd.Series | None, bool]:
    """Datetimes in UTC without their zone, and whether they had one; None where not all are dates."""
    import pandas as pd

    zoned = bool(text.str.contains(_ZONED, regex=True).any())
    times = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    if times.isna().any() and text.str.fullmatch(_PERIOD).all():
        parts = text.str.extract(_PERIOD)
        number = parts[2].astype(int)
        month = number.where(parts[1] == "M", 3 * number - 2)
        times = pd.to_datetime(parts[0] + "-" + month.map(str), format="%Y-%m", errors="coerce", utc=True)
    elif times.isna().any() and text.str.fullmatch(_WEEK).all():
        parts = text.str.extract(_WEEK)
        monday = parts[0] + "-W" + parts[1].str.zfill(2) + "-1"
        times = pd.to_datetime(monday, format="%G-W%V-%u", errors="coerce", utc=True)
    elif times.isna().any() and text.str.contains(r"\d", regex=True).all() and text.str.contains("[A-Za-z]{3}").all():
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on zones by name, which stay unread
            times = pd.to_datetime(text, format="mixed", errors="coerce", utc=True)
    return (None, zoned) if times.isna().any() or times.empty else (times.dt.tz_localize(None), zoned)


def _slashed(text: pd.Series, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """14/06/2024 or 06/14/2024: whichever the data allow alone. DataError where both could be meant."""
    import pandas as pd

    parts = text.str.extract(_SLASHED)
    one, two = parts[0].astype(int), parts[2].astype(int)
    day_first, month_first = one.max() > 12 or (parts[1] == ".").all(), two.max() > 12
    if day_first == month_first:
        why = "no day is above 12" if not day_first else "some have the day first and some the month"
        raise DataError(f"The dates in column {name!r} ({text.iloc[0]!r}) can be read in two ways: {why}. {ISO}")
    day, month = (one, two) if day_first else (two, one)
    year = parts[3].astype(int)
    year = year.where(parts[3].str.len() == 4, year + np.where(year < 70, 2000, 1900))
    whole = year.map("{:04d}".format) + "-" + month.map("{:02d}".format) + "-" + day.map("{:02d}".format)
    times = pd.to_datetime((whole + " " + parts[4].fillna("")).str.strip(), format="mixed", errors="coerce")
    if times.isna().any():
        row = int(np.argmax(times.isna().to_numpy()))
        raise DataError(f"Column {name!r} holds {text.iloc[row]!r} (value {row + 1:,}), which is no date. {ISO}")
    return _plain(times), (f"dates such as {text.iloc[0]!r} are read as {'day' if day_first else 'month'} first",)


def _without_zone(local: pd.Series, utc: pd.Series, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """In UTC; days that begin at the local midnight stay the days that they are."""
    if (local == local.dt.normalize()).all():
        return _plain(local), (f"the times in {name!r} are local midnights: read as dates, without their time zone",)
    return _plain(utc), (f"the times in {name!r} are converted to UTC",)


def _plain(times: pd.Series) -> np.ndarray:
    return times.to_numpy().astype("datetime64[ns]")
