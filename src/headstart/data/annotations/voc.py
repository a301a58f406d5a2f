"""Pascal VOC's XML: one file a picture, with corners in pixels (Everingham et al. 2010).

The VOC devkit counts pixels from 1 and includes the last one; nearly every tool that writes the form today (LabelImg,
CVAT, Roboflow, the BCCD data) writes plain corners from 0, as COCO does. So corners are taken as they stand: x = xmin,
width = xmax - xmin. For files of the devkit itself that is half a pixel to a pixel off, the same in train and in test.
`difficult` means "ignored".
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from headstart.data.annotations.base import Row, Tree, counted, raw_of
from headstart.data.boxes import Annotation, Box, box, stated_size
from headstart.data.raw import Raw
from headstart.errors import listed

_HEAD = 2048  # bytes, in which the outermost element begins


def found(tree: Tree) -> list[Path]:
    """The XML files of a folder that are annotations."""
    return [path for path in tree.of(".xml") if _is_annotation(path)]


def read_folder(tree: Tree, files: Sequence[Path]) -> Raw:
    """All XML files, and the pictures that none of them is about, which are unlabelled."""
    source = tree.root
    if not tree.pictures:  # the folder of the XML files alone: pictures and lists of splits stand beside it
        tree = Tree(tree.root.parent)
    splits, notes = tree.listed_splits(), []
    rows = [_row(tree, path) for path in files]
    damaged = [path.name for path, row in zip(files, rows, strict=True) if row.annotation is None]
    if damaged:
        notes.append(
            f"{counted(len(damaged), 'XML file')} that cannot be read, their pictures unlabelled: {listed(damaged)}"
        )
    bare = tree.beside(row.picture for row in rows)
    if bare:
        notes.append(f"{counted(len(bare), 'picture')} without an XML file: unlabelled")
        rows += [Row(path, None, tree.folder_split(path)) for path in bare]
    if splits:
        rows = [Row(row.picture, row.annotation, splits.get(row.picture.stem, "")) for row in rows]
        n_unlisted = sum(not row.split for row in rows)
        if n_unlisted:
            notes.append(f"left out {counted(n_unlisted, 'picture')} that no list of a split names")
        rows = [row for row in rows if row.split]
    return raw_of(rows, tree.root, source, notes)


def _row(tree: Tree, path: Path) -> Row:
    split = tree.folder_split(path)
    root = _root(path)
    if root is None:
        return Row(tree.picture(path.stem, path.parent, split) or path.with_suffix(".jpg"), None, split)
    named = (root.findtext("filename") or "").strip()
    picture = tree.picture(named, path.parent, split) or tree.picture(path.stem, path.parent, split)
    size = stated_size(root.findtext("size/width"), root.findtext("size/height"))
    boxes = tuple(_box(one, path) for one in root.iter("object"))
    return Row(picture or path.parent / (named or path.stem), Annotation(boxes, size), split)


def _box(one: ElementTree.Element, path: Path) -> Box:
    texts = [one.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (float(text or "") for text in texts)
    except ValueError:  # without a size: the audit drops and counts it
        left = top = right = bottom = 0.0
    ignored = (one.findtext("difficult") or "0").strip() not in ("0", "")
    return box((one.findtext("name") or "").strip(), (left, top, right - left, bottom - top), str(path), ignored)


def _is_annotation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"<annotation" in file.read(_HEAD)
    except OSError:
        return False


def _root(path: Path) -> ElementTree.Element | None:
    """None where the file is damaged."""
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
