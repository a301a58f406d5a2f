"""How far the two tables are apart: column by column, and by how well a classifier tells their rows apart.

The classifier's held-out ROC AUC stands for the proxy A-distance (Ben-David et al. 2007, NeurIPS): 0.5 is no gap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.evidence.base import Score
from headstart.evidence.intervals import resamples, score
from headstart.evidence.sides import ColumnSides, Sides
from headstart.modalities.tabular import Row
from headstart.tables.density import domain_logits
from headstart.tables.encoder import WORDS, Column, Encoder, numbers, word
from headstart.tables.folds import folds
from headstart.tasks.classification import Classification

N_RESAMPLES, N_FOLDS = 500, 5
LEAST_ROWS = 10  # on each side, to tell them apart at all


def look(encoder: Encoder, target: Sequence[Row], source: Sequence[Row] | None, seed: int) -> Sides:
    """The columns of both sides, and the gap between them."""
    sides = [target] if source is None else [target, source]
    names = sorted(set().union(*(row for side in sides for row in side)))
    known = {column.name: column for column in encoder.columns}
    columns = [_column(name, known.get(name), encoder.left_out.get(name, ""), sides) for name in names]
    apart = None if source is None else _apart(encoder.encode(target), encoder.encode(source), seed)
    return Sides(columns=tuple(columns), n_target=len(target), n_source=len(source or ()), apart=apart)


def _column(name: str, column: Column | None, why: str, sides: Sequence[Sequence[Row]]) -> ColumnSides:
    cells = [[row.get(name) for row in side] for side in sides]
    return ColumnSides(
        name=name,
        kind=column.kind if column else "",
        left_out=why,
        missing=tuple(float(np.mean([cell is None for cell in side])) if side else 1.0 for side in cells),
        shift=_shift(column, *cells) if column and len(cells) == 2 else None,
    )


def _shift(column: Column, target: Sequence[object], source: Sequence[object]) -> float | None:
    """Of what is there; None where a side has nothing."""
    if column.kind == WORDS:
        counts = [_shares([word(cell) for cell in side if cell is not None]) for side in (target, source)]
        if not all(counts):
            return None
        every = set(counts[0]) | set(counts[1])
        return 0.5 * sum(abs(counts[0].get(name, 0.0) - counts[1].get(name, 0.0)) for name in every)
    values = [numbers(side, column.kind) for side in (target, source)]
    values = [side[np.isfinite(side)] for side in values]
    if not all(len(side) for side in values):
        return None
    spread = np.sqrt(np.mean([side.var() for side in values])) or column.scale
    return float(abs(values[0].mean() - values[1].mean()) / spread)


def _shares(names: Sequence[str]) -> dict[str, float]:
    return {name: names.count(name) / len(names) for name in set(names)}


def _apart(target: np.ndarray, source: np.ndarray, seed: int) -> Score | None:
    if min(len(target), len(source)) < LEAST_ROWS:
        return None
    X, side = np.concatenate([source, target]), np.repeat([0, 1], [len(source), len(target)])
    logits = np.empty(len(X))
    for held in folds(side, N_FOLDS, seed):
        kept = np.setdiff1d(np.arange(len(X)), held)
        logits[held] = domain_logits(X[kept][side[kept] == 0], X[kept][side[kept] == 1], X[held])
    task = Classification(class_names=("source", "target"), positive="target")
    auc = next(metric for metric in task.metrics() if metric.name == "roc_auc")
    scores = task.scores(np.stack([-logits, logits], axis=1) / 2)
    return score([auc], side, scores, resamples(len(side), N_RESAMPLES, seed)).get("roc_auc")
