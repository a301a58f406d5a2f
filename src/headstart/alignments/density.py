"""Density-ratio reweighting: a source example counts as p_target(x) / p_source(x) (Shimodaira 2000).

doi:10.1016/S0378-3758(00)00115-4. The ratio comes from a domain classifier (Bickel et al. 2007,
doi:10.1145/1273496.1273507), read on examples that it has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.alignments.domains import domain_odds
from headstart.strategies.base import Part


@dataclass(frozen=True, kw_only=True)
class Density(Alignment):
    """Weigh source examples by how much they look like the target."""

    title: ClassVar = "density-ratio reweighting"

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """Both as they are, the source weighed."""
        same = Affine.same(target.shape[1])
        return Aligned(source=same, target=same, weights=domain_odds(source.features, target, seed).ratio())
