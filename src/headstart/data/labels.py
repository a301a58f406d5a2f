"""What the labels ask for: one class of several, several labels at once, a number, boxes, or what is said."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from headstart.data.boxes import as_annotations, hold_boxes
from headstart.data.raw import NUMBER, is_missing, with_thousands
from headstart.errors import DataError, did_you_mean, listed

_DATE = re.compile(r"\s*(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3(\d{4}|\d{2}))([T\s].*)?", re.ASCII)
_MANY_DATES = 10  # more different dates than this are no classes
_POINT_ZERO = re.compile(r"\.0+(?=\s*$)")
_MANY_INTEGERS = 20  # more different whole numbers than this are a quantity …
_MANY_INTEGERS_SHARE = 0.05  # … if they are also more than this share of the examples
_FREE_TEXT_SHARE = 0.9
DETECTION, TRANSCRIPTION, CHAT = "detection", "transcription", "chat"
TRANSCRIPT_NAMES = (  # of columns that hold, beside a sound, what is said in it; best first
    *("transcript", "transcription", "normalized_text", "normalised_text", "sentence", "text"),
    *("utterance", "words"),
)
_UNSEEN = {"Cf", "Cc"}  # Unicode's categories of marks that show nothing
_SEPARATED_SHARE = 0.1  # of the values, for "a|b" to mean two labels


class Labels(NamedTuple):
    """The task that labels pose, and the labels as it takes them."""

    task: str
    values: list[Any]  # str, list of str, float, or `Annotation`; None where the label is missing
    notes: tuple[str, ...]


def infer_task(values: Sequence[Any], task: str | None = None, column: str = "label", heard: bool = False) -> Labels:
    """Tell the task from the labels, or take them as `task` wants them; `heard` where they stand beside sounds.

    DataError when they mix numbers with words, when they are free text, and when `task` is unknown or does not fit.
    """
    if task is None and heard and column.lower() in TRANSCRIPT_NAMES:
        task = TRANSCRIPTION
    if task is not None and task not in TASKS:
        raise DataError(f"--task {task} is not one of {listed(TASKS)}.{did_you_mean(task, TASKS)}")
    if hold_boxes(values) and task not in (None, DETECTION):
        raise DataError(f"Column {column!r} holds boxes, which --task {task} cannot learn. Pass --task {DETECTION}.")
    if task == DETECTION or hold_boxes(values):
        return Labels(DETECTION, as_annotations(values, column), ())
    seen = _Seen([None if is_missing_label(value) else _plain(value) for value in values], column)
    if not seen.known:
        raise DataError(
            f"Column {column!r} holds no label: all of its {len(values):,} values are missing. "
            "Fill it in, or name another column with --label COL."
        )
    notes: list[str] = []
    if task is None:
        task = _inferred(seen, notes, heard)
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
        self.with_commas = [value for value in self.words if with_thousands(str(value))]
        self.n_numbers = sum(self.counts[value] for value in self.numbers)
        self.n_words = sum(self.counts[value] for value in self.words)
        self.n_with_commas = sum(self.counts[value] for value in self.with_commas)


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
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _inferred(seen: _Seen, notes: list[str], heard: bool) -> str:
    if seen.has_lists:
        return "multilabel"
    if seen.n_numbers + 2 * seen.n_with_commas > seen.n_words:  # if they are numbers, most values are
        _check_no_commas(seen)
    if min(seen.n_numbers, seen.n_words) >= 2:
        raise DataError(
            f"Column {seen.column!r} mixes {seen.n_numbers:,} numbers ({listed(seen.numbers, 3)}) with "
            f"{seen.n_words:,} words ({listed(seen.words, 3)}): pass --task classification to take every value as a "
            "class name, or --task regression to leave the words out."
        )
    if seen.n_numbers > seen.n_words:
        return _of_numbers(seen, notes)
    _check_no_dates(seen)
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
            + (f"--task {TRANSCRIPTION} if it is what is said in the sounds, or " if heard else "")
            + "--task classification to take every value as a class name."
        )
    return "classification"


def _check_no_commas(seen: _Seen) -> None:
    """DataError for 12,000, which is 1,000 times as much in one country as in another."""
    if seen.with_commas:
        raise DataError(
            f"Column {seen.column!r} holds {listed(map(repr, seen.with_commas), 3)}: it is ambiguous whether the comma "
            "sets off thousands or is the decimal point. Write 12,000 as 12000 or as 12.0, or pass "
            "--task classification to take every value as a class name."
        )


def _check_no_dates(seen: _Seen) -> None:
    dates = [value for value in seen.words if _DATE.fullmatch(str(value))]
    if len(dates) > _MANY_DATES and 2 * sum(seen.counts[value] for value in dates) > len(seen.known):
        raise DataError(
            f"Column {seen.column!r} looks like dates ({listed(dates, 3)}), not like labels. Name the column that "
            f"holds the labels with --label COL; --time {seen.column} splits by these dates. "
            "Pass --task classification to take every date as a class name."
        )


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
        if not _is_held(seen, separator):
            continue
        parts = Counter(
            part.strip() for value, n in seen.counts.items() for part in str(value).split(separator) for _ in range(n)
        )
        if parts.total() >= 2 * len(parts):
            return separator
    return None


def _is_held(seen: _Seen, mark: str) -> bool:
    n_held = sum(n for value, n in seen.counts.items() if mark in str(value))
    return n_held >= max(2, _SEPARATED_SHARE * len(seen.known))


def _shortened(value: Any) -> str:
    text = str(value)  # an infinite number is a word too
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
    _note_spellings(names.values(), notes)
    return [
        None if value is None else names[value] if not isinstance(value, list) else _class_name(value[0], False)
        for value in seen.values
    ]


def _as_label_lists(seen: _Seen, notes: list[str]) -> list[list[str] | None]:
    separator = _separator(seen) or next((mark for mark in "|;" if _is_held(seen, mark)), ",")

    def parts(value: Any) -> list[str]:
        if isinstance(value, list):
            return list(dict.fromkeys(_class_name(part, False) for part in value))
        return [p for part in _class_name(value, True).split(separator) if (p := part.strip())]

    found = [None if value is None else list(dict.fromkeys(parts(value))) for value in seen.values]
    _note_spellings((name for names in found for name in names or ()), notes)
    return found


def _note_spellings(names: Iterable[str], notes: list[str]) -> None:
    """Say which classes are equal but for case and spaces; "good" may be "Good", but "us" need not be "US"."""
    spellings: dict[str, dict[str, None]] = {}
    for name in names:
        spellings.setdefault(name.strip().casefold(), {})[name] = None
    alike = [listed(map(repr, group), 4) for group in spellings.values() if len(group) > 1]
    if alike:
        more = f" (and {len(alike) - 1:,} more like that)" if len(alike) > 1 else ""
        notes.append(f"classes {alike[0]} differ only in spelling; they are kept apart{more}")


def _as_transcripts(seen: _Seen, notes: list[str]) -> list[str | None]:
    """What is said, in composed characters (NFC) and with single spaces; None where nothing is."""
    if seen.has_lists:
        raise DataError(
            f"Column {seen.column!r} holds lists, and --task transcription wants one text a sound. Join their words, "
            "or pass --task multilabel."
        )
    return [None if value is None else spoken(str(value)) or None for value in seen.values]


def spoken(text: str) -> str:
    """A transcript as it is learnt and compared: NFC, single spaces; "" where there is nothing but marks unseen."""
    words = unicodedata.normalize("NFC", text).split()
    return " ".join(words) if any(unicodedata.category(c) not in _UNSEEN for word in words for c in word) else ""


def _as_numbers(seen: _Seen, notes: list[str]) -> list[float | None]:
    _check_no_commas(seen)
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
    TRANSCRIPTION: _as_transcripts,
}
TASKS = ("classification", "multilabel", "regression", DETECTION, TRANSCRIPTION, CHAT)
