"""The space that items are grouped in: unit length, principal components half whitened, unit length again.

Half whitening divides each component by the fourth root of its variance. It keeps the strong directions strong, and
takes away most of the stability that a long cloud has without any groups (docs/log.md has the figures). Labels of other
classes may shape the space first: what varies within classes of the source is shrunk by the same root of its
covariance (within-class covariance normalisation, Hatch et al. 2006, doi:10.21437/Interspeech.2006-183; the covariance
is that of Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.errors import DataError

DIMS = 64  # principal components that are kept
ROOT = 0.25  # power of a variance that a direction is divided by
NO_VARIANCE = 1e-7  # of the largest one: below it stand rounding errors


@dataclass(frozen=True)
class Space:
    """How features (N, D) become places (N, d) of unit length."""

    shape: np.ndarray | None  # (D, D) that the source's labels gave
    mean: np.ndarray  # (D,) of the unit features, shaped
    axes: np.ndarray  # (D, d) principal axes, each divided by the root of its variance
    scales: np.ndarray  # (d,) standard deviations along the axes, before the last normalisation

    def places(self, features: np.ndarray) -> np.ndarray:
        """(N, d) float32 rows of unit length."""
        return unit((_shaped(features, self.shape) - self.mean) @ self.axes)

    def cloud(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, d) places of a Gaussian cloud without groups that has the variances of the data."""
        return unit(rng.standard_normal((n, len(self.scales)), dtype=np.float32) * self.scales)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32; a row of zeros stays."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def fit_space(features: np.ndarray, shape: np.ndarray | None = None, seed: int = 0) -> Space:
    """The space of features (N, D). DataError when they are all alike."""
    from sklearn.decomposition import PCA

    rows = _shaped(features, shape)
    if np.ptp(rows, axis=0).max() <= 1e-6:
        raise DataError(
            f"The network sees no difference between the {len(rows):,} items, so there is nothing to group. "
            "Give items that differ, or another --backbone."
        )
    found = PCA(min(DIMS, len(rows) - 1, rows.shape[1]), random_state=seed).fit(rows)
    kept = found.explained_variance_ > NO_VARIANCE * found.explained_variance_[0]
    variance = found.explained_variance_[kept]
    axes = (found.components_[kept] / variance[:, None] ** ROOT).T
    return Space(shape, found.mean_, axes.astype(np.float32), (variance ** (0.5 - ROOT)).astype(np.float32))


def shape_of(features: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(D, D): shrinks what varies within classes; features (n, D) and labels (n,) of a source with other classes."""
    from sklearn.covariance import ledoit_wolf

    rows = unit(features).astype(np.float64)
    _, which = np.unique(y, return_inverse=True)
    means = np.stack([rows[which == label].mean(axis=0) for label in range(which.max() + 1)])
    within, _ = ledoit_wolf(rows - means[which], assume_centered=True)
    values, vectors = np.linalg.eigh(within)
    values = np.maximum(values, NO_VARIANCE * values[-1])
    return ((vectors * values**-ROOT) @ vectors.T).astype(np.float32)


def _shaped(features: np.ndarray, shape: np.ndarray | None) -> np.ndarray:
    rows = unit(features)
    return rows if shape is None else rows @ shape
