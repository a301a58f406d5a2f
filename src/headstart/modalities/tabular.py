"""Plain tables: an item is a row of named columns with numbers, words and gaps."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np

from headstart.data.raw import NUMBER, is_missing
from headstart.errors import DataError
from headstart.modalities.base import ClassicalFeatures, Examined, Modality, Preview

Row = dict[str, "float | int | str"]  # column -> value; a value that is missing is not there

GAPS = frozenset({"?", "na", "n/a", "#n/a", "nan", "null", "<na>", "-"})  # in lower case, beside the empty string
_LEADING_ZERO = re.compile(r"\s*[+-]?0\d")  # 01234 is a code, not a number
MOST_SHOWN = 4  # columns in a short name


class Tabular(Modality):
    """A stored item is a row as a JSON object, its columns in alphabetical order."""

    noun: ClassVar = ("row", "rows")
    suffixes: ClassVar = frozenset()
    column_names: ClassVar = ("row", "record")  # a column of JSON objects; as a rule the whole table is meant
    default_backbone: ClassVar = ""  # none: nothing is pretrained for other people's columns

    def recognises(self, values: Sequence[Any], folder: str | None) -> bool:
        """JSON objects, which are no pictures; a table's own columns are put together by the reader."""
        return bool(values) and all(isinstance(one, Mapping) and not set(one) <= {"path", "bytes"} for one in values)

    def store(self, value: Any, folder: str | None) -> str:
        """A mapping of column to value, or its JSON, as JSON without what is missing; '' for no row at all.

        Numbers are numbers however they are spelt, all else is a word. DataError for anything that is no row.
        """
        if is_missing(value):
            return ""
        row = _parsed(value) if isinstance(value, str) else value
        if not isinstance(row, Mapping):
            raise DataError(
                f'A row is a mapping of columns to values, such as {{"age": 63, "sex": "f"}}; '
                f"this is a {type(value).__name__}."
            )
        known = {str(name): plain(cell) for name, cell in row.items()}
        return json.dumps({name: known[name] for name in sorted(known) if known[name] is not None})

    def arrow_feature(self) -> Any:
        """A plain string: rows of one table need not have the same columns, nor a column one type."""
        from datasets import Value

        return Value("string")

    def example(self) -> Row:
        """A row of a column that no model knows, which every model of rows takes: all that it knows is missing."""
        return {"an example": 1}

    def examine(self, item: Any) -> Examined:
        """Equal rows have equal digests, whatever the order of their columns."""
        if not isinstance(item, str):
            return Examined("", f"not a row but a {type(item).__name__}")
        empty = "empty row: none of its columns has a value" if item in ("", "{}") else None
        return Examined(hashlib.sha256(item.encode()).hexdigest(), empty)

    def open(self, item: Any, detail: int | None = None) -> Row:
        """The row: what is not there is missing."""
        row: Row = json.loads(item or "{}")
        return row

    def preview(self, item: Any) -> Preview:
        """Columns and values, as many as have room."""
        return Preview(text=_shortened(_spelt(self.open(item)), 400))

    def describe(self, item: Any) -> str:
        """The first columns."""
        row = self.open(item)
        return _shortened(_spelt(dict(list(row.items())[:MOST_SHOWN])), 80) or "(empty row)"

    def name_in_full(self, item: Any) -> str:
        """The row as JSON that people can read."""
        return json.dumps(self.open(item), ensure_ascii=False)

    def classical_features(self) -> Sequence[ClassicalFeatures]:
        """None: rows are learnt from by `headstart.tables`, whose target-only way is the classical model."""
        return ()


def rows_of(data: Any) -> list[Any]:
    """Rows out of a data frame, a mapping of columns, one row, or a list of rows."""
    if hasattr(data, "columns") and hasattr(data, "iloc"):  # pandas
        names = [str(name) for name in data.columns]
        return [dict(zip(names, row, strict=True)) for row in data.itertuples(index=False, name=None)]
    if isinstance(data, Mapping):
        columns = {name: cell for name, cell in data.items() if isinstance(cell, list | tuple | np.ndarray)}
        if not columns:
            return [data]
        return [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    return [data] if isinstance(data, str) else list(data)


def plain(value: Any) -> float | int | str | None:
    """A cell as a number or a word; None where it is missing.

    "63", "63.0" and 63 are one number; True is the word "True"; a date is a word as ISO 8601 writes it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value):
        return None
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float | Decimal):
        return _number(float(value))
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return str(value)


def _of_text(text: str) -> float | int | str | None:
    if text.strip().lower() in GAPS:
        return None
    if NUMBER.fullmatch(text) and not _LEADING_ZERO.match(text):
        return _number(float(text))
    return text.strip()


def _number(value: float) -> float | int | None:
    """A whole number as an int, so that 63 and 63.0 are the same row; infinity counts as missing."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _spelt(row: Row) -> str:
    return ", ".join(f"{name} {cell}" for name, cell in row.items())


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
