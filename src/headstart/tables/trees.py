"""Trees as arrays: grown by scikit-learn, walked by NumPy, added up or asked for their weighted median.

Boosting takes Newton steps (Friedman 2001, doi:10.1214/aos/1013203451; Friedman et al. 2000,
doi:10.1214/aos/1016218223).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.strategies.base import Part
from headstart.tasks.base import LinearTask

ARRAYS = ("children", "feature", "threshold", "value", "roots", "start", "weight")
ROWS = 4096  # walked at once


@dataclass(frozen=True, kw_only=True)
class Trees:
    """T trees of N nodes in all; leaves have no children (-1)."""

    children: np.ndarray  # (N, 2) int32: where to go when the value is at most the threshold, and when it is more
    feature: np.ndarray  # (N,) int32: which column is asked about
    threshold: np.ndarray  # (N,) float64
    value: np.ndarray  # (N, K) float64: what a leaf says
    roots: np.ndarray  # (T,) int32
    start: np.ndarray  # (K,) float64: what is said before any tree is asked
    weight: np.ndarray  # (T,) float64: empty where trees are added up, else their say in the weighted median

    def logits(self, features: Any) -> np.ndarray:
        """(N, K) of encoded rows (N, D)."""
        X = np.asarray(features, dtype=np.float32)  # as scikit-learn compares it
        return np.concatenate([self._said(X[i : i + ROWS]) for i in range(0, max(len(X), 1), ROWS)])

    def _said(self, X: np.ndarray) -> np.ndarray:
        leaves = self.leaves(X)  # (n, T)
        if not len(self.weight):
            return self.start + self.value[leaves].sum(axis=1)
        return _weighted_median(self.value[leaves, 0], self.weight)[:, None]

    def leaves(self, X: np.ndarray) -> np.ndarray:
        """(n, T): the node in which each row ends, tree by tree; X (n, D) float32."""
        at = np.tile(self.roots, (len(X), 1))
        rows = np.arange(len(X))[:, None]
        while (inner := self.children[at, 0] >= 0).any():
            right = X[rows, self.feature[at]] > self.threshold[at]
            at = np.where(inner, self.children[at, right.astype(np.int8)], at)
        return at

    def state(self) -> dict[str, np.ndarray]:
        """All of it, by name."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def restore(cls, state: Mapping[str, np.ndarray]) -> Trees:
        """The inverse of `state`."""
        return cls(**{name: state[name] for name in ARRAYS})


def together(
    grown: Sequence[Any], values: Sequence[np.ndarray], start: np.ndarray, weight: np.ndarray | None = None
) -> Trees:
    """Trees of scikit-learn, each with its own values (nodes, K), as arrays."""
    sizes = [tree.tree_.node_count for tree in grown]
    roots = np.cumsum([0, *sizes])[:-1].astype(np.int32)
    children = [
        np.stack([tree.tree_.children_left, tree.tree_.children_right], axis=1)
        + np.where(tree.tree_.children_left >= 0, root, 0)[:, None]
        for tree, root in zip(grown, roots, strict=True)
    ]
    empty = not grown
    return Trees(
        children=np.zeros((0, 2), np.int32) if empty else np.concatenate(children).astype(np.int32),
        feature=np.concatenate([[], *(np.maximum(t.tree_.feature, 0) for t in grown)]).astype(np.int32),
        threshold=np.concatenate([[], *(t.tree_.threshold for t in grown)]).astype(np.float64),
        value=np.zeros((0, len(start))) if empty else np.concatenate(values).astype(np.float64),
        roots=roots,
        start=np.asarray(start, dtype=np.float64),
        weight=np.zeros(0) if weight is None else np.asarray(weight, dtype=np.float64),
    )


def added(first: Trees, then: Trees) -> Trees:
    """Two sums of trees as one."""
    n = len(first.feature)
    moved = np.where(then.children >= 0, then.children + n, -1).astype(np.int32)
    return Trees(
        children=np.concatenate([first.children, moved]),
        feature=np.concatenate([first.feature, then.feature]),
        threshold=np.concatenate([first.threshold, then.threshold]),
        value=np.concatenate([first.value, then.value]),
        roots=np.concatenate([first.roots, then.roots + n]).astype(np.int32),
        start=first.start + then.start,
        weight=first.weight,
    )


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """Settings of gradient boosting."""

    n_trees: int = 40
    depth: int = 3
    rate: float = 0.15
    least: int = 5  # rows in a leaf
    ridge: float = 1.0  # what is added to the curvature of a leaf


def boost(task: LinearTask, rows: Part, settings: Boosting, seed: int, begun: Trees | None = None) -> Trees:
    """Trees that correct, one after another, what was `begun` (default: the guess that looks at no input)."""
    from sklearn.tree import DecisionTreeRegressor

    if not len(rows.y):
        return begun or together([], [], np.zeros(len(task.score_names) or 1))
    X, y = np.ascontiguousarray(rows.features, dtype=np.float32), _one_hot(task, rows.y)
    start = np.zeros(y.shape[1]) if begun else _naive(task, rows.y)
    said = begun.logits(X) if begun else np.tile(start, (len(X), 1))
    share = (y.shape[1] - 1) / y.shape[1] if task.score_names else 1.0  # K logits move, of which K - 1 are free
    rng = np.random.default_rng(seed)
    grown, values = [], []
    for _ in range(settings.n_trees if len(rows.y) >= 2 * settings.least else 0):
        step, curvature = _newton(task, y, said)
        tree = DecisionTreeRegressor(
            max_depth=settings.depth, min_samples_leaf=settings.least, random_state=int(rng.integers(2**31))
        ).fit(X, step, check_input=False)
        leaf = tree.apply(X, check_input=False)
        sums = np.zeros((2, tree.tree_.node_count, y.shape[1]))
        np.add.at(sums[0], leaf, step)
        np.add.at(sums[1], leaf, curvature)
        value = settings.rate * share * sums[0] / np.maximum(sums[1] + settings.ridge, 1e-12)
        said = said + value[leaf]
        grown.append(tree)
        values.append(value)
    own = together(grown, values, start)
    return added(begun, own) if begun else own


def _one_hot(task: LinearTask, y: np.ndarray) -> np.ndarray:
    """(n, K) of classes, or the numbers (n, 1)."""
    if not task.score_names:
        return y.astype(np.float64)[:, None]
    return np.eye(len(task.score_names))[y]


def _naive(task: LinearTask, y: np.ndarray) -> np.ndarray:
    """Logits (K,) of class frequencies, or the mean number."""
    if not task.score_names:
        return np.array([y.mean(dtype=np.float64)])
    logits = np.log(task.naive(y, 1)[0])
    return logits - logits.mean()


def _newton(task: LinearTask, y: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(what is missing, curvature) of each row and output, (n, K) each."""
    if not task.score_names:
        return y - said, np.ones_like(said)  # of half the squared error
    p = task.scores(said)
    return y - p, p * (1 - p)


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(n,): of each row's values (n, T), the least at which half of the weight (T,) is reached."""
    order = np.argsort(values, axis=1, kind="stable")
    reached = np.cumsum(weight[order], axis=1)
    at = (reached >= 0.5 * reached[:, -1:]).argmax(axis=1)
    return np.take_along_axis(values, order[np.arange(len(values)), at][:, None], axis=1)[:, 0]
