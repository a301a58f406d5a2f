"""Does an exported detector find the model's boxes? Asked on the run's own validation pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.deploy.export.parity import TOLERANCE, Sample
from headstart.deploy.model import Model
from headstart.engine.detector import Detector
from headstart.errors import DataError, RunError, listed
from headstart.tasks.boxes import Detections, overlaps
from headstart.tasks.classification import class_indices

SAME = 0.99  # intersection over union from which two boxes are the same
SAME_AS_RUN = 0.9  # of boxes that were found in another precision


@dataclass(frozen=True, kw_only=True)
class BoxParity:
    """What the comparison found."""

    n: int  # pictures
    what: str  # they are: "validation examples"
    n_boxes: int  # that the model shows in them
    n_borderline: int  # boxes that only one of both shows, being within the tolerance of their class's threshold
    least_overlap: float  # intersection over union of two boxes that are the same
    largest_difference: float  # of their confidence
    way: str  # in which `headstart predict` runs the model here
    n_boxes_as_run: int  # that it shows then
    n_same_as_run: int  # of which the export finds so many

    def to_json(self) -> dict[str, Any]:
        """For export.json."""
        return asdict(self)

    def __str__(self) -> str:
        """One line."""
        line = (
            f"all {self.n_boxes:,} boxes as the model's on {self.n:,} {self.what}, "
            f"least overlap {self.least_overlap:.4f}, largest difference in confidence {self.largest_difference:.1g}"
        )
        if self.n_borderline:
            line += f", {self.n_borderline} at their threshold shown by one alone"
        if self.way != "float32":
            line += (
                f"; of {self.n_boxes_as_run:,} by {self.way}, in which `predict` runs it here, {self.n_same_as_run:,}"
            )
        return line


@dataclass(frozen=True)
class Pairs:
    """Boxes of one picture that are the same in two answers, and those that one alone has."""

    overlap: np.ndarray  # (n,) of pairs
    difference: np.ndarray  # (n,) of their confidence
    alone: list[tuple[int, float]]  # (class, confidence)


def check(model: Model, asked: Sample, said: Sequence[list[dict[str, Any]]]) -> BoxParity:
    """RunError, naming the pictures, unless the export shows the model's boxes, as sure within the tolerance.

    DataError where the model shows none.
    """
    detector = model.detector
    assert detector is not None, "only a detector gives boxes"
    if not any(map(len, model.shown(asked.scores))):
        raise DataError(
            f"The model is sure of no box in the {len(asked.opened)} {asked.what}, so there is nothing to compare, "
            "and an export is only left where it was checked. Give pictures in which it finds some with --data."
        )
    sizes = [one.size for one in asked.opened]
    found = [detections(detector, boxes, size) for boxes, size in zip(said, sizes, strict=True)]
    pairs = [paired(relative(one), other, SAME) for one, other in zip(model.shown(asked.scores), found, strict=True)]
    odd = [[one for one in each.alone if not borderline(detector, one)] for each in pairs]
    apart = np.concatenate([each.difference for each in pairs])
    wrong = [i for i, each in enumerate(pairs) if odd[i] or (each.difference > TOLERANCE).any()]
    if wrong:
        shown = [f"{asked.names[i]!r} ({len(odd[i])} boxes that one alone has)" for i in wrong]
        raise RunError(
            f"The export does not find what the model finds, so it was not kept: {len(wrong)} of {len(pairs)} "
            f"{asked.what} differ in a box, or by more than {TOLERANCE} in confidence: {listed(shown, 3)}. "
            "Please report it with the run's plan.json; `headstart bundle` keeps the model as it is."
        )
    as_run = model.shown(asked.as_run)
    return BoxParity(
        n=len(pairs),
        what=asked.what,
        n_boxes=sum(map(len, model.shown(asked.scores))),
        n_borderline=sum(len(each.alone) for each in pairs),
        least_overlap=float(min((each.overlap.min() for each in pairs if len(each.overlap)), default=1.0)),
        largest_difference=float(apart.max(initial=0.0)),
        way=asked.way,
        n_boxes_as_run=sum(map(len, as_run)),
        n_same_as_run=sum(
            len(paired(relative(one), other, SAME_AS_RUN).overlap) for one, other in zip(as_run, found, strict=True)
        ),
    )


def borderline(detector: Detector, box: tuple[int, float]) -> bool:
    """Whether the last digits decide if a box of this class and confidence is shown."""
    k, confidence = box
    return bool(detector.confidence) and abs(confidence - detector.confidence[k].threshold) <= TOLERANCE


def paired(one: Detections, other: Detections, least: float) -> Pairs:
    """Each box of the one with the box of the other, of its class, that it shares most with: at least so much."""
    shared = overlaps(one.boxes, other.boxes) * (one.classes[:, None] == other.classes[None, :])
    pairs: list[tuple[int, int]] = []
    free = np.ones(len(other), dtype=bool)
    for row in range(len(one)):
        mine = np.where(free, shared[row], -1.0)
        if len(mine) and mine.max() >= least:
            pairs.append((row, int(mine.argmax())))
            free[pairs[-1][1]] = False
    rows, theirs = (np.array([pair[i] for pair in pairs], dtype=int) for i in range(2))
    lone = np.setdiff1d(np.arange(len(one)), rows)
    alone = [*_told(one.take(lone)), *_told(other.take(np.flatnonzero(free)))]
    return Pairs(shared[rows, theirs], np.abs(one.confidence[rows] - other.confidence[theirs]), alone)


def _told(found: Detections) -> list[tuple[int, float]]:
    return [(int(k), float(confidence)) for k, confidence in zip(found.classes, found.confidence, strict=True)]


def relative(found: Detections) -> Detections:
    """In shares of the picture's width and height."""
    return Detections(found.boxes / np.array(found.size * 2), found.classes, found.confidence, (1, 1))


def detections(detector: Detector, boxes: Sequence[dict[str, Any]], size: tuple[int, int]) -> Detections:
    """Relative, of boxes that an export found in a picture of this size."""
    corners = [[one["x"], one["y"], one["x"] + one["width"], one["y"] + one["height"]] for one in boxes]
    names, confidence = [one["name"] for one in boxes], [one["confidence"] for one in boxes]
    places = np.array(corners, dtype=np.float64).reshape(-1, 4)
    return relative(Detections(places, class_indices(names, detector.class_names), np.array(confidence), size))
