"""The target's labelled rows alone: what every transfer must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from headstart.strategies.base import Part
from headstart.tables.base import STRENGTHS, Domains, Learnt, TableTransfer
from headstart.tables.linear import solve
from headstart.tables.trees import Boosting, boost


@dataclass(frozen=True, kw_only=True)
class TargetOnly(TableTransfer):
    """A linear model of some strength, or boosted trees where that is None."""

    title: ClassVar = "target only"
    needs_source: ClassVar = False
    voice: ClassVar = 2.0

    strength: float | None

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Linear at each strength, and trees."""
        return [*(cls(strength=strength) for strength in STRENGTHS), cls(strength=None)]

    def learn(self, domains: Domains, begun: Any, target: Part) -> Learnt:
        """The source is not looked at."""
        if self.strength is None:
            return boost(domains.task, target, Boosting(), domains.seed)
        return solve(domains.task, target, self.strength)
