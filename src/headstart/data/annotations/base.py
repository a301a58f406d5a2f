"""What every form of annotation files needs: one look at a folder, its pictures by name, and rows to return."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from headstart import registry
from headstart.data.boxes import Annotation
from headstart.data.folders import is_junk
from headstart.data.raw import Raw, split_word
from headstart.errors import DataError

MOST_FILES = 500_000  # at which the look ends: someone gave a whole disk
_LISTS = {"train.txt": "train", "val.txt": "val", "valid.txt": "val", "test.txt": "test", "trainval.txt": "train"}
_PICTURE_FOLDERS = {"images", "jpegimages", "imgs", "img"}  # rather than those of masks
_LIST_FOLDERS = ("ImageSets/Main", "ImageSets", "splits", ".")


@dataclass(frozen=True)
class Row:
    """One picture and what is drawn on it."""

    picture: Path
    annotation: Annotation | None  # None: nobody has looked at it
    split: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)  # what else the source says of it


@dataclass(frozen=True)
class Tree:
    """One look at a folder and all that is below it, in sorted order; links are followed, hidden files left out."""

    root: Path

    @cached_property
    def files(self) -> list[Path]:
        """Every file."""
        found: list[Path] = []
        for path in _below(self.root):
            found.append(path)
            if len(found) == MOST_FILES:
                break
        return sorted(found)

    def of(self, *suffixes: str) -> list[Path]:
        """The files with one of these suffixes, in lower case."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    @cached_property
    def pictures(self) -> list[Path]:
        """The picture files."""
        return self.of(*registry.modality("image").suffixes)

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """Pictures by file name, with suffix and without."""
        found: dict[str, list[Path]] = {}
        for path in self.pictures:
            for name in {path.name, path.stem}:
                found.setdefault(name, []).append(path)
        return found

    def picture(self, name: str, near: Path, split: str = "") -> Path | None:
        """The picture that a file in the folder `near` calls `name`; None where there is none, or no telling which."""
        name = name.replace("\\", "/")
        if name and (near / name).is_file():
            return near / name
        wanted = PurePosixPath(name)
        ranked = sorted((_rank(path, wanted, near, split), path) for path in self.by_name.get(wanted.name, []))
        sure = len(ranked) == 1 or (len(ranked) > 1 and ranked[0][0] < ranked[1][0])
        return ranked[0][1] if sure else None

    def beside(self, pictures: Iterable[Path]) -> list[Path]:
        """The other pictures in the folders of these; not those in folders of masks, or of drawn results."""
        known = set(pictures)
        folders = {path.parent for path in known}
        return [path for path in self.pictures if path.parent in folders and path not in known]

    def folder_split(self, path: Path) -> str:
        """The split that a folder on the way to a file is named after: "train" for train2017/; else ""."""
        try:
            parts = path.relative_to(self.root).parts[:-1]
        except ValueError:
            parts = path.parts[-3:-1]
        return next((split for part in reversed(parts) if (split := split_word(part))), "")

    def listed_splits(self) -> dict[str, str]:
        """Stem of a picture -> split, from lists such as ImageSets/Main/train.txt; {} where there are none."""
        for folder in _LIST_FOLDERS:
            lists = {name: self.root / folder / name for name in _LISTS if (self.root / folder / name).is_file()}
            if {"train.txt", "val.txt"} <= lists.keys():
                lists.pop("trainval.txt", None)
            found = {stem: _LISTS[name] for name, path in lists.items() for stem in _stems(path)}
            if found.keys() & self.by_name.keys():
                return found
        return {}


def _below(folder: Path, seen: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Files below a folder; a link back to a folder on the way is not followed."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    try:
        entries = [entry for entry in os.scandir(folder) if not is_junk(entry.name)]
    except OSError:  # where it is the one that was asked for, folders.py says so
        return
    for entry in entries:
        is_link = entry.is_symlink()  # asked of the file system only where it must be; a link to itself is no error
        if os.path.isdir(entry.path) if is_link else entry.is_dir():
            yield from _below(Path(entry.path), seen | {real})
        elif os.path.isfile(entry.path) if is_link else entry.is_file():
            yield Path(entry.path)


def _rank(path: Path, wanted: PurePosixPath, near: Path, split: str) -> tuple[bool, bool, bool, int]:
    """Smaller is likelier: the same folders, a folder of that split, one for pictures, few folders away."""
    same = path.parts[-len(wanted.parts) :] == wanted.parts
    of_split = bool(split) and split in map(split_word, path.parts[:-1])
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path.parts, near.parts, strict=False)))
    return not same, not of_split, path.parent.name.lower() not in _PICTURE_FOLDERS, -shared


def _stems(path: Path) -> list[str]:
    """The first word of each line, without folders and suffix."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [PurePosixPath(line.strip().replace("\\", "/")).name for line in lines if line.strip()]
    suffixes = registry.modality("image").suffixes
    return [PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in suffixes else name for name in names]


def raw_of(rows: Sequence[Row], root: Path, source: Path, notes: Iterable[str]) -> Raw:
    """The rows as raw columns: the file, its boxes, and what else the source says."""
    if not any(row.annotation for row in rows):
        raise DataError(f"{source} holds no annotated picture. Give at least one picture with boxes.")
    columns: dict[str, list[Any]] = {"file": [row.picture for row in rows], "boxes": [row.annotation for row in rows]}
    more = dict.fromkeys(name for row in rows for name in row.more if name not in columns)
    columns |= {name: [row.more.get(name) for row in rows] for name in more}
    folders = [row.picture.parent.name for row in rows]
    if len(set(folders)) > 1 and "folder" not in columns:
        columns["folder"] = folders
    splits = [row.split for row in rows]
    return Raw(
        columns=columns,
        name=root.resolve().name,
        source=str(source),
        splits=splits if any(splits) else None,
        input="file",
        label="boxes",
        notes=tuple(notes),
    )


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """'1 picture', '3 pictures'."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
