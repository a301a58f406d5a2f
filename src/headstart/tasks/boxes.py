"""Boxes: what a picture holds, what a detector says of it, how much two boxes share, and which of several to keep.

A box is (left, top, right, bottom). In an `Objects` or a `Detections` it is in pixels of the upright picture, the top
left corner at (0, 0); where a function says "relative", it is in shares of the picture's width and height.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

ABOVE = 1e-7  # keeps a share of nothing at 0


@dataclass(frozen=True)
class Objects:
    """The labelled objects of one picture."""

    boxes: np.ndarray  # (n, 4) float32, in pixels
    classes: np.ndarray  # (n,) int64
    ignored: np.ndarray  # (n,) bool: crowds and the like, which neither teach nor count
    size: tuple[int, int]  # width and height of the upright picture, in pixels

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Detections:
    """What a detector found in one picture, the surest first."""

    boxes: np.ndarray  # (n, 4) float32, in pixels
    classes: np.ndarray  # (n,) int64
    confidence: np.ndarray  # (n,) float32, 0 … 1
    size: tuple[int, int]  # width and height of the upright picture, in pixels

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: np.ndarray) -> Detections:
        """Those at these rows, or under this mask."""
        return replace(self, boxes=self.boxes[rows], classes=self.classes[rows], confidence=self.confidence[rows])


def none_found(size: tuple[int, int]) -> Detections:
    """No detections in a picture of this size."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), size)


def areas(boxes: np.ndarray) -> np.ndarray:
    """(…,) of boxes (…, 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4)."""
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    opposite = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(opposite - corner, 0, None).prod(axis=-1)
    return shared / np.maximum(areas(a)[:, None] + areas(b)[None, :] - shared, ABOVE)


def suppressed(boxes: np.ndarray, classes: np.ndarray, confidence: np.ndarray, most: float, keep: int) -> np.ndarray:
    """Rows to keep, the surest first: no two of a class share more than `most` (greedy non-maximum suppression).

    Boxes (n, 4), classes (n,), confidence (n,); at most `keep` rows. Of equals the earlier stays.
    """
    order = np.argsort(-confidence, kind="stable")
    rivals = (overlaps(boxes[order], boxes[order]) > most) & (classes[order, None] == classes[None, order])
    alive = np.ones(len(order), dtype=bool)
    for row in range(len(order)):
        if alive[row]:
            alive[row + 1 :] &= ~rivals[row, row + 1 :]
    return order[alive][:keep]


class Truth(NamedTuple):
    """The labelled boxes of one picture as a detector learns them: relative, as the picture lies in its frame."""

    boxes: Tensor  # (n, 4) float32
    classes: Tensor  # (n,) int64
    ignored: Tensor  # (n,) bool
