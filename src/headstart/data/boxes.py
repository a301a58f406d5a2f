"""Boxes as labels: what a source says of one picture, and the struct that a data set keeps of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from headstart.data.raw import is_missing, printable
from headstart.errors import DataError, listed

DIGITS = 3  # behind the point, of a pixel
SAME_SHAPE = 0.02  # how far the ratios of width and of height may differ in a scaled copy
_NAMES = ("name", "category", "class", "label")
_EDGES = ("x", "y", "width", "height")
_FORM = '[{"name": "cat", "x": 10, "y": 20, "width": 30, "height": 40}, …], [] for a picture without objects'

_WAYS = (
    "Give COCO's JSON, Pascal VOC's XML, YOLO's text files, a table with a row a box, or in Python a list a picture: "
    f"{_FORM}."
)


class Box(NamedTuple):
    """One object: its class, and its top left corner and size."""

    name: str
    x: float
    y: float
    width: float
    height: float
    ignored: bool = False  # a crowd, or too hard to tell: neither taught nor counted


@dataclass(frozen=True)
class Annotation:
    """What is drawn on one picture, comparable and hashable."""

    boxes: tuple[Box, ...] = ()
    size: tuple[int, int] | None = None  # width and height of the picture, as the source states them
    relative: bool = False  # the boxes are in shares of the picture's width and height, not in pixels

    @property
    def counted(self) -> Iterator[str]:
        """The class name of each object that is taught and counted."""
        return (box.name for box in self.boxes if not box.ignored)


def box(name: Any, edges: Sequence[Any], where: str, ignored: bool = False) -> Box:
    """A box of class `name` from x, y, width and height; without a size, so that the audit drops and counts it, where
    they are not four numbers. DataError, naming `where`, without a class name.
    """
    try:
        x, y, width, height = map(float, edges)
        good = all(map(math.isfinite, (x, y, width, height)))
    except (TypeError, ValueError):
        good = False
    if not good:
        x = y = width = height = 0.0
    if is_missing(name):
        raise DataError(f"{where}: the box {tuple(edges)} has no class name. Give it one or take it out.")
    return Box(printable(str(name)), x, y, width, height, ignored)


def around(points: Sequence[float]) -> tuple[float, float, float, float]:
    """x, y, width and height of the smallest box around a polygon x1, y1, x2, y2, …"""
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def stated_size(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) where both are there and above 0; many tools leave them at 0."""
    try:
        size = int(float(width)), int(float(height))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def hold_boxes(values: Sequence[Any]) -> bool:
    """Whether labels are boxes: annotations, structs of boxes, or lists of boxes, not all of them empty."""
    there = [value for value in values if not _is_nothing(value)]
    return bool(there) and all(_are_boxes(value) for value in there) and any(_says_boxes(value) for value in there)


def as_annotations(values: Sequence[Any], column: str) -> list[Annotation | None]:
    """Each label as an `Annotation`, None where it is missing. DataError for what is no list of boxes."""
    found = [None if _is_nothing(value) else _annotation(value, column) for value in values]
    if all(one is None for one in found):
        raise DataError(f"Column {column!r} holds no boxes: all of its {len(values):,} values are missing. {_WAYS}")
    return found


def label_of(annotation: Annotation, size: tuple[int, int] | None) -> dict[str, Any]:
    """The label struct of a picture whose upright `size` is (width, height), None where it cannot be read.

    Boxes that were drawn on a smaller or larger copy are scaled to the picture. They are kept to a thousandth of a
    pixel, so that the same boxes are the same in every form that they may be written in.
    """
    width, height = size or annotation.size or (0, 0)
    across = down = 1.0
    if annotation.relative:
        across, down = width, height
    elif annotation.size and is_scaled(annotation.size, (width, height)):
        across, down = width / annotation.size[0], height / annotation.size[1]
    boxes = [
        {**one._asdict(), "x": round(one.x * across, DIGITS), "y": round(one.y * down, DIGITS)}
        | {"width": round(one.width * across, DIGITS), "height": round(one.height * down, DIGITS)}
        for one in annotation.boxes
    ]
    return {"width": width, "height": height, "boxes": boxes}


def annotation_of(label: Mapping[str, Any]) -> Annotation:
    """A label struct of a data set in comparable form; `label_of` is the way back."""
    return Annotation(tuple(Box(**one) for one in label["boxes"]), (label["width"], label["height"]))


def is_scaled(stated: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether sizes (width, height) differ by more than a pixel, but hardly in shape."""
    across, down = size[0] / stated[0], size[1] / stated[1]
    differ = max(abs(stated[0] - size[0]), abs(stated[1] - size[1])) > 1
    return differ and abs(across - down) <= SAME_SHAPE * max(across, down)


def feature() -> dict[str, Any]:
    """The `datasets` feature of a label struct."""
    from datasets import Value

    number = Value("float64")
    one = {"name": Value("string"), **dict.fromkeys(_EDGES, number), "ignored": Value("bool")}
    return {"width": Value("int32"), "height": Value("int32"), "boxes": [one]}


def _is_nothing(value: Any) -> bool:
    return not isinstance(value, (list, tuple, Mapping, Annotation)) and is_missing(value)


def _are_boxes(value: Any) -> bool:
    if isinstance(value, Annotation) or (isinstance(value, Mapping) and "boxes" in value):
        return True
    return isinstance(value, (list, tuple)) and all(isinstance(one, Mapping) for one in value)


def _says_boxes(value: Any) -> bool:
    return not isinstance(value, (list, tuple)) or bool(value)


def _annotation(value: Any, column: str) -> Annotation:
    if isinstance(value, Annotation):
        return value
    if not _are_boxes(value):
        raise DataError(f"Column {column!r} holds {str(value)[:60]!r}, which is no list of boxes. {_WAYS}")
    size, boxes = None, value
    if isinstance(value, Mapping):
        size, boxes = stated_size(value.get("width"), value.get("height")), value["boxes"]
    return Annotation(tuple(_box_of(one, column) for one in boxes), size)


def _box_of(one: Mapping[str, Any], column: str) -> Box:
    name = next((one[key] for key in _NAMES if not is_missing(one.get(key))), None)
    edges = one.get("bbox") or [one.get(key) for key in _EDGES]
    if name is None or any(map(is_missing, edges)):
        raise DataError(f"Column {column!r} holds a box with {listed(one)}. Give {_FORM}.")
    return box(name, edges, f"column {column!r}", bool(one.get("ignored") or one.get("iscrowd")))
