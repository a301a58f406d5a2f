"""Random objects and what a made-up detector finds of them, and the record of a fit on boxes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from headstart import registry
from headstart.engine.detector import Sure
from headstart.evidence.base import TestResult
from headstart.evidence.boxes import measure_boxes
from headstart.evidence.intervals import resamples
from headstart.evidence.record import Record
from headstart.evidence.slips import picture_slips
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Detections, Objects
from headstart.tasks.detection import Detection
from tests import samples

SIZE = (200, 150)
NAMES = ("bolt & <nut>", "washer", "screw")
TASK = Detection(class_names=NAMES)
SURE = tuple(Sure(threshold=threshold) for threshold in (0.35, 0.5, 0.6))


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 4) within `SIZE`."""
    corner = rng.uniform(0, (120, 80), (n, 2))
    return np.concatenate([corner, corner + rng.uniform(8, 70, (n, 2))], axis=1).astype(np.float32)


def scene(rng: np.random.Generator, n_classes: int = 3, ignored: float = 0.15) -> tuple[Objects, Detections]:
    """A picture: two thirds of its objects are found, some as another class, beside boxes of nothing."""
    n, m = int(rng.integers(0, 7)), int(rng.integers(0, 5))
    truth = Objects(random_boxes(rng, n), rng.integers(0, n_classes, n), rng.random(n) < ignored, SIZE)
    seen = np.flatnonzero(rng.random(n) < 0.67)
    near = np.clip(truth.boxes[seen] + rng.normal(0, 3, (len(seen), 4)).astype(np.float32), 0, 200)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    classes = np.where(rng.random(len(seen)) < 0.2, rng.integers(0, n_classes, len(seen)), truth.classes[seen])
    boxes = np.concatenate([near, random_boxes(rng, m)]).astype(np.float32)
    confidence = np.concatenate([rng.beta(4, 2, len(seen)), rng.beta(2, 4, m)]).astype(np.float32)
    order = np.argsort(-confidence, kind="stable")
    classes = np.concatenate([classes, rng.integers(0, n_classes, m)]).astype(np.int64)
    return truth, Detections(boxes, classes, confidence, SIZE).take(order)


def scenes(seed: int, n: int = 30, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    """(objects (N,), detections (N,))."""
    rng = np.random.default_rng(seed)
    pictures = [scene(rng, **how) for _ in range(n)]
    return one_each([truth for truth, _ in pictures]), one_each([found for _, found in pictures])


def record(**changes: Any) -> Record:
    """A complete record of a fit on boxes, its pictures grey."""
    y, found = scenes(5)
    grey = registry.modality("image").store(Image.new("RGB", SIZE, "#777777"), None)
    base = samples.record("images", True)
    made = replace(
        base,
        task=TASK,
        data=replace(base.data, task="detection", class_counts={name: {"train": 90, "test": 30} for name in NAMES}),
        plan=samples.plan(strategy="frozen", strength=None, val_loss=None, canvas=(160, 224)),
        test=TestResult(y=y, scores=found, naive=found, classical=found),
        mistakes=(),
        boxes=measure_boxes(TASK, y, found, SURE, resamples(len(y), 50, 0), None),
        slips=picture_slips(TASK, y, found, SURE, registry.modality("image"), [grey] * len(y)),
    )
    return replace(made, **changes)
