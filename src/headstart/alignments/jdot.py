"""Joint distribution optimal transport (Courty et al. 2017, arXiv:1705.08848): a classifier for the target itself.

By turns, optimal transport carries labels to the target where features are near and the classifier's loss is small,
and a classifier learns from the labels that came. skada has it for any classifier; here it is our own solver's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.errors import MissingExtraError
from headstart.strategies.base import Part
from headstart.strategies.probe import standardised
from headstart.tasks import logistic
from headstart.tasks.linear import mean_squared_length

SETTLED = 1e-5  # change of the transport's cost in a turn that is the last


@dataclass(frozen=True, kw_only=True)
class Jdot(Alignment):
    """Learn from target examples, with the labels that optimal transport brings."""

    title: ClassVar = "joint distribution optimal transport"

    label_share: float = 0.5  # of the label's loss in the cost of transport, against the squared distance
    c_times_row: float = 1.0  # of the classifiers on the way; validation chooses that of the last
    turns: int = 10  # at most

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """Both as they are; the lesson is target examples with soft labels. MissingExtraError without POT."""
        same = Affine.same(target.shape[1])
        classes, y = np.unique(source.y, return_inverse=True)
        mass = self.carried(source.features, y, target)
        rows, columns = np.nonzero(mass > 1e-6 * mass.max())
        lesson = Part(target[rows], classes[columns], mass[rows, columns] / mass[rows, columns].mean())
        return Aligned(source=same, target=same, lesson=lesson)

    def carried(self, source: np.ndarray, y: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Labels (N_t, K) that the last plan brings to each target example; y holds 0 … K-1, rows sum to 1."""
        try:
            import ot
        except ImportError:
            raise MissingExtraError("ot", "align") from None
        distance = ot.dist(source, target)
        distance = (1 - self.label_share) * distance / distance.mean()
        n_classes = int(y.max()) + 1
        one_hot = np.eye(n_classes)[y]
        learner = _Learner.of(target, self.c_times_row)
        cost, last = distance, np.inf
        mass = np.empty((len(target), n_classes))
        for _ in range(self.turns):
            plan, log = ot.emd(np.empty(0), np.empty(0), cost, numItermax=1_000_000, log=True)
            mass = plan.T @ one_hot * len(target)
            if abs(last - log["cost"]) < SETTLED:
                break
            last = log["cost"]
            cost = distance + self.label_share * learner.losses(mass)[y]
        return mass


@dataclass(frozen=True)
class _Learner:
    """Logistic regression on the target's soft labels; the features are rotated once for all turns."""

    features: np.ndarray  # (N_t, D) standardised float32
    rotated: logistic.Rotated
    penalty: float

    @classmethod
    def of(cls, target: np.ndarray, c_times_row: float) -> _Learner:
        features, _ = standardised(target.astype(np.float32))
        return cls(features, logistic.Rotated.of(features), mean_squared_length(features) / c_times_row)

    def losses(self, mass: np.ndarray) -> np.ndarray:
        """Cross-entropy (K, N_t) of each target example with each label, once learnt from mass (N_t, K)."""
        rows, labels = np.nonzero(mass > 1e-6 * mass.max())
        rotated = logistic.Rotated(self.rotated.x[rows], self.rotated.mean, self.rotated.basis)
        (weight, bias), *_ = logistic.path(rotated, labels, [self.penalty], mass[rows, labels])
        logits = (self.features @ weight.T + bias).astype(np.float64)
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return np.asarray(np.logaddexp.reduce(logits, axis=1) - logits.T)
