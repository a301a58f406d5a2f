"""Stratified folds that any number of rows allows: each class is shuffled and dealt out, one fold after another."""

from __future__ import annotations

import numpy as np


def folds(strata: np.ndarray, n_folds: int, seed: int, groups: np.ndarray | None = None) -> list[np.ndarray]:
    """Sorted positions of each fold's rows; of `strata` (n,) each fold has its share to less than two rows.

    With `groups` (n,) whole groups are dealt out instead, each as its first row's stratum.
    """
    if groups is not None:
        _, first, at = np.unique(groups, return_index=True, return_inverse=True)
        return [np.flatnonzero(np.isin(at, fold)) for fold in folds(strata[first], n_folds, seed)]
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.flatnonzero(strata == one)) for one in np.unique(strata)])
    return [np.sort(order[k::n_folds]) for k in range(min(n_folds, len(order)))]


def strata_of(y: np.ndarray, is_number: bool, n_bins: int = 5) -> np.ndarray:
    """Classes as they are; numbers as their fifth."""
    if not is_number:
        return y
    return np.argsort(np.argsort(y, kind="stable"), kind="stable") * n_bins // max(len(y), 1)
