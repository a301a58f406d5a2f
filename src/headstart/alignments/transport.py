"""Optimal transport of the source on to the target (Courty et al. 2017, arXiv:1507.00504), solved by POT.

Each source example goes to the mean of the target examples that its mass is sent to. A source example that was held
out moves as the nearest one that was not (Ferradans et al. 2014, arXiv:1307.5551).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.errors import MissingExtraError
from headstart.strategies.base import Part

MOST_STEPS, TOLERANCE = 1000, 1e-8  # of Sinkhorn's iterations; of the marginals


@dataclass(frozen=True, kw_only=True)
class Transport(Alignment):
    """Carry the source to the target at the least cost in squared distance, spread by an entropic term.

    With `class_weight`, the mass of two classes is kept from meeting in one target example (the group lasso of the
    paper, there called OT-GL; by majorisation, Lp-L1).
    """

    title: ClassVar = "optimal transport"

    entropy: float = 0.1  # of the median squared distance
    class_weight: float = 0.1  # of the class regularisation; 0 is none

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """A barycentric map of the source; the target stays as it is. MissingExtraError without POT."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a plan short of its tolerance is a plan; what is lost stays in place
            solver = self._solver().fit(Xs=source.features, ys=source.y, Xt=target)
            moved = solver.transform(Xs=source.features)
        sent = np.nan_to_num(solver.coupling_).sum(axis=1) > 0
        moved = np.where(sent[:, None] & np.isfinite(moved), moved, source.features)
        return Aligned(source=Carried(source.features, moved), target=Affine.same(target.shape[1]))

    def _solver(self) -> Any:
        try:
            from ot import da
        except ImportError:
            raise MissingExtraError("ot", "align") from None
        if self.class_weight:
            return da.SinkhornLpl1Transport(reg_e=self.entropy, reg_cl=self.class_weight, norm="median")
        settings = {"max_iter": MOST_STEPS, "tol": TOLERANCE, "out_of_sample_map": "ferradans"}
        return da.SinkhornTransport(reg_e=self.entropy, norm="median", **settings)


@dataclass(frozen=True)
class Carried:
    """Moves a row as the nearest known one has moved; the known ones themselves exactly."""

    known: np.ndarray  # (N, D)
    moved: np.ndarray  # (N, D)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, D) -> (n, D)."""
        from sklearn.metrics import pairwise_distances_argmin

        nearest = pairwise_distances_argmin(features, self.known)
        return np.asarray(features + (self.moved - self.known)[nearest])
