"""Boxes as a task: average precision is pycocotools' own, suppression is the brute force's, the guess is the usual."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import DataError
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Detections, Objects, overlaps, suppressed
from headstart.tasks.coco import Matched, as_coco, evaluated, results
from headstart.tasks.detection import Detection

SIZE = (200, 150)


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    corner = rng.uniform(0, 120, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(2, 110, (n, 2))], axis=1).astype(np.float32)


def random_scene(seed: int, n_pictures: int = 9, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Objects, and detections of which about half lie near an object."""
    rng = np.random.default_rng(seed)
    y, scores = [], []
    for _ in range(n_pictures):
        n, m = int(rng.integers(0, 7)), int(rng.integers(0, 12))
        own = Objects(random_boxes(rng, n), rng.integers(0, n_classes, n), rng.random(n) < 0.2, SIZE)
        boxes, classes = random_boxes(rng, m), rng.integers(0, n_classes, m)
        for row in range(min(n, m)):
            boxes[row] = own.boxes[row] + rng.normal(0, 4, 4)
            classes[row] = own.classes[row]
        y.append(own)
        confidence = np.sort(rng.random(m).round(2))[::-1].astype(np.float32)  # rounded: there are ties
        scores.append(Detections(boxes, classes, confidence, SIZE))
    return one_each(y), one_each(scores)


def by_pycocotools(y: np.ndarray, scores: np.ndarray, n_classes: int) -> np.ndarray:
    """(12,) what pycocotools says of our own JSON."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = as_coco(list(y), [f"class {k}" for k in range(n_classes)])
        truth.createIndex()
        found = truth.loadRes(results(list(scores), range(1, len(y) + 1)))
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    y, scores = random_scene(seed)
    task, plain = Detection(class_names=("a", "b", "c")), np.ones((1, len(y)))
    ours = [metric.compute(y, scores, plain)[0] for metric in task.metrics()]
    theirs = by_pycocotools(y, scores, 3)[:6]
    np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs, atol=1e-12)


def test_a_resample_is_the_same_as_the_pictures_it_draws() -> None:
    y, scores = random_scene(3)
    rows = np.array([0, 2, 2, 5, 7, 7, 7, 8])
    weights = np.bincount(rows, minlength=len(y))[None].astype(np.uint16)
    ours = Matched(list(y), list(scores), 3).average_precision(weights)
    drawn = Matched(list(y[rows]), list(scores[rows]), 3).average_precision(np.ones((1, len(rows))))
    np.testing.assert_allclose(ours, drawn, atol=0.02)  # copies of a picture tie, so that only their order differs


def brute_force(boxes: np.ndarray, classes: np.ndarray, confidence: np.ndarray, most: float) -> list[int]:
    kept: list[int] = []
    for row in sorted(range(len(boxes)), key=lambda i: (-confidence[i], i)):
        rivals = [other for other in kept if classes[other] == classes[row]]
        if all(overlaps(boxes[[row]], boxes[[other]])[0, 0] <= most for other in rivals):
            kept.append(row)
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.floats(0.1, 0.9))
def test_suppression_is_that_of_brute_force(seed: int, n: int, most: float) -> None:
    rng = np.random.default_rng(seed)
    boxes, classes, confidence = random_boxes(rng, n), rng.integers(0, 3, n), rng.random(n).round(1)
    kept = suppressed(boxes, classes, confidence, most, keep=100)
    assert kept.tolist() == brute_force(boxes, classes, confidence, most)
    assert suppressed(boxes, classes, confidence, most, keep=2).tolist() == kept.tolist()[:2]


def test_labels_become_objects_and_back() -> None:
    box = {"name": "b", "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "ignored": False}
    labels = [{"width": 20, "height": 10, "boxes": [box]}, {"width": 20, "height": 10, "boxes": []}]
    task = Detection.from_labels(labels)
    y = task.encode(labels)
    assert task.class_names == ("b",)
    assert y[0].boxes.tolist() == [[1, 2, 4, 6]]
    assert len(y[1]) == 0
    said = task.decode(one_each([Detections(y[0].boxes, y[0].classes, np.array([0.5], np.float32), (20, 10))]))
    assert said == [[{"name": "b", "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "confidence": 0.5}]]
    assert Detection.from_json(task.to_json()) == task
    with pytest.raises(DataError, match="No picture has a box"):
        Detection.from_labels(labels[1:])


def test_the_guess_is_what_recurs() -> None:
    """An object that stands in the same place in every picture is guessed there, in any size of picture."""
    same = [Objects(np.array([[10, 10, 60, 60]], np.float32), np.array([0]), np.array([False]), (100, 100))] * 5
    task = Detection(class_names=("a",))
    large = [Objects(np.array([[20, 20, 120, 120]], np.float32), np.array([0]), np.array([False]), (200, 200))] * 2
    guess = task.naive(one_each(same), 2)
    assert guess[0].confidence.tolist() == [1.0]
    assert task.metrics()[0].compute(one_each(large), guess, np.ones((1, 2)))[0] == pytest.approx(1.0)


def test_the_evaluation_says_nothing() -> None:
    y, scores = random_scene(0)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        evaluated(list(y), list(scores), 3)
    assert said.getvalue() == ""
