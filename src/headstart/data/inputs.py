"""What `predict` is given (files, folders, tables, standard input, or a text itself) as stored items."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from headstart import registry
from headstart.data.dataset import Dataset
from headstart.data.tables import TABLE_SUFFIXES
from headstart.errors import DataError, did_you_mean, listed


def gather(modality_name: str, given: Sequence[str], read: Callable[[str], Dataset]) -> list[Any]:
    """The items, as the modality stores them, of everything that was given, in order.

    "-" is standard input: a text a line, or a file name a line. `read` reads a table. DataError for what is not there.
    """
    return [item for one in given for item in _items(modality_name, one, read)]


def _items(name: str, given: str, read: Callable[[str], Dataset]) -> Iterator[Any]:
    modality = registry.modality(name)
    path = Path(given)
    if not given.strip():
        raise DataError("An empty input was given; give files, folders, a table, '-' for standard input, or a text.")
    if given == "-":
        lines = (line.rstrip("\n") for line in sys.stdin)
        yield from (modality.store(line, None) for line in lines if line.strip())
    elif _exists(path) and path.is_dir() and (found := _files_in(path, modality.suffixes)):
        yield from (modality.store(file, None) for file in found)
    elif _exists(path) and path.suffix.lower() in modality.suffixes:
        yield modality.store(path, None)
    elif _exists(path):
        yield from _of_table(name, given, read)
    elif name == "text" and not path.suffix and "/" not in given:
        yield given
    else:
        raise DataError(
            f"There is no file or folder {given!r}.{did_you_mean(path.name, _beside(path))} Give files, folders, "
            f"a table ({listed(TABLE_SUFFIXES)}), '-' for standard input"
            + (", or a text in quotes." if name == "text" else ".")
        )


def _of_table(name: str, given: str, read: Callable[[str], Dataset]) -> list[Any]:
    dataset = read(given)
    if dataset.modality != name:
        raise DataError(
            f"{given} holds {registry.modality(dataset.modality).noun[1]}, but this model takes "
            f"{registry.modality(name).noun[1]}."
        )
    return dataset.inputs


def _files_in(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a long text is no file name
        return False


def _beside(path: Path) -> list[str]:
    return [p.name for p in path.parent.iterdir()] if _exists(path.parent) and path.parent.is_dir() else []
