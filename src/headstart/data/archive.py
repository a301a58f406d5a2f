"""Unpack a zip that a stranger may have made: nothing leaves the folder, and a bomb is refused before it goes off."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from headstart.data.folders import is_junk
from headstart.errors import DataError

MOST_FILES = 100_000
MOST_BYTES = 8 << 30  # unpacked
MOST_RATIO = 200  # unpacked over packed; pictures and texts stay far below it
SMALL = 64 << 20  # unpacked, at which no ratio is suspicious
PIECE = 1 << 20


def unpack(archive: Path, folder: Path, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> Path:
    """Unpack into the new `folder`; gives the folder that holds the data: a single top folder is entered.

    Hidden files and what macOS adds are left out. DataError for a zip that is damaged, locked, too large, or holds
    links or paths that lead elsewhere.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            wanted = [entry for entry in packed.infolist() if not entry.is_dir() and not _is_hidden(entry.filename)]
            _check(archive, wanted, most_files, most_bytes)
            left = most_bytes
            for entry in wanted:
                left -= _write(packed, entry, folder, left)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise DataError(f"{archive.name} cannot be unpacked: {error}. Pack it again as a plain .zip.") from error
    if not wanted:
        raise DataError(f"{archive.name} holds no files. Pack a folder with one folder for each class, or a table.")
    return _entered(folder)


def _is_hidden(name: str) -> bool:
    return any(is_junk(part) for part in _path(name).parts if part != "..")


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _check(archive: Path, entries: list[zipfile.ZipInfo], most_files: int, most_bytes: int) -> None:
    """What the table of contents gives away; sizes that it lies about, `_write` finds out."""
    for entry in entries:
        path = _path(entry.filename)
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise DataError(f"{archive.name} holds {entry.filename!r}, which leads out of its folder. Pack it again.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise DataError(f"{archive.name} holds a link, {entry.filename!r}. Put the file itself in its place.")
    if len(entries) > most_files:
        raise DataError(f"{archive.name} holds {len(entries):,} files; at most {most_files:,} are taken.")
    size, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if size > most_bytes or (size > SMALL and size > MOST_RATIO * packed):
        raise DataError(
            f"{archive.name} would unpack to {size / 1e6:,.0f} MB out of {packed / 1e6:,.1f} MB, which is more than "
            "pictures or texts do. Pack only the data, or give the folder to `headstart fit`."
        )


def _write(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, most: int) -> int:
    """Unpack one file; its size in bytes. DataError when it is larger than the table of contents says."""
    target, size = folder / _path(entry.filename), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(entry) as source, target.open("xb") as file:
        while piece := source.read(PIECE):
            size += len(piece)
            if size > min(entry.file_size, most):
                raise DataError(f"{entry.filename!r} is larger than its zip says. Pack it again.")
            file.write(piece)
    return size


def _entered(folder: Path) -> Path:
    """The folder itself, or what is in it where that is one folder and nothing else."""
    inside = list(folder.iterdir())
    return _entered(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder
