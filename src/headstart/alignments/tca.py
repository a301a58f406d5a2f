"""Transfer component analysis with a linear kernel (Pan et al. 2011, doi:10.1109/TNN.2010.2091281).

Of all directions, those that keep the variance of both domains together while their means come close. The paper finds
W (N, d) among the N = N_s + N_t examples: the leading solutions of K H K w = λ (I + μ K L K) w, of which K W are the
components. With the linear kernel K = X X' and L of rank one, W = X U, and with V = X'X U (D, d) the components are
X V and the problem is X'HX v = λ ((X'X)⁺ + μ m m') v, m the difference of the means: D by D instead of N by N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.strategies.base import Part

NO_VARIANCE = 1e-10  # of the largest eigenvalue: a direction with less holds rounding errors


@dataclass(frozen=True, kw_only=True)
class Tca(Alignment):
    """Project both domains on the transfer components that they share."""

    title: ClassVar = "transfer component analysis"

    n_components: int = 80  # at most
    closeness: float = 1.0  # μ: how much the distance of the means counts against the variance

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """One linear map of both domains."""
        components = transfer_components(source.features, target, self.closeness)[:, : self.n_components]
        shared = Affine(components, np.zeros(components.shape[1]))
        return Aligned(source=shared, target=shared)


def transfer_components(source: np.ndarray, target: np.ndarray, closeness: float) -> np.ndarray:
    """V (D, R), the most important first, scaled so that W'W + μ W'KLKW is the identity."""
    both = np.concatenate([source, target])
    values, vectors = np.linalg.eigh(both.T @ both)
    kept = values > NO_VARIANCE * values[-1]
    root = vectors[:, kept] * np.sqrt(values[kept])  # (D, R): v = root z makes (X'X)⁺ the identity
    apart = root.T @ (source.mean(axis=0) - target.mean(axis=0))
    square = apart @ apart
    shrink = np.eye(len(apart))  # (I + μ apart apart')^(-1/2)
    if square > 0:
        shrink += (1 / np.sqrt(1 + closeness * square) - 1) / square * np.outer(apart, apart)
    mean = both.mean(axis=0)
    scatter = root.T @ (both.T @ both - len(both) * np.outer(mean, mean)) @ root
    _, turned = np.linalg.eigh(shrink @ scatter @ shrink)
    return np.asarray(root @ shrink @ turned[:, ::-1])
