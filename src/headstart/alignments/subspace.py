"""Subspace alignment: the source's principal axes turn to the target's (Fernando et al. 2013, arXiv:1409.5241)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.strategies.base import Part


@dataclass(frozen=True, kw_only=True)
class Subspace(Alignment):
    """Project each domain on its own principal axes, and the source's on to those of the target's."""

    title: ClassVar = "subspace alignment"

    n_components: int = 80  # at most; never more than a domain's rows less one, or its columns

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """Affine maps of both domains to d columns."""
        d = min(self.n_components, len(source.features) - 1, len(target) - 1, target.shape[1])
        of_source, of_target = principal_axes(source.features, d), principal_axes(target, d)
        turned = of_source @ (of_source.T @ of_target)
        return Aligned(
            source=Affine(turned, -source.features.mean(axis=0) @ turned),
            target=Affine(of_target, -target.mean(axis=0) @ of_target),
        )


def principal_axes(features: np.ndarray, d: int) -> np.ndarray:
    """(D, d), orthonormal columns, those with the largest variance first."""
    centred = features - features.mean(axis=0)
    n, width = centred.shape
    if n > width:
        return np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :d]
    _, vectors = np.linalg.eigh(centred @ centred.T)
    axes = centred.T @ vectors[:, ::-1][:, :d]
    return axes / np.linalg.norm(axes, axis=0).clip(np.finfo(float).tiny)
