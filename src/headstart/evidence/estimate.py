"""An estimate of accuracy on an unlabelled target, from source validation and the target's probabilities.

Ways, none of which is a measurement: average thresholded confidence (ATC, Garg et al. 2022, arXiv:2201.04234),
the share of target examples that are surer than a threshold which as many of validation exceed as are right there; and
the difference of confidences (DoC, Guillory et al. 2021, arXiv:2107.03315), the accuracy on validation less what the
mean confidence falls by. Both hope that confidence means on the target what it meant on the source, which an alignment
to the target's own predictions belies. So where several candidates answer, an estimate goes no higher than the share
of answers on which a candidate agrees with their consensus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.evidence.base import Score
from headstart.evidence.intervals import PERCENTILES, resamples

N_RESAMPLES = 1000
TINY = 1e-12  # below it a probability has no logarithm


@dataclass(frozen=True, kw_only=True)
class AccuracyEstimate:
    """What accuracy on the target may be; estimated, not measured."""

    estimate: Score  # the mean of the first two, but no higher than the third; its interval spans theirs
    threshold: Score  # average thresholded confidence
    difference: Score  # difference of confidences
    agreement: Score | None = None  # share of answers that the consensus of several candidates gives as well

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> AccuracyEstimate:
        """The inverse of `to_json`."""
        own = {name: Score(**score) for name, score in saved.items() if score}
        return cls(**own)


def estimate_accuracy(
    y_val: np.ndarray,
    val_probabilities: np.ndarray,
    target_probabilities: np.ndarray,
    seed: int = 0,
    consensus: np.ndarray | None = None,
) -> AccuracyEstimate:
    """From labels (m,), their probabilities (m, K), those of the target (t, K), and the mean of several candidates'.

    The intervals resample validation and target; that of the estimate runs from the lower end of the lower of the two
    to the upper end of the upper, so that it shows where they disagree. No interval can tell how wrong both are.
    """
    right = val_probabilities.argmax(axis=1) == y_val
    ways = {
        "threshold": (thresholded, _certainty(val_probabilities), _certainty(target_probabilities)),
        "difference": (differing, val_probabilities.max(axis=1), target_probabilities.max(axis=1)),
    }
    found = {}
    for name, (way, val, target) in ways.items():
        rng = np.random.default_rng(seed)
        drawn = []
        for _ in range(N_RESAMPLES):
            rows = rng.integers(len(val), size=len(val))
            drawn.append(way(right[rows], val[rows], target[rng.integers(len(target), size=len(target))]))
        low, high = np.percentile(drawn, PERCENTILES)
        found[name] = Score(way(right, val, target), float(low), float(high))
    middle = sum(one.value for one in found.values()) / len(found)
    if consensus is not None:
        found["agreement"] = _agreed(target_probabilities, consensus, seed)
        middle = min(middle, found["agreement"].value)
    low, high = min(one.low for one in found.values()), max(one.high for one in found.values())
    return AccuracyEstimate(estimate=Score(middle, min(low, middle), max(high, middle)), **found)


def averaged(estimates: Sequence[Score]) -> Score:
    """The estimate for the mean of several candidates: the mean of theirs, ends and all.

    Its own confidence says less: a mean of heads is as sure on the source, where all are right, as it is modest on the
    target, where they differ (docs/log.md).
    """
    return Score(*(float(np.mean([getattr(one, end) for one in estimates])) for end in ("value", "low", "high")))


def _agreed(probabilities: np.ndarray, consensus: np.ndarray, seed: int) -> Score:
    """Share of the examples (t, K) on which both say the same."""
    same = probabilities.argmax(axis=1) == consensus.argmax(axis=1)
    drawn = resamples(len(same), N_RESAMPLES, seed) @ same / len(same)
    low, high = np.percentile(drawn, PERCENTILES)
    return Score(float(same.mean()), float(low), float(high))


def thresholded(right: np.ndarray, val: np.ndarray, target: np.ndarray) -> float:
    """ATC: share of target certainties (t,) at or above the threshold that a share right.mean() of val (m,) reaches."""
    n_right = int(right.sum())
    if n_right == 0:
        return 0.0
    return float(np.mean(target >= np.sort(val)[len(val) - n_right]))


def differing(right: np.ndarray, val: np.ndarray, target: np.ndarray) -> float:
    """DoC: accuracy on validation less the fall of mean confidence from val (m,) to target (t,), between 0 and 1."""
    return float(np.clip(right.mean() - (val.mean() - target.mean()), 0, 1))


def _certainty(probabilities: np.ndarray) -> np.ndarray:
    """Negative entropy (n,), which the paper found better than the largest probability."""
    return np.asarray((probabilities * np.log(probabilities.clip(TINY))).sum(axis=1))
