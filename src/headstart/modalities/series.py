"""Stretches of series: a forecast is made from the values up to an origin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from headstart.data.raw import is_missing
from headstart.data.stretches import Stretch
from headstart.errors import DataError
from headstart.modalities.base import ClassicalFeatures, Examined, Modality, Preview

MOST_SHOWN = 6  # values in a short name
LINES = "▁▂▃▄▅▆▇█"  # what a stretch is drawn with
WIDTH = 60  # columns of that drawing


class Series(Modality):
    """An item is a `Stretch`; `store` writes it as a mapping of `values` and `season`, and both forms are taken.

    Series come from a `Panel` (headstart.data.read_panel), never from a column of items.
    """

    noun: ClassVar = ("series", "series")
    suffixes: ClassVar = frozenset()
    column_names: ClassVar = ("series",)
    default_backbone: ClassVar = "fracast-0"

    def recognises(self, values: Sequence[Any], folder: str | None) -> bool:
        """Stretches only, which no table holds: what the cells of a table are is for the reader of panels."""
        return bool(values) and all(isinstance(one, Stretch) for one in values)

    def store(self, value: Any, folder: str | None) -> dict[str, Any]:
        """A stretch, such a mapping, or numbers (T,) as a mapping; nothing at all is a stretch of no steps."""
        one = Stretch(np.zeros(0)) if is_missing(value) else _stretch(value)
        if one is None:
            raise DataError(
                f"A series is an array (T,) of numbers, NaN where one is missing, or a Stretch of them; "
                f"this is a {type(value).__name__}."
            )
        return {"values": one.values.tolist(), "season": one.season}

    def arrow_feature(self) -> Any:
        """A struct of the numbers and the season."""
        from datasets import Value

        return {"values": [Value("float64")], "season": Value("int64")}

    def example(self) -> Stretch:
        """Eight weeks of days that differ by the day of the week alone."""
        return Stretch(np.tile(np.arange(7.0), 8), 7)

    def examine(self, item: Any) -> Examined:
        """Equal values with an equal season have equal digests."""
        one = _stretch(item) if isinstance(item, Stretch | Mapping) else None
        if one is None:
            return Examined("", f"not a series but a {type(item).__name__}")
        values = np.where(np.isnan(one.values), np.nan, one.values)  # there is more than one NaN
        digest = hashlib.sha256(values.tobytes() + f"season {one.season}".encode()).hexdigest()
        if np.isinf(values).any():
            return Examined(digest, "holds infinite values")
        return Examined(digest, None if np.isfinite(values).any() else "empty series: it has no value")

    def open(self, item: Any, detail: int | None = None) -> Stretch:
        """The stretch itself, with its last `detail` steps only where that is given."""
        one = _stretch(item)
        assert one is not None, f"not a stored series: {type(item).__name__}"
        return one if detail is None else Stretch(one.values[-detail:], one.season)

    def preview(self, item: Any) -> Preview:
        """Length, range and a drawing of a line of blocks."""
        return Preview(text=f"{self.describe(item)} {_drawn(self.open(item).values)}".strip())

    def describe(self, item: Any) -> str:
        """How many steps, and the last values."""
        values = self.open(item).values
        last = ", ".join("missing" if np.isnan(one) else f"{one:.4g}" for one in values[-MOST_SHOWN:])
        return f"{len(values):,} steps" + (f" that end in {last}" if last else "")

    def classical_features(self) -> Sequence[ClassicalFeatures]:
        """None: the classical models of series are `headstart.forecasters`."""
        return ()


def _stretch(value: Any) -> Stretch | None:
    """A stretch, a mapping of its fields or numbers (T,) as a stretch; None for anything else."""
    if isinstance(value, Stretch):
        return value
    is_mapping = isinstance(value, Mapping)
    if is_mapping and set(value) != {"values", "season"}:
        return None
    try:
        values = np.asarray(value["values"] if is_mapping else value, dtype=np.float64)
        return Stretch(values, int(value["season"]) if is_mapping else 1) if values.ndim == 1 else None
    except (TypeError, ValueError):
        return None


def _drawn(values: np.ndarray) -> str:
    """One block a column for the mean of its share of the steps; a space where all of them are missing."""
    if not np.isfinite(values).any():
        return ""
    parts = [part[np.isfinite(part)] for part in np.array_split(values, min(WIDTH, len(values)))]
    means = np.array([part.mean() if len(part) else np.nan for part in parts])
    low, span = np.nanmin(means), np.nanmax(means) - np.nanmin(means)
    heights = (means - low) / (span or 1.0) * (len(LINES) - 1)
    return "".join(" " if np.isnan(one) else LINES[round(one)] for one in heights)
