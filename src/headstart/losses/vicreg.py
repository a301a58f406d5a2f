"""VICReg (Bardes et al. 2021, arXiv:2105.04906): two views of a picture agree, and no column of the embedding is lost.

Nothing is contrasted, so that small batches do. Invariance draws the two views together, variance keeps every column
of the batch spread out, covariance keeps the columns different. As in the published code the invariance is a mean over
columns as well, and the variance a mean over both views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, relu

from headstart.backbones.base import Backbone, Located
from headstart.backbones.resume import Resumable
from headstart.errors import PlanError
from headstart.losses.base import Learner, Loss, Terms, View

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # the paper's weights
EPSILON = 1e-4  # in the standard deviation


@dataclass(frozen=True, kw_only=True)
class Vicreg(Loss):
    """Two views of a picture are alike; an expander takes the loss, and is dropped afterwards."""

    title: ClassVar = "VICReg"
    modality: ClassVar = "image"
    unit: ClassVar = "batch"
    n_views: ClassVar = 2
    augments: ClassVar = True

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-4
    views: int = 6  # cached random views of each picture, of which every epoch draws two
    width: int = 1024  # of the expander

    def default_freeze(self, n_stages: int) -> int:
        """Two thirds: what is below sees only a few cached views."""
        return max(1, round(2 * n_stages / 3))

    @property
    def n_cached(self) -> int:
        """Random views."""
        return self.views

    def learner(self, upper: Resumable, backbone: Backbone, located: Located) -> ExpandedLearner:
        """The expander on the pooled last stage."""
        return ExpandedLearner(upper, self.width)

    def check(self, backbone: Backbone) -> None:
        """There must be two views to compare, and two pictures for a variance."""
        super().check(backbone)
        if self.views < 2 or self.batch_size < 2:
            raise PlanError("VICReg needs at least 2 views of each picture and 2 pictures a batch.")


class ExpandedLearner(Learner):
    """Three layers widen the embedding; batch norms use the batch alone, as nothing is predicted later."""

    def __init__(self, upper: Resumable, width: int) -> None:
        super().__init__(upper)
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.LazyLinear(width), nn.BatchNorm1d(width, track_running_stats=False), nn.ReLU()]
        self.expander = nn.Sequential(*layers, nn.LazyLinear(width, bias=False))

    def forward(self, views: Sequence[View]) -> Terms:
        """One unit: the batch."""
        first, second = (self.expander(self.upper(view.inputs, view.activation)).float() for view in views)
        loss = vicreg(first, second)
        return Terms(loss[None], torch.ones_like(loss)[None])


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """The loss of two views (N, D) of a batch."""
    variance = (variance_term(first) + variance_term(second)) / 2
    covariance = covariance_term(first) + covariance_term(second)
    return INVARIANCE * mse_loss(first, second) + VARIANCE * variance + COVARIANCE * covariance


def variance_term(z: Tensor) -> Tensor:
    """How far the standard deviation of each column of z (N, D) falls short of 1, on average."""
    return relu(1 - (z.var(dim=0) + EPSILON).sqrt()).mean()


def covariance_term(z: Tensor) -> Tensor:
    """Sum of the squared covariances between different columns of z (N, D), divided by D."""
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
