"""CORAL: whiten the source and colour it as the target (Sun, Feng & Saenko 2015, arXiv:1511.05547)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.alignments.base import Affine, Aligned, Alignment
from headstart.strategies.base import Part


@dataclass(frozen=True, kw_only=True)
class Coral(Alignment):
    """Give source features the mean and the covariance of the target's."""

    title: ClassVar = "CORAL"

    shrinkage: float = 0.5  # towards the identity; for columns of variance 1 a half is the paper's "covariance + I"

    def align(self, source: Part, target: np.ndarray, seed: int) -> Aligned:
        """A linear map of the source; the target stays as it is."""
        matrix = _power(self._covariance(source.features), -0.5) @ _power(self._covariance(target), 0.5)
        offset = target.mean(axis=0) - source.features.mean(axis=0) @ matrix
        return Aligned(source=Affine(matrix, offset), target=Affine.same(target.shape[1]))

    def _covariance(self, features: np.ndarray) -> np.ndarray:
        """(D, D), positive definite where it is shrunk."""
        from sklearn.covariance import empirical_covariance, shrunk_covariance

        return np.asarray(shrunk_covariance(empirical_covariance(features), self.shrinkage))


def _power(covariance: np.ndarray, power: float) -> np.ndarray:
    """The symmetric power of a covariance; directions without variance stay without."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > np.finfo(float).eps * len(values) * max(values[-1], np.finfo(float).tiny)
    return (vectors[:, kept] * values[kept] ** power) @ vectors[:, kept].T
