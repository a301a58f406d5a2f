"""What a recogniser hears in recordings: a row a recording, or a file a recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headstart.data.dataset import Dataset
from headstart.deploy.subtitles import FORMATS
from headstart.errors import PlanError, RunError, listed
from headstart.modalities.base import Modality
from headstart.progress import Progress
from headstart.tasks.heard import Heard

if TYPE_CHECKING:
    from headstart.deploy.model import Model

SUFFIXES = tuple(f".{name}" for name in FORMATS)


@dataclass(frozen=True, kw_only=True)
class Transcripts:
    """What is heard in N stored sounds; None where one cannot be read, and `problems` says why."""

    names: Sequence[str]
    problems: Sequence[str | None]
    heard: Sequence[Heard | None]

    def table(self) -> pd.DataFrame:
        """A row a recording: input, prediction, confidence, and its words with their times."""
        table = heard_table(self.names, self.heard)
        return table.assign(problem=list(self.problems)) if any(self.problems) else table

    def short(self) -> pd.DataFrame:
        """The same without the words, for people and for files whose cells hold one value."""
        return self.table().drop(columns="words")

    def write(self, folder: Path, kind: str) -> int:
        """A file a recording that could be read, named after it, into the new `folder`; how many there are."""
        check_new_folder(folder)
        taken: set[str] = set()
        try:
            folder.mkdir()
            for name, one in zip(self.names, self.heard, strict=True):
                if one is not None:
                    (folder / _free_name(name, kind, taken)).write_text(FORMATS[kind](one), encoding="utf-8")
        except OSError as error:
            raise RunError(f"{folder} could not be written: {error.strerror or error}. Choose another --out.") from None
        return len(taken)

    def single(self, path: Path) -> str:
        """The content of a file for the only recording. PlanError where there are several; RunError where none is."""
        kind = path.suffix.lower().removeprefix(".")
        if len(self.heard) != 1:
            raise PlanError(
                f"{path.name} holds one transcript, and there are {len(self.heard):,} inputs. Use --out FOLDER "
                f"--format {kind} for a file each, or --out NAME.jsonl for all in one."
            )
        if self.heard[0] is None:
            raise RunError(f"{self.names[0]} cannot be read: {self.problems[0]}. Nothing was written.")
        return FORMATS[kind](self.heard[0])


def transcribe(model: Model, items: Sequence[Any], progress: Progress) -> Transcripts:
    """What a recogniser hears in stored sounds, of any length."""
    examined = [model.examine(item) for item in items]
    good = [i for i, one in enumerate(examined) if one.problem is None]
    heard: list[Heard | None] = [None] * len(items)
    for i, one in zip(
        good, model.scores([items[i] for i in good], [examined[i].digest for i in good], progress), strict=True
    ):
        heard[i] = one
    names = [model.modality.name_in_full(item) for item in items]
    return Transcripts(names=names, problems=[one.problem for one in examined], heard=heard)


def heard_table(names: Sequence[str], heard: Sequence[Heard | None] | np.ndarray) -> pd.DataFrame:
    """A row a recording: input, prediction, confidence, and its words with their times; None where it is not read."""
    return pd.DataFrame(
        {
            "input": list(names),
            "prediction": [None if one is None else one.text for one in heard],
            "confidence": [None if one is None else one.confidence for one in heard],
            "words": [None if one is None else one.to_json()["words"] for one in heard],
        }
    )


def tested_table(modality: Modality, tested: Dataset, heard: np.ndarray) -> pd.DataFrame:
    """The same with the true transcripts (`label`)."""
    table = heard_table([modality.name_in_full(item) for item in tested.inputs], heard)
    table.insert(1, "label", tested.column("label"))
    return table


def check_kind(kind: str) -> None:
    """PlanError unless transcripts can be written so."""
    if kind not in FORMATS:
        raise PlanError(f"Transcripts cannot be written as {kind!r}: --format is one of {listed(FORMATS)}.")


def check_new_folder(folder: Path) -> None:
    """PlanError unless this folder can be made."""
    if folder.exists():
        raise PlanError(f"{folder} is there already, and nothing was overwritten. Choose another --out, or remove it.")
    if not folder.absolute().parent.is_dir():
        raise PlanError(f"There is no folder {folder.parent} to make {folder.name} in. Make it, or choose another.")


def _free_name(name: str, kind: str, taken: set[str]) -> str:
    """The recording's name with another ending, that is not yet `taken`; it then is."""
    stem = Path(os.path.basename(name)).stem or "recording"
    names = (f"{stem}.{kind}" if n == 1 else f"{stem}-{n}.{kind}" for n in range(1, len(taken) + 2))
    free = next(name for name in names if name.lower() not in taken)
    taken.add(free.lower())
    return free
