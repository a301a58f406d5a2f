"""Kernel mean matching: weigh the source to give it the target's mean in a kernel's space (Huang et al. 2006, NIPS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.errors import MissingExtraError
from headstart.strategies.base import Part


@dataclass(frozen=True, kw_only=True)
class KernelMean(Alignment):
    """Weigh source examples by kernel mean matching, solved by skada's Frank-Wolfe steps."""

    title: ClassVar = "kernel mean matching"

    width: float = 1.0  # of the Gaussian kernel: exp(-|x - x'|² / (width D)) for D columns of variance 1
    steps: int = 1000

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """Both as they are, the source weighed. MissingExtraError without skada."""
        try:
            from skada import KMMReweightAdapter
        except ImportError:
            raise MissingExtraError("skada", "align") from None
        gamma = 1 / (self.width * target.shape[1])
        both = np.concatenate([source.features, target])
        domain = np.repeat([1, -2], [len(source.features), len(target)])  # skada: sources are positive, targets not
        matched = KMMReweightAdapter(gamma=gamma, max_iter=self.steps).fit(both, sample_domain=domain)
        weights = np.asarray(matched.source_weights_)
        same = Affine.same(target.shape[1])
        return Aligned(source=same, target=same, weights=weights / weights.mean())
