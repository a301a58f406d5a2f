"""Groups of items: k-means, the items that stand for a group, and the words that only its texts use.

On places of unit length k-means is nearly spherical k-means (Dhillon & Modha 2001, doi:10.1023/A:1007612920971).
Keywords are those of class-based TF-IDF (Grootendorst 2022, arXiv:2203.05794).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FEW = 12  # up to so many groups, k-means is begun anew often: there it is cheap, and a poor start costs most
N_STARTS = 10  # of the final grouping
MOST_ITERATIONS = 100
CORE = 0.5  # of a group, nearest to its centre: only these may stand for it
WORD = r"(?u)\b[^\W\d_][\w'-]+\b"  # two characters or more, begun by a letter


@dataclass(frozen=True)
class Grouping:
    """N items in k groups, the largest first."""

    labels: np.ndarray  # (N,) from 0
    centres: np.ndarray  # (k, d)

    @property
    def sizes(self) -> np.ndarray:
        """(k,) items."""
        return np.bincount(self.labels, minlength=len(self.centres))

    def distances(self, places: np.ndarray) -> np.ndarray:
        """(N,) of each item to the centre of its group."""
        return np.linalg.norm(places - self.centres[self.labels], axis=1)


def k_means(places: np.ndarray, k: int, seed: int, n_starts: int | None = None) -> Any:
    """scikit-learn's k-means of places (N, d), fitted; from several starts where k is small, else from one."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    n_starts = n_starts or (5 if k <= FEW else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct places than groups
        return KMeans(k, n_init=n_starts, max_iter=MOST_ITERATIONS, random_state=seed).fit(places)


def group(places: np.ndarray, k: int, seed: int) -> Grouping:
    """The best of ten k-means, its empty groups dropped."""
    found = k_means(places, k, seed, n_starts=N_STARTS)
    sizes = np.bincount(found.labels_, minlength=k)
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    new = np.empty(k, dtype=np.int64)
    new[order] = np.arange(len(order))
    return Grouping(new[found.labels_], found.cluster_centers_[order].astype(np.float32))


def exemplars(places: np.ndarray, rows: np.ndarray, centre: np.ndarray, n: int) -> np.ndarray:
    """Up to n of the items at `rows`: the nearest to the centre, then each time the one least like those before.

    Only the half of the group that is nearest to the centre is looked at, so that none is an oddity.
    """
    order = rows[np.argsort(np.linalg.norm(places[rows] - centre, axis=1), kind="stable")]
    core = order[: max(n, int(np.ceil(CORE * len(order))))]
    chosen = [0]
    apart = np.linalg.norm(places[core] - places[core[0]], axis=1)
    while len(chosen) < min(n, len(core)):
        apart[chosen] = -1
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.linalg.norm(places[core] - places[core[chosen[-1]]], axis=1))
    return core[chosen]


def keywords(texts: Sequence[str], labels: np.ndarray, n: int) -> list[tuple[str, ...]]:
    """For each group up to n words with the highest tf(word, group) · log(1 + A / f(word)).

    f counts a word over all groups and A is the mean number of words in a group. English words that say little alone
    are left out.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    k = int(labels.max()) + 1
    joined = [" ".join(texts[row] for row in np.flatnonzero(labels == label).tolist()) for label in range(k)]
    vectorizer = CountVectorizer(token_pattern=WORD, stop_words="english")
    try:
        counts = vectorizer.fit_transform(joined).toarray().astype(np.float64)  # (k, W)
    except ValueError:  # no word at all, or none but those left out
        return [()] * k
    weights = class_tf_idf(counts)
    words = vectorizer.get_feature_names_out()
    best = np.argsort(-weights, axis=1, kind="stable")[:, :n]
    return [tuple(str(words[w]) for w in best[label] if counts[label, w] > 0) for label in range(k)]


def class_tf_idf(counts: np.ndarray) -> np.ndarray:
    """(k, W) weights of words in groups, from how often each group uses each word (k, W)."""
    return counts * np.log1p(counts.sum() / len(counts) / counts.sum(axis=0))
