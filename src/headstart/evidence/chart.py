"""A map of all items in two dimensions, in which neighbours stay neighbours: t-SNE (van der Maaten & Hinton 2008).

Distances between far groups on it mean little, and its axes nothing.
"""

from __future__ import annotations

import numpy as np

MOST_FITTED = 2000  # items that t-SNE is run on; the others are put beside those that they are most like
PERPLEXITY = 30.0
N_NEAREST = 5


def chart(places: np.ndarray, seed: int) -> np.ndarray:
    """(N, 2) float32 of places (N, d), each axis within -1 and 1."""
    from sklearn.manifold import TSNE

    n = len(places)
    rows = np.sort(np.random.default_rng([seed, 2]).permutation(n)[:MOST_FITTED])
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(
        places[rows].astype(np.float64)
    )
    found = np.empty((n, 2), dtype=np.float32)
    rest = np.setdiff1d(np.arange(n), rows)
    found[rows] = fitted
    if len(rest):
        found[rest] = beside(places[rest], places[rows], fitted)
    found -= (found.max(axis=0) + found.min(axis=0)) / 2
    return found / max(float(np.abs(found).max()), 1e-12)


def beside(places: np.ndarray, known: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(n, 2): for each of n places, the mean position of its nearest known ones, the nearest counting most."""
    found = np.empty((len(places), 2), dtype=np.float32)
    n_nearest = min(N_NEAREST, len(known))
    for start in range(0, len(places), 1024):
        likeness = places[start : start + 1024] @ known.T
        near = np.argpartition(-likeness, n_nearest - 1, axis=1)[:, :n_nearest]
        weight = np.exp(20 * (np.take_along_axis(likeness, near, 1) - likeness.max(axis=1, keepdims=True)))
        found[start : start + 1024] = (weight[..., None] * positions[near]).sum(axis=1) / weight.sum(axis=1)[:, None]
    return found
