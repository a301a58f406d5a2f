"""What a source holds before anything is decided: named columns of raw values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart.errors import DataError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?\s*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Raw:
    """N rows of named columns, as they came; every column has N values."""

    columns: dict[str, list[Any]]
    name: str  # "reviews"
    source: str | None  # a path or a hub id; None for objects in memory
    folder: str | None = None  # where relative file names start
    splits: list[str] | None = None  # of each row, where files, folders or keys are named by split
    input: str | None = None  # the input column, where the layout leaves no doubt
    label: str | None = None  # likewise
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def with_labels(self, labels: Any) -> Raw:
        """The same rows with `labels` as the column "label". DataError when there are more or fewer of them."""
        values = plain_list(labels)
        if len(values) != len(self):
            raise DataError(f"There are {len(self):,} examples but {len(values):,} labels. Give one label an example.")
        return replace(self, columns={**self.columns, "label": values}, label="label")


def printable(name: str) -> str:
    """A text without halves of UTF-16 pairs, which stand for bad bytes in file names and which UTF-8 cannot hold."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)


def split_name(name: str) -> str | None:
    """ "train", "val" or "test" for any usual name of it, in any case; else None."""
    return SPLIT_NAMES.get(name.strip().lower())


def split_word(name: str) -> str | None:
    """The one split that the words of a name speak of: "train" for `train-00000-of-00002` and "train2017"."""
    found = {split for word in re.split(r"[^a-z]+", name.lower()) if (split := split_name(word))}
    return found.pop() if len(found) == 1 else None


def is_missing(value: Any) -> bool:
    """None, NaN, NaT, pandas' NA, or a string of nothing but spaces."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    if isinstance(value, (float, np.floating)):
        return math.isnan(value)
    return type(value).__name__ in {"NAType", "NaTType"}


def with_thousands(text: str) -> bool:
    """Whether it is a number with commas that may set off thousands: "1,200", "1,234,567.5"; not "0,123"."""
    return bool(_THOUSANDS.fullmatch(text))


def plain_list(values: Any) -> list[Any]:
    """A list, tuple, Series or array as a list; pictures in an array stay arrays, and 0/1 rows become lists of labels.

    (N,) and (N, 1) give N values; (N, K) of zeros and ones gives, for each row, the indices of its ones.
    """
    if not isinstance(values, np.ndarray):
        return values.tolist() if hasattr(values, "tolist") else list(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and np.isin(values, (0, 1)).all():
        return [np.flatnonzero(row).tolist() for row in values]
    return values.tolist() if values.ndim == 1 else list(values)


def together(parts: Sequence[tuple[str, Raw]]) -> Raw:
    """Several splits (name, rows) as one; a column that one of them lacks is filled with None, with a note."""
    first = parts[0][1]
    names = list(dict.fromkeys(name for _, raw in parts for name in raw.columns))
    lacking = [
        f"the {split} split has no column {name!r}: left empty"
        for split, raw in parts
        for name in names
        if name not in raw.columns
    ]
    return replace(
        first,
        columns={n: [v for _, raw in parts for v in raw.columns.get(n) or [None] * len(raw)] for n in names},
        splits=[split for split, raw in parts for _ in range(len(raw))],
        notes=tuple(dict.fromkeys([note for _, raw in parts for note in raw.notes] + lacking)),
    )
