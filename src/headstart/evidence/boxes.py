"""What a detector proves beside its average precision: per class, at the thresholds at which its boxes are shown.

A box hits an object when they overlap by 0.5 or more, each object is hit once, the surest box first (COCO,
arXiv:1405.0312). Every figure has its interval over the same resamples of the pictures as the other metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from headstart.engine.detector import Sure
from headstart.evidence.base import Score
from headstart.evidence.calibration import Bin
from headstart.evidence.intervals import PERCENTILES
from headstart.evidence.sureness import Judged
from headstart.evidence.words import wilson
from headstart.tasks.base import Task, Weights, one_each
from headstart.tasks.boxes import Detections, Objects, overlaps
from headstart.tasks.coco import RECALLS, in_pixels, precision_recall
from headstart.tasks.detection import matched
from headstart.tasks.metrics import bin_index

HIT = 0.5  # least intersection over union of a box and the object that it hits
EVEN = 1 - 1e-10  # pycocotools lets no overlap asked for be above this
N_BINS = 10  # of calibration
LEAST_SURE = 0.05  # boxes that are less sure are never shown: they say nothing of calibration


@dataclass(frozen=True, kw_only=True)
class ClassBoxes:
    """One class on the test pictures. What its objects or boxes do not define is None."""

    name: str
    n_objects: int  # those that count
    n_pictures: int  # that hold one
    ap: Score | None  # COCO's average precision, at overlaps from 0.5 to 0.95
    ap50: Score | None  # at an overlap of 0.5
    threshold: float  # of the confidence, from which boxes are shown
    precision: Score | None  # share of the shown boxes that hit
    recall: Score | None  # share of the objects that were hit
    f1: Score | None
    n_shown: int
    count_error: Score  # mean over pictures of |shown boxes - objects|
    count_bias: Score  # mean over pictures of shown boxes - objects
    curve: tuple[tuple[float, float], ...]  # (recall, precision) at up to 101 recalls, as COCO interpolates them


@dataclass(frozen=True, kw_only=True)
class BoxEvidence:
    """All classes, what was taken for what, and whether confidences mean what they say."""

    n_pictures: int
    overlap: float  # from which a box hits
    classes: tuple[ClassBoxes, ...]
    confusion: tuple[tuple[int, ...], ...]  # (K + 1, K + 1): row true, column shown; the last of each is "nothing"
    calibration: tuple[Bin, ...]  # of all classes; a bin's accuracy is its share of hits

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure_boxes(
    task: Task, y: np.ndarray, found: np.ndarray, sure: Sequence[Sure], weights: Weights, n_units: int | None
) -> BoxEvidence:
    """The evidence of test: y (N,) Objects, found (N,) calibrated Detections, all that were made; weights (B, N).

    `n_units` is how many independent units (groups) the pictures belong to; None is one each.
    """
    matching = matched(y, found, len(task.score_names))
    each = [Judged.of(matching.hits(k, "all")) for k in range(len(task.score_names))]
    precisions = _with_intervals(matching.average_precision, weights)
    counting = _Counting(weights, n_units or len(y))
    return BoxEvidence(
        n_pictures=len(y),
        overlap=HIT,
        classes=tuple(
            _class(name, one, threshold.threshold, ap, counting)
            for name, one, threshold, ap in zip(task.score_names, each, sure, precisions, strict=True)
        ),
        confusion=_rows(confusion(y, shown(found, sure), len(task.score_names))),
        calibration=box_calibration(each, weights),
    )


def shown(found: np.ndarray, sure: Sequence[Sure]) -> np.ndarray:
    """Of calibrated Detections (N,) those that reach the threshold of their class."""
    least = np.array([one.threshold for one in sure], dtype=np.float64)
    return one_each([one.take(one.confidence >= least[one.classes]) for one in found])


class _Counting(NamedTuple):
    weights: Weights  # (B, N)
    n_units: int

    def score(self, value: Any) -> Score | None:
        """The value of a statistic of weights (B, N), with its interval; None where it is not defined."""
        return score_of(float(value(np.ones((1, self.weights.shape[1])))[0]), value(self.weights))

    def share(self, part: np.ndarray, whole: np.ndarray) -> Score | None:
        """Sum of `part` (N,) over that of `whole` (N,); where no resample varies, the Wilson interval over pictures."""
        found = self.score(lambda weights: _ratio(weights @ part, weights @ whole))
        if found is None or found.low < found.high:
            return found
        n = min(self.n_units, int(np.count_nonzero(whole)))  # boxes of one picture are not independent
        return Score(found.value, *map(float, wilson(found.value * n, n)))


def score_of(value: float, resampled: np.ndarray) -> Score | None:
    """A value with the percentiles of its resamples (B,); None where it is NaN, or all of them are."""
    defined = resampled[~np.isnan(resampled)]
    if np.isnan(value) or not len(defined):
        return None
    low, high = np.percentile(defined, PERCENTILES)
    return Score(value, min(float(low), value), max(float(high), value))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _with_intervals(average_precision: Any, weights: Weights) -> list[tuple[Score | None, Score | None]]:
    """(AP, AP50) of each class."""
    plain = average_precision(np.ones((1, weights.shape[1])))
    resampled = average_precision(weights)
    return [
        (score_of(float(one[:, 0].mean()), each.mean(axis=0)), score_of(float(one[0, 0]), each[0]))
        for one, each in zip(plain, resampled, strict=True)
    ]


def _class(
    name: str, judged: Judged, threshold: float, ap: tuple[Score | None, Score | None], counting: _Counting
) -> ClassBoxes:
    n = len(judged.n_objects)
    reaches = judged.confidence >= threshold
    said = np.bincount(judged.picture[reaches], minlength=n).astype(np.float64)
    hits = np.bincount(judged.picture[reaches & judged.hit], minlength=n).astype(np.float64)
    off = said - judged.n_objects
    error, bias = (counting.score(lambda w, v=v: w @ v / w.sum(axis=1)) for v in (np.abs(off), off))
    assert error is not None
    assert bias is not None
    return ClassBoxes(
        name=name,
        n_objects=int(judged.n_objects.sum()),
        n_pictures=int(np.count_nonzero(judged.n_objects)),
        ap=ap[0],
        ap50=ap[1],
        threshold=threshold,
        precision=counting.share(hits, said),
        recall=counting.share(hits, judged.n_objects),
        f1=counting.share(2 * hits, said + judged.n_objects),
        n_shown=int(said.sum()),
        count_error=error,
        count_bias=bias,
        curve=curve(judged),
    )


def curve(judged: Judged) -> tuple[tuple[float, float], ...]:
    """(recall, highest precision at that recall or more) at those of COCO's 101 recalls that are reached."""
    n_objects = np.array([judged.n_objects.sum()])
    if not n_objects[0] or not len(judged.hit):
        return ()
    hit = judged.hit[None].astype(np.float64)
    recall, precision = precision_recall(hit, 1 - hit, n_objects)
    place = np.searchsorted(recall[0], RECALLS, side="left")
    reached = place < recall.shape[1]
    pairs = zip(RECALLS[reached].tolist(), precision[0, place[reached]].tolist(), strict=True)
    return tuple((round(r, 2), p) for r, p in pairs)


def box_calibration(each: Sequence[Judged], weights: Weights) -> tuple[Bin, ...]:
    """Confidence against the share of hits, in bins of equal width, of boxes that are not out of the question."""
    confidence, hit, picture = (
        np.concatenate([getattr(one, name) for one in each]) for name in ("confidence", "hit", "picture")
    )
    sure = confidence >= LEAST_SURE
    confidence, hit, picture = confidence[sure], hit[sure], picture[sure]
    index, n = bin_index(confidence, N_BINS), weights.shape[1]
    bins = []
    for b in np.unique(index):
        own = index == b
        hits, said = (np.bincount(picture[some], minlength=n).astype(float) for some in (own & hit, own))
        share = _Counting(weights, n).share(hits, said)
        assert share is not None
        interval = (share.low, share.high)
        bins.append(Bin(float(confidence[own].mean()), share.value, int(own.sum()), interval))
    return tuple(bins)


class Pairs(NamedTuple):
    """Which shown boxes of a picture go with which objects."""

    right: list[tuple[int, int]]  # (object, box) of one class
    wrong: list[tuple[int, int]]  # (object, box) that overlap, of different classes
    missed: list[int]  # objects that no box hit
    false: list[int]  # boxes that hit nothing


def pair(truth: Objects, found: Detections) -> Pairs:
    """Objects and boxes of one picture, the surest box first: those of one class, then of those left, any.

    The right pairs are COCO's. Boxes on ignored objects are in neither list.
    """
    found = replace(found, boxes=in_pixels(found, truth.size))
    shared = overlaps(found.boxes.astype(np.float64), truth.boxes.astype(np.float64))
    same = found.classes[:, None] == truth.classes[None, :]
    order = np.argsort(-found.confidence, kind="stable")
    right = _greedy(shared * (same & ~truth.ignored), order)
    taken = {box for _, box in right} | _on_ignored(found, truth, same)
    left = shared * ~truth.ignored
    left[:, [one for one, _ in right]] = 0
    wrong = _greedy(left * ~same, np.array([box for box in order if box not in taken], dtype=int))
    hit = {one for one, _ in right + wrong}
    return Pairs(
        right,
        wrong,
        [one for one in np.flatnonzero(~truth.ignored).tolist() if one not in hit],
        [box for box in order.tolist() if box not in taken | {box for _, box in wrong}],
    )


def _greedy(shared: np.ndarray, order: np.ndarray) -> list[tuple[int, int]]:
    """(object, box): each box in order takes the free object that it overlaps most, by `HIT` at least; (D, n)."""
    shared, pairs = shared.copy(), []
    for box in order.tolist():
        if shared.shape[1] and shared[box].max() >= min(HIT, EVEN):
            one = shared.shape[1] - 1 - int(shared[box, ::-1].argmax())  # of equals the last, as in pycocotools
            pairs.append((one, box))
            shared[:, one] = 0
    return pairs


def _on_ignored(found: Detections, truth: Objects, same: np.ndarray) -> set[int]:
    """Boxes that lie by half or more on an ignored object of their class: crowds share their area with many."""
    crowd = truth.boxes[truth.ignored].astype(np.float64)
    a, b = found.boxes[:, None].astype(np.float64), crowd[None]
    inside = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(axis=-1)
    area = np.maximum((a[..., 2:] - a[..., :2]).prod(axis=-1), 1e-7)
    on = (inside / area >= HIT) & same[:, truth.ignored]
    return set(np.flatnonzero(on.any(axis=1)).tolist())


def confusion(y: np.ndarray, found: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts (K + 1, K + 1) of shown boxes: row true, column shown, the last of each "nothing"; the corner is 0."""
    counts = np.zeros((n_classes + 1,) * 2, dtype=np.int64)
    for truth, one in zip(y, found, strict=True):
        pairs = pair(truth, one)
        for i, box in pairs.right + pairs.wrong:
            counts[truth.classes[i], one.classes[box]] += 1
        np.add.at(counts, (truth.classes[pairs.missed], n_classes), 1)
        np.add.at(counts, (n_classes, one.classes[pairs.false]), 1)
    return counts


def _rows(counts: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in counts.tolist())
