"""Train a head alone: every stage stays frozen, and its maps are run once for each picture (or view of it).

For heads that read maps and cannot be solved, as those that find boxes; where a head can be solved, a probe is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headstart.strategies.base import Trained


@dataclass(frozen=True, kw_only=True)
class Frozen(Trained):
    """Freeze every stage; train the head on cached maps."""

    title: ClassVar = "head alone trained"
    from_probe: ClassVar = False

    def cut(self, n_stages: int) -> int:
        """All stages lie below it."""
        return n_stages
