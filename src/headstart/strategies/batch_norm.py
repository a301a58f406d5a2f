"""Batch norms with the target's own statistics (AdaBN, Li et al. 2016, arXiv:1603.04779).

Each domain is normalised by its own mean and variance. So the head is solved on source features of a network with the
source's statistics, and predicts on target features of one with the target's; no weight is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from headstart.backbones.base import Backbone
from headstart.backbones.resume import Normalisation, Resumable
from headstart.errors import PlanError
from headstart.strategies.base import Trained, stage_range


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Trained):
    """Estimate the statistics of every batch norm above the cut anew, on each domain."""

    title: ClassVar = "batch norms of the target (AdaBN)"
    needs_target: ClassVar[bool] = True
    backward_cost: ClassVar[float] = 6.0  # each stage runs once for each of its batch norms, and once to go on

    freeze: int = 0  # how many stages keep the statistics they have, counted from the input
    epochs: int = 1
    most: int = 256  # examples of each domain that the statistics are taken from, at most

    def cut(self, n_stages: int) -> int:
        """The number of stages that stay, 0 … n_stages - 1; PlanError otherwise."""
        return stage_range(self.title, self.freeze, 0, n_stages)

    def suits(self, network: nn.Module) -> bool:
        """Whether the network has batch norms."""
        return any(isinstance(module, Normalisation) for module in network.modules())

    def prepare(self, upper: Resumable) -> None:
        """PlanError when there is no batch norm above the cut."""
        if not has_norms(upper.backbone[0], upper.cut):
            raise PlanError(
                f"batch_norm needs a network with batch norms above the cut, but {upper.backbone[0].provenance.name} "
                "has none there. Freeze fewer stages, or use another strategy, such as deep_coral."
            )

    def check(self) -> None:
        """PlanError when a setting is out of range."""
        super().check()
        if self.most < 2:
            raise PlanError(f"most={self.most}, but a variance needs at least 2 examples; 256 is usual.")


def has_norms(backbone: Backbone, cut: int) -> bool:
    """Whether there are batch norms above the cut."""
    paths = [path for stage in backbone.stages[cut:] for path in stage.modules]
    modules = (module for path in paths for module in backbone.network.get_submodule(path).modules())
    return any(isinstance(module, Normalisation) for module in modules)
