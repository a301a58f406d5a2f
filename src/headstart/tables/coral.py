"""Source rows with the target's means and covariances (CORAL, Sun et al. 2016, arXiv:1511.05547)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from headstart.strategies.base import Part
from headstart.tables.base import STRENGTHS, Domains, Learnt, TableTransfer, both
from headstart.tables.linear import solve

RIDGE = 0.1  # added to both covariances, of columns whose spread is about 1


@dataclass(frozen=True, kw_only=True)
class Coral(TableTransfer):
    """A linear model of mapped source rows and the target's labelled ones."""

    title: ClassVar = "CORAL"
    needs_labels: ClassVar = False

    strength: float

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Each strength."""
        return [cls(strength=strength) for strength in STRENGTHS]

    def begin(self, domains: Domains) -> Part:
        """The source's rows, mapped."""
        return Part(mapped(domains.given.features, domains.target, RIDGE), domains.given.y)

    def learn(self, domains: Domains, begun: Part, target: Part) -> Learnt:
        """One model of all rows."""
        return solve(domains.task, both(begun, target), self.strength)


def mapped(source: np.ndarray, target: np.ndarray, ridge: float) -> np.ndarray:
    """(Ns, D): whitened by the source's covariance, coloured by the target's, moved to the target's mean."""
    centred = source - source.mean(axis=0)
    return centred @ _power(_covariance(source, ridge), -0.5) @ _power(_covariance(target, ridge), 0.5) + target.mean(0)


def _covariance(rows: np.ndarray, ridge: float) -> np.ndarray:
    return np.cov(rows, rowvar=False, bias=True).reshape(rows.shape[1], -1) + ridge * np.eye(rows.shape[1])


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 1e-12) ** exponent) @ vectors.T)
