"""Deep CORAL: pull the covariances of the two domains together (Sun & Saenko 2016, arXiv:1607.01719)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from headstart.strategies.aligning import Aligning, Pair


@dataclass(frozen=True, kw_only=True)
class DeepCoral(Aligning):
    """Squared distance of the covariances of the pooled last stage, over 4 D^2."""

    title: ClassVar = "Deep CORAL"

    def domain_loss(self, pair: Pair, extra: Any) -> Tensor:
        """The paper's equation 1."""
        return coral_loss(pair.source.pooled, pair.target.pooled)


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """|C_source - C_target|_F^2 / (4 D^2) of features (N, D) and (M, D), () ."""
    difference = covariance(source) - covariance(target)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def covariance(features: Tensor) -> Tensor:
    """(D, D), unbiased, of features (N, D); zeros for a single example."""
    centred = features - features.mean(0)
    return centred.T @ centred / max(1, len(features) - 1)
