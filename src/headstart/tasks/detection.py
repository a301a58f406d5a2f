"""Boxes: which objects a picture holds, and where; scored by average precision (COCO, arXiv:1405.0312)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.errors import DataError
from headstart.tasks.base import Metric, Task, Weights, one_each
from headstart.tasks.boxes import Detections, Objects, overlaps, suppressed
from headstart.tasks.classification import class_indices, natural_order
from headstart.tasks.coco import MOST, Matched

USUAL = 0.5  # overlap from which a box of another picture stands where this one does
MOST_USUAL = 2000  # boxes of train that the guess is made of
N_KEPT = 8  # matchings that are kept: validation and test, of a few systems

Average = Callable[[np.ndarray], np.ndarray]  # (K, T, B) -> (B,)


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """Each picture holds any number of objects of K classes. y is (N,) of Objects, scores are (N,) of Detections."""

    title = "boxes"
    naive_title = "the usual boxes"

    class_names: tuple[str, ...]

    @classmethod
    def from_labels(cls, labels: Sequence[dict[str, Any]]) -> Detection:
        """The distinct names in natural order; DataError when no picture has a box."""
        class_names = natural_order({box["name"] for label in labels for box in label["boxes"]})
        if not class_names:
            raise DataError("No picture has a box, so there is nothing to learn. Give boxes, if only to some pictures.")
        return cls(class_names=class_names)

    def to_json(self) -> dict[str, Any]:
        """{"class_names": [...]}."""
        return {"class_names": list(self.class_names)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Detection:
        """The inverse of `to_json`."""
        return cls(class_names=tuple(saved["class_names"]))

    def encode(self, labels: Sequence[dict[str, Any]]) -> np.ndarray:
        """Objects (N,), in a fixed order; DataError for a name that is not one of the class names."""
        return one_each([self._objects(label) for label in labels])

    def _objects(self, label: dict[str, Any]) -> Objects:
        boxes = sorted(label["boxes"], key=lambda one: (one["name"], one["x"], one["y"], one["width"], one["height"]))
        corners = [[one["x"], one["y"], one["x"] + one["width"], one["y"] + one["height"]] for one in boxes]
        return Objects(
            np.array(corners, dtype=np.float32).reshape(-1, 4),
            class_indices([one["name"] for one in boxes], self.class_names),
            np.array([one["ignored"] for one in boxes], dtype=bool),
            (int(label["width"]), int(label["height"])),
        )

    def naive(self, y: np.ndarray, n: int) -> np.ndarray:
        """The boxes that recur in train, in relative size, n times; a class's more usual ones are surer."""
        of_picture, boxes, classes = _relative(y)
        rows = np.linspace(0, len(boxes) - 1, min(len(boxes), MOST_USUAL)).astype(int)
        share = np.zeros(len(rows), dtype=np.float32)
        for k in np.unique(classes[rows]):
            own = np.flatnonzero(classes[rows] == k)
            near = overlaps(boxes[rows[own]], boxes[rows[own]]) > USUAL
            pictures = of_picture[rows[own]]
            share[own] = [len(np.unique(pictures[row])) / len(y) for row in near]
        kept = suppressed(boxes[rows], classes[rows], share, USUAL, MOST)
        usual = Detections(boxes[rows[kept]], classes[rows[kept]], share[kept], (1, 1))
        return one_each([usual] * n)

    def decode(self, scores: np.ndarray) -> list[list[dict[str, Any]]]:
        """For each picture a list of {"name", "x", "y", "width", "height", "confidence"}, in pixels, the surest first.

        x and y are those of the top left corner.
        """
        return [
            [
                {
                    "name": self.class_names[k],
                    **{name: float(value) for name, value in zip(("x", "y"), box[:2], strict=True)},
                    "width": float(box[2] - box[0]),
                    "height": float(box[3] - box[1]),
                    "confidence": float(confidence),
                }
                for k, box, confidence in zip(one.classes, one.boxes, one.confidence, strict=True)
            ]
            for one in scores
        ]

    def metrics(self) -> tuple[Metric, ...]:
        """COCO's average precision first; those of small, medium and large objects where there are any."""
        named: list[tuple[str, str, str, Average]] = [
            ("map", "mAP", "all", lambda found: _mean(found)),
            ("map50", "mAP50", "all", lambda found: _mean(found[:, :1])),
            ("map75", "mAP75", "all", lambda found: _mean(found[:, 5:6])),
            ("map_small", "mAP, small objects", "small", lambda found: _mean(found)),
            ("map_medium", "mAP, medium objects", "medium", lambda found: _mean(found)),
            ("map_large", "mAP, large objects", "large", lambda found: _mean(found)),
        ]
        return tuple(
            Metric(name, title, "higher", self._measure(area, average)) for name, title, area, average in named
        )

    def _measure(self, area: str, average: Average) -> Callable[[np.ndarray, np.ndarray, Weights], np.ndarray]:
        def measure(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
            found = matched(y, scores, len(self.class_names))
            plain = found.average_precision(np.ones((1, len(y))), area)
            # a resample that lost a rare class keeps its plain value: left out, it would move the mean
            resampled = found.average_precision(weights, area)
            return average(np.where(np.isnan(resampled), plain, resampled))

        return measure

    @property
    def score_names(self) -> tuple[str, ...]:
        """The class names."""
        return self.class_names


_matched: OrderedDict[tuple[int, ...], tuple[np.ndarray, np.ndarray, Matched]] = OrderedDict()


def matched(y: np.ndarray, scores: np.ndarray, n_classes: int) -> Matched:
    """Which detections hit which objects; asked once for the same arrays."""
    key = (id(y), id(scores), n_classes)
    if key not in _matched:
        _matched[key] = (y, scores, Matched(list(y), list(scores), n_classes))  # kept alive, so that ids stay theirs
        while len(_matched) > N_KEPT:
            _matched.popitem(last=False)
    return _matched[key][2]


def _mean(found: np.ndarray) -> np.ndarray:
    """(K, T, B) to (B,): over classes and overlaps; NaN where no class has an object."""
    known = ~np.isnan(found)
    total = np.where(known, found, 0).sum(axis=(0, 1))
    n = known.sum(axis=(0, 1))
    return np.divide(total, n, out=np.full(len(total), np.nan), where=n > 0)


def _relative(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(which picture, relative boxes (n, 4), classes (n,)) of all objects that count."""
    pictures = np.concatenate([np.full(len(one), i) for i, one in enumerate(y)]).astype(int)
    boxes = np.concatenate([one.boxes / np.array(one.size * 2, np.float32) for one in y])
    classes, ignored = (np.concatenate([getattr(one, name) for one in y]) for name in ("classes", "ignored"))
    return pictures[~ignored], boxes[~ignored], classes[~ignored]
