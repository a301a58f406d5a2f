"""SimCSE without labels (Gao et al. 2021, arXiv:2104.08821): a text is most like itself, under other dropout.

Each text runs twice; its two embeddings are to be nearer to each other than to those of the other texts of the batch.
The space stays one of sentence embeddings, which masked language modelling does not see to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from headstart.backbones.base import Backbone, Located
from headstart.backbones.resume import Resumable
from headstart.errors import PlanError
from headstart.losses.base import Learner, Loss, Terms, View

TEMPERATURE = 0.05  # the paper's


@dataclass(frozen=True, kw_only=True)
class Simcse(Loss):
    """Tell a text from the others of its batch."""

    title: ClassVar = "SimCSE"
    modality: ClassVar = "text"
    unit: ClassVar = "text"

    epochs: int = 1  # as in the paper
    batch_size: int = 64
    learning_rate: float = 3e-5
    warm_up: float = 0.0  # there is no head

    def default_freeze(self, n_stages: int) -> int:
        """0: dropout is the only difference between the two runs."""
        return 0

    def learner(self, upper: Resumable, backbone: Backbone, located: Located) -> ContrastiveLearner:
        """No head: the mean over tokens is what is compared."""
        if not any(isinstance(module, nn.Dropout) and module.p > 0 for module in upper.network.modules()):
            raise PlanError(f"{backbone.provenance.name} has no dropout, and SimCSE lives by it. Use --loss mlm.")
        return ContrastiveLearner(upper)


class ContrastiveLearner(Learner):
    """Always with dropout, when it is measured too: without, both runs are the same."""

    def train(self, mode: bool = True) -> ContrastiveLearner:
        """On, whatever is asked for."""
        super().train(True)
        return self

    def forward(self, views: Sequence[View]) -> Terms:
        """Cross-entropy of finding each text's second embedding among those of the batch; a unit is a text."""
        first, second = (normalize(self.upper(views[0].inputs, views[0].activation), dim=1) for _ in range(2))
        places = torch.arange(len(first), device=first.device)
        losses = cross_entropy(first @ second.T / TEMPERATURE, places, reduction="none")
        return Terms(losses, torch.ones_like(losses))
