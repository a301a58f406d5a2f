"""YOLO's text files: one a picture, one line a box, in shares of the picture: class, centre x and y, width, height.

A line with more numbers is a polygon or a turned box, and gets the box around it. A picture without a text file shows
nothing. Class names stand in data.yaml, classes.txt or obj.names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headstart import registry
from headstart.data.annotations.base import Row, Tree, counted, raw_of
from headstart.data.boxes import Annotation, Box, around, box
from headstart.data.dataset import SPLITS
from headstart.data.raw import Raw, split_name
from headstart.errors import DataError, listed

_USUAL = {"data", "dataset"}  # names of the YAML file that tells of classes and splits
_NAME_FILES = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels", "class.names")
_SNIFFED = 20  # text files that are looked into
_FARTHEST = 2.0  # shares of the picture beyond which a number is none


@dataclass(frozen=True)
class _Classes:
    """Class numbers by name."""

    names: Mapping[int, str] = field(default_factory=dict)
    source: str = ""  # the file they stand in, "" for none
    keypoints: bool = False  # the numbers after the fifth are points of a pose


def found_yaml(tree: Tree) -> list[Path]:
    """The YAML files that name classes and folders of pictures."""
    return [path for path in tree.of(".yaml", ".yml") if is_yolo(path)]


def is_yolo(path: Path) -> bool:
    """Whether a YAML file names classes and at least one split."""
    content = _yaml(path)
    return "names" in content and any(split_name(str(key)) for key in content)


def found_texts(tree: Tree) -> list[Path]:
    """The text files that stand for pictures, where all that are looked into hold boxes."""
    if not tree.of(".txt"):
        return []
    texts = [text for picture in tree.pictures if (text := _text_of(picture))]
    filled = [text for text in texts if text.stat().st_size]
    looked_into = filled[:: max(1, len(filled) // _SNIFFED)]
    good = looked_into and all(_parsed(line, False) for text in looked_into for line in _lines(text))
    return texts if good else []


def read_yaml(path: Path) -> Raw:
    """What a data.yaml names: its classes, and the pictures of each split. DataError when none of them is there."""
    content = _yaml(path)
    notes: list[str] = []
    classes = _Classes(_numbered(content["names"], path), str(path), "kpt_shape" in content)
    base = path.parent / str(content.get("path") or "")
    rows: list[Row] = []
    for key, given in content.items():
        split = split_name(str(key))
        for one in given if isinstance(given, list) else [given]:
            if split and one:
                pictures = _pictures(str(one), base, path)
                rows += [Row(picture, None, split) for picture in pictures]
                notes += [] if pictures else [f"{path.name} names {key}: {one}, where no pictures are"]
    if not rows:
        places = listed(f"{key}: {content[key]}" for key in content if split_name(str(key)))
        raise DataError(f"{path} names {places}, but no pictures are there. Correct its paths.")
    rows.sort(key=lambda row: SPLITS.index(row.split))
    return raw_of(_annotated(rows, classes, notes), path.parent, path, notes)


def read_first(tree: Tree, files: Sequence[Path]) -> Raw:
    """What the first YAML file of a folder names."""
    raw = read_yaml(files[0])
    unread = [str(path.relative_to(tree.root)) for path in files[1:]]
    return replace(raw, notes=(*raw.notes, f"other YAML files were not read: {listed(unread)}")) if unread else raw


def read_folder(tree: Tree, texts: Sequence[Path]) -> Raw:
    """Every picture of a folder, with the text file beside it or in labels/ instead of images/."""
    notes: list[str] = []
    splits = tree.listed_splits()
    folders = {path.parent for path in tree.pictures if _text_of(path)}
    pictures = [path for path in tree.pictures if path.parent in folders]
    if n_elsewhere := len(tree.pictures) - len(pictures):
        notes.append(f"{counted(n_elsewhere, 'picture')} in folders without any text file: not read")
    rows = [Row(path, None, splits.get(path.stem, tree.folder_split(path))) for path in pictures]
    return raw_of(_annotated(rows, _classes(tree), notes), tree.root, tree.root, notes)


def _annotated(rows: Sequence[Row], classes: _Classes, notes: list[str]) -> list[Row]:
    found = []
    n_bare = 0
    for row in rows:
        text = _text_of(row.picture)
        boxes = tuple(_boxes(text, classes)) if text else ()
        n_bare += text is None
        found.append(Row(row.picture, Annotation(boxes, relative=True), row.split))
    if n_bare:
        notes.append(f"{counted(n_bare, 'picture')} without a text file: read as showing nothing")
    if not classes.names:
        notes.append("no data.yaml, classes.txt or obj.names: classes are named by number")
    return found


def _text_of(picture: Path) -> Path | None:
    """The text file of a picture: in labels/ where the picture is in images/, beside it, or in a folder labels."""
    parts = list(picture.parts)
    places = [picture.with_suffix(".txt"), picture.parent / "labels" / f"{picture.stem}.txt"]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
        places.insert(0, Path(*parts).with_suffix(".txt"))
    places.append(picture.parent.parent / "labels" / f"{picture.stem}.txt")
    return next((place for place in places if place.is_file()), None)


def _boxes(text: Path, classes: _Classes) -> Iterator[Box]:
    for number, line in enumerate(_lines(text), 1):
        parsed = _parsed(line, classes.keypoints)
        if parsed is None:
            raise DataError(
                f"{text}, box {number}: {line[:60]!r} is no box. Write class, centre x, centre y, width and height, "
                "the last four as shares of the picture (0 to 1)."
            )
        index, edges = parsed
        if classes.names and index not in classes.names:
            raise DataError(
                f"{text}, box {number}: there is no class {index} in {classes.source}, which names "
                f"{listed(f'{i} ({name})' for i, name in classes.names.items())}. Add it there."
            )
        yield box(classes.names.get(index, f"class {index}"), edges, str(text))


def _parsed(line: str, keypoints: bool) -> tuple[int, tuple[float, float, float, float]] | None:
    """Class number, and x, y, width and height in shares; None where the line is no box."""
    try:
        number, *values = map(float, line.split())
    except ValueError:
        return None
    if number < 0 or not number.is_integer() or not all(abs(value) <= _FARTHEST for value in values):
        return None
    if len(values) == 4 or (keypoints and len(values) > 4):
        x, y, width, height = values[:4]
        return int(number), (x - width / 2, y - height / 2, width, height)
    return (int(number), around(values)) if len(values) >= 6 and len(values) % 2 == 0 else None


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check its rights.") from error
    return [line for line in text.splitlines() if line.strip()]


def _classes(tree: Tree) -> _Classes:
    """From a YAML file that names classes alone, or a list of names."""
    for path in tree.of(".yaml", ".yml"):
        content = _yaml(path)
        if "names" in content:
            return _Classes(_numbered(content["names"], path), str(path), "kpt_shape" in content)
    by_name = {path.name.lower(): path for path in reversed(tree.files)}
    listing = next((by_name[name] for name in _NAME_FILES if name in by_name), None)
    return _Classes(dict(enumerate(map(str.strip, _lines(listing)))), str(listing)) if listing else _Classes()


def _numbered(names: Any, path: Path) -> dict[int, str]:
    try:
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        raise DataError(f"{path}: names must be a list, or numbers with names, but is {names!r}.") from None


def _pictures(given: str, base: Path, path: Path) -> list[Path]:
    """The pictures in a folder or a list of files that a YAML file names; [] where it is not there."""
    plain = given
    while plain.startswith("../"):  # as Roboflow writes it, one folder too far up
        plain = plain.removeprefix("../")
    places = [base / given, path.parent / given, path.parent / plain]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        return []
    if place.is_dir():
        return Tree(place).pictures
    suffixes = registry.modality("image").suffixes
    named = [line.strip() for line in _lines(place) if Path(line.strip()).suffix.lower() in suffixes]
    return [_first_there(place.parent / name, base / name) for name in named]


def _first_there(*paths: Path) -> Path:
    """The first that is a file, else the first; without dots in the middle."""
    clean = [Path(os.path.normpath(path)) for path in paths]
    return next((path for path in clean if path.is_file()), clean[0])


def _yaml(path: Path) -> dict[str, Any]:
    """The file as a dict; {} where it is none. DataError where it has the usual name and is damaged."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        if path.stem.lower() in _USUAL:
            raise DataError(f"{path} is not YAML that can be read: {' '.join(str(error).split())}. Mend it.") from error
        return {}
    return content if isinstance(content, dict) else {}
