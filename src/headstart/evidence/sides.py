"""How two tables differ, column by column and as wholes: what a report shows of a source and a target."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.evidence.base import Score


@dataclass(frozen=True, kw_only=True)
class ColumnSides:
    """One column on both sides."""

    name: str
    kind: str  # "number", "date", "words"; "" where it is left out
    left_out: str  # why; "" where it is learnt from
    missing: tuple[float, ...]  # share of cells that are missing: the target's, the source's
    shift: float | None  # 0 none; numbers: difference of means in standard deviations; words: total variation, 0 … 1


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Target and source, or the target alone."""

    columns: tuple[ColumnSides, ...]
    n_target: int  # rows, labelled or not
    n_source: int  # labelled rows; 0 without a source
    apart: Score | None  # ROC AUC at which a classifier tells the sides apart: 0.5 is not at all
