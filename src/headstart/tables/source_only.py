"""The source's rows alone, as if the target had no labels: what happens without adapting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from headstart.strategies.base import Part
from headstart.tables.base import STRENGTHS, Domains, Learnt, TableTransfer
from headstart.tables.linear import solve
from headstart.tables.trees import Boosting, boost


@dataclass(frozen=True, kw_only=True)
class SourceOnly(TableTransfer):
    """A linear model of some strength, or boosted trees where that is None."""

    title: ClassVar = "source only"
    needs_labels: ClassVar = False

    strength: float | None

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Linear at each strength, and trees."""
        return [*(cls(strength=strength) for strength in STRENGTHS), cls(strength=None)]

    def begin(self, domains: Domains) -> Learnt:
        """All of it."""
        if self.strength is None:
            return boost(domains.task, domains.given, Boosting(), domains.seed)
        return solve(domains.task, domains.given, self.strength)

    def learn(self, domains: Domains, begun: Learnt, target: Part) -> Learnt:
        """What was begun."""
        return begun
