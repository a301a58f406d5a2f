"""Items that stand alone, and items that are nearly the same as another.

An outlier is farther from its tenth neighbour (Ramaswamy, Rastogi & Shim 2000, doi:10.1145/342009.335437), next to what
is usual, than all but one in a hundred items would be if each group were a Gaussian cloud: the threshold is simulated
from such clouds. What is usual is the median, for real items lie closer together than those of clouds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headstart.evidence.groups import Grouping
from headstart.evidence.space import unit

K = 10  # neighbour
SHARE = 0.01  # of the items of Gaussian clouds that lie beyond the threshold
ALIKE = 0.95  # cosine of centred features from which two items are nearly the same
MOST_REFERENCES = 20_000  # items among which neighbours are looked for
BLOCK = 1024  # rows of distances at a time


def isolation(places: np.ndarray, seed: int) -> np.ndarray:
    """(N,) distance of each item to its tenth neighbour over the median of all; among a random 20,000 of more items."""
    n = len(places)
    rows = np.random.default_rng(seed).permutation(n)[:MOST_REFERENCES] if n > MOST_REFERENCES else np.arange(n)
    others = places[rows]
    lengths, k = (others**2).sum(axis=1), min(K, n - 1)
    found = np.empty(n, dtype=np.float32)
    for start in range(0, n, BLOCK):
        block = places[start : start + BLOCK]
        squares = (block**2).sum(axis=1)[:, None] + lengths - 2 * block @ others.T
        found[start : start + BLOCK] = np.partition(squares, k, axis=1)[:, k]  # the item itself is the first
    distances = np.sqrt(np.maximum(found, 0))
    return distances / max(float(np.median(distances)), 1e-12)


def threshold(places: np.ndarray, grouping: Grouping, seed: int, share: float = SHARE) -> float:
    """The isolation that this share of N items would exceed, were each group a Gaussian cloud.

    The clouds have the sizes, centres and spreads of the groups, and the shape that the groups have in common.
    """
    rest = places - grouping.centres[grouping.labels]
    spread = np.sqrt(_group_means((rest**2).sum(axis=1), grouping)) + 1e-12  # (k,)
    rest = rest / spread[grouping.labels, None]
    values, vectors = np.linalg.eigh(np.cov(rest.T).reshape(rest.shape[1], -1))
    root = vectors * np.sqrt(np.maximum(values, 0))
    rng = np.random.default_rng([seed, 1])
    drawn = rng.standard_normal(places.shape) @ root.T * spread[grouping.labels, None]
    cloud = (grouping.centres[grouping.labels] + drawn).astype(np.float32)
    return float(np.quantile(isolation(cloud, seed), 1 - share))


def _group_means(values: np.ndarray, grouping: Grouping) -> np.ndarray:
    return np.bincount(grouping.labels, weights=values, minlength=len(grouping.centres)) / grouping.sizes


def near_duplicates(features: np.ndarray, alike: float = ALIKE) -> np.ndarray:
    """(N,) the first item that each is nearly the same as, -1 for none.

    Alike are features (N, D) of unit length, less their mean, whose cosine is at least `alike`. The first item of its
    kind is no copy, and what is like a copy only is none: so nothing is called the same by way of others.
    """
    rows = unit(features)
    rows = unit(rows - rows.mean(axis=0))
    first = np.full(len(rows), -1)
    for row, earlier in _alike(rows, alike):
        originals = earlier[first[earlier] < 0]
        if len(originals):
            first[row] = originals[0]
    return first


def _alike(rows: np.ndarray, alike: float) -> Iterator[tuple[int, np.ndarray]]:
    """(row, earlier rows that are alike), in order, for rows that have any."""
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK] @ rows[: start + BLOCK].T
        for i in np.flatnonzero((np.tril(block, start - 1) >= alike).any(axis=1)):
            yield start + int(i), np.flatnonzero(block[i, : start + i] >= alike)
