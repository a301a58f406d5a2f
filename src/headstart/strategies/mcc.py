"""Minimum class confusion: predictions on the target that do not waver between two classes (MCC, Jin et al. 2020,
arXiv:1912.03699)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from headstart.errors import PlanError
from headstart.strategies.aligning import Aligning, Pair, entropy


@dataclass(frozen=True, kw_only=True)
class Mcc(Aligning):
    """Less confusion between the classes of a target batch; the source teaches as ever."""

    title: ClassVar = "minimum class confusion (MCC)"

    temperature: float = 2.5  # logits are divided by it: a network is too sure of what it has not learnt

    def domain_loss(self, pair: Pair, extra: Any) -> Tensor:
        """The confusion of the target batch."""
        return class_confusion(pair.target.logits / self.temperature)

    def check(self) -> None:
        """PlanError when a setting is out of range."""
        super().check()
        if not self.temperature > 0:
            raise PlanError(f"temperature={self.temperature}, but it must be above 0; 2.5 is usual.")


def class_confusion(logits: Tensor) -> Tensor:
    """Mean share () of each class's correlation that falls to other classes, of logits (N, K).

    Sure examples count more: weights 1 + exp(-entropy), N together; no gradient goes through them.
    """
    probabilities = logits.softmax(1)
    weight = 1 + (-entropy(probabilities.detach())).exp()
    weight = len(logits) * weight / weight.sum()
    together = probabilities.T @ (weight[:, None] * probabilities)  # (K, K)
    shares = together / together.sum(1, keepdim=True)
    return (shares.sum() - shares.trace()) / logits.shape[1]
