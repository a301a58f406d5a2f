"""Read series from anything that people keep them in, as a `Panel`, whose notes say what was decided."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.calendars import TRADING, calendar_of
from headstart.data.layouts import PanelReading as PanelReading
from headstart.data.layouts import Rows, is_numeric, numbers, rows_of
from headstart.data.panel import Panel
from headstart.data.returns import as_returns, as_volatility, looks_like_prices
from headstart.data.seasons import with_season
from headstart.data.tables import TABLE_SUFFIXES, read_table, table_suffix
from headstart.errors import DataError, did_you_mean, listed

if TYPE_CHECKING:
    import pandas as pd

MADE = {"levels": lambda panel: panel, "returns": as_returns, "volatility": as_volatility}
REPEATED = "rows repeat the series and the time of another with the same value"  # how that note goes


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """Rows, and where they come from."""

    rows: Rows
    name: str
    source: str | None  # None in memory
    notes: tuple[str, ...] = ()


_AS_FOUND = PanelReading()


def read_panel(data: Any, reading: PanelReading = _AS_FOUND, horizon: int | None = None) -> Panel:
    """Any source as a `Panel`.

    `data` is a path (CSV, TSV, JSON lines, Parquet; text formats may be .gz), a pandas DataFrame (long, wide, or one
    row a series) or Series, a dict of series by their names, an array (T,) or (S, T), a list of arrays (T_s,), or a
    `Panel`, which stays as it is. `horizon`: the steps that will be forecast, to see whether there is enough.
    DataError when nothing can be forecast, when two values stand at one time, or when times cannot be read for certain.
    """
    if isinstance(data, Panel):
        return data
    check_reading(reading, horizon)
    opened = _from_path(data, reading) if isinstance(data, (str, os.PathLike)) else _from_object(data, reading)
    panel = _arranged(opened, reading)
    prices = looks_like_prices(panel)
    panel = replace(MADE[reading.as_](panel), prices=prices)
    return _checked(with_season(panel, reading.season), horizon)


def check_reading(reading: PanelReading, horizon: int | None = None) -> None:
    """DataError where nothing can be read so."""
    if reading.as_ not in MADE:
        raise DataError(f"as {reading.as_!r} is unknown.{did_you_mean(reading.as_, MADE)} Allowed: {listed(MADE)}.")
    for what, value in (("season", reading.season), ("horizon", horizon)):
        if value is not None and value < 1:
            raise DataError(f"{what} {value} is too small: give a whole number of steps from 1 on.")


def _from_path(data: str | os.PathLike[str], reading: PanelReading) -> _Opened:
    import pandas as pd

    path = Path(os.fspath(data)).expanduser()
    if not path.is_file() or table_suffix(path) in (None, ".npz"):
        what = "is no table of series" if path.exists() else "is not there"
        near = did_you_mean(str(path), map(str, path.parent.glob("*"))) if not path.exists() else ""
        raise DataError(
            f"{str(path)!r} {what}.{near} Series are read from one file: {listed(TABLE_SUFFIXES[:-1])} (text formats "
            "may be .gz)."
        )
    raw = read_table(path)
    table = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in raw.columns.items()})
    return _Opened(rows=rows_of(table, reading, str(path)), name=raw.name, source=str(path), notes=raw.notes)


def _from_object(data: Any, reading: PanelReading) -> _Opened:
    """What is in memory."""
    import pandas as pd

    if isinstance(data, pd.Series):
        data = data.rename(data.name if data.name is not None else "value").to_frame()
    elif isinstance(data, Mapping) and _are_columns(data, reading):
        data = pd.DataFrame(dict(data))
    elif isinstance(data, Sequence) and len(data) and all(isinstance(one, Mapping) for one in data):
        data = pd.DataFrame(list(data))
    if isinstance(data, pd.DataFrame):
        table = _flat(data)
        if not len(table) or not len(table.columns):
            raise DataError("The data frame has no rows. Give at least one series of 2 steps.")
        return _Opened(rows=rows_of(table, reading, "the data frame"), name="series", source=None)
    return _Opened(rows=_rows_of_sequences(_sequences(data)), name="series", source=None)


def _are_columns(data: Mapping[Any, Any], reading: PanelReading) -> bool:
    """Whether a dict holds the columns of a table rather than series by their names."""
    named = {reading.time, reading.series, reading.target, *reading.known, *reading.static} - {None}
    lengths = {len(values) for values in data.values() if hasattr(values, "__len__")}
    return bool(named) or (len(lengths) == 1 and not all(map(_are_numbers, data.values())))


def _are_numbers(values: Any) -> bool:
    """Whether it could be a series: no word and no date in it."""
    try:
        numbers(np.asarray(values), "")
    except (DataError, TypeError, ValueError):
        return False
    return True


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """With its index as columns, where that says something, and with names that are words."""
    import pandas as pd

    index = frame.index
    plain = not isinstance(index, pd.MultiIndex) and pd.api.types.is_integer_dtype(index.dtype) and index.name is None
    frame = frame.reset_index(drop=plain)
    names = [" ".join(map(str, n)).strip() if isinstance(n, tuple) else str(n) for n in frame.columns]
    if len(set(names)) < len(names):
        twice = listed(sorted({name for name in names if names.count(name) > 1}))
        raise DataError(f"Two columns of the data frame are called {twice}. Give each a name of its own.")
    return frame.set_axis(names, axis=1)


def _sequences(data: Any) -> dict[str, Any]:
    """Series by their names."""
    if isinstance(data, Mapping):
        return {str(name): values for name, values in data.items()}
    if isinstance(data, np.ndarray) and data.dtype != object:
        if data.ndim not in (1, 2):
            raise DataError(f"An array of shape {data.shape} holds no series. Give (T,), or (S, T): one row a series.")
        return {f"series {i + 1}": row for i, row in enumerate(np.atleast_2d(data))}
    if not hasattr(data, "__iter__"):
        raise DataError(
            f"A {type(data).__name__} cannot be read as series. Give a path, a data frame, a dict of series, an array "
            "(S, T) or a list of arrays."
        )
    items = list(data)
    if items and not any(hasattr(one, "__len__") for one in items):
        return {"series 1": items}
    return {str(getattr(one, "name", None) or f"series {i + 1}"): one for i, one in enumerate(items)}


def _rows_of_sequences(series: Mapping[str, Any]) -> Rows:
    """Series that end together, or on their own dates where all are pandas Series with dates."""
    import pandas as pd

    arrays = {name: numbers(np.asarray(one), name) for name, one in series.items() if len(one)}
    if not arrays:
        raise DataError("There are no series: the data are empty. Give at least one series of 2 steps.")
    dated = all(isinstance(getattr(one, "index", None), pd.DatetimeIndex) for one in series.values())
    owner = np.repeat(np.array(list(arrays), dtype=object), [len(one) for one in arrays.values()])
    times = None
    if dated:
        times = np.concatenate([np.asarray(one.index, "datetime64[ns]") for one in series.values() if len(one)])
    elif len({len(one) for one in arrays.values()}) == 1:  # one calendar: what is missing at the end is missing
        times = np.tile(np.arange(len(next(iter(arrays.values()))), dtype=np.int64), len(arrays))
    how = "on their dates" if dated else "no times" if times is not None else "no times: the series end together"
    return Rows(
        ids=owner,
        times=times,
        values=np.concatenate(list(arrays.values())),
        others=pd.DataFrame(index=range(len(owner))),
        columns={},
        notes=(f"{len(arrays):,} sequences of numbers, {how}",),
    )


def _arranged(opened: _Opened, reading: PanelReading) -> Panel:
    """Rows on their calendar."""
    import pandas as pd

    rows, notes = opened.rows, [*opened.notes, *opened.rows.notes]
    frame = pd.DataFrame({"id": rows.ids, "value": rows.values})
    frame["row"] = np.arange(len(frame))
    frame["time"] = _end_together(frame) if rows.times is None else rows.times
    frame = _without_empty(_with_times(frame, notes), notes)
    frame = _once(frame, notes)
    there = frame["value"].notna()
    first, last = frame["time"][there].min(), frame["time"][there].max()
    frame = frame[(frame["time"] >= first) & ((frame["time"] <= last) | bool(reading.known))]
    frame = _on_trading_days(frame, last, reading)
    calendar = calendar_of(np.unique(frame["time"].to_numpy()), reading.frequency)
    n_steps = int(np.searchsorted(calendar.times, np.asarray(last, calendar.times.dtype), side="right"))
    codes, ids = pd.factorize(frame["id"])
    place = (codes, np.searchsorted(calendar.times, frame["time"].to_numpy()))
    shape = (len(ids), len(calendar.times))
    values = _placed(frame["value"].to_numpy(float), place, shape)[:, :n_steps]
    others = rows.others.iloc[frame["row"].to_numpy()]
    known = {name: _placed(_coded(others[name], notes), place, shape) for name in reading.known}
    static = {} if rows.shared else _static(others, codes, reading, notes)
    _tell_of_rest(rows, [*known, *static], reading, notes)
    return Panel(
        name=opened.name,
        source=opened.source or f"{len(ids):,} series in memory",
        ids=tuple(map(str, ids)),
        times=calendar.times,
        frequency=calendar.frequency,
        season=1,
        values=values,
        known=known,
        static=static,
        target_name=rows.target_name,
        columns=dict(rows.columns),
        notes=(*notes, *calendar.notes),
    )


def _placed(values: np.ndarray, place: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    out = np.full(shape, np.nan)
    out[place] = values
    return out


def _end_together(frame: pd.DataFrame) -> np.ndarray:
    """(N,) int64: steps such that the last value of every series is at the same one, the first step being 0."""
    position = frame.groupby("id", sort=False).cumcount()
    last = position.where(frame["value"].notna()).groupby(frame["id"]).transform("max").fillna(0)
    steps = (position - last).to_numpy().astype(np.int64)
    return steps - steps.min(initial=0)


def _with_times(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Without rows that have neither time nor value. DataError for a value without time."""
    lost = frame["time"].isna()
    if (lost & frame["value"].notna()).any():
        row = frame[lost & frame["value"].notna()].iloc[0]
        raise DataError(
            f"Series {row['id']!r} has a value without a time (row {row['row'] + 1:,}), one of {lost.sum():,} such "
            "rows. Fill the time in, or take these rows out."
        )
    if lost.any():
        notes.append(f"{lost.sum():,} rows have neither time nor value: left out")
    return frame[~lost]


def _without_empty(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Without series of fewer than 2 values. DataError when nothing is left."""
    n_values = frame.groupby("id", sort=False)["value"].count()
    short = n_values.index[n_values < 2].tolist()
    if len(short) == len(n_values):
        most = int(n_values.max()) if len(n_values) else 0
        raise DataError(
            f"None of {len(n_values):,} series has 2 values; the longest has {most}. Give longer series. If the "
            "columns were read wrongly, name them with --time, --series and --label."
        )
    if short:
        notes.append(f"{len(short):,} series with fewer than 2 values are left out: {listed(short, 3)}")
    return frame[~frame["id"].isin(short)]


def _once(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Each series and time once. DataError, with both, where values contradict each other."""
    twice = frame.duplicated(["id", "time"], keep=False)
    if not twice.any():
        return frame
    values = frame[twice].groupby(["id", "time"], sort=False)["value"].nunique()
    if (odd := values[values > 1]).any():
        one, time = odd.index[0]
        both = frame[(frame["id"] == one) & (frame["time"] == time)]["value"].dropna().unique()
        raise DataError(
            f"Series {one!r} has several values at {time}: {listed(f'{v:g}' for v in both)}"
            f"{f', and so it is at {len(odd) - 1:,} more times' if len(odd) > 1 else ''}. Keep one value a time; if "
            "the rows are of several series, name the column that tells them apart with --series COL."
        )
    kept = frame.sort_values("value", na_position="last", kind="stable").drop_duplicates(["id", "time"]).sort_index()
    notes.append(f"{len(frame) - len(kept):,} {REPEATED}: each is taken once")
    return kept


def _on_trading_days(frame: pd.DataFrame, last: Any, reading: PanelReading) -> pd.DataFrame:
    """Without dates of a trading calendar on which nothing has a value, which are holidays of all."""
    if frame["time"].dtype.kind != "M":
        return frame
    if calendar_of(np.unique(frame["time"].to_numpy()), reading.frequency).frequency != TRADING:
        return frame
    open_ = frame["time"][frame["value"].notna()].unique()
    return frame[frame["time"].isin(open_) | (frame["time"] > last)]


def _coded(column: pd.Series, notes: list[str]) -> np.ndarray:
    """(N,) numbers as they are, words as codes in the order of the alphabet."""
    import pandas as pd

    if is_numeric(column):
        return numbers(column, str(column.name))
    words = column.where(column.notna(), None).map(lambda value: value if value is None else str(value))
    codes, names = pd.factorize(words, sort=True)
    notes.append(f"words of {column.name!r} are taken as codes: {listed((f'{w} {i}' for i, w in enumerate(names)), 4)}")
    return np.where(codes < 0, np.nan, codes.astype(float))


def _static(others: pd.DataFrame, codes: np.ndarray, reading: PanelReading, notes: list[str]) -> dict[str, np.ndarray]:
    """(S,) of each column that never changes within a series, and differs between some."""
    found = {}
    for name in others.columns:
        if name in reading.known:
            continue
        groups = others[name].groupby(codes)
        constant = bool((groups.nunique(dropna=True) <= 1).all())
        if name in reading.static and not constant:
            raise DataError(f"Column {name!r} changes within a series, so it is not static. Name it with --known COL.")
        first = groups.first()
        if constant and (name in reading.static or first.nunique() > 1):
            found[str(name)] = _coded(first.rename(name), notes)
    return found


def _tell_of_rest(rows: Rows, used: list[str], reading: PanelReading, notes: list[str]) -> None:
    if rows.shared and reading.static:
        raise DataError(
            f"static columns ({listed(reading.static)}) need a long table (series, time, value) or one row a series."
        )
    rest = [name for name in rows.others.columns if name not in used]
    if rest:
        notes.append(f"left out, for they are not named as known in advance (--known COL): {listed(map(repr, rest))}")


def _checked(panel: Panel, horizon: int | None) -> Panel:
    """DataError when a forecast of that many steps could be neither learnt nor measured."""
    if horizon is None:
        return panel
    if panel.n_steps < horizon + 2:
        raise DataError(
            f"The series have {panel.n_steps:,} steps, too few for a horizon of {horizon:,}. Give a shorter horizon, "
            "or several times as many steps as it has."
        )
    n_future = len(panel.times) - panel.n_steps
    if panel.known and n_future < horizon:
        text = f"what is known in advance ends {n_future:,} steps after the last value; to predict takes {horizon:,}"
        return replace(panel, notes=(*panel.notes, text))
    return panel
