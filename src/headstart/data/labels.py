"""What the labels ask for: one class of several, several labels at once, or a number."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from headstart.data.raw import is_missing
from headstart.errors import DataError, did_you_mean, listed

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_POINT_ZERO = re.compile(r"\.0+(?=\s*$)")
_MANY_INTEGERS = 20  # more different whole numbers than this are a quantity …
_MANY_INTEGERS_SHARE = 0.05  # … if they are also more than this share of the examples
_FREE_TEXT_SHARE = 0.9
_SEPARATED_SHARE = 0.1  # of the values, for "a|b" to mean two labels


class Labels(NamedTuple):
    """The task that labels pose, and the labels as it takes them."""

    task: str
    values: list[Any]  # str, list of str, or float; None where the label is missing
    notes: tuple[str, ...]


def infer_task(values: Sequence[Any], task: str | None = None, column: str = "label") -> Labels:
    """Tell the task from the labels, or take them as `task` wants them.

    DataError when they mix numbers with words, when they are free text, and when `task` is unknown or does not fit.
    """
    if task is not None and task not in _AS_TASK:
        raise DataError(f"--task {task} is not one of {listed(_AS_TASK)}.{did_you_mean(task, _AS_TASK)}")
    seen = _Seen([None if is_missing_label(value) else _plain(value) for value in values], column)
    if not seen.known:
        raise DataError(f"Column {column!r} holds no label: all of its {len(values):,} values are missing.")
    notes: list[str] = []
    if task is None:
        task = _inferred(seen, notes)
    return Labels(task, _AS_TASK[task](seen, notes), tuple(notes))


def is_missing_label(value: Any) -> bool:
    """Missing, in a column of labels; an empty list is a label set like any other."""
    return not isinstance(value, (list, tuple, np.ndarray)) and is_missing(value)


class _Seen:
    """The labels, and a tally of what kinds they are of. Everything is decided on the distinct values."""

    def __init__(self, values: list[Any], column: str) -> None:
        self.values = values
        self.column = column
        self.known = [value for value in values if value is not None]
        self.has_lists = any(isinstance(value, list) for value in self.known)
        self.counts = Counter(value for value in self.known if not isinstance(value, list))
        self.number = {value: _number(value) for value in self.counts}
        self.numbers = [value for value, number in self.number.items() if number is not None]
        self.words = [value for value, number in self.number.items() if number is None]
        self.n_numbers = sum(self.counts[value] for value in self.numbers)
        self.n_words = sum(self.counts[value] for value in self.words)


def _plain(value: Any) -> Any:
    """str, int, float or list; true and false become the words "True" and "False"."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(part) for part in value if not is_missing_label(part)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    return float(value) if isinstance(value, (Decimal, Fraction)) else str(value)


def _number(value: Any) -> float | None:
    """The finite number that a value is or spells, else None ("nan" and "inf" are words)."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _inferred(seen: _Seen, notes: list[str]) -> str:
    if seen.has_lists:
        return "multilabel"
    if min(seen.n_numbers, seen.n_words) >= 2:
        raise DataError(
            f"Column {seen.column!r} mixes {seen.n_numbers:,} numbers ({listed(seen.numbers, 3)}) with "
            f"{seen.n_words:,} words ({listed(seen.words, 3)}): pass --task classification to take every value as a "
            "class name, or --task regression to leave the words out."
        )
    if seen.n_numbers > seen.n_words:
        return _of_numbers(seen, notes)
    if separator := _separator(seen):
        notes.append(
            f"values of {seen.column!r} are split at {separator!r} into several labels; "
            "pass --task classification to take each value as one class"
        )
        return "multilabel"
    n, n_distinct = len(seen.known), len(seen.counts)
    if n >= 20 and n_distinct > _FREE_TEXT_SHARE * n:
        raise DataError(
            f"Column {seen.column!r} looks like free text, not like labels: {n_distinct:,} of its {n:,} values differ "
            f"({_shortened(seen.words[0])!r}). Name the column that holds the labels with --label COL, or pass "
            "--task classification to take every value as a class name."
        )
    return "classification"


def _of_numbers(seen: _Seen, notes: list[str]) -> str:
    values = [number for number in seen.number.values() if number is not None]
    if any(not value.is_integer() for value in values):
        return "regression"
    if len(values) > _MANY_INTEGERS and len(values) > _MANY_INTEGERS_SHARE * seen.n_numbers:
        notes.append(
            f"{seen.column!r} holds {len(values):,} different whole numbers and is predicted as a number; "
            "pass --task classification to take each as a class"
        )
        return "regression"
    return "classification"


def _separator(seen: _Seen) -> str | None:
    """ "|" or ";" when many values hold it and the parts between recur."""
    for separator in "|;":
        held = {value: n for value, n in seen.counts.items() if separator in str(value)}
        if sum(held.values()) < max(2, _SEPARATED_SHARE * len(seen.known)):
            continue
        parts = Counter(
            part.strip() for value, n in seen.counts.items() for part in str(value).split(separator) for _ in range(n)
        )
        if parts.total() >= 2 * len(parts):
            return separator
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _class_name(value: Any, whole: bool) -> str:
    """A value as a class name: 1.0 is "1"; so is "1.0" where all numbers are whole. Spaces stay."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return _POINT_ZERO.sub("", value) if whole and isinstance(value, str) and _number(value) is not None else str(value)


def _as_classes(seen: _Seen, notes: list[str]) -> list[str | None]:
    if any(isinstance(value, list) and len(value) != 1 for value in seen.known):
        raise DataError(
            f"Column {seen.column!r} holds lists of labels, and --task classification wants one label an example. "
            "Pass --task multilabel."
        )
    whole = all(number is None or number.is_integer() for number in seen.number.values())
    names = {value: _class_name(value, whole) for value in seen.counts}
    return [
        None if value is None else names[value] if not isinstance(value, list) else _class_name(value[0], False)
        for value in seen.values
    ]


def _as_label_lists(seen: _Seen, notes: list[str]) -> list[list[str] | None]:
    separator = max("|;,", key=lambda mark: sum(n for value, n in seen.counts.items() if mark in str(value)))

    def parts(value: Any) -> list[str]:
        if isinstance(value, list):
            return list(dict.fromkeys(_class_name(part, False) for part in value))
        return [p for part in _class_name(value, True).split(separator) if (p := part.strip())]

    return [None if value is None else list(dict.fromkeys(parts(value))) for value in seen.values]


def _as_numbers(seen: _Seen, notes: list[str]) -> list[float | None]:
    if seen.has_lists or not seen.n_numbers:
        raise DataError(
            f"Column {seen.column!r} holds no numbers but {'lists' if seen.has_lists else listed(seen.words, 3)}, and "
            f"--task regression wants numbers. Pass --task {'multilabel' if seen.has_lists else 'classification'}."
        )
    if seen.n_words:
        n = seen.n_words
        notes.append(
            f"{n:,} value{'s' if n > 1 else ''} of {seen.column!r} that {'are' if n > 1 else 'is'} no number left out "
            f"({listed(map(_shortened, seen.words), 3)})"
        )
    return [None if value is None else seen.number[value] for value in seen.values]


_AS_TASK: dict[str, Callable[[_Seen, list[str]], list[Any]]] = {
    "classification": _as_classes,
    "multilabel": _as_label_lists,
    "regression": _as_numbers,
}
