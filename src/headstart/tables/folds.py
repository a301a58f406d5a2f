"""Stratified folds that any number of rows allows: each class is shuffled and dealt out, one fold after another."""

from __future__ import annotations

import numpy as np


def folds(strata: np.ndarray, n_folds: int, seed: int) -> list[np.ndarray]:
    """Sorted positions of each fold's rows; of `strata` (n,) each fold has its share to less than two rows."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.flatnonzero(strata == one)) for one in np.unique(strata)])
    return [np.sort(order[k::n_folds]) for k in range(min(n_folds, len(order)))]


def strata_of(y: np.ndarray, is_number: bool, n_bins: int = 5) -> np.ndarray:
    """Classes as they are; numbers as their fifth."""
    if not is_number:
        return y
    return np.argsort(np.argsort(y, kind="stable"), kind="stable") * n_bins // max(len(y), 1)
