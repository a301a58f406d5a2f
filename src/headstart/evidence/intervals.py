"""95 % bootstrap intervals of scores, and of differences on the same resamples.

The percentile bootstrap of Efron & Tibshirani 1993 (An Introduction to the Bootstrap, ch. 13); systems are compared
on the same resamples, so that what is hard for both cancels out (Koehn 2004, ACL W04-3250). The intervals speak of
the sampling of test examples only, not of another training set or seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headstart.evidence.base import Score, Scores
from headstart.evidence.words import wilson
from headstart.tasks.base import Metric, Weights

PERCENTILES = (2.5, 97.5)

Values = dict[str, np.ndarray]  # metric name -> (1 + B,): on the plain sample, then on each resample


def resamples(n: int, n_resamples: int, seed: int, groups: Sequence[str] | np.ndarray | None = None) -> Weights:
    """How often each of n examples is drawn in each resample, (n_resamples, n) uint16.

    Draws n examples with replacement; with `groups` (n,), draws whole groups, as many as there are: the examples of
    one patient or speaker are not independent, and drawing them one by one would promise too much.
    """
    unit = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    n_units = int(unit.max()) + 1
    rng = np.random.default_rng(seed)
    counts = np.empty((n_resamples, n_units), dtype=np.uint16)
    for row in counts:
        row[:] = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units)
    return counts if groups is None else counts[:, unit]


def score(
    metrics: Sequence[Metric], y: np.ndarray, scores: np.ndarray, weights: Weights, n_units: int | None = None
) -> Scores:
    """Each metric's value on the plain sample, with its interval; a metric that is undefined there is left out.

    `n_units` is how many independent units (groups) the examples belong to; None is one each.
    """
    return _intervals(metrics, _values(metrics, y, scores, weights), n_units or len(y))


def compare(
    metrics: Sequence[Metric],
    y: np.ndarray,
    systems: Mapping[str, np.ndarray],
    model: str,
    weights: Weights,
    n_units: int | None = None,
) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """(scores of each system, `model` minus each other system); `systems` holds scores (N, K) by name."""
    values = {name: _values(metrics, y, scores, weights) for name, scores in systems.items()}
    return (
        {name: _intervals(metrics, found, n_units or len(y)) for name, found in values.items()},
        {name: _intervals(metrics, _minus(values[model], found)) for name, found in values.items() if name != model},
    )


def _values(metrics: Sequence[Metric], y: np.ndarray, scores: np.ndarray, weights: Weights) -> Values:
    plain = np.ones((1, len(y)))
    return {m.name: np.concatenate([m.compute(y, scores, plain), m.compute(y, scores, weights)]) for m in metrics}


def _minus(a: Values, b: Values) -> Values:
    return {name: a[name] - b[name] for name in a}


def _intervals(metrics: Sequence[Metric], values: Values, n: int | None = None) -> Scores:
    """No value without its interval: one that is NaN, or whose resamples all are, stays out.

    `n` independent units were scored; None for differences. Where all are alike (no mistake at all), every resample
    is too, and the percentiles shrink to a point; a proportion then gets its Wilson interval (1927,
    doi:10.2307/2276774). A metric that noise moves one way only leans further in the resamples, which are noisier:
    their mean shift is taken off, and the value lies within.
    """
    found = {}
    for metric in metrics:
        plain, *resampled = values[metric.name]
        defined = np.array(resampled)[~np.isnan(resampled)]
        if np.isnan(plain) or not len(defined):
            continue
        low, high = np.percentile(defined, PERCENTILES)
        if metric.leans:
            shift = defined.mean() - plain
            floor = -np.inf if n is None else 0.0
            low, high = max(floor, min(low - shift, plain)), max(high - shift, plain)
        if metric.proportion and low == high and n is not None:
            low, high = wilson(plain * n, n)
        found[metric.name] = Score(float(plain), float(low), float(high))
    return found
