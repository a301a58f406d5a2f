"""The honest comparison: the same network, trained from random weights on the user's data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headstart.backbones.changes import Changes
from headstart.backbones.resume import Resumable
from headstart.strategies.base import Trained


@dataclass(frozen=True, kw_only=True)
class Scratch(Trained):
    """Random weights, everything trained, every stage at the same rate."""

    title: ClassVar = "same network from scratch"
    from_probe: ClassVar = False
    from_scratch: ClassVar = True

    learning_rate: float = 5e-4
    head_rate: float = 2.0
    stage_decay: float = 1.0

    def cut(self, n_stages: int) -> int:
        """0."""
        return 0

    def changes(self, upper: Resumable) -> Changes:
        """Everything, the statistics of batch norms included."""
        return Changes({name: value.detach().cpu().clone() for name, value in upper.network.state_dict().items()})
