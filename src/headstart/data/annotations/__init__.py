"""Files of boxes on pictures, told apart by what is in them: COCO's JSON, YOLO's text files, Pascal VOC's XML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.data.annotations import coco, voc, yolo
from headstart.data.annotations.base import Tree
from headstart.data.objects import is_saved
from headstart.data.raw import Raw


@dataclass(frozen=True)
class _Form:
    """One way to keep boxes in a folder."""

    title: str
    found: Callable[[Tree], Sequence[Path]]  # its files, [] where the folder is of another form
    read: Callable[[Tree, Sequence[Path]], Raw]
    way: str  # how to ask for it where a folder holds several


_FORMS = (  # where a folder holds several, the first one is read
    _Form("COCO", coco.found, coco.read_folder, "the JSON file"),
    _Form("YOLO with a YAML file", yolo.found_yaml, lambda tree, files: yolo.read_yaml(files[0]), "the YAML file"),
    _Form("Pascal VOC", voc.found, voc.read_folder, "the folder of XML files"),
    _Form("YOLO", yolo.found_texts, yolo.read_folder, "a folder that holds nothing else"),
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
        f"{other.title} (for it give {other.way}{_given(other, files)})"
        for other, files in held[1:]
        if other.title.split()[0] != form.title.split()[0]
    ]
    note = f"boxes read from {form.title}"
    if others:
        note += f", though there is also {' and '.join(others)}"
    return replace(raw, name=folder.resolve().name, notes=(note, *raw.notes))


def read_annotated_file(path: Path) -> Raw | None:
    """One file that stands for many pictures: COCO's JSON or YOLO's YAML; None where it is neither."""
    suffix = path.suffix.lower()
    if suffix == ".json" and coco.is_coco(path):
        return coco.read_file(path)
    if suffix in {".yaml", ".yml"} and yolo.is_yolo(path):
        return yolo.read_yaml(path)
    return None


def _given(form: _Form, files: Sequence[Path]) -> str:
    if form.title == "YOLO":
        return ""
    return f": {files[0].parent if form.title == 'Pascal VOC' else files[0]}"
