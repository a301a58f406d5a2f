"""How far apart two domains are: the proxy A-distance with its interval, and a picture of both clouds.

The distance is 2 (1 - 2 error) of a linear classifier that tells source from target, on examples that it has not seen
(Ben-David et al. 2007, NIPS; 2010, doi:10.1007/s10994-009-5152-4): 0 where it can only guess, 2 where it never errs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.alignments.domains import domain_odds
from headstart.evidence.base import Score
from headstart.evidence.intervals import PERCENTILES, resamples
from headstart.evidence.words import wilson

N_RESAMPLES = 1000


def domain_gap(source: np.ndarray, target: np.ndarray, seed: int = 0) -> Score:
    """Proxy A-distance of source (n, D) and target (t, D), 0 to 2, with its 95 % interval.

    The error is the mean of the two domains' own, so that their sizes do not matter. The interval resamples the
    examples of each domain, and says nothing of another classifier; where all of them are told apart, or none, it is
    that of Wilson for the domain with fewer.
    """
    odds = domain_odds(source, target, seed)
    wrong = [_wrong(odds.source), _wrong(-odds.target)]
    error = float(np.mean([one.mean() for one in wrong]))
    drawn = np.mean(
        [resamples(len(one), N_RESAMPLES, seed + k) @ one / len(one) for k, one in enumerate(wrong)], axis=0
    )
    low, high = np.percentile(drawn, PERCENTILES)
    if low == high:
        n = min(len(one) for one in wrong)
        low, high = wilson(error * n, n)
    return Score(_distance(error), _distance(high), _distance(low))


def _wrong(odds: np.ndarray) -> np.ndarray:
    """1 where log odds (n,) of the other domain are above 0, a half where they cannot tell."""
    return (np.sign(odds) + 1) / 2


def _distance(error: float) -> float:
    return float(np.clip(2 * (1 - 2 * error), 0, 2))


@dataclass(frozen=True, kw_only=True)
class Clouds:
    """Both domains on the first two principal axes of both together."""

    source: np.ndarray  # (n, 2)
    target: np.ndarray  # (t, 2)
    explained: np.ndarray  # (2,) share of all variance that lies along each axis


def clouds(source: np.ndarray, target: np.ndarray) -> Clouds:
    """Project source (n, D) and target (t, D); the larger weight of either axis is positive."""
    from sklearn.decomposition import PCA

    both = np.concatenate([source, target]).astype(np.float64)
    width = min(2, *both.shape)
    with np.errstate(invalid="ignore"):  # all alike: no axis explains anything
        pca = PCA(width, svd_solver="covariance_eigh" if both.shape[1] < len(both) else "full").fit(both)
    flip = np.sign(pca.components_[np.arange(width), np.abs(pca.components_).argmax(axis=1)])
    flat = np.zeros((len(both), 2))
    flat[:, :width] = pca.transform(both) * flip
    explained = np.zeros(2)
    explained[:width] = np.nan_to_num(pca.explained_variance_ratio_)
    return Clouds(source=flat[: len(source)], target=flat[len(source) :], explained=explained)
