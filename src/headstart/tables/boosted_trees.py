"""Boosted trees that are begun on the source and continued on the target (Friedman 2001)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from headstart.strategies.base import Part
from headstart.tables.base import Domains, TableTransfer
from headstart.tables.trees import Boosting, Trees, boost


@dataclass(frozen=True, kw_only=True)
class BoostedTrees(TableTransfer):
    """So many trees on the target after those on the source."""

    title: ClassVar = "boosted trees, begun on the source"
    voice: ClassVar = 0.5

    then: int

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """A few small steps, or many."""
        return [cls(then=then) for then in (10, 40)]

    def begin(self, domains: Domains) -> Trees:
        """The source's trees."""
        return boost(domains.task, domains.given, Boosting(), domains.seed)

    def learn(self, domains: Domains, begun: Trees, target: Part) -> Trees:
        """Shallower trees, which correct the source's on the target's rows."""
        return boost(domains.task, target, Boosting(n_trees=self.then, depth=2), domains.seed, begun)
