"""Two-stage TrAdaBoost.R2, for numbers (Pardoe & Stone 2010, ICML).

Stage one takes weight off source rows with large errors, step by step, until the target's rows hold all of it; each
step's weights are frozen and AdaBoost.R2 (Drucker 1997) grown on them, and the step with the least cross-validated
error on the target is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from headstart.strategies.base import Part
from headstart.tables.base import Domains, TableTransfer, both
from headstart.tables.folds import folds
from headstart.tables.trees import Trees, together


@dataclass(frozen=True, kw_only=True)
class TrAdaBoostR2(TableTransfer):
    """The weighted median of small trees."""

    title: ClassVar = "two-stage TrAdaBoost.R2"
    tasks: ClassVar = frozenset({"regression"})

    steps: int = 5
    rounds: int = 8
    depth: int = 4
    n_folds: int = 3

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Five steps of eight rounds."""
        return [cls()]

    def learn(self, domains: Domains, begun: Any, target: Part) -> Trees:
        """The step whose target rows are predicted best when they are held out."""
        rows, n_source = both(domains.given, target), len(domains.given.y)
        rng = np.random.default_rng(domains.seed)
        weight = np.full(len(rows.y), 1.0 / len(rows.y))
        best = (np.inf, weight)
        for step in range(self.steps):
            error = self._held_out(rows, n_source, weight, rng)
            best = min(best, (error, weight), key=lambda one: one[0])
            off = _relative(self._grow(rows, weight, rng), rows)
            weight = lowered(weight, off, n_source, share(step, self.steps, n_source, len(target.y)))
        return self._boost(rows, best[1], rng, n_source)

    def _held_out(self, rows: Part, n_source: int, weight: np.ndarray, rng: np.random.Generator) -> float:
        """Mean squared error of the target's rows, each predicted by trees that did not see it."""
        n_target = len(rows.y) - n_source
        if n_target < self.n_folds:
            return 0.0  # too few to choose by: the first step, in which all rows count alike
        total = 0.0
        for held in folds(np.zeros(n_target, dtype=int), self.n_folds, int(rng.integers(2**31))):
            kept = np.setdiff1d(np.arange(len(rows.y)), n_source + held)
            trees = self._boost(Part(rows.features[kept], rows.y[kept]), weight[kept], rng, n_source)
            total += ((trees.logits(rows.features[n_source + held])[:, 0] - rows.y[n_source + held]) ** 2).sum()
        return float(total / n_target)

    def _boost(self, rows: Part, weight: np.ndarray, rng: np.random.Generator, n_source: int) -> Trees:
        """AdaBoost.R2 in which the source's weights stay as they are."""
        weight = weight / weight.sum()
        grown, votes = [], []
        for _ in range(self.rounds):
            tree = self._grow(rows, weight, rng)
            off = _relative(tree, rows)
            error = float(np.average(off, weights=weight))
            grown.append(tree)
            beta = max(error, 1e-3) / (1 - min(error, 0.999))
            votes.append(np.log(1 / min(beta, 0.999)))
            if error >= 0.5 or error <= 0:
                break
            weight = _raised(weight, off, n_source, beta)
        values = [tree.tree_.value[:, 0] for tree in grown]
        return together(grown, values, np.zeros(1), np.array(votes))

    def _grow(self, rows: Part, weight: np.ndarray, rng: np.random.Generator) -> Any:
        from sklearn.tree import DecisionTreeRegressor

        tree = DecisionTreeRegressor(max_depth=self.depth, min_samples_leaf=2, random_state=int(rng.integers(2**31)))
        return tree.fit(rows.features, rows.y, sample_weight=weight)


def _relative(tree: Any, rows: Part) -> np.ndarray:
    """Absolute errors (n,) as shares of the largest."""
    off = np.abs(tree.predict(rows.features) - rows.y)
    return np.asarray(off / max(float(off.max()), 1e-12))


def share(step: int, steps: int, n_source: int, n_target: int) -> float:
    """Of all weight, what the target's rows hold after so many steps: from their own share to all of it."""
    own = n_target / (n_source + n_target)
    return own + min((step + 1) / max(steps - 1, 1), 1.0) * (1 - own)


def lowered(weight: np.ndarray, off: np.ndarray, n_source: int, held: float) -> np.ndarray:
    """Weights (n,), adding up to 1, of which the target's rows hold `held`: source rows fall by beta ** error.

    beta is found by bisection; where even beta = 0 leaves the source too much (rows without error), it is scaled.
    """
    own = weight[n_source:].sum()
    wanted = own * (1 - held) / held if held > 0 else 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        beta = (low + high) / 2
        left = (weight[:n_source] * beta ** off[:n_source]).sum()
        low, high = (beta, high) if left < wanted else (low, beta)
    fallen = weight[:n_source] * max(high, 1e-12) ** off[:n_source]
    fallen *= min(1.0, wanted / max(fallen.sum(), 1e-300))
    found = np.concatenate([fallen, weight[n_source:]])
    return np.asarray(found / found.sum())


def _raised(weight: np.ndarray, off: np.ndarray, n_source: int, beta: float) -> np.ndarray:
    """The target's rows change by beta ** (1 - error) and keep their sum; the source's stay."""
    own = weight[n_source:]
    raised = own * beta ** (1 - off[n_source:])
    raised *= own.sum() / max(raised.sum(), 1e-300)
    return np.concatenate([weight[:n_source], raised])
