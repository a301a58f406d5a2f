"""Tables of boxes to one row a picture: four columns of edges and a row a box, or a column of objects a picture.

Edges are corners (xmin, ymin, xmax, ymax; left, top, right, bottom; x1 …) or a corner and a size (x, y, width, height;
a column bbox that holds the four), from the top left corner, in pixels, or all in shares of the picture. A row without
edges stands for a picture that shows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart import registry
from headstart.data.annotations.base import Tree
from headstart.data.boxes import Annotation, Box, box, hold_boxes, stated_size
from headstart.data.raw import Raw, is_missing
from headstart.errors import DataError, listed

_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
    ("x1", "y1", "x2", "y2"),
)
_SIZES = (
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("left", "top", "width", "height"),
    ("xmin", "ymin", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
)
_CLASSES = (
    "class",
    "class_name",
    "cls",
    "label",
    "label_name",
    "category",
    "category_name",
    "name",
    "labelname",
    "object",
)
_OBJECTS = ("objects", "boxes", "annotations", "labels", "label")
_PICTURES = ("image_name", "image_id", "imageid", "image_file", "img_path")  # beside those of the modality
_LISTS_OF_EDGES = ("bbox", "bboxes", "boxes")
_LISTS_OF_NAMES = ("category", "categories", "label", "labels", "class", "classes", "name", "names")
_SAMPLE = 200  # pictures that are looked at
_BOXES = "boxes"  # what the column of labels is called
_ONE_CLASS = "object"  # where no column tells classes apart


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The columns that the user names."""

    input: str | None = None
    label: str | None = None  # the column of classes, or of objects
    rules: tuple[str, ...] = ()  # columns to split by


def with_boxes(raw: Raw, wish: Wish) -> Raw:
    """One row a picture, with the column of boxes as the label; the same `raw` where it is no table of boxes."""
    if raw.input or wish.label == "" or not len(raw):
        return raw
    if wish.label == _BOXES and _BOXES not in raw.columns:  # what an earlier look at such a table called its labels
        wish = replace(wish, label=None)
    picture = _picture_column(raw, wish.input)
    if picture is None or (wish.label and wish.label not in raw.columns):
        return raw
    objects = [wish.label] if wish.label else [name for name in _OBJECTS if name in raw.columns]
    for name in objects:
        if boxes := _of_objects(raw.columns[name]):
            columns = {**raw.columns, picture: _found(raw.columns[picture], raw.folder), name: boxes}
            return replace(raw, columns=columns, input=picture, label=name)
    edges = _edges(raw, taken={picture, wish.label})
    return _one_row_a_picture(raw, picture, edges, wish) if edges else raw


@dataclass(frozen=True)
class _Edges:
    """The columns in which the edges stand."""

    names: tuple[str, ...]  # four, or the one of lists
    corners: bool = False

    def of(self, row: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """x, y, width and height in a row, all 0 where they are no numbers; None where nothing is there."""
        values: Any = [row[name] for name in self.names]
        if len(values) == 1:
            values = _listed(values[0])
        if all(map(is_missing, values)):
            return None
        try:
            first, second, third, fourth = map(float, values)
        except (TypeError, ValueError):  # without a size: the audit drops and counts it
            return (0.0, 0.0, 0.0, 0.0)
        return (first, second, third - first, fourth - second) if self.corners else (first, second, third, fourth)


def _listed(value: Any) -> list[Any]:
    """A list of edges, or its text: "[1, 2, 3, 4]"."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return [value]
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, (list, tuple)) and value else [None if value in ([], ()) else value]


def _picture_column(raw: Raw, given: str | None) -> str | None:
    """The column that the user names, else one of a usual name, if it holds pictures."""
    image = registry.modality("image")
    usual = (*image.column_names, *_PICTURES)
    names = (
        [given]
        if given
        else sorted((name for name in raw.columns if name.lower() in usual), key=lambda name: usual.index(name.lower()))
    )
    return next((n for n in names if n in raw.columns and image.recognises(raw.columns[n][:_SAMPLE], raw.folder)), None)


def _of_objects(values: Sequence[Any]) -> list[Any] | None:
    """A column of the hub's {"bbox": [[x, y, width, height], …], "category": […]}, or of lists of boxes; else None."""
    there = [value for value in values if isinstance(value, (Mapping, list))]
    if not there:
        return None
    if hold_boxes(values):
        return list(values)
    keys = [key for key in _LISTS_OF_EDGES if all(isinstance(one, Mapping) and key in one for one in there)]
    return [None if value is None else _annotation(value, keys[0]) for value in values] if keys else None


def _annotation(value: Mapping[str, Any], key: str) -> Annotation:
    edges = value[key] if value[key] is not None else []
    names = next((value[name] for name in _LISTS_OF_NAMES if value.get(name) is not None), [_ONE_CLASS] * len(edges))
    if len(names) != len(edges):
        raise DataError(f"A picture has {len(edges):,} boxes but {len(names):,} class names. Give one name a box.")
    crowd = value.get("iscrowd") or [False] * len(edges)
    return Annotation(
        tuple(box(name, one, "objects", bool(odd)) for name, one, odd in zip(names, edges, crowd, strict=True))
    )


def _edges(raw: Raw, taken: set[str | None]) -> _Edges | None:
    """The columns of edges, if there are any of usual names."""
    by_name = {name.lower().replace(" ", "_").replace("-", "_"): name for name in raw.columns if name not in taken}
    for usual, corners in (*((names, True) for names in _CORNERS), *((names, False) for names in _SIZES)):
        if all(name in by_name for name in usual):
            return _Edges(tuple(by_name[name] for name in usual), corners)
    if "bbox" in by_name and any(len(_listed(value)) == 4 for value in raw.columns[by_name["bbox"]]):
        return _Edges((by_name["bbox"],))
    for usual in (*_CORNERS, *_SIZES):
        lacking = [name for name in usual if name not in by_name]
        if len(lacking) == 1:
            there = listed(by_name[name] for name in usual if name in by_name)
            raise DataError(
                f"{raw.source or 'The table'} has the columns {there}, but none called {lacking[0]!r}: boxes need all "
                "four. Add it, or drop those columns where the table holds no boxes."
            )
    return None


def _one_row_a_picture(raw: Raw, picture: str, edges: _Edges, wish: Wish) -> Raw:
    classes = wish.label or next((n for usual in _CLASSES for n in raw.columns if n.lower() == usual), None)
    others = [name for name in raw.columns if name not in {picture, classes, *edges.names}]
    of_picture = _rows_of(raw, picture)
    firsts = [rows[0] for rows in of_picture.values()]
    drawn = [_drawn(raw, rows, edges, classes, name) for (_, name), rows in of_picture.items()]
    relative = _are_shares(drawn)
    columns = {picture: _found([raw.columns[picture][row] for row in firsts], raw.folder)}
    columns |= {
        name: [raw.columns[name][row] for row in firsts]
        for name in others
        if _is_of_pictures(raw.columns[name], of_picture, name in wish.rules or name.lower() == "split", name)
    }
    sizes = [_stated(raw, row, others) for row in firsts]
    columns[_BOXES] = [Annotation(tuple(boxes), s, relative) for boxes, s in zip(drawn, sizes, strict=True)]
    return replace(
        raw,
        columns=columns,
        splits=[raw.splits[row] for row in firsts] if raw.splits else None,
        input=picture,
        label=_BOXES,
        notes=(*raw.notes, *_notes(edges, classes, relative)),
    )


def _rows_of(raw: Raw, picture: str) -> dict[tuple[str, str], list[int]]:
    """(split, picture) -> its rows."""
    found: dict[tuple[str, str], list[int]] = {}
    for row, value in enumerate(raw.columns[picture]):
        found.setdefault((raw.splits[row] if raw.splits else "", _key(value)), []).append(row)
    return found


def _drawn(raw: Raw, rows: Sequence[int], edges: _Edges, classes: str | None, where: str) -> list[Box]:
    """The boxes of one picture."""
    found = [(row, edges.of({name: raw.columns[name][row] for name in edges.names})) for row in rows]
    return [box(raw.columns[classes][row] if classes else _ONE_CLASS, one, where) for row, one in found if one]


def _is_of_pictures(
    values: Sequence[Any], of_picture: Mapping[tuple[str, str], Sequence[int]], needed: bool, name: str
) -> bool:
    """Whether a column has one value a picture. DataError where it must, since the split goes by it, and does not."""
    for (_, picture), rows in of_picture.items():
        if len({"" if is_missing(values[row]) else str(values[row]) for row in rows}) > 1:
            if not needed:
                return False
            raise DataError(
                f"{picture} has rows with different values of {name!r}, but a picture stands in one split as a whole. "
                "Give all of its rows the same value."
            )
    return True


def _found(names: list[Any], folder: str | None) -> list[Any]:
    """Names of files that are not where the table is, as the paths of the files of those names below it."""
    if folder is None or not any(isinstance(name, str) and not Path(folder, name).is_file() for name in names):
        return names
    tree = Tree(Path(folder))
    return [(tree.picture(name, tree.root) or name) if isinstance(name, str) else name for name in names]


def _key(value: Any) -> str:
    """What tells one picture from another, and is said of it."""
    return str(value.get("path")) if isinstance(value, Mapping) and value.get("path") else str(value)


def _are_shares(boxes: Sequence[Sequence[Box]]) -> bool:
    """Whether all boxes lie between 0 and 1."""
    edges = [edge for drawn in boxes for one in drawn for edge in (one.x + one.width, one.y + one.height)]
    return bool(edges) and max(edges) <= 1


def _stated(raw: Raw, row: int, others: Sequence[str]) -> tuple[int, int] | None:
    """The picture's size from columns width and height, where these are no edges."""
    by_name = {name.lower(): name for name in others}
    if not {"width", "height"} <= by_name.keys():
        return None
    return stated_size(raw.columns[by_name["width"]][row], raw.columns[by_name["height"]][row])


def _notes(edges: _Edges, classes: str | None, relative: bool) -> list[str]:
    form = "corners" if edges.corners else "a corner and a size"
    where = f", their classes from {classes!r}" if classes else f", all of one class, {_ONE_CLASS!r}"
    unit = ", in shares of the picture" if relative else ""
    return [f"boxes read from {', '.join(edges.names)} ({form}{unit}){where}"]
