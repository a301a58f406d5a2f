"""Learning curves: what each way to learn scores with how many labels, and how many labels transfer saved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from headstart.evidence import words


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One way to learn with one number of labels, over several seeds, on the same test examples."""

    system: str  # "probe", "full", "scratch", "TF-IDF of words + logistic regression"
    n_labels: int  # train and validation together
    scores: tuple[float, ...]  # of the metric on test, one a seed
    seconds: float  # mean over the seeds

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.scores))

    @property
    def sd(self) -> float:
        """Standard deviation over the seeds (n - 1); 0 for a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `headstart compare` found."""

    data: str  # name of the data set
    backbone: str
    metric: str
    metric_title: str
    better: str  # "higher" or "lower"
    n_test: int
    points: tuple[CurvePoint, ...]
    saved: tuple[str, ...]  # sentences: how many labels each rival would need for the same score

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def systems(self) -> dict[str, list[CurvePoint]]:
        """Each system's points, fewest labels first; systems in the order they were given."""
        return by_system(self.points)


def by_system(points: Sequence[CurvePoint]) -> dict[str, list[CurvePoint]]:
    """Each system's points, fewest labels first; systems in the order of their first point."""
    found: dict[str, list[CurvePoint]] = {}
    for point in points:
        found.setdefault(point.system, []).append(point)
    return {system: sorted(own, key=lambda point: point.n_labels) for system, own in found.items()}


def labels_saved(points: Sequence[CurvePoint], better: str, reference: str) -> tuple[str, ...]:
    """How many labels each rival would need for the mean score of `reference` at its most, and at its fewest, labels.

    Between measured budgets a rival's mean score is taken to run straight over log2(n_labels); where it comes and
    goes, its first arrival counts. Beyond the measured budgets nothing is claimed but "more than" and "or fewer".
    `better` is "higher" or "lower". A point whose mean is not defined says nothing.
    """
    if better not in ("higher", "lower"):
        raise ValueError(f"better={better!r}, but it is 'higher' or 'lower'.")
    curves = by_system([point for point in points if math.isfinite(point.mean)])
    own = curves.pop(reference, [])
    marks = {own[-1].n_labels: own[-1], own[0].n_labels: own[0]} if own else {}
    return tuple(
        f"{rival} needs {_needed(curve, mark.mean, better)} for what {reference} scores with "
        f"{words.count(mark.n_labels)} ({words.number(mark.mean)})."
        for mark in marks.values()
        for rival, curve in curves.items()
    )


def _needed(curve: Sequence[CurvePoint], goal: float, better: str) -> str:
    """'about 410 labels': where a curve, fewest labels first, arrives at a score."""
    sign = 1.0 if better == "higher" else -1.0
    short = [sign * (goal - point.mean) for point in curve]  # how far each point falls short
    if short[0] <= 0:
        return f"{words.count(curve[0].n_labels)} or fewer labels"
    for (before, after), (gap, rest) in zip(pairwise(curve), pairwise(short), strict=True):
        if rest <= 0:
            low, high = math.log2(before.n_labels), math.log2(after.n_labels)
            return f"about {words.count(round(2 ** (low + (high - low) * gap / (gap - rest))))} labels"
    return f"more than {words.count(curve[-1].n_labels)} labels"
