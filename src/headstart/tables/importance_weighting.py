"""Source rows that look like the target's count more (Shimodaira 2000, doi:10.1016/S0378-3758(00)00115-4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from headstart.strategies.base import Part
from headstart.tables.base import STRENGTHS, Domains, Learnt, TableTransfer, both
from headstart.tables.density import importance
from headstart.tables.linear import solve


@dataclass(frozen=True, kw_only=True)
class ImportanceWeighting(TableTransfer):
    """A linear model of weighted source rows and the target's labelled ones."""

    title: ClassVar = "importance weighting"
    needs_labels: ClassVar = False
    voice: ClassVar = 0.5

    strength: float

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Each strength."""
        return [cls(strength=strength) for strength in STRENGTHS]

    def begin(self, domains: Domains) -> np.ndarray:
        """Weights (Ns,) of the source's rows."""
        return importance(domains)

    def learn(self, domains: Domains, begun: np.ndarray, target: Part) -> Learnt:
        """The target's own rows have weight 1."""
        weight = np.concatenate([begun, np.ones(len(target.y))])
        return solve(domains.task, both(domains.given, target), self.strength, weight)
