"""Conditional domain-adversarial training: the discriminator sees features and predictions together (CDAN, Long et al.
2018, arXiv:1705.10667)."""

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
    entropy,
    reversal_strength,
    reversed_gradient,
)

MOST_PRODUCTS = 4096  # of features and predictions; where there are more, random ones stand for them, as in the paper
N_RANDOM = 1024


@dataclass(frozen=True, kw_only=True)
class Cdan(Aligning):
    """As DANN, on the products of features and predicted probabilities: domains are aligned class by class."""

    title: ClassVar = "conditional domain-adversarial (CDAN)"

    hidden: int = 256  # width of the discriminator's two layers
    by_entropy: bool = True  # sure predictions count more (the paper's CDAN+E)

    def extra(self, width: int, n_classes: int) -> nn.Module:
        """The discriminator, of the products."""
        return Conditional(width, n_classes, self.hidden)

    def domain_loss(self, pair: Pair, extra: Any) -> Tensor:
        """What the discriminator minimises and, the gradient turned round, the network maximises."""
        pooled = torch.cat([pair.source.pooled, pair.target.pooled])
        probabilities = torch.cat([pair.source.logits, pair.target.logits]).softmax(1).detach()
        strength = reversal_strength(pair.progress)
        logits = extra(reversed_gradient(pooled, strength), probabilities)
        return domain_entropy(logits, 1 + (-entropy(probabilities)).exp() if self.by_entropy else None)


class Conditional(nn.Module):
    """A discriminator of features (N, D) and probabilities (N, K), by their products."""

    of_features: Tensor
    of_classes: Tensor

    def __init__(self, width: int, n_classes: int, hidden: int) -> None:
        super().__init__()
        self.randomised = width * n_classes > MOST_PRODUCTS
        if self.randomised:
            self.register_buffer("of_features", torch.randn(width, N_RANDOM))
            self.register_buffer("of_classes", torch.randn(n_classes, N_RANDOM))
        self.judge = discriminator(N_RANDOM if self.randomised else width * n_classes, hidden)

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """Logit (N, 1) of coming from the source."""
        return self.judge(self.products(features, probabilities))

    def products(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """(N, K · D), each probability times each feature; or N_RANDOM random sums of them."""
        if self.randomised:
            return (features @ self.of_features) * (probabilities @ self.of_classes) / N_RANDOM**0.5
        return (probabilities[:, :, None] * features[:, None, :]).flatten(1)
