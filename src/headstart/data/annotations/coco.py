"""COCO's JSON: pictures, categories and annotations, in one file a split (Lin et al. 2014, arXiv:1405.0312).

`bbox` is x, y, width and height in pixels, from the top left corner; `iscrowd` means "ignored". An annotation with
polygons alone gets the box around them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.data.annotations.base import Row, Tree, counted, raw_of
from headstart.data.boxes import Annotation, Box, around, box, stated_size
from headstart.data.dataset import SPLITS
from headstart.data.raw import Raw, split_word
from headstart.errors import DataError, listed

_KEYS = ("images", "annotations", "categories")
_OWN = {"id", "file_name", "width", "height"}  # of an image; the rest are columns
_MOST_FILES = 100  # JSON files that are looked into, the uppermost first
_ANNOTATION_FOLDERS = {"annotations", "annotation", "labels"}


@dataclass(frozen=True)
class Coco:
    """A JSON file with COCO's three lists; those of captions, and of pictures alone, lack one."""

    path: Path
    content: Mapping[str, Any]

    @property
    def names(self) -> set[str]:
        """The file names of its pictures."""
        return {str(image.get("file_name")) for image in self.content["images"]}


def found(tree: Tree) -> list[Coco]:
    """The COCO files of a folder."""
    files = sorted(tree.of(".json"), key=lambda path: (len(path.parts), path))[:_MOST_FILES]
    return [file for path in files if (file := opened(path))]


def opened(path: Path) -> Coco | None:
    """A COCO file; None where it is none. DataError where it looks like one and is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if not any(f'"{key}"'.encode() in data for key in _KEYS[:2]):
        return None
    try:
        content = json.loads(data)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}. Copy it anew, or take it out of the folder.") from error
    good = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _KEYS)
    return Coco(path, content) if good else None


def read_folder(tree: Tree, files: Sequence[Coco]) -> Raw:
    """All COCO files of a folder. DataError when their names do not say which is to be read."""
    chosen, notes = _by_split(tree, files)
    rows = [row for split, file in chosen for row in _rows(tree, file, split, notes)]
    if unlisted := len(tree.beside(row.picture for row in rows)):
        notes.append(f"{counted(unlisted, 'picture')} that no annotation file lists: not read")
    return raw_of(rows, tree.root, tree.root, notes)


def read_file(file: Coco) -> Raw:
    """One COCO file as a whole, whatever split its name speaks of."""
    path = file.path
    inside = path.parent.name.lower() in _ANNOTATION_FOLDERS
    notes: list[str] = []
    rows = list(_rows(Tree(path.parent.parent if inside else path.parent), file, "", notes))
    return raw_of(rows, path.with_suffix(""), path, notes)


def _by_split(tree: Tree, files: Sequence[Coco]) -> tuple[list[tuple[str, Coco]], list[str]]:
    """(split, file) of each file to read, and notes on the others."""
    if len(files) == 1:
        return [("", files[0])], []
    splits: dict[str, list[Coco]] = defaultdict(list)
    for file in files:
        splits[split_word(file.path.stem) or tree.folder_split(file.path)].append(file)
    plain = splits.pop("", [])
    for split, several in splits.items():  # keypoints and the like describe the same pictures in other ways
        splits[split] = [file for file in several if "instances" in file.path.stem.lower()] or several
    if not splits.get("train") or any(len(several) > 1 for several in splits.values()):
        raise DataError(
            f"{tree.root} holds {len(files)} COCO files, and their names do not say which one to read: "
            f"{listed(file.path.relative_to(tree.root) for file in files)}. Give the path of one of them, or keep one "
            "for each split, called train.json, val.json and test.json."
        )
    chosen = [(split, splits[split][0]) for split in SPLITS if split in splits]
    names = {name for _, file in chosen for name in file.names}
    return chosen, [_passed_over(tree, file, names) for file in plain]


def _passed_over(tree: Tree, file: Coco, names: set[str]) -> str:
    why = "it repeats the pictures of the files of splits" if file.names <= names else "its name is no split"
    return f"not read, for {why}: {file.path.relative_to(tree.root)} (give its path to read it alone)"


def _rows(tree: Tree, file: Coco, split: str, notes: list[str]) -> Iterator[Row]:
    path, content = file.path, file.content
    boxes = _boxes(content, path, notes)
    for image in content["images"]:
        name = str(image.get("file_name") or "")
        if not name or "id" not in image:
            raise DataError(f"{path}: an image has no file_name or no id ({str(image)[:80]}). Give it both.")
        drawn = Annotation(tuple(boxes.get(image["id"], ())), stated_size(image.get("width"), image.get("height")))
        more = {key: value for key, value in image.items() if key not in _OWN and isinstance(value, (str, int, float))}
        yield Row(tree.picture(name, path.parent, split) or path.parent / name, drawn, split, more)


def _boxes(content: Mapping[str, Any], path: Path, notes: list[str]) -> dict[Any, list[Box]]:
    """Image id -> its boxes."""
    categories = {category.get("id"): category.get("name") for category in content["categories"]}
    boxes: dict[Any, list[Box]] = {image.get("id"): [] for image in content["images"]}
    n_astray = n_without = 0
    for one in content["annotations"]:
        if one.get("category_id") not in categories:
            raise DataError(
                f"{path}: annotation {one.get('id')} is of category {one.get('category_id')!r}, but the categories "
                f"are {listed(f'{i} ({name})' for i, name in categories.items())}. Add it to them."
            )
        edges = one.get("bbox") or _around_polygons(one.get("segmentation"))
        if one.get("image_id") not in boxes:
            n_astray += 1
        elif not edges:
            n_without += 1
        else:
            where = f"{path}: annotation {one.get('id')}"
            boxes[one["image_id"]].append(
                box(categories[one["category_id"]], edges, where, bool(one.get("iscrowd") or one.get("ignore")))
            )
    if n_astray:
        notes.append(f"{path.name}: left out {counted(n_astray, 'annotation')} of images that it does not list")
    if n_without:
        notes.append(f"{path.name}: left out {counted(n_without, 'annotation')} with neither a box nor a polygon")
    return boxes


def _around_polygons(segmentation: Any) -> Sequence[float] | None:
    if not isinstance(segmentation, list):
        return None
    polygons = segmentation if segmentation and isinstance(segmentation[0], list) else [segmentation]
    points = [value for polygon in polygons for value in polygon]
    return around(points) if len(points) >= 4 else None
