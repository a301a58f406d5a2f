"""Files of boxes on pictures, told apart by what is in them: COCO's JSON, YOLO's text files, Pascal VOC's XML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.data.annotations import coco, voc, yolo
from headstart.data.annotations.base import Tree
from headstart.data.objects import is_saved
from headstart.data.raw import Raw


@dataclass(frozen=True)
class _Form:
    """One way to keep boxes in a folder."""

    title: str
    found: Callable[[Tree], Sequence[Any]]  # its files, [] where the folder is of another form
    read: Callable[[Tree, Sequence[Any]], Raw]
    way: Callable[[Sequence[Any]], str]  # what to give to have it read, where a folder holds several


_FORMS = (  # where a folder holds several, the first one is read
    _Form("COCO", coco.found, coco.read_folder, lambda files: f"the JSON file: {files[0].path}"),
    _Form("YOLO's YAML", yolo.found_yaml, yolo.read_first, lambda files: f"the YAML file: {files[0]}"),
    _Form("Pascal VOC", voc.found, voc.read_folder, lambda files: f"the folder of XML files: {files[0].parent}"),
    _Form("YOLO", yolo.found_texts, yolo.read_folder, lambda files: "a folder without the rest"),
)


def read_annotated_folder(folder: Path) -> Raw | None:
    """A folder of annotated pictures, None where it is none. DataError when its annotations cannot be used."""
    if is_saved(folder):
        return None
    tree = Tree(folder)
    held = [(form, files) for form in _FORMS if (files := form.found(tree))]
    if not held:
        return None
    form, files = held[0]
    raw = form.read(tree, files)
    others = [
        f"{other.title} (for it give {other.way(files)})"
        for other, files in held[1:]
        if not form.title.startswith(other.title)  # the text files that the YAML file speaks of
    ]
    beside = f", though there is also {' and '.join(others)}" if others else ""
    return replace(raw, name=folder.resolve().name, notes=(f"boxes read from {form.title}{beside}", *raw.notes))


def read_annotated_file(path: Path) -> Raw | None:
    """One file that stands for many pictures: COCO's JSON or YOLO's YAML; None where it is neither."""
    suffix = path.suffix.lower()
    if suffix == ".json" and (file := coco.opened(path)):
        return coco.read_file(file)
    if suffix in {".yaml", ".yml"} and yolo.is_yolo(path):
        return yolo.read_yaml(path)
    return None
