"""Both sides as one table, the target's rows as they are or counting as much together as the source's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from headstart.strategies.base import Part
from headstart.tables.base import STRENGTHS, Domains, Learnt, TableTransfer, both
from headstart.tables.linear import solve


@dataclass(frozen=True, kw_only=True)
class Pooled(TableTransfer):
    """A linear model of both."""

    title: ClassVar = "pooled"

    strength: float
    even: bool  # whether the target's rows count as much together as the source's, but no row more than ten

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Each strength, with rows as they are and evened out."""
        return [cls(strength=strength, even=even) for strength in STRENGTHS for even in (False, True)]

    def learn(self, domains: Domains, begun: Any, target: Part) -> Learnt:
        """One model of all rows."""
        n_source, n_target = len(domains.given.y), len(target.y)
        each = np.clip(n_source / max(n_target, 1), 1.0, 10.0) if self.even else 1.0
        weight = np.concatenate([np.ones(n_source), np.full(n_target, each)])
        return solve(domains.task, both(domains.given, target), self.strength, weight)
