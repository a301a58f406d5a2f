"""The layouts in which people keep series, found out by names and content, each to rows of (series, time, value)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.raw import is_missing
from headstart.data.times import check_dates, look_like_times, times_of
from headstart.errors import DataError, did_you_mean, listed

if TYPE_CHECKING:
    import pandas as pd

TIME_NAMES = (
    *("ds", "date", "datetime", "timestamp", "time", "day", "week", "month", "quarter", "year", "period"),
    *("step", "t", "index", "unnamed 1", "unnamed: 0", "__index_level_0__"),
)
SERIES_NAMES = (
    *("unique_id", "series_id", "item_id", "series", "id", "item", "ticker", "symbol", "store", "market", "country"),
    *("currency", "region", "station", "sensor", "product", "sku", "key", "name", "group"),
)
TARGET_NAMES = (
    *("y", "value", "target", "close", "adj close", "price", "sales", "demand", "load", "quantity", "count"),
    *("values", "train"),
)
_VOID = {"", "na", "n/a", "#n/a", "nan", "null", "none", "nat", ".", "-", "?", "inf", "-inf"}
_NUMBERS = re.compile(r"\s*\[?\s*(?:[+-]?[\d.]\S*[\s,;]+)+[+-]?[\d.][^\s\]]*\s*\]?\s*")
_MOSTLY = 0.8  # of the values are numbers: the others are mistakes
_STEP = re.compile(r"[A-Za-z_]*\s?\d+")  # V1, t_2, 3


@dataclass(frozen=True, kw_only=True)
class PanelReading:
    """What the user says about the series; None leaves it to the reader."""

    time: str | None = None  # the column with the times
    series: str | None = None  # the column that says which series a row belongs to
    target: str | None = None  # the column to forecast
    known: tuple[str, ...] = ()  # covariates that are known in advance: holidays, prices that one sets
    static: tuple[str, ...] = ()  # columns that say something of a whole series
    frequency: str | None = None  # pandas offset alias
    season: int | None = None  # steps after which a pattern comes again
    as_: str = "levels"  # "levels", "returns" or "volatility"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N observations, in any order."""

    ids: np.ndarray  # (N,) str
    times: np.ndarray | None  # (N,) datetime64[ns] or int64; None where the series only end together
    values: np.ndarray  # (N,) float64, NaN where missing
    others: pd.DataFrame  # (N, columns) what stands beside them, as it came
    shared: bool = False  # whether `others` are the same for all series: those of a wide table
    columns: dict[str, str]  # option -> column
    notes: tuple[str, ...]
    target_name: str = "value"


def rows_of(table: pd.DataFrame, reading: PanelReading, source: str) -> Rows:
    """A table of any layout as rows. DataError when a named column is absent or no column holds numbers."""
    _check_named(table, reading, source)
    if lists := _cells_with_numbers(table, reading):
        return _one_row_a_series(table, reading, lists)
    time = reading.time or _time_column(table, reading)
    if time is None and (names := _numbers_in_columns(table, reading)):
        return _numbers_beside(table, reading, names)
    series = reading.series or _series_column(table, reading, time)
    if series is not None:
        return _long(table, reading, time, series, source)
    return _wide(table, reading, time, source)


def numbers(values: Any, name: str) -> np.ndarray:
    """(N,) float64; what stands for nothing is NaN. DataError, with the first such value, where words stand."""
    import pandas as pd

    column = pd.Series(values)
    if pd.api.types.is_numeric_dtype(column.dtype):
        found = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isinf(found), np.nan, found)
    if look_like_times(column):
        raise DataError(
            f"Column {name!r} holds dates, and a forecast needs numbers: name another with --label COL (target=…)."
        )
    found = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(found)
    bad[bad] = [not (is_missing(value) or str(value).strip().lower() in _VOID) for value in column[bad]]
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"Column {name!r} holds {str(column.iloc[row])[:40]!r} (row {row + 1:,}), and {bad.sum():,} of its "
            f"{len(column):,} values are no numbers. A forecast needs numbers: name another column with --label COL, "
            "or leave such cells empty."
        )
    return np.where(np.isinf(found), np.nan, found)


def is_numeric(values: Any) -> bool:
    """Whether there are numbers and nothing else but gaps."""
    try:
        return bool(np.isfinite(numbers(values, "")).any())
    except (DataError, TypeError, ValueError):
        return False


def _check_named(table: pd.DataFrame, reading: PanelReading, source: str) -> None:
    """Each named column is there, and is named once."""
    named = [("time", reading.time), ("series", reading.series), ("target", reading.target)]
    named += [("known", name) for name in reading.known] + [("static", name) for name in reading.static]
    seen: dict[str, str] = {}
    for option, name in named:
        if name is None:
            continue
        if name not in table.columns:
            raise DataError(
                f"There is no column {name!r} in {source}; its columns are {listed(table.columns, 20)}."
                f"{did_you_mean(name, table.columns)} Pass --{option} COL."
            )
        if name in seen:
            raise DataError(f"Column {name!r} cannot be both {seen[name]} and {option}. Name it once.")
        seen[name] = option


def _free(table: pd.DataFrame, reading: PanelReading, *taken: str | None) -> list[str]:
    """Columns that have no part to play yet."""
    named = {reading.time, reading.series, reading.target, *reading.known, *reading.static, *taken}
    return [name for name in table.columns if name not in named]


def _time_column(table: pd.DataFrame, reading: PanelReading) -> str | None:
    """A column of dates, one with a usual name before others; else whole numbers in order under a usual name."""
    free = sorted(_free(table, reading), key=lambda name: _rank(name, TIME_NAMES))
    for name in free:
        if look_like_times(table[name]):
            return name
        if name.lower() in TIME_NAMES and not is_numeric(table[name]):
            check_dates(table[name])
    for name in free:
        if name.lower() in TIME_NAMES and is_numeric(table[name]):
            found = numbers(table[name], name)
            if np.isfinite(found).all() and (found == np.rint(found)).all():
                return name
    return None


def _rank(name: str, usual: Sequence[str]) -> int:
    return usual.index(name.lower()) if name.lower() in usual else len(usual)


def _series_column(table: pd.DataFrame, reading: PanelReading, time: str | None) -> str | None:
    """The column that tells apart rows of the same time; one with a usual name before others."""
    candidates = [
        name
        for name in _free(table, reading, time)
        if (name.lower() in SERIES_NAMES or not is_numeric(table[name])) and table[name].notna().all()
    ]
    ranked = sorted(candidates, key=lambda name: _rank(name, SERIES_NAMES))
    if time is None:
        return next((name for name in ranked if table[name].duplicated().any()), None)
    if not table[time].duplicated().any():  # each time once: one series, or wide
        usual = (name for name in ranked if name.lower() in SERIES_NAMES and _repeats(table[name]))
        return next(usual, None)
    apart = {name: int(table.duplicated([time, name]).sum()) for name in ranked}
    return min(apart, key=lambda name: apart[name], default=None) if apart else None


def _repeats(names: pd.Series) -> bool:
    """Whether every name stands in several rows, as those of series do."""
    return int(names.value_counts().min()) > 1


def _target_column(table: pd.DataFrame, reading: PanelReading, free: list[str], source: str) -> str:
    """The named one, one with a usual name, or the only one with numbers."""
    import pandas as pd

    if reading.target:
        return reading.target
    with_numbers = [name for name in free if is_numeric(table[name])]
    usual = sorted((n for n in with_numbers if n.lower() in TARGET_NAMES), key=lambda n: _rank(n, TARGET_NAMES))
    if usual or len(with_numbers) == 1:
        return (usual or with_numbers)[0]
    for name in () if with_numbers else free:
        if pd.to_numeric(table[name], errors="coerce").notna().mean() > _MOSTLY:
            numbers(table[name], name)  # says which cell is none
    found = f"several hold numbers ({listed(with_numbers)})" if with_numbers else "none holds numbers"
    raise DataError(
        f"Which column of {source} is to be forecast? Its columns are {listed(table.columns, 20)}; {found}. "
        "Name it with --label COL."
    )


def _long(table: pd.DataFrame, reading: PanelReading, time: str | None, series: str, source: str) -> Rows:
    """One row an observation: (series, time, value) and what stands beside them."""
    target = _target_column(table, reading, _free(table, reading, time, series), source)
    notes: tuple[str, ...] = ()
    times = None
    if time is not None:
        times, notes = times_of(table[time], time)
    on = f", times {time!r}" if time else ", no times: the series end together"
    return Rows(
        ids=_names(table[series]),
        times=times,
        values=numbers(table[target], target),
        others=table.drop(columns=[name for name in (time, series, target) if name]),
        columns={k: v for k, v in (("time", time), ("series", series), ("target", target)) if v},
        notes=(f"long table: series by {series!r}{on}, values {target!r}", *notes),
        target_name=target,
    )


def _wide(table: pd.DataFrame, reading: PanelReading, time: str | None, source: str) -> Rows:
    """One column a series; one that is named as the target is the only series, and so is a single one."""
    import pandas as pd

    free = _free(table, reading, time)
    names = [reading.target] if reading.target else [name for name in free if is_numeric(table[name])]
    if not names:
        raise DataError(
            f"No column of {source} holds numbers to forecast; its columns are {listed(table.columns, 20)}. "
            "Give a time column and one column of numbers a series, or the columns id, time and value."
        )
    notes: tuple[str, ...] = ()
    times = np.arange(len(table), dtype=np.int64)
    if time is not None:
        times, notes = times_of(table[time], time)
    others = table.drop(columns=[name for name in (time, *names) if name])
    what = f"one series {names[0]!r}" if len(names) == 1 else f"wide table: {len(names):,} columns, each a series"
    on = f"times {time!r}" if time else "no times: rows are steps"
    return Rows(
        ids=np.repeat(np.array(names, dtype=object), len(table)),
        times=np.tile(times, len(names)),
        values=np.concatenate([numbers(table[name], name) for name in names]),
        others=pd.concat([others] * len(names), ignore_index=True),
        shared=True,
        columns={k: v for k, v in (("time", time), ("target", reading.target or "")) if v},
        notes=(f"{what}, {on}", *notes),
        target_name=names[0] if len(names) == 1 else "value",
    )


def _cells_with_numbers(table: pd.DataFrame, reading: PanelReading) -> list[str]:
    """Columns whose every cell holds several numbers: a list, or a text of numbers with spaces between."""

    def many(value: Any) -> bool:
        if isinstance(value, str):
            return _NUMBERS.fullmatch(value) is not None and not re.fullmatch(r"\s*[\d/.:T-]+[ T][\d:.]+\s*", value)
        return isinstance(value, (list, tuple, np.ndarray)) and len(value) > 1

    names = [reading.target] if reading.target else _free(table, reading)
    return [name for name in names if len(table) and all(many(value) for value in table[name])]


def _one_row_a_series(table: pd.DataFrame, reading: PanelReading, lists: list[str]) -> Rows:
    """One row a series, whose numbers stand in one cell: M4's layout."""
    import pandas as pd

    target = min(lists, key=lambda name: _rank(name, TARGET_NAMES))
    cells = [_numbers_in(value, target) for value in table[target]]
    series = reading.series or _id_column(table, reading, target)
    ids = _names(table[series]) if series else np.array([f"series {i + 1}" for i in range(len(table))], dtype=object)
    _check_each_once(ids, series)
    owner = np.repeat(np.arange(len(cells)), [len(cell) for cell in cells])
    others = table.drop(columns=[name for name in {series, *lists} if name])
    unread = [name for name in lists if name != target]
    notes = [f"one row a series, named by {series!r}, numbers in {target!r}; no times: the series end together"]
    notes += [f"not read: {listed(map(repr, unread))}, which hold series too (--label COL names one)"] if unread else []
    return Rows(
        ids=ids[owner],
        times=None,
        values=np.concatenate(cells) if cells else np.empty(0),
        others=others.iloc[owner].reset_index(drop=True) if len(others.columns) else pd.DataFrame(index=owner),
        columns={k: v for k, v in (("series", series), ("target", target)) if v},
        notes=tuple(notes),
        target_name=target,
    )


def _numbers_in(value: Any, name: str) -> np.ndarray:
    parts = re.split(r"[\s,;]+", value.strip(" \t\r\n[]")) if isinstance(value, str) else value
    return numbers(list(parts), name)


def _numbers_in_columns(table: pd.DataFrame, reading: PanelReading) -> list[str]:
    """Columns that are the steps of series in rows: beside a column of names, each once, called V1, V2 … or dates."""
    if reading.target or reading.known or (key := reading.series or _id_column(table, reading)) is None:
        return []
    rest = [name for name in _free(table, reading, key) if is_numeric(table[name]) or table[name].map(is_missing).all()]
    named = len(rest) > 1 and (all(_STEP.fullmatch(name) for name in rest) or look_like_times(rest))
    return rest if named and not table[key].duplicated().any() else []


def _numbers_beside(table: pd.DataFrame, reading: PanelReading, names: list[str]) -> Rows:
    """One row a series, a column a step; columns that are called by dates are the times."""
    key = reading.series or _id_column(table, reading)
    assert key is not None
    times, notes = times_of(names, "the header") if look_like_times(names) else (None, ())
    values = np.stack([numbers(table[name], name) for name in names], axis=1)  # (S, T)
    others = table.drop(columns=[key, *names])
    owner = np.repeat(np.arange(len(table)), len(names))
    on = "times in the header" if times is not None else "no times: the series end together"
    return Rows(
        ids=_names(table[key])[owner],
        times=None if times is None else np.tile(times, len(table)),
        values=values.ravel(),
        others=others.iloc[owner].reset_index(drop=True),
        columns={"series": key},
        notes=(f"one row a series, named by {key!r}, {len(names):,} columns of steps; {on}", *notes),
    )


def _id_column(table: pd.DataFrame, reading: PanelReading, *taken: str) -> str | None:
    """A column of names, one with a usual name before others."""
    free = sorted(_free(table, reading, *taken), key=lambda name: _rank(name, SERIES_NAMES))
    plain = (n for n in free if table[n].map(lambda v: isinstance(v, (str, int, np.integer))).all())
    return next((n for n in plain if n.lower() in SERIES_NAMES or not is_numeric(table[n])), None)


def _check_each_once(ids: np.ndarray, series: str | None) -> None:
    seen: set[str] = set()
    twice = next((one for one in ids if one in seen or seen.add(one)), None)  # type: ignore[func-returns-value]
    if twice is not None:
        raise DataError(f"Series {twice!r} stands twice in column {series!r}. Give each series a name of its own.")


def _names(column: pd.Series) -> np.ndarray:
    """(N,) names of series. DataError where one is missing."""
    missing = column.map(is_missing).to_numpy(bool)
    if missing.any():
        raise DataError(
            f"{missing.sum():,} rows have nothing in column {column.name!r}, which names their series (the first is "
            f"row {int(np.argmax(missing)) + 1:,}). Fill it in, or take these rows out."
        )
    return column.map(lambda value: str(value).strip()).to_numpy(dtype=object)
