"""A strategy is what learns: where it cuts the backbone, what it trains, which loss it adds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.tasks.base import LinearHead, Task


@dataclass(frozen=True)
class Part:
    """One split as a strategy sees it: features of the last frozen stage, and labels."""

    features: Any  # (N, D) float32 array, or a sparse matrix for classical features
    y: np.ndarray


@dataclass(frozen=True)
class Adapted:
    """What a strategy learnt."""

    head: LinearHead
    strength: float  # regularisation strength that validation chose
    val_loss: float  # mean loss on validation at that strength


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """Settings of one way to learn. One public subclass a file, named after the file."""

    @abstractmethod
    def cut(self, n_stages: int) -> int:
        """Index of the first trained stage; everything below it runs once. PlanError when out of range."""

    @abstractmethod
    def adapt(self, task: Task, train: Part, val: Part, seed: int) -> Adapted:
        """Learn on train, choose on validation."""
