"""Folders to raw columns: class folders (in split folders, over group folders), or a folder that holds tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from headstart import registry
from headstart.data.objects import from_saved, is_saved
from headstart.data.raw import Raw, printable, split_name
from headstart.data.tables import TABLE_SUFFIXES, read_tables, table_suffix
from headstart.errors import DataError, listed

_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}
_WAYS_OUT = {
    "convert them to PNG": {".dcm", ".dicom", ".heic", ".heif", ".avif", ".nii", ".svg", ".jp2", ".dng", ".nef"},
    "convert them to .wav": {".m4a", ".aac", ".wma", ".amr", ".mp4", ".mov", ".mkv", ".webm", ".avi"},
    "save them as .csv": {".xlsx", ".xls", ".ods"},
    "save them as .txt": {".pdf", ".docx", ".doc", ".rtf", ".odt", ".html", ".md"},
}


@dataclass(frozen=True)
class _Folder:
    """One look at a folder, in sorted order; links are followed, hidden files left out."""

    path: Path
    folders: list[Path]
    items: list[Path]  # files that hold one item each
    tables: list[Path]
    others: list[Path]

    @cached_property
    def inside(self) -> list[_Folder]:
        """A look at each of its folders."""
        return [_look(path) for path in self.folders]


@dataclass(frozen=True)
class _Leaf:
    """A folder whose items are all of one split, class and group."""

    split: str  # "" where none is given
    label: str
    look: _Folder
    group: str | None = None


@cache
def item_suffixes() -> dict[str, str]:
    """Suffix of files that hold one item each -> modality."""
    return {suffix: name for name in registry.MODALITIES.names() for suffix in registry.modality(name).suffixes}


def read_folder(folder: Path) -> Raw:
    """What a folder holds. DataError when it holds nothing that can be read, or more than one thing."""
    if is_saved(folder):
        return from_saved(folder)
    top = _look(folder)
    split_folders = [(split, look) for look in top.inside if (split := split_name(look.path.name))]
    if leaves := _class_leaves(split_folders) or _group_leaves(split_folders):
        return _class_folders(top, leaves, [look for _, look in split_folders])
    leaves = _class_leaves([("", top)])
    if len(leaves) > 1:
        _check_not_only_splits(leaves)
        return _class_folders(top, leaves, [top])
    if not top.tables and (grouped := _group_leaves([("", top)])):
        return _class_folders(top, grouped, [top])
    _check_not_too_deep(top)
    if top.tables:
        return read_tables(folder, top.tables)
    if leaves:
        return _class_folders(top, leaves, [top])
    if top.items:
        return _loose_items(top)
    raise DataError(
        f"{folder} holds nothing that can be read ({_contents(top)}). Give a folder with one folder of pictures, "
        f"sounds or .txt files for each class, pictures with boxes (COCO, Pascal VOC, YOLO), or a table "
        f"({', '.join(TABLE_SUFFIXES)})."
    )


def _look(folder: Path) -> _Folder:
    look = _Folder(folder, [], [], [], [])
    suffixes = item_suffixes()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"Cannot read the folder {folder}: {error.strerror}. Check its rights.") from error
    for entry in entries:
        if is_junk(entry.name):
            continue
        path = Path(entry.path)
        is_file = os.path.isfile(path)  # unlike `entry.is_file`, no error for a link to itself
        if os.path.isdir(path):
            look.folders.append(path)
        elif is_file and path.suffix.lower() in suffixes:
            look.items.append(path)
        else:
            (look.tables if is_file and table_suffix(path) else look.others).append(path)
    return look


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is no data: hidden, or left behind by an operating system."""
    return name.startswith(".") or name.lower() in _JUNK


def _class_leaves(parents: Sequence[tuple[str, _Folder]]) -> list[_Leaf]:
    """The class folders in (split, folder) that hold items themselves."""
    return [_Leaf(split, look.path.name, look) for split, parent in parents for look in parent.inside if look.items]


def _group_leaves(parents: Sequence[tuple[str, _Folder]]) -> list[_Leaf]:
    """The folders CLASS/PATIENT in (split, folder) that hold items; none where it may as well be DOMAIN/CLASS."""
    leaves = [
        _Leaf(split, look.path.name, inner, inner.path.name)
        for split, parent in parents
        for look in parent.inside
        for inner in look.inside
        if inner.items
    ]
    n_classes = Counter(group for _, group in {(leaf.label, leaf.group) for leaf in leaves})
    repeated = sum(n for n in n_classes.values() if n > 1)
    doubtful = len({leaf.label for leaf in leaves}) < 2 or 2 * repeated > n_classes.total()
    return [] if doubtful else leaves


def _class_folders(top: _Folder, leaves: Sequence[_Leaf], parents: Sequence[_Folder]) -> Raw:
    """Items of the one modality that most files are of, labelled by their class folder in one of the `parents`."""
    suffixes = item_suffixes()
    counts = Counter(suffixes[item.suffix.lower()] for leaf in leaves for item in leaf.look.items)
    modality = max(sorted(counts), key=lambda name: counts[name])
    rows = [(item, leaf) for leaf in leaves for item in leaf.look.items if suffixes[item.suffix.lower()] == modality]
    label = "folder" if leaves[0].group is None else "class"
    columns: dict[str, list[Any]] = {"file": [item for item, _ in rows], label: [leaf.label for _, leaf in rows]}
    notes = []
    if label == "class":
        columns["folder"] = [leaf.group for _, leaf in rows]
        nouns = registry.modality(modality).noun[1]
        notes.append(f"{nouns} stand in sub-folders; pass --group folder to keep each on one side")
    if modality == "audio" and label == "folder":
        notes.append(
            "who speaks is not known, so that the same voice may stand in train and test: folders CLASS/SPEAKER, or a "
            "table with a column for --group, keep speakers apart"
        )
    learnt = set(columns[label])
    unlearnt = [look for parent in parents for look in parent.inside if look.path.name not in learnt]
    notes += dict.fromkeys(map(_not_learnt, unlearnt))
    way = {path for leaf in leaves for path in (leaf.look.path, *leaf.look.path.parents)}
    passed = list(_passed_over(top, way, {*columns["file"], *(look.path for look in unlearnt)}))
    notes += _unread("file", [path for path in passed if not path.is_dir()], top)
    notes += _unread("folder", [path for path in passed if path.is_dir()], top)
    return Raw(
        columns=columns,
        name=top.path.resolve().name,
        source=str(top.path),
        splits=[leaf.split for _, leaf in rows] if any(leaf.split for leaf in leaves) else None,
        input="file",
        label=label,
        notes=tuple(notes),
    )


def _loose_items(top: _Folder) -> Raw:
    """Items that lie in the folder itself: no labels."""
    raw = _class_folders(top, [_Leaf("", "", top)], [])
    return replace(raw, columns={"file": raw.columns["file"]}, label=None)


def _passed_over(look: _Folder, way: set[Path], told: set[Path]) -> Iterator[Path]:
    """Files and folders beside the way to the leaves that are not told of."""
    yield from (file for file in (*look.items, *look.tables, *look.others) if file not in told)
    yield from (path for path in look.folders if path not in way | told)
    if not way.isdisjoint(look.folders):
        for inner in look.inside:
            if inner.path in way - told:
                yield from _passed_over(inner, way, told)


def _not_learnt(look: _Folder) -> str:
    files = list(_files([look.path]))
    verb = "is" if any(_is_readable(file) for file in files) else "can be"
    found = f" ({_tally(files)})" if files else ""
    return (
        f"class folder {printable(look.path.name)!r} holds nothing that {verb} read{found}, so that class is not learnt"
    )


def _unread(noun: str, paths: Sequence[Path], top: _Folder) -> list[str]:
    """A note with a count of what was passed over."""
    if not paths:
        return []
    names = listed((printable(str(path.relative_to(top.path))) for path in paths), 4)
    verb = "s were" if len(paths) > 1 else " was"
    tally = _tally(_files(paths))
    return [f"{len(paths):,} other {noun}{verb} not read{f' ({tally})' if tally else ''}: {names}"]


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files among the paths and below them; links to folders are not followed."""
    for path in paths:
        if not path.is_dir():
            yield path
        elif not path.is_symlink():
            for folder, names, files in os.walk(path):
                names[:] = [name for name in names if not is_junk(name)]
                yield from (Path(folder, file) for file in sorted(files) if not is_junk(file))


def _is_readable(file: Path) -> bool:
    return file.suffix.lower() in item_suffixes() or table_suffix(file) is not None


def _tally(files: Iterable[Path]) -> str:
    """ "10 .dcm files, 1 .xlsx file"."""
    counts = Counter(printable(file.suffix.lower()) for file in files)
    return listed(
        (
            f"{n:,} {suffix} file{'s' * (n > 1)}" if suffix else f"{n:,} file{'s' * (n > 1)} without a suffix"
            for suffix, n in counts.most_common()
        ),
        4,
    )


def _check_not_only_splits(leaves: Sequence[_Leaf]) -> None:
    if all(split_name(leaf.label) for leaf in leaves):
        look = leaves[0].look
        raise DataError(
            f"The folders {listed(leaf.label for leaf in leaves)} hold files but no class folders, so there are no "
            f"labels. Sort the files of each class into a folder: {look.path}/CLASS/{look.items[0].name}"
        )


def _check_not_too_deep(top: _Folder) -> None:
    """DataError when the class folders lie one level deeper; one such folder beside a table may be its pictures."""
    deep = [look.path for look in top.inside if any(inner.items for inner in look.inside)]
    if len(deep) > 1 or (deep and not top.tables):
        tables = f", or the table {listed(path.name for path in top.tables)}" if top.tables else ""
        raise DataError(
            f"The folders in {top.path} hold no items themselves, but folders that do: "
            f"{listed(path.name for path in deep)}. Read one of them, for example {deep[0]}{tables}."
        )


def _contents(top: _Folder) -> str:
    """What a folder holds where nothing can be read: files of unknown suffixes, files too deep, empty folders."""
    files = list(_files([*top.others, *top.folders]))
    if not files:
        names = listed(printable(path.name) for path in top.folders)
        return f"{len(top.folders)} empty folder{'s' * (len(top.folders) > 1)}: {names}" if names else "it is empty"
    unknown = [file for file in files if not _is_readable(file)]
    deep = [file for file in files if _is_readable(file)]
    parts = [f"{_tally(deep)} too deep in its folders"] if deep else []
    if unknown:
        suffixes = {file.suffix.lower() for file in unknown}
        ways = "; ".join(way for way, known in _WAYS_OUT.items() if known & suffixes)
        parts.append(f"{_tally(unknown)}, which cannot be read{f': {ways}' if ways else ''}")
    return " and ".join(parts)
