"""Source only: target features are taken for source features. What every alignment has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.strategies.base import Part


@dataclass(frozen=True, kw_only=True)
class Identity(Alignment):
    """Align nothing."""

    title: ClassVar = "source only"

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """Both as they are."""
        same = Affine.same(target.shape[1])
        return Aligned(source=same, target=same)
