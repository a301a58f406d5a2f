"""The classical rival of a detector: HOG in sliding windows and logistic regression (Dalal & Triggs 2005).

doi:10.1109/CVPR.2005.177. The labelled boxes are grouped into a few typical shapes, which all classes share; each has a
linear template that slides over the picture (`windows`), and non-maximum suppression keeps the best of each place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from headstart.evidence.gradients import cells
from headstart.evidence.windows import Shape, Template, Windows, fit_template, moved
from headstart.modalities.base import Modality
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Detections, none_found, suppressed

SIDE = 320  # pixels of a picture's longer side, as it is looked at
CELLS, FEWEST_CELLS = 6, 3  # along a window's longer side; along any side
LEAST_CELL = 3.0  # pixels
MOST_SHAPES = 8
SHAPES_PER_CLASS = 3
MOST_PICTURES, MOST_VAL = 300, 100  # that teach, and that choose; more are drawn from
MOST_CANDIDATES = 300  # a picture and shape, before suppression
SHARED = 0.4  # overlap from which the surer of two suppresses the other
KEPT = 100  # detections a picture


@dataclass(frozen=True)
class Sliding:
    """A fitted classical detector."""

    templates: Sequence[Template]
    title: str = "HOG in sliding windows + logistic regression"

    def found(self, modality: Modality, items: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        """Detections (N,) in stored items, in pixels of upright pictures of these sizes (width, height)."""
        return one_each([self._found(modality, item, size) for item, size in zip(items, sizes, strict=True)])

    def state(self) -> dict[str, np.ndarray]:
        """Every array of it, by name, as safetensors can hold them."""
        found: dict[str, np.ndarray] = {}
        for i, one in enumerate(self.templates):
            shape = np.array([one.shape.width, one.shape.height, one.shape.across, one.shape.down], dtype=np.float64)
            found |= {
                f"{i}.shape": shape,
                f"{i}.classes": one.classes,
                f"{i}.weight": one.weight,
                f"{i}.bias": one.bias,
            }
        return found

    @classmethod
    def restore(cls, state: Mapping[str, np.ndarray]) -> Sliding:
        """The inverse of `state`."""
        templates = []
        for i in range(len({name.partition(".")[0] for name in state})):
            width, height, across, down = state[f"{i}.shape"].tolist()
            shape = Shape(width, height, int(across), int(down))
            templates.append(Template(shape, *(state[f"{i}.{name}"] for name in ("classes", "weight", "bias"))))
        return cls(templates)

    def _found(self, modality: Modality, item: Any, size: tuple[int, int]) -> Detections:
        if not self.templates:
            return none_found(size)
        scene = look(modality, item, [template.shape for template in self.templates])
        each = [candidates(*one, scene.size) for one in zip(self.templates, scene.cells, strict=True)]
        boxes, classes, confidence = (np.concatenate(part) for part in zip(*each, strict=True))
        kept = suppressed(boxes, classes, confidence, SHARED, KEPT)
        scale = np.array([size[0] / scene.size[0], size[1] / scene.size[1]] * 2)
        return Detections(
            (boxes[kept] * scale).astype(np.float32), classes[kept], confidence[kept].astype(np.float32), size
        )


def candidates(
    template: Template, cells: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (n, 4), classes (n,), confidence (n,)) of one shape, the surest first."""
    probability, offset = template.answers(cells)
    order = np.argsort(-probability, axis=None, kind="stable")[:MOST_CANDIDATES]
    rows, which = np.divmod(order, len(template.classes))
    boxes = np.clip(moved(template.shape.boxes(size)[rows], offset[rows]), 0, [*size, *size])
    classes, confidence = template.classes[which], probability[rows, which]
    kept = suppressed(boxes, classes, confidence, SHARED, KEPT)  # here already, where few pairs are compared
    return boxes[kept], classes[kept], confidence[kept]


def fit_sliding(
    modality: Modality,
    items: Sequence[Any],
    y: np.ndarray,
    n_classes: int,
    seed: int,
    val_items: Sequence[Any],
    val_y: np.ndarray,
) -> Sliding:
    """Teach it stored items and their Objects (N,); validation chooses strengths, and train where it is empty."""
    rng = np.random.default_rng(seed)
    if not len(val_items):
        val_items, val_y = items, y
    shapes = shapes_of(y, n_classes, seed)
    rows, others = (np.sort(rng.permutation(n)[:most]) for n, most in ((len(y), MOST_PICTURES), (len(val_y), MOST_VAL)))
    scenes = [look(modality, items[i], shapes) for i in rows] if shapes else []
    asked = [look(modality, val_items[i], shapes) for i in others] if shapes else []
    templates = []
    for number, shape in enumerate(shapes):
        teach, judge = (
            Windows.of(shape, [one.cells[number] for one in some], [one.size for one in some], truth)
            for some, truth in ((scenes, list(y[rows])), (asked, list(val_y[others])))
        )
        templates.append(fit_template(teach, judge, rng))
    return Sliding([template for template in templates if template is not None])


@dataclass(frozen=True)
class Scene:
    """A picture as it is looked at."""

    size: tuple[int, int]  # width and height
    cells: list[np.ndarray]  # one map a shape


def look(modality: Modality, item: Any, shapes: Sequence[Shape]) -> Scene:
    """The longer side is scaled to SIDE pixels."""
    from PIL.Image import Resampling

    picture = modality.open(item, SIDE)
    width, height = (max(2, round(side * SIDE / max(picture.size))) for side in picture.size)
    small = picture.resize((width, height), Resampling.BILINEAR)
    return Scene((width, height), cells(small, [shape.grid((width, height)) for shape in shapes]))


def shapes_of(y: np.ndarray, n_classes: int, seed: int) -> list[Shape]:
    """The centres of the labelled boxes' log width and height; a class counts as the root of its number of boxes."""
    seen = [~one.ignored for one in y]
    sizes = np.concatenate(
        [(one.boxes[:, 2:] - one.boxes[:, :2])[own] * (SIDE / max(one.size)) for one, own in zip(y, seen, strict=True)]
    )
    classes = np.concatenate([one.classes[own] for one, own in zip(y, seen, strict=True)])
    logs = np.log(np.maximum(sizes, 1)).astype(np.float64)
    n = min(MOST_SHAPES, SHAPES_PER_CLASS * n_classes, len(np.unique(logs, axis=0)))
    if not n:
        return []
    weight = 1 / np.sqrt(np.bincount(classes)[classes])
    centres = KMeans(n, n_init=3, random_state=seed).fit(logs, sample_weight=weight).cluster_centers_
    return [shape_of(float(width), float(height)) for width, height in np.exp(centres)]


def shape_of(width: float, height: float) -> Shape:
    """So many pixels in cells that are nearly square."""
    least, longest = FEWEST_CELLS * LEAST_CELL, max(width, height)
    across, down = (
        max(FEWEST_CELLS, min(round(CELLS * side / longest), int(side / LEAST_CELL))) for side in (width, height)
    )
    return Shape(max(width, least), max(height, least), across, down)
