"""Give every source column the mean and the variance that it has in the target (Li et al. 2016, arXiv:1603.04779).

What re-estimated batch norms do to a network's layers, done to its features: CORAL without the correlations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.strategies.base import Part
from headstart.strategies.probe import column_scales


@dataclass(frozen=True, kw_only=True)
class Moments(Alignment):
    """Shift and stretch the source's columns."""

    title: ClassVar = "mean and variance"

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """A diagonal map of the source; the target stays as it is."""
        source_mean, source_scale = column_scales(source.features)
        mean, scale = column_scales(target)
        stretch = scale / source_scale
        return Aligned(
            source=Affine(np.diag(stretch), mean - source_mean * stretch), target=Affine.same(target.shape[1])
        )
