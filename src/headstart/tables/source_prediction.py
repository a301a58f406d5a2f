"""What the source's model says, as one more column (Daumé & Marcu 2006, arXiv:1109.6341, "PRED")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from headstart.strategies.base import Part
from headstart.tables.base import STRENGTHS, Domains, Learnt, TableTransfer
from headstart.tables.linear import solve
from headstart.tasks.base import LinearHead

SOURCE_STRENGTH = 0.1
LOOSE = 5.0  # standard deviations of the new columns: the prior hardly holds them


@dataclass(frozen=True, kw_only=True)
class SourcePrediction(TableTransfer):
    """A linear model of the target's rows and the source model's logits, which is one linear model again."""

    title: ClassVar = "source prediction as a column"
    voice: ClassVar = 2.0

    strength: float

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Each strength, and one so strong that little but the source's prediction is left."""
        return [cls(strength=strength) for strength in (0.001, *STRENGTHS)]

    def begin(self, domains: Domains) -> LinearHead:
        """The source's model, its logits centred and scaled as they are on the target's rows."""
        head = solve(domains.task, domains.given, SOURCE_STRENGTH)
        said = head.logits(domains.target)
        scale = said.std(axis=0) / LOOSE
        scale = np.where(scale > 1e-9, scale, 1.0)
        return LinearHead(head.weight / scale[:, None], (head.bias - said.mean(axis=0)) / scale)

    def learn(self, domains: Domains, begun: LinearHead, target: Part) -> Learnt:
        """Weights of the columns, and of the source's logits, which stand for columns themselves."""
        said = begun.logits(target.features)
        head = solve(domains.task, Part(np.hstack([target.features, said]), target.y), self.strength)
        width = target.features.shape[1]
        own, over = head.weight[:, :width], head.weight[:, width:]
        return LinearHead(
            (own + over @ begun.weight).astype(np.float32), (head.bias + over @ begun.bias).astype(np.float32)
        )
