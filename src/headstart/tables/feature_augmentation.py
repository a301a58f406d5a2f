"""Every column three times: shared, the source's own, the target's own (Daumé 2007, arXiv:0907.1815).

A linear model of these has a shared part and a correction for each side, both held near zero by the same prior; what
predicts on the target is the sum of two of them, one linear model again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from headstart.strategies.base import Part
from headstart.tables.base import STRENGTHS, Domains, Learnt, TableTransfer
from headstart.tables.linear import solve
from headstart.tasks.base import LinearHead


@dataclass(frozen=True, kw_only=True)
class FeatureAugmentation(TableTransfer):
    """A linear model of shared and own columns; a constant is among the own ones."""

    title: ClassVar = "feature augmentation"
    voice: ClassVar = 2.0

    strength: float

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Each strength."""
        return [cls(strength=strength) for strength in STRENGTHS]

    def learn(self, domains: Domains, begun: Any, target: Part) -> Learnt:
        """The shared weights and the target's own, added up."""
        rows = np.concatenate([augmented(domains.given.features, 0), augmented(target.features, 1)])
        y = np.concatenate([domains.given.y, target.y])
        head = solve(domains.task, Part(rows, y), self.strength)
        width = target.features.shape[1]
        shared, own = head.weight[:, :width], head.weight[:, 2 * width + 1 :]
        return LinearHead(shared + own[:, :width], head.bias + own[:, width])


def augmented(rows: np.ndarray, side: int) -> np.ndarray:
    """(n, 3D + 2): the rows (n, D), then with a constant in the source's place (side 0) or the target's (1)."""
    own = np.hstack([rows, np.ones((len(rows), 1))])
    blank = np.zeros_like(own)
    return np.hstack([rows, *((own, blank) if side == 0 else (blank, own))])
