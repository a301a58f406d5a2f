"""Strategies that learn from a labelled source and an unlabelled target, with a loss that brings the two together.

What is trained is a stage above the cut, the head, and whatever the loss needs beside them (a domain discriminator),
which is not kept. The loss sees the standardised pooled last stage and the logits of one batch of each domain.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from headstart.errors import PlanError
from headstart.strategies.base import Trained, stage_range


@dataclass(frozen=True)
class Seen:
    """What the network makes of one batch of one domain."""

    pooled: Tensor  # (N, D) last stage, standardised as the head reads it
    logits: Tensor  # (N, K)


@dataclass(frozen=True)
class Pair:
    """A batch of the source and one of the target, of the same size."""

    source: Seen
    target: Seen
    y: Tensor  # (N,) class indices of the source
    progress: float  # share of the training that is done, in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Aligning(Trained):
    """Train the stages above a cut on the source's labels, and on a loss that brings the domains together.

    All epochs are run and the last one is kept. Validation knows the source only, and there adapting costs a little at
    every epoch: stopping early by it would choose not to adapt.

    With `own_norms` the statistics of batch norms are measured once on each domain, as `batch_norm` does, before the
    training begins from a head that was solved under those of the source; the network that is kept has the target's.
    """

    needs_target: ClassVar[bool] = True
    keeps_last: ClassVar[bool] = True

    freeze: int = 0  # how many stages are frozen, counted from the input; 0 trains all
    domain_weight: float = 1.0  # of the domain loss, beside 1 for the loss on the source's labels
    own_norms: bool = True  # batch norms above the cut take each domain's own statistics (DSBN, arXiv:1906.03950)

    def cut(self, n_stages: int) -> int:
        """The number of frozen stages, 0 … n_stages - 1; PlanError otherwise."""
        return stage_range(self.title, self.freeze, 0, n_stages)

    def extra(self, width: int, n_classes: int) -> nn.Module:
        """What is trained beside the network, for pooled (N, width) and logits (N, n_classes); by default nothing."""
        return nn.Identity()

    @abstractmethod
    def domain_loss(self, pair: Pair, extra: Any) -> Tensor:
        """The loss () that is added, times `domain_weight`; `extra` is the module that `extra()` made."""

    def check(self) -> None:
        """PlanError when a setting is out of range."""
        super().check()
        if not self.domain_weight >= 0:
            raise PlanError(f"domain_weight={self.domain_weight}, but it must be at least 0; 1 is usual.")


class Reversal(torch.autograd.Function):
    """The identity, whose gradient is turned round and scaled (Ganin et al. 2016, arXiv:1505.07818)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        """x as it is."""
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """-strength times the gradient."""
        return -ctx.strength * gradient, None


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """x, through which the gradient comes back times -strength."""
    return Reversal.apply(x, strength)


def reversal_strength(progress: float) -> float:
    """From 0 to 1 over the training, 2 / (1 + exp(-10 p)) - 1: an untrained discriminator is not listened to."""
    return float(2 / (1 + torch.exp(torch.tensor(-10.0 * progress))) - 1)


def discriminator(width: int, hidden: int) -> nn.Sequential:
    """(N, width) to the logit (N, 1) of coming from the source."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )


def domain_entropy(logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy () of telling the domains apart; logits (2N, 1), the first half from the source.

    `weight` (2N,) says how much each example counts within its domain; both domains count the same.
    """
    n = len(logits) // 2
    truth = torch.cat([torch.ones(n), torch.zeros(n)]).to(logits)
    each = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
    if weight is None:
        return each.mean()
    shares = torch.cat([half / half.sum() for half in (weight[:n], weight[n:])])
    return (shares * each).sum() / 2


def entropy(probabilities: Tensor) -> Tensor:
    """(N,) in nats, of probabilities (N, K)."""
    return -(probabilities * probabilities.clamp_min(1e-8).log()).sum(1)
