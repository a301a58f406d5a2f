"""Rows as numbers: medians for gaps, standardised numbers, a column for each word; learnt from both sides, no labels.

A word that was not seen is all zeros, and so is every word where the cell is missing. A column that has gaps on a side
where it has values gets one more column that marks them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from headstart.errors import DataError, listed
from headstart.modalities.tabular import Row

NUMBER, DATE, WORDS = "number", "date", "words"
MOST_WORDS = 30  # columns that one column becomes: rarer words are all zeros
FEW_NUMBERS = 6  # whole numbers of at least three and no more different values are taken as names …
OFTEN = 5  # … if each is there so often on average
MOSTLY = 0.95  # of the cells that are there, to call a column numbers or dates
HARDLY = 0.1  # a column that fewer of the target's rows have is not learnt from where there is a source
DISTINCT = 0.5  # words of which more differ are names or free text …
LEAST_DISTINCT = 20  # … if there are more than this
FURTHEST = 5.0  # standard deviations: what lies beyond is moved there
_ID = re.compile(r"|(.*[_ ])?(id|idx|index|uid|uuid|guid)|unnamed:? \d+|__index_level_0__", re.IGNORECASE)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one column becomes numbers."""

    name: str
    kind: str  # "number", "date" (a number of days) or "words"
    median: float = 0.0  # what a gap becomes
    mean: float = 0.0
    scale: float = 1.0
    words: tuple[str, ...] = ()
    gaps: bool = False  # whether a last column marks them

    @property
    def width(self) -> int:
        """How many columns it becomes."""
        return (len(self.words) if self.kind == WORDS else 1) + self.gaps

    def encode(self, cells: Sequence[Any]) -> np.ndarray:
        """(N, width) of N cells, None where missing."""
        missing = np.array([cell is None for cell in cells], dtype=float)[:, None]
        if self.kind == WORDS:
            at = {word: k for k, word in enumerate(self.words)}
            found = np.zeros((len(cells), len(self.words)))
            for i, cell in enumerate(cells):
                if cell is not None and (k := at.get(word(cell))) is not None:
                    found[i, k] = 1.0
        else:
            values = numbers(cells, self.kind)
            missing = np.isnan(values)[:, None].astype(float)
            values = (np.where(np.isnan(values), self.median, values) - self.mean) / self.scale
            found = np.clip(values, -FURTHEST, FURTHEST)[:, None]
        return np.hstack([found, missing]) if self.gaps else found


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """How rows become numbers, and what was decided on the way."""

    columns: tuple[Column, ...]
    left_out: Mapping[str, str] = field(default_factory=dict, compare=False)  # column -> why
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def width(self) -> int:
        """D."""
        return sum(column.width for column in self.columns)

    def encode(self, rows: Sequence[Row]) -> np.ndarray:
        """(N, D) float64 of N rows; columns that are not known are passed over."""
        parts = [column.encode([row.get(column.name) for row in rows]) for column in self.columns]
        return np.hstack(parts) if rows else np.empty((0, self.width))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; floats come back to the last bit."""
        return {"columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Encoder:
        """The inverse of `to_json`; notes, and what was left out, are not kept."""
        return cls(columns=tuple(Column(**{**one, "words": tuple(one["words"])}) for one in saved["columns"]))


def learn_encoder(target: Sequence[Row], source: Sequence[Row] | None = None) -> Encoder:
    """Look at the columns of both sides. DataError when none is left to learn from."""
    sides = [target] if source is None else [target, source]
    names = [_names(side) for side in sides]
    left_out: dict[str, str] = {}
    columns = []
    for name in sorted(set().union(*names)):
        cells = [[row.get(name) for row in side] for side in sides]
        column, why = _learn(name, cells)
        if why:
            left_out[name] = why
        elif column is not None:
            columns.append(column)
    if not columns:
        raise DataError(
            "No column is left to learn from: "
            + "; ".join(f"{listed(names)} ({why})" for why, names in _by_reason(left_out).items())
            + ". Give tables with columns of numbers or words that both have; texts and pictures adapt with --to."
        )
    if source is not None and not names[0] & names[1]:
        raise DataError(
            f"The target has the columns {listed(sorted(names[0]))}, the source {listed(sorted(names[1]))}: they share "
            "none, so that nothing can be carried over. Give the columns the same names on both sides."
        )
    notes = (*_notes(columns, left_out), *_one_sided(columns, names))
    return Encoder(columns=tuple(columns), left_out=left_out, notes=notes)


def word(cell: Any) -> str:
    """A cell as a name."""
    return cell if isinstance(cell, str) else f"{cell:g}"


def numbers(cells: Sequence[Any], kind: str) -> np.ndarray:
    """(N,) float64: numbers, or dates as days since 1970; NaN for what is missing or neither."""
    if kind == DATE:
        return np.array([_days(cell) for cell in cells], dtype=float)
    return np.array([np.nan if isinstance(cell, str) or cell is None else cell for cell in cells], dtype=float)


def _days(cell: Any) -> float:
    if not isinstance(cell, str) or not _ISO.fullmatch(cell):
        return np.nan
    try:
        return float(
            (np.datetime64(cell[:19].replace(" ", "T")) - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
        )
    except ValueError:  # the 31st of February
        return np.nan


def _names(rows: Sequence[Row]) -> set[str]:
    """Columns that hold anything on this side."""
    return set().union(*rows) if rows else set()


def _learn(name: str, sides: Sequence[Sequence[Any]]) -> tuple[Column | None, str]:
    """(how it becomes numbers, why it is left out): one of the two. `sides` are the target's cells and the source's."""
    there = [[cell for cell in side if cell is not None] for side in sides]
    known = [cell for cells in there for cell in cells]
    if _ID.fullmatch(name.strip()):
        return None, "an id"
    if len(sides) > 1 and not there[0]:
        return None, "only in the source"
    if len(sides) > 1 and len(there[0]) < HARDLY * len(sides[0]):
        return None, f"hardly ever there in the target: under {HARDLY:.0%}"
    kind = _kind(there)
    if kind == WORDS:
        column, why = _learn_words(name, known)
    else:
        column, why = _learn_numbers(name, numbers(known, kind), kind)
    gaps = any(cells and len(cells) < len(side) for cells, side in zip(there, sides, strict=True))
    return (None, why) if column is None else (replace(column, gaps=gaps), "")


def _kind(sides: Sequence[Sequence[Any]]) -> str:
    """What a column holds, on every side where it holds anything."""
    sides = [cells for cells in sides if cells]
    for kind in (NUMBER, DATE):
        if all(np.isfinite(numbers(cells, kind)).mean() >= MOSTLY for cells in sides):
            return WORDS if kind == NUMBER and _are_names(sides) else kind
    return WORDS


def _are_names(sides: Sequence[Sequence[Any]]) -> bool:
    """Whole numbers of three to six different values: kinds of something, as 'chest pain 1 to 4'."""
    distinct = {cell for cells in sides for cell in cells if not isinstance(cell, str)}
    if not 2 < len(distinct) <= FEW_NUMBERS or sum(map(len, sides)) < OFTEN * len(distinct):
        return False
    return all(float(value).is_integer() for value in distinct)


def _learn_words(name: str, known: Sequence[Any]) -> tuple[Column | None, str]:
    counts = Counter(word(cell) for cell in known)
    if len(counts) > LEAST_DISTINCT and len(counts) > DISTINCT * len(known):
        return None, "names or free text: most of its values differ"
    words = tuple(sorted(one for one, n in counts.most_common(MOST_WORDS) if n > 1))
    return (Column(name=name, kind=WORDS, words=words), "") if len(counts) > 1 and words else (None, "always the same")


def _learn_numbers(name: str, values: np.ndarray, kind: str) -> tuple[Column | None, str]:
    values = values[np.isfinite(values)]
    scale = float(values.std()) if len(values) else 0.0
    if not scale > 1e-12 * max(1.0, float(np.abs(values).max(initial=0.0))):
        return None, "always the same"
    steps = np.diff(values)
    if kind == NUMBER and len(values) > LEAST_DISTINCT and (steps == 1).all():
        return None, "counts the rows"
    return Column(name=name, kind=kind, median=float(np.median(values)), mean=float(values.mean()), scale=scale), ""


def _by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    return {why: [name for name, own in left_out.items() if own == why] for why in left_out.values()}


def _notes(columns: Sequence[Column], left_out: Mapping[str, str]) -> list[str]:
    of = {kind: [one.name for one in columns if one.kind == kind] for kind in (NUMBER, WORDS, DATE)}
    said = [f"as {kind}{'s' * (kind != WORDS)}: {listed(names, 20)}" for kind, names in of.items() if names]
    out = [f"left out {listed(names, 20)} ({why})" for why, names in _by_reason(left_out).items()]
    gaps = [one.name for one in columns if one.gaps]
    filled = [f"gaps in {listed(gaps, 20)} become the median, or no word, and are marked"] if gaps else []
    return [f"columns taken {'; '.join(said)}", *out, *filled]


def _one_sided(columns: Sequence[Column], names: Sequence[set[str]]) -> list[str]:
    if len(names) == 1:
        return []
    own = [one.name for one in columns if one.name not in names[1]]
    return [f"only in the target: {listed(own, 20)}; the source has its usual value there"] if own else []
