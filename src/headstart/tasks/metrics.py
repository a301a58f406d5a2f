"""Metrics of scores for many bootstrap resamples at once: matrix products and running sums, no loop over resamples.

A resample is a row of weights: how often each example counts. All sums are in float64. Where a resample leaves a
metric undefined (no positive example to rank, say) the answer is NaN; averages over classes leave such classes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy import sparse

from headstart.tasks.base import Metric, Weights

Compute = Callable[[np.ndarray, np.ndarray, Weights], np.ndarray]
RankStatistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

ECE_BINS = 15  # as in arXiv:1706.04599
BLOCK = 1_000_000  # weights per block of resamples: 8 MB in float64, so that memory does not grow with B


def metric(name: str, title: str, better: Literal["higher", "lower"], compute: Compute, **nature: bool) -> Metric:
    """A `Metric` that works through the resamples block by block; `compute` sees float64 weights."""

    def in_blocks(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
        rows = max(1, BLOCK // max(1, weights.shape[1]))
        blocks = (weights[start : start + rows] for start in range(0, len(weights), rows))
        return np.concatenate([compute(y, scores, block.astype(np.float64)) for block in blocks])

    return Metric(name, title, better, in_blocks, **nature)


def weighted_mean(values: np.ndarray, weights: Weights) -> np.ndarray:
    """Mean (B,) of values (N,) in each resample."""
    return weights @ values.astype(np.float64) / weights.sum(axis=1)


def balanced_accuracy(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> np.ndarray:
    """Mean recall (B,) over the classes present in a resample's truth; (N, K) bool each."""
    return _mean_defined(_ratio(_counts(truth & predicted, weights), _counts(truth, weights)))


def macro_f1(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> np.ndarray:
    """Mean F1 (B,) over the classes present in a resample's truth or predictions; (N, K) bool each."""
    hits = _counts(truth & predicted, weights)
    return _mean_defined(_ratio(2 * hits, _counts(truth, weights) + _counts(predicted, weights)))


def micro_f1(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> np.ndarray:
    """F1 (B,) over all decisions of all classes together; (N, K) bool each."""
    hits = _counts(truth & predicted, weights).sum(axis=1)
    return _ratio(2 * hits, (_counts(truth, weights) + _counts(predicted, weights)).sum(axis=1))


def macro_roc_auc(truth: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """Mean (B,) over classes of the chance that a positive outranks a negative, ties counting half; (N, K) each."""
    return _over_classes(_roc_auc, truth, scores, weights)


def macro_average_precision(truth: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """Mean (B,) over classes of the area under the precision-recall steps, not interpolated; (N, K) each."""
    return _over_classes(_average_precision, truth, scores, weights)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, weights: Weights) -> np.ndarray:
    """Gap (B,) between confidence and accuracy, averaged over equal-width bins (Guo et al. 2017, arXiv:1706.04599).

    `confidence` and `correct` are (N,), or (N, K) where each example makes K decisions. The error is a sum of
    absolute values, so noise can only raise it: a small sample overstates it, and a resample of it does once more.
    """
    n = len(confidence)
    confidence, correct = confidence.reshape(n, -1), correct.reshape(n, -1)
    cell = np.arange(n)[:, None] * ECE_BINS + bin_index(confidence, ECE_BINS)
    gaps = np.bincount(cell.ravel(), (confidence - correct).ravel(), n * ECE_BINS).reshape(n, ECE_BINS)
    return np.abs(weights @ gaps).sum(axis=1) / (weights.sum(axis=1) * confidence.shape[1])


def r_squared(y: np.ndarray, predicted: np.ndarray, weights: Weights) -> np.ndarray:
    """Share (B,) of a resample's variance that is explained; NaN where its numbers are all equal. (N,) each."""
    y, predicted = y.astype(np.float64), predicted.astype(np.float64)
    centred = y - y.mean()  # so that the difference of squares below loses no digits
    around_zero = weighted_mean(centred**2, weights)
    variance = around_zero - weighted_mean(centred, weights) ** 2
    variance[variance <= 1e-12 * around_zero] = 0.0
    return 1 - _ratio(weighted_mean((y - predicted) ** 2, weights), variance)


def one_hot(index: np.ndarray, n_classes: int) -> np.ndarray:
    """(N, K) bool with one True a row, from class indices (N,)."""
    return index[:, None] == np.arange(n_classes)


def decisions(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, correct) of each decision: (N,) top labels for class indices y, (N, K) yes or no for 0/1 y."""
    if y.ndim == 1:
        return scores.max(axis=1), scores.argmax(axis=1) == y
    return np.maximum(scores, 1 - scores), (scores >= 0.5) == (y > 0)


def bin_index(confidence: np.ndarray, n_bins: int) -> np.ndarray:
    """Index of the equal-width bin (low, high] of [0, 1] that each confidence falls into; 0 belongs to the first."""
    return np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)


def _counts(chosen: np.ndarray, weights: Weights) -> np.ndarray:
    """(B, K): how much weight each column of `chosen` (N, K) bool holds."""
    return weights @ chosen.astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean (B,) of each row of (B, K) without its NaNs; NaN where a row has nothing else."""
    return _ratio(np.nansum(values, axis=1), (~np.isnan(values)).sum(axis=1, dtype=np.float64))


def _over_classes(statistic: RankStatistic, truth: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    by_example = np.ascontiguousarray(weights.T)  # (N, B): adding up examples then runs along memory
    classes = range(truth.shape[1])
    return _mean_defined(np.stack([statistic(truth[:, k], scores[:, k], by_example) for k in classes], axis=1))


def _roc_auc(positive: np.ndarray, score: np.ndarray, by_example: np.ndarray) -> np.ndarray:
    thresholds, hits = _hits(positive, score, by_example)
    n_negative = by_example[~positive].sum(axis=0)
    above = _negatives_from(thresholds, positive, score, by_example, ties=0.5)
    return _ratio((hits * (n_negative - above)).sum(axis=0), hits.sum(axis=0) * n_negative)


def _average_precision(positive: np.ndarray, score: np.ndarray, by_example: np.ndarray) -> np.ndarray:
    thresholds, hits = _hits(positive, score, by_example)
    found = hits.cumsum(axis=0)
    retrieved = found + _negatives_from(thresholds, positive, score, by_example, ties=1.0)
    precision = np.divide(found, retrieved, out=np.zeros_like(found), where=retrieved > 0)
    return _ratio((hits * precision).sum(axis=0), hits.sum(axis=0))


def _hits(positive: np.ndarray, score: np.ndarray, by_example: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positives' distinct scores, negated so that the highest comes first (V,), and their weight at each (V, B)."""
    thresholds, slot = np.unique(-score[positive], return_inverse=True)
    return thresholds, _summed(slot, np.ones(len(slot)), len(thresholds), by_example[positive])


def _negatives_from(
    thresholds: np.ndarray, positive: np.ndarray, score: np.ndarray, by_example: np.ndarray, ties: float
) -> np.ndarray:
    """Weight (V, B) of the negatives that rank above each threshold; one that ties with it counts as `ties`."""
    negated = -score[~positive]
    reaches = np.searchsorted(thresholds, negated, side="left")  # first threshold that it ties with or outranks
    outranks = np.searchsorted(thresholds, negated, side="right")
    slot = np.stack([reaches, outranks], axis=1).ravel()
    share = np.tile([ties, 1.0 - ties], len(negated))
    n = len(thresholds)
    return _summed(slot, share, n + 1, by_example[~positive])[:n].cumsum(axis=0)


def _summed(slot: np.ndarray, share: np.ndarray, n_slots: int, by_example: np.ndarray) -> np.ndarray:
    """(n_slots, B): each example (a row of `by_example`) added, times its shares, to its slots (as many for each)."""
    n = len(by_example)
    row_ends = np.linspace(0, len(slot), n + 1).astype(np.int64)
    return sparse.csr_array((share, slot, row_ends), shape=(n, n_slots)).T @ by_example
