"""How far groups agree with labels that were not used to make them: adjusted Rand index and mutual information.

Hubert & Arabie 1985 (doi:10.1007/BF01908075), and mutual information as a share of the mean of both entropies.
Intervals come from resampling the items; two groupings are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.evidence.base import Score, Scores
from headstart.evidence.intervals import PERCENTILES, resamples

TITLES = {"ari": "Adjusted Rand index", "nmi": "Normalised mutual information"}
N_RESAMPLES = 500


def agreement(
    y: Sequence[Any] | np.ndarray, groupings: Mapping[str, np.ndarray], own: str, seed: int
) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """(scores of each grouping (N,) against labels y (N,), `own` minus each other), with 95 % intervals."""
    weights = np.concatenate([np.ones((1, len(y))), resamples(len(y), N_RESAMPLES, seed)])
    values = {name: indices(np.asarray(y), labels, weights) for name, labels in groupings.items()}
    scores = {name: {index: _score(found[index]) for index in TITLES} for name, found in values.items()}
    differences = {
        name: {index: _score(values[own][index] - found[index]) for index in TITLES}
        for name, found in values.items()
        if name != own
    }
    return scores, differences


def indices(y: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Both indices (B,) of two labellings (N,), for each row of weights (B, N): how often each item counts."""
    rows, columns = (np.unique(each, return_inverse=True)[1] for each in (y, labels))
    n_rows, n_columns = rows.max() + 1, columns.max() + 1
    cell = rows * n_columns + columns
    found: dict[str, list[float]] = {name: [] for name in TITLES}
    for weight in weights:
        table = np.bincount(cell, weights=weight, minlength=n_rows * n_columns).reshape(n_rows, n_columns)
        found["ari"].append(adjusted_rand(table))
        found["nmi"].append(mutual_information(table))
    return {name: np.array(values) for name, values in found.items()}


def adjusted_rand(table: np.ndarray) -> float:
    """Of a table (classes, groups) of counts: 1 is agreement, 0 is chance."""

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    both, one, other, all_ = (
        pairs(part) for part in (table, table.sum(axis=1), table.sum(axis=0), np.array([table.sum()]))
    )
    chance, most = one * other / all_, (one + other) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)


def mutual_information(table: np.ndarray) -> float:
    """Of a table (classes, groups) of counts, from 0 to 1."""
    p = table / table.sum()
    one, other = p.sum(axis=1), p.sum(axis=0)
    entropy = (_entropy(one) + _entropy(other)) / 2
    return 1.0 if entropy == 0 else (_entropy(one) + _entropy(other) - _entropy(p)) / entropy


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _score(values: np.ndarray) -> Score:
    """The value on the plain sample, and the middle of the resamples moved onto it: a resample holds an item twice,
    which agrees with itself, so that all of them lean upwards."""
    low, high = np.percentile(values[1:], PERCENTILES) - values[1:].mean() + values[0]
    return Score(float(values[0]), float(min(low, values[0])), float(max(high, values[0])))
