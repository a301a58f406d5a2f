"""Train everything: probe first, then fine-tune (LP-FT, Kumar et al. 2022, arXiv:2202.10054).

Lower stages learn more slowly (discriminative learning rates), and may be unfrozen one epoch after the other, the last
first (both ULMFiT, Howard & Ruder 2018, arXiv:1801.06146).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headstart.strategies.base import Trained


@dataclass(frozen=True, kw_only=True)
class Full(Trained):
    """Train every stage and the head."""

    title: ClassVar = "all trained"

    gradual: bool = False  # unfreeze one stage more in every epoch

    def cut(self, n_stages: int) -> int:
        """0."""
        return 0

    def trains(self, stage: int, n_stages: int, epoch: int) -> bool:
        """All stages; with `gradual` the last one in epoch 0, and one more in each that follows."""
        return not self.gradual or stage >= n_stages - 1 - epoch
