"""Domain-adversarial training: features from which a discriminator cannot tell the domain (DANN, Ganin et al. 2016,
arXiv:1505.07818)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from headstart.strategies.aligning import (
    Aligning,
    Pair,
    discriminator,
    domain_entropy,
    reversal_strength,
    reversed_gradient,
)


@dataclass(frozen=True, kw_only=True)
class Dann(Aligning):
    """A discriminator learns to tell the domains apart; its gradient reaches the network turned round."""

    title: ClassVar = "domain-adversarial (DANN)"

    hidden: int = 256  # width of the discriminator's two layers

    def extra(self, width: int, n_classes: int) -> nn.Module:
        """The discriminator, of the pooled last stage."""
        return discriminator(width, self.hidden)

    def domain_loss(self, pair: Pair, extra: Any) -> Tensor:
        """What the discriminator minimises and, the gradient turned round, the network maximises."""
        pooled = torch.cat([pair.source.pooled, pair.target.pooled])
        return domain_entropy(extra(reversed_gradient(pooled, reversal_strength(pair.progress))))
