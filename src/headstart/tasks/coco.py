"""Average precision as COCO measures it (Lin et al. 2014, arXiv:1405.0312), for many resamples of the pictures at once.

pycocotools says which detection hits which object. That depends on one picture alone, so it is asked once; precision
and recall are then added up for every resample. On the plain sample the result is pycocotools' own.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.errors import MissingExtraError
from headstart.tasks.base import Weights
from headstart.tasks.boxes import Detections, Objects

AREAS = ("all", "small", "medium", "large")  # under 32², under 96², and above, in pixels of the picture
MOST = 100  # detections of a picture and class that count
AT_ONCE = 1 << 24  # numbers that are added up at once


@dataclass(frozen=True)
class Hits:
    """Of one class and range of sizes: every detection, the surest first, and how many objects there are."""

    picture: np.ndarray  # (D,) which it was found in
    confidence: np.ndarray  # (D,)
    hit: np.ndarray  # (T, D) whether it is an object, at each overlap that is asked for
    ignored: np.ndarray  # (T, D) whether it counts neither way
    n_objects: np.ndarray  # (N,) objects that count, of each picture


class Matched:
    """Which detections of N pictures hit which objects."""

    def __init__(self, y: Sequence[Objects], scores: Sequence[Detections], n_classes: int) -> None:
        self.n_classes = n_classes
        self._evaluation = evaluated(y, scores, n_classes)
        self._known: dict[str, list[tuple[Weights, np.ndarray]]] = {}

    @property
    def overlaps(self) -> np.ndarray:
        """(T,) least intersection over union of a hit: 0.5, 0.55 … 0.95."""
        return self._evaluation.params.iouThrs

    def hits(self, k: int, area: str) -> Hits:
        """Those of class k and a range of sizes."""
        n = len(self._evaluation.params.imgIds)
        start = (k * len(AREAS) + AREAS.index(area)) * n
        found = [(i, one) for i, one in enumerate(self._evaluation.evalImgs[start : start + n]) if one is not None]
        n_objects = np.zeros(n)
        for i, one in found:
            n_objects[i] = np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)
        confidence = np.concatenate([np.asarray(one["dtScores"], float) for _, one in found] or [np.zeros(0)])
        order = np.argsort(-confidence, kind="mergesort")
        wide = np.zeros((len(self.overlaps), 0), bool)
        return Hits(
            np.repeat([i for i, _ in found], [len(one["dtScores"]) for _, one in found]).astype(int)[order],
            confidence[order],
            np.concatenate([wide, *(one["dtMatches"] > 0 for _, one in found)], axis=1)[:, order],
            np.concatenate([wide, *(one["dtIgnore"].astype(bool) for _, one in found)], axis=1)[:, order],
            n_objects,
        )

    def average_precision(self, weights: Weights, area: str = "all") -> np.ndarray:
        """(K, T, B): of each class, at each overlap, in each resample; NaN where it holds no object.

        Several metrics ask for the same: what was asked last with the same weights is kept.
        """
        known = self._known.setdefault(area, [])
        for theirs, found in known:
            if theirs is weights or np.array_equal(theirs, weights):
                return found
        found = np.stack([self._of_class(self.hits(k, area), weights) for k in range(self.n_classes)])
        self._known[area] = [*known[-1:], (weights, found)]
        return found

    def _of_class(self, hits: Hits, weights: Weights) -> np.ndarray:
        """(T, B)."""
        found = np.full((len(self.overlaps), len(weights)), np.nan)
        step = max(1, AT_ONCE // max(1, len(hits.picture)))
        for start in range(0, len(weights), step):
            some = np.asarray(weights[start : start + step], dtype=np.float64)
            n_objects = some @ hits.n_objects
            for t in range(len(found)):
                counted = ~hits.ignored[t]
                each, hit = some[:, hits.picture[counted]], hits.hit[t][counted]
                found[t, start : start + step] = interpolated(each * hit, each * ~hit, n_objects)
        return found


def interpolated(hits: np.ndarray, misses: np.ndarray, n_objects: np.ndarray) -> np.ndarray:
    """Mean precision (B,) at 101 recalls, of weights (B, D) of right and of wrong detections, the surest first."""
    recall, precision = precision_recall(hits, misses, n_objects)
    out = np.full(len(hits), np.nan)
    for row in np.flatnonzero(n_objects > 0):
        place = np.searchsorted(recall[row], RECALLS, side="left")
        within = place < recall.shape[1]
        out[row] = precision[row, place[within]].sum() / len(RECALLS)
    return out


def precision_recall(hits: np.ndarray, misses: np.ndarray, n_objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall, highest precision at that recall or more), (B, D) each."""
    right, wrong = hits.cumsum(axis=1), misses.cumsum(axis=1)
    precision = right / (right + wrong + np.spacing(1))
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return right / np.maximum(n_objects, np.spacing(1))[:, None], highest


RECALLS = np.linspace(0.0, 1.00, 101)  # as pycocotools has them


def evaluated(y: Sequence[Objects], scores: Sequence[Detections], n_classes: int) -> Any:
    """pycocotools' own evaluation, before it adds up: `COCOeval` of N pictures, numbered from 1."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingExtraError("pycocotools", "detection") from None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = as_coco(y, [str(k) for k in range(n_classes)])
        truth.createIndex()
        found = COCO()
        found.dataset = {**truth.dataset, "annotations": _results(y, scores)}
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
    return evaluation


def as_coco(y: Sequence[Objects], class_names: Sequence[str], files: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a COCO file; pictures, boxes and categories are numbered from 1."""
    sizes = [dict(zip(("width", "height"), one.size, strict=True)) for one in y]
    names = files or [str(i + 1) for i in range(len(y))]
    boxes = [(i, k, box, crowd) for i, one in enumerate(y) for k, box, crowd in _each(one)]
    return {
        "images": [
            {"id": i + 1, "file_name": name, **size} for i, (name, size) in enumerate(zip(names, sizes, strict=True))
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(class_names)],
        "annotations": [
            {"id": n + 1, "image_id": i + 1, "category_id": k + 1, "iscrowd": int(crowd), **_box(box)}
            for n, (i, k, box, crowd) in enumerate(boxes)
        ],
    }


def results(scores: Sequence[Detections], ids: Sequence[int]) -> list[dict[str, Any]]:
    """Detections in COCO's format for results: one object a box, `image_id` from `ids`, categories from 1."""
    return [
        {"image_id": number, "category_id": int(k) + 1, "bbox": _box(box)["bbox"], "score": float(confidence)}
        for number, one in zip(ids, scores, strict=True)
        for k, box, confidence in zip(one.classes, one.boxes, one.confidence, strict=True)
    ]


def _results(y: Sequence[Objects], scores: Sequence[Detections]) -> list[dict[str, Any]]:
    """With areas and numbers, the boxes in pixels of the labelled pictures."""
    scaled = [
        Detections(in_pixels(one, own.size), one.classes, one.confidence, own.size)
        for own, one in zip(y, scores, strict=True)
    ]
    rows = results(scaled, range(1, len(y) + 1))
    return [{**row, **_box_of(row["bbox"]), "id": n + 1, "iscrowd": 0} for n, row in enumerate(rows)]


def in_pixels(found: Detections, size: tuple[int, int]) -> np.ndarray:
    """Its boxes (n, 4) in a picture of this size, where it speaks of one of another."""
    scale = np.array([size[0] / found.size[0], size[1] / found.size[1]] * 2)
    return found.boxes * scale


def _each(one: Objects) -> Sequence[tuple[int, np.ndarray, bool]]:
    return [(int(k), box, bool(crowd)) for k, box, crowd in zip(one.classes, one.boxes, one.ignored, strict=True)]


def _box(box: np.ndarray) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in box)
    return _box_of([left, top, right - left, bottom - top])


def _box_of(box: list[float]) -> dict[str, Any]:
    return {"bbox": box, "area": box[2] * box[3]}
