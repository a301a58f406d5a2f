"""Train the last stages of a backbone on cached activations (Yosinski et al. 2014, arXiv:1411.1792)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headstart.strategies.base import Trained, stage_range


@dataclass(frozen=True, kw_only=True)
class Partial(Trained):
    """Freeze every stage below the cut; train the rest together with the head."""

    title: ClassVar = "partly frozen"

    freeze: int  # how many stages are frozen, counted from the input

    def cut(self, n_stages: int) -> int:
        """The number of frozen stages, 1 … n_stages - 1; PlanError otherwise."""
        return stage_range("partial training", self.freeze, 1, n_stages)
