"""Use a pretrained network as it is: it does the task already, and nothing is learnt from the user's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headstart.strategies.base import Strategy


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Strategy):
    """Every stage and the network's own head stay as they were pretrained."""

    title: ClassVar = "as it was pretrained"

    def cut(self, n_stages: int) -> int:
        """All stages lie below it."""
        return n_stages
