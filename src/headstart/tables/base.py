"""A way to learn a target table from a source table: what does not need the target's labels first, and once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from headstart.strategies.base import Part
from headstart.tasks.base import LinearTask

STRENGTHS = (0.01, 0.1, 1.0)  # variance of the prior of a standardised column's weight: scikit-learn's C


class Learnt(Protocol):
    """What was learnt, as arrays."""

    def logits(self, features: Any) -> np.ndarray:
        """(N, K) of encoded rows (N, D)."""


@dataclass(frozen=True, kw_only=True)
class Domains:
    """Encoded rows of both domains, without the target's labels."""

    task: LinearTask
    target: np.ndarray  # (M, D): every row of the target that may be looked at, labelled or not
    source: Part | None = None  # (Ns, D) and its labels
    seed: int = 0

    @property
    def given(self) -> Part:
        """The labelled source rows; for ways that need them."""
        assert self.source is not None, "the planner asks only ways that can do without"
        return self.source

    @property
    def n_outputs(self) -> int:
        """K: classes, or 1 for a number."""
        return len(self.task.score_names) or 1


@dataclass(frozen=True, kw_only=True)
class TableTransfer(ABC):
    """Settings of one way to learn. One public subclass a file, named after the file."""

    title: ClassVar[str]  # for people: "pooled"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})
    needs_source: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True  # of the target
    voice: ClassVar[float] = (
        1.0  # before any label is seen: 2 where the target corrects the source, 1/2 where it varies
    )

    @classmethod
    @abstractmethod
    def variants(cls) -> Sequence[Self]:
        """The settings to try; cross-validation weighs them."""

    def begin(self, domains: Domains) -> Any:
        """What the target's labels have no part in: done once, whatever the fold."""
        return None

    @abstractmethod
    def learn(self, domains: Domains, begun: Any, target: Part) -> Learnt:
        """The model, from what was begun and labelled target rows (n, D); n may be 0 unless `needs_labels`."""

    def settings(self) -> dict[str, Any]:
        """What makes this way again, as plain JSON values."""
        return asdict(self)


def both(source: Part, target: Part) -> Part:
    """Source rows, then target rows."""
    return Part(np.concatenate([source.features, target.features]), np.concatenate([source.y, target.y]))
