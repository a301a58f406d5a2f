"""Self-training: sure predictions on the target teach as if they were labels (Lee 2013; the threshold of FixMatch, Sohn
et al. 2020, arXiv:2001.07685, here on plain views).

It starts from the head that was solved on the source. The weight of the pseudo-labels rises over the first part of the
training as exp(-5 (1 - t)^2) (Laine & Aila 2017, arXiv:1610.02242), since the first ones are the worst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from headstart.errors import PlanError
from headstart.strategies.aligning import Aligning, Pair


@dataclass(frozen=True, kw_only=True)
class SelfTraining(Aligning):
    """The network's own predictions on the target above a confidence, every predicted class counting the same."""

    title: ClassVar = "self-training"

    confidence: float = 0.9  # probability that a prediction needs in order to teach
    ramp: float = 0.4  # share of the training over which the weight rises to `domain_weight`

    def domain_loss(self, pair: Pair, extra: Any) -> Tensor:
        """The pseudo-labels' loss, times the ramp."""
        return rise(pair.progress, self.ramp) * pseudo_loss(pair.target.logits, self.confidence)

    def check(self) -> None:
        """PlanError when a setting is out of range."""
        super().check()
        for name in ("confidence", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise PlanError(f"{name}={getattr(self, name)}, but it must be between 0 and 1.")


def pseudo_loss(logits: Tensor, confidence: float) -> Tensor:
    """Cross-entropy () of logits (N, K) against their own sure predictions, averaged class by class.

    It counts by the share that is sure: one sure example of 32 does not teach as much as 32 do.
    """
    sure, guess = logits.detach().softmax(1).max(1)
    taken = sure >= confidence
    each = nn.functional.cross_entropy(logits, guess, reduction="none")
    classes = guess[taken].unique()
    if len(classes) == 0:
        return 0.0 * logits.sum()
    by_class = torch.stack([each[taken & (guess == k)].mean() for k in classes])
    return by_class.mean() * taken.float().mean()


def rise(progress: float, ramp: float) -> float:
    """From exp(-5) at the start to 1 at `ramp` of the training, and 1 from there on."""
    if progress >= ramp:
        return 1.0
    return math.exp(-5 * (1 - progress / ramp) ** 2)
