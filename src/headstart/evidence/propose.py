"""Which items to label first: those that together stand for all the others (facility location).

Each choice adds most to the sum over all items of how like each is to the most like one chosen so far (Cornuéjols,
Fisher & Nemhauser 1977, doi:10.1287/mnsc.23.8.789). So every prefix of the order is itself a good choice, at
least 63 % as good as the best set of its size. benchmarks/label_few.py holds it against random choice, k-centre,
ProbCover (arXiv:2205.11320) and TypiClust (arXiv:2202.02794).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MOST_CANDIDATES = 4000  # a random part of more items: choosing looks at all pairs


def propose(places: np.ndarray, n: int, seed: int, advance: Callable[[int], None] = lambda n: None) -> np.ndarray:
    """(n,) rows of places (N, d) of unit length, the one that teaches most first."""
    candidates = np.random.default_rng([seed, 3]).permutation(len(places))[: max(MOST_CANDIDATES, n)]
    return candidates[cover(places[candidates], n, advance)]


def cover(places: np.ndarray, n: int, advance: Callable[[int], None] = lambda n: None) -> np.ndarray:
    """(n,) positions chosen one by one; likeness is the cosine, and less than none counts as none."""
    likeness = np.maximum(places @ places.T, 0)
    served = np.zeros(len(places), dtype=np.float32)  # how like each item is to the most like one chosen
    gains = likeness.sum(axis=1)  # of each candidate; once choices are made, an upper bound
    chosen: list[int] = []
    for _ in range(n):
        best = _next(likeness, served, gains)
        chosen.append(best)
        served = np.maximum(served, likeness[best])
        gains[best] = -np.inf
        advance(1)
    return np.array(chosen, dtype=np.int64)


def _next(likeness: np.ndarray, served: np.ndarray, gains: np.ndarray) -> int:
    """The candidate with the largest gain; gains only shrink, so few need to be computed anew (Minoux 1978)."""
    while True:
        top = np.argpartition(-gains, min(63, len(gains) - 1))[:64]
        new = np.maximum(likeness[top] - served, 0).sum(axis=1)
        new[np.isneginf(gains[top])] = -np.inf
        gains[top] = new
        best = int(top[new.argmax()])
        if gains[best] >= gains.max():
            return best
