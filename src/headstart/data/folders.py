"""Folders to raw columns: class folders, with or without split folders above them, or a folder that holds tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from headstart import registry
from headstart.data.objects import from_saved, is_saved
from headstart.data.raw import Raw, split_name
from headstart.data.tables import TABLE_SUFFIXES, read_tables, table_suffix
from headstart.errors import DataError, listed

_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class _Folder:
    """One look at a folder, in sorted order; links are followed, hidden files left out."""

    path: Path
    folders: list[Path]
    items: list[Path]  # files that hold one item each
    tables: list[Path]
    others: list[Path]


@cache
def item_suffixes() -> dict[str, str]:
    """Suffix of files that hold one item each -> modality."""
    return {suffix: name for name in registry.MODALITIES.names() for suffix in registry.modality(name).suffixes}


def read_folder(folder: Path) -> Raw:
    """What a folder holds. DataError when it holds nothing that can be read, or more than one thing."""
    if is_saved(folder):
        return from_saved(folder)
    top = _look(folder)
    below = [_look(path) for path in top.folders]
    split_folders = [look for look in below if split_name(look.path.name)]
    classes = [
        (split_name(look.path.name), inner)
        for look in split_folders
        for inner in map(_look, look.folders)
        if inner.items
    ]
    if classes:
        return _class_folders(top, classes, [look for look in below if look not in split_folders], split_folders)
    filled = [look for look in below if look.items]
    if len(filled) > 1:
        _check_not_only_splits(filled)
        return _class_folders(top, [("", look) for look in filled], [look for look in below if look not in filled])
    _check_not_too_deep(top, below)
    if top.tables:
        return read_tables(folder, top.tables)
    if filled:
        return _class_folders(top, [("", filled[0])], [])
    if top.items:
        return _loose_items(top)
    raise DataError(
        f"{folder} holds nothing that can be read ({_contents(top)}). Give a folder with one folder of pictures or "
        f".txt files for each class, or a table ({', '.join(TABLE_SUFFIXES)})."
    )


def _look(folder: Path) -> _Folder:
    look = _Folder(folder, [], [], [], [])
    suffixes = item_suffixes()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"Cannot read the folder {folder}: {error.strerror}. Check its rights.") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _JUNK:
            continue
        path = Path(entry.path)
        if entry.is_dir():
            look.folders.append(path)
        elif path.suffix.lower() in suffixes and entry.is_file():
            look.items.append(path)
        else:
            (look.tables if table_suffix(path) and entry.is_file() else look.others).append(path)
    return look


def _class_folders(
    top: _Folder,
    classes: Sequence[tuple[str | None, _Folder]],
    unread: Sequence[_Folder],
    between: Sequence[_Folder] = (),
) -> Raw:
    """Items of the one modality that most files are of, labelled by their folder."""
    suffixes = item_suffixes()
    counts = Counter(suffixes[item.suffix.lower()] for _, look in classes for item in look.items)
    modality = max(sorted(counts), key=lambda name: counts[name])
    rows = [
        (item, look.path.name, split)
        for split, look in classes
        for item in look.items
        if suffixes[item.suffix.lower()] == modality
    ]
    kept = {item for item, _, _ in rows}
    looks = [top, *between, *(look for _, look in classes)]
    others = [f for look in looks for f in (*look.items, *look.tables, *look.others) if f not in kept]
    notes = [*_unread("file", others, top), *_unread("folder", [look.path for look in unread], top)]
    notes += _unread("folder", [inner for _, look in classes for inner in look.folders], top)
    return Raw(
        columns={"file": [row[0] for row in rows], "folder": [row[1] for row in rows]},
        name=top.path.resolve().name,
        source=str(top.path),
        splits=[row[2] or "" for row in rows] if any(row[2] for row in rows) else None,
        input="file",
        label="folder",
        notes=tuple(notes),
    )


def _unread(noun: str, paths: Iterable[Path], top: _Folder) -> list[str]:
    """A note with a count of what was passed over."""
    names = [str(path.relative_to(top.path)) for path in paths]
    return (
        [f"{len(names):,} other {noun}{'s were' if len(names) > 1 else ' was'} not read: {listed(names, 4)}"]
        if names
        else []
    )


def _loose_items(top: _Folder) -> Raw:
    """Items that lie in the folder itself: no labels."""
    look: Any = _class_folders(top, [("", top)], [])
    notes = tuple(note for note in look.notes if "folder" not in note)
    return Raw(columns={"file": look.columns["file"]}, name=look.name, source=look.source, input="file", notes=notes)


def _check_not_only_splits(filled: Sequence[_Folder]) -> None:
    if all(split_name(look.path.name) for look in filled):
        names = listed(look.path.name for look in filled)
        raise DataError(
            f"The folders {names} hold files but no class folders, so there are no labels. "
            f"Sort the files of each class into a folder: {filled[0].path}/CLASS/{filled[0].items[0].name}"
        )


def _check_not_too_deep(top: _Folder, below: Sequence[_Folder]) -> None:
    """DataError when the class folders lie one level deeper; one such folder beside a table may be its pictures."""
    deep = [look.path for look in below if any(_look(inner).items for inner in look.folders)]
    if len(deep) > 1 or (deep and not top.tables):
        tables = f", or the table {listed(path.name for path in top.tables)}" if top.tables else ""
        raise DataError(
            f"The folders in {top.path} hold no items themselves, but folders that do: "
            f"{listed(path.name for path in deep)}. Read one of them, for example {deep[0]}{tables}."
        )


def _contents(top: _Folder) -> str:
    n_files = len(top.others)
    if not n_files and not top.folders:
        return "it is empty"
    parts = [
        f"{n_files} file{'s' * (n_files != 1)}" if n_files else "",
        f"{len(top.folders)} empty folders" if top.folders else "",
    ]
    return " and ".join(part for part in parts if part) + f": {listed(p.name for p in (*top.folders, *top.others))}"
