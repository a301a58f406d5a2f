"""Folders of recordings with their transcripts, as Common Voice (Ardila et al. 2019, arXiv:1912.06670), LibriSpeech and
LJSpeech lay them out: speakers and official splits are known there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from headstart import registry
from headstart.data.raw import Raw, split_word, together
from headstart.data.tables import read_table
from headstart.errors import DataError, listed

COMMON_VOICE = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}
_WHOLE = ("validated.tsv", "train.tsv")  # what is read where the three are not all there, best first
_SPOKEN = "*.trans.txt"


def read_spoken_folder(folder: Path) -> Raw | None:
    """Recordings with transcripts in one of three layouts; None where it is none of them. DataError when damaged."""
    readers: tuple[Callable[[Path], Raw | None], ...] = (_common_voice, _librispeech, _ljspeech)
    return next((raw for reader in readers if (raw := reader(folder)) is not None), None)


def _common_voice(folder: Path) -> Raw | None:
    """`clips/` beside train.tsv, dev.tsv and test.tsv, or validated.tsv alone; columns path, sentence, client_id."""
    clips = folder / "clips"
    if not clips.is_dir():
        return None
    given = [(split, folder / name) for split, name in COMMON_VOICE.items() if (folder / name).is_file()]
    if len(given) > 1 and given[0][0] == "train":
        raw = together([(split, read_table(path)) for split, path in given])
    elif whole := next((folder / name for name in _WHOLE if (folder / name).is_file()), None):
        raw = read_table(whole)
    else:
        return None
    if lacking := {"path", "sentence"} - set(raw.columns):
        raise DataError(
            f"{raw.source} has no column {listed(sorted(lacking))}, which Common Voice's tables have; its columns are "
            f"{listed(raw.columns, 20)}. Name the table itself to choose the columns: {raw.source} --input COL."
        )
    files = [clips / (name if Path(name).suffix else f"{name}.mp3") for name in raw.columns["path"]]
    columns: dict[str, list[Any]] = {"file": list(files), "sentence": raw.columns["sentence"]}
    if "client_id" in raw.columns:
        columns |= {"speaker": raw.columns["client_id"], "client_id": raw.columns["client_id"]}
    columns |= {name: values for name, values in raw.columns.items() if name not in {*columns, "path"}}
    note = (
        f"read as Common Voice ({listed(path.name for _, path in given) if raw.splits else Path(str(raw.source)).name})"
    )
    return _spoken(folder, columns, "sentence", raw.splits, (note, *raw.notes))


def _librispeech(folder: Path) -> Raw | None:
    """SPEAKER/CHAPTER/*.trans.txt with a sound beside for each line, perhaps in parts: train-clean-5, dev-clean …"""
    if any(folder.glob(f"*/*/{_SPOKEN}")):
        parts = [folder]
    else:
        tops = [folder, *(path for path in (folder / "LibriSpeech",) if path.is_dir())]
        parts = sorted({path.parents[2] for top in tops for path in top.glob(f"*/*/*/{_SPOKEN}")})
    if not parts:
        return None
    rows = [(split_word(part.name) or "", *row) for part in parts for row in _chapters(part)]
    splits = [row[0] for row in rows] if any(row[0] == "train" for row in rows) else None
    columns: dict[str, list[Any]] = {"file": [row[1] for row in rows], "transcript": [row[2] for row in rows]}
    columns["speaker"] = [path.parents[1].name for path in columns["file"]]
    note = f"read as LibriSpeech ({listed(part.name for part in parts) if parts != [folder] else 'one part'})"
    return _spoken(folder, columns, "transcript", splits, (note,))


def _chapters(part: Path) -> Iterator[tuple[Path, str]]:
    """(sound, transcript) of each line `ID WORDS` of each chapter."""
    for transcripts in sorted(part.glob(f"*/*/{_SPOKEN}")):
        sounds = _sounds_in(transcripts.parent)
        for line in transcripts.read_text(encoding="utf-8-sig").split("\n"):
            name, _, words = line.strip().partition(" ")
            if name:
                yield sounds.get(name, transcripts.parent / f"{name}.flac"), words


def _ljspeech(folder: Path) -> Raw | None:
    """`wavs/` beside metadata.csv, whose lines are ID|text or ID|text|normalised text."""
    table, wavs = folder / "metadata.csv", folder / "wavs"
    if not (table.is_file() and wavs.is_dir()):
        return None
    text = table.read_text(encoding="utf-8-sig", errors="replace")
    rows = [row for row in csv.reader(io.StringIO(text), delimiter="|", quoting=csv.QUOTE_NONE) if row]
    if not rows or any(len(row) not in (2, 3) for row in rows):
        return None
    sounds = _sounds_in(wavs)
    columns: dict[str, list[Any]] = {
        "file": [
            sounds.get(Path(row[0]).stem if row[0].endswith(".wav") else row[0], wavs / f"{row[0]}.wav") for row in rows
        ],
        "text": [row[1] for row in rows],
        "normalized_text": [row[-1] for row in rows],
    }
    return _spoken(folder, columns, "normalized_text", None, ("read as LJSpeech (metadata.csv)",))


def _sounds_in(folder: Path) -> dict[str, Path]:
    """Name without suffix -> sound file."""
    suffixes = registry.modality("audio").suffixes
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in suffixes}


def _spoken(
    folder: Path, columns: dict[str, list[Any]], label: str, splits: list[str] | None, notes: tuple[str, ...]
) -> Raw:
    raw = Raw(columns=columns, name=folder.resolve().name, source=str(folder), input="file", label=label, notes=notes)
    return replace(raw, splits=splits)


def frames_needed(units: Sequence[Any]) -> int:
    """The fewest frames in which CTC can write these characters or indices: a blank must part equal neighbours."""
    return len(units) + sum(one == other for one, other in pairwise(units))
