"""TrAdaBoost: source rows that the target contradicts lose weight, round by round (Dai et al. 2007, ICML).

With K classes a round may err in up to (K - 1) / K of the target's weight, as in SAMME (Zhu et al. 2009,
10.4310/SII.2009.v2.n3.a8); with two that is the paper's one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from headstart.strategies.base import Part
from headstart.tables.base import Domains, TableTransfer, both
from headstart.tables.trees import Trees, together


@dataclass(frozen=True, kw_only=True)
class TrAdaBoost(TableTransfer):
    """Votes of the later half of the rounds, each a small tree."""

    title: ClassVar = "TrAdaBoost"
    tasks: ClassVar = frozenset({"classification"})
    voice: ClassVar = 0.5

    rounds: int = 20
    depth: int = 2

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Twenty rounds."""
        return [cls()]

    def learn(self, domains: Domains, begun: Any, target: Part) -> Trees:
        """Leaf values are votes: a tree's ln(1 / beta), shared among the classes as the leaf's rows are."""
        rows, n_source, n_classes = both(domains.given, target), len(domains.given.y), domains.n_outputs
        rows = Part(np.ascontiguousarray(rows.features, dtype=np.float32), rows.y)  # as the trees compare it
        weight = halves(n_source, len(target.y))
        grown, votes = [], []
        for number in range(self.rounds):
            tree, says = self._tree(rows, weight, domains.seed + number)
            wrong = says != rows.y
            error = float(np.average(wrong[n_source:], weights=weight[n_source:]))
            grown.append(tree)
            votes.append(np.log((1 - clipped(error, n_classes)) / clipped(error, n_classes)) + np.log(n_classes - 1))
            weight = reweighed(weight, wrong, n_source, self.rounds, error, n_classes)
        later = slice(self.rounds // 2, None)
        values = [_votes(tree, vote, n_classes) for tree, vote in zip(grown[later], votes[later], strict=True)]
        return together(grown[later], values, np.zeros(n_classes))

    def _tree(self, rows: Part, weight: np.ndarray, seed: int) -> tuple[Any, np.ndarray]:
        from sklearn.tree import DecisionTreeClassifier

        tree = DecisionTreeClassifier(max_depth=self.depth, random_state=seed)
        tree.fit(rows.features, rows.y, sample_weight=weight / weight.sum(), check_input=False)
        return tree, tree.predict(rows.features, check_input=False)


def halves(n_source: int, n_target: int) -> np.ndarray:
    """Weights (Ns + nt,) to begin with, which the paper leaves open: each side holds half of them.

    Were all rows alike, a small target could not make itself heard: no tree would fit it better than chance.
    """
    return np.repeat([0.5 / n_source, 0.5 / max(n_target, 1)], [n_source, n_target])


def clipped(error: float, n_classes: int) -> float:
    """An error that leaves a finite vote that is no less than none."""
    return min(max(error, 1e-3), (n_classes - 1) / n_classes - 1e-3)


def reweighed(
    weight: np.ndarray, wrong: np.ndarray, n_source: int, rounds: int, error: float, n_classes: int = 2
) -> np.ndarray:
    """Weights (Ns + nt,) of the next round, adding up to 1.

    A wrong source row loses by 1 / (1 + sqrt(2 ln Ns / rounds)), a wrong target row gains by the odds of its round.
    """
    error = clipped(error, n_classes)
    fall = 1.0 / (1.0 + np.sqrt(2.0 * np.log(n_source) / rounds))
    rise = (1.0 - error) / error * (n_classes - 1)
    factor = np.concatenate([np.where(wrong[:n_source], fall, 1.0), np.where(wrong[n_source:], rise, 1.0)])
    return np.asarray(weight * factor / (weight * factor).sum())


def _votes(tree: Any, vote: float, n_classes: int) -> np.ndarray:
    """(nodes, K): the vote, shared among the classes as the node's rows are, centred."""
    shares = tree.tree_.value[:, 0]
    values = np.zeros((len(shares), n_classes))
    values[:, tree.classes_] = vote * shares / shares.sum(axis=1, keepdims=True)
    return np.asarray(values - values.mean(axis=1, keepdims=True))
