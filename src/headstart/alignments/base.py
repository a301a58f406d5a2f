"""An alignment brings labelled source features and unlabelled target features together, by arrays alone.

What ships is a linear head on raw target features, so that prediction needs neither a library nor the source: what an
alignment does to the target must be an affine map, which folds into the head. What it does to the source is free.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from headstart.strategies.base import Part


@dataclass(frozen=True)
class Affine:
    """x -> x @ matrix + offset, from D columns to d."""

    matrix: np.ndarray  # (D, d)
    offset: np.ndarray  # (d,)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, D) -> (n, d)."""
        return np.asarray(features @ self.matrix + self.offset)

    @classmethod
    def same(cls, width: int) -> Affine:
        """What leaves features of D columns as they are."""
        return cls(np.eye(width), np.zeros(width))


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Where source and target meet: a space of d columns, and how either comes to it."""

    source: Callable[[np.ndarray], np.ndarray]  # any source rows (n, D) -> (n, d), those that are held out as well
    target: Affine  # target rows (n, D) -> (n, d)
    weights: np.ndarray | None = None  # (N_s,) how much each source row counts, with mean 1; None is all the same
    lesson: Part | None = None  # rows (R, d) to learn from in place of the source's own


@dataclass(frozen=True, kw_only=True)
class Alignment(ABC):
    """Settings of one way to align. One public subclass a file, named after the file."""

    title: ClassVar[str]  # for people: "CORAL"

    @abstractmethod
    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """Align source (N_s, D) with its y, and target (N_t, D), both float64 in columns of like scale."""

    def settings(self) -> dict[str, Any]:
        """What makes this alignment again, as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """All that can be seen of a candidate without a target label, in the space that its head reads."""

    train: np.ndarray  # (n, d) source examples that it learnt from
    y_train: np.ndarray  # (n,) class indices
    val: np.ndarray  # (m, d) source examples that were held out
    y_val: np.ndarray  # (m,)
    val_probabilities: np.ndarray  # (m, K)
    target: np.ndarray  # (t, d) target examples
    target_probabilities: np.ndarray  # (t, K)
