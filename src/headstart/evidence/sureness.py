"""How sure a detector must be: confidences that mean what they say, and a threshold for each class, from validation.

Calibration is a line through the log-odds of the scores (Platt 1999, Advances in Large Margin Classifiers), fitted to
whether a detection hits an object at an overlap of 0.5, each object hit once, as COCO counts. All classes together get
a line near the identity, and each class one near theirs: the fewer detections a class has, the nearer.

The threshold is the one of the highest F1. On a few objects that is a noisy choice, so it is the mean of the choices on
resamples of the pictures, drawn towards the choice for all classes together as far as a class has few objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.engine.detector import Sure
from headstart.engine.platt import Line
from headstart.evidence.intervals import resamples
from headstart.evidence.platt import fitted
from headstart.tasks.base import Task, Weights
from headstart.tasks.coco import AT_ONCE, Hits
from headstart.tasks.detection import matched

N_RESAMPLES = 200
N_PRIOR = 10  # objects that the common threshold is worth
USUAL = Sure()


@dataclass(frozen=True)
class Judged:
    """Detections that count, the surest first, and whether each hit an object."""

    picture: np.ndarray  # (D,)
    confidence: np.ndarray  # (D,)
    hit: np.ndarray  # (D,) bool
    n_objects: np.ndarray  # (N,) of each picture

    @classmethod
    def of(cls, hits: Hits) -> Judged:
        """At the least overlap, 0.5; what fell on ignored objects is left out."""
        counts = ~hits.ignored[0]
        return cls(hits.picture[counts], hits.confidence[counts], hits.hit[0, counts], hits.n_objects)

    def calibrated(self, line: Line) -> Judged:
        """With confidences on this line; their order stays."""
        return Judged(self.picture, line.of(self.confidence), self.hit, self.n_objects)


def sureness(task: Task, y: np.ndarray, found: np.ndarray) -> tuple[Sure, ...]:
    """What the scores of each class mean, and from which confidence its boxes are shown.

    y (N,) Objects and found (N,) Detections of validation, as the network scores them.
    """
    matching = matched(y, found, len(task.score_names))
    each = [Judged.of(matching.hits(k, "all")) for k in range(len(task.score_names))]
    common = calibration(together(each), USUAL)
    lines = [calibration(one, common) for one in each]
    calibrated = [one.calibrated(line) for one, line in zip(each, lines, strict=True)]
    weights = resamples(len(y), N_RESAMPLES, 0)
    shared = threshold(together(calibrated), weights, USUAL.threshold)
    return tuple(
        Sure(slope=line.slope, offset=line.offset, threshold=threshold(one, weights, shared))
        for one, line in zip(calibrated, lines, strict=True)
    )


def together(each: list[Judged]) -> Judged:
    """The detections of all classes as those of one."""
    confidence = np.concatenate([one.confidence for one in each])
    order = np.argsort(-confidence, kind="stable")
    picture, hit = (np.concatenate([getattr(one, name) for one in each])[order] for name in ("picture", "hit"))
    return Judged(picture, confidence[order], hit, np.sum([one.n_objects for one in each], axis=0))


def calibration(judged: Judged, near: Line) -> Line:
    """The line of what was hit, near another one."""
    return fitted(judged.confidence, judged.hit, near)


def threshold(judged: Judged, weights: Weights, near: float) -> float:
    """From which confidence boxes are shown, chosen on resamples (B, N); 0.5 without an object or a detection.

    `near` is what a choice on few objects is drawn to.
    """
    n = float(judged.n_objects.sum())
    if not n or not len(judged.hit):
        return USUAL.threshold
    each = best_thresholds(judged, weights)
    each = each[~np.isnan(each)]
    return float((n * each.mean() + N_PRIOR * near) / (n + N_PRIOR)) if len(each) else near


def best_thresholds(judged: Judged, weights: Weights) -> np.ndarray:
    """(B,) confidences of the highest F1 in resamples (B, N): midway between what is shown and what no more is.

    The highest of equals; NaN where a resample holds no object, or no detection of one.
    """
    step = max(1, AT_ONCE // len(judged.hit))
    parts = [_best_thresholds(judged, weights[start : start + step]) for start in range(0, len(weights), step)]
    return np.concatenate(parts)


def _best_thresholds(judged: Judged, weights: Weights) -> np.ndarray:
    confidence = judged.confidence
    each = weights[:, judged.picture].astype(np.float64)
    hits, said = (each * judged.hit).cumsum(axis=1), each.cumsum(axis=1)
    n_objects = (weights @ judged.n_objects)[:, None]
    f1 = 2 * hits / np.maximum(said + n_objects, 1.0)
    f1[:, :-1][:, confidence[:-1] == confidence[1:]] = -1.0  # equals are shown together
    best = f1.argmax(axis=1)
    after = np.append(confidence[1:], 0.0)
    return np.where(f1.max(axis=1) > 0, (confidence[best] + after[best]) / 2, np.nan)
