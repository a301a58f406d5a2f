"""Read anything that people keep labelled data in, find out what it is, and say so in one line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart import registry
from headstart.data import boxes
from headstart.data.annotations import read_annotated_file, read_annotated_folder
from headstart.data.box_tables import Wish, with_boxes
from headstart.data.columns import ROWS, Roles, choose
from headstart.data.dataset import Dataset, nouns_of
from headstart.data.dialogues import read_dialogue_file, read_dialogue_folder
from headstart.data.folders import item_suffixes, read_folder
from headstart.data.labels import CHAT, DETECTION, TRANSCRIPTION, Labels, infer_task, is_missing_label
from headstart.data.objects import from_hub, from_object, is_hub_id
from headstart.data.raw import Raw, is_missing, printable, split_name
from headstart.data.read_chat import ChatWish, as_chat
from headstart.data.tables import TABLE_SUFFIXES, read_table, table_suffix
from headstart.data.threads import in_threads
from headstart.data.transcripts import read_spoken_folder
from headstart.errors import DataError, did_you_mean, listed

HINTS = {  # what people try first
    **dict.fromkeys((".xlsx", ".xls", ".ods"), " Save the sheet as CSV."),
    **dict.fromkeys((".dcm", ".dicom"), " Export the pictures as PNG."),
    **dict.fromkeys((".m4a", ".aac", ".wma", ".amr"), " Save the sound as WAV or FLAC."),
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".webm", ".avi"), " Take the sound out of a video as WAV or FLAC."),
    ".zip": " Unpack it first.",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the user says about the data; None leaves it to the reader."""

    input: str | None = None  # the column with the texts, pictures or sounds
    label: str | None = None  # the column with the labels; "" takes none
    task: str | None = None  # "classification", "multilabel", "regression", "detection", "transcription" or "chat"
    group: str | None = None  # the column that must not be torn apart by the split: a patient, a speaker
    time: str | None = None  # the column to split by: numbers or dates
    modality: str | None = None  # "tabular": whole rows are the input, even where a column holds texts
    system: str | None = None  # chat: the system's words where a conversation has none of its own
    redact: bool = False  # chat: mask e-mail addresses, telephone numbers and other personal data


def read(data: Any, labels: Any = None, *, reading: Reading = Reading()) -> Dataset:
    """Any source as a `Dataset`.

    `data` is a path (folder of class folders; pictures with boxes: COCO, Pascal VOC, YOLO; recordings
    with transcripts: Common Voice, LibriSpeech, LJSpeech; dialogues: .txt, chatterbot's YAML; CSV, TSV, JSON, JSONL,
    Parquet, .npz, saved `datasets`), a hub id, or an object (list, array of pictures (N, H, W[, C]), pandas, dict of
    columns, `datasets`); `labels` has one value an example where the data carry none. DataError when they cannot be
    read or do not say what to learn.
    """
    if reading.modality not in (None, ROWS):
        raise DataError(f"modality {reading.modality!r}: only {ROWS!r} can be asked for, all else is found out.")
    raw = _from_path(data, reading) if isinstance(data, (str, os.PathLike)) else from_object(data)
    if labels is not None:
        raw = raw.with_labels(labels)
    if (chat := _as_chat(raw, reading)) is not None:
        return _dataset(*chat, replace(reading, task=CHAT))
    if labels is None and (table := _with_boxes(raw, reading)) is not raw:
        raw, reading = table, replace(reading, input=None, label=None)
    roles = choose(
        raw,
        input=reading.input,
        label=reading.label,
        group=reading.group,
        time=reading.time,
        modality=reading.modality,
        task=reading.task,
    )
    return _dataset(raw, roles, reading)


def read_beside(data: Any, source: Dataset, reading: Reading = Reading()) -> Dataset:
    """The rows of a target table, labelled as `source` is: in the column of that name, for the same task.

    A target without that column, or with nothing in it, has no labels; some rows may lack theirs. DataError as `read`.
    """
    raw = _from_path(data, reading) if isinstance(data, (str, os.PathLike)) else from_object(data)
    name = source.label_name
    there = name in raw.columns and not all(map(is_missing_label, raw.columns[name]))
    why = "has nothing in" if name in raw.columns else "has no column"
    if not there:
        raw = replace(raw, columns={n: values for n, values in raw.columns.items() if n != name}, label=None)
        near = did_you_mean(name, raw.columns)
        raw = replace(raw, notes=(*raw.notes, f"the target {why} {name!r}: its rows are taken as unlabelled.{near}"))
    said = replace(reading, label=name if there else "", task=source.task, modality=ROWS)
    roles = choose(raw, input=None, label=said.label, group=said.group, time=said.time, modality=ROWS)
    return replace(_dataset(raw, roles, said), label_name=name)


def columns_to_choose(data: str | os.PathLike[str]) -> list[str]:
    """The columns of a table file, or of a folder with tables; [] where the layout says what is what."""
    raw = _from_path(data, Reading())
    return [] if raw.input or as_chat(raw, ChatWish()) else list(raw.columns)


def _as_chat(raw: Raw, reading: Reading) -> tuple[Raw, Roles] | None:
    """Conversations, or None; DataError where they were not found and the user says something of them."""
    rules = tuple(name for name in (reading.group, reading.time) if name)
    said = {name: getattr(reading, name) for name in ("input", "label", "task", "system", "redact")}
    chat = None if reading.modality else as_chat(raw, ChatWish(**said, rules=rules))
    if chat is None and (reading.redact or reading.system):
        option = "redact" if reading.redact else "system"
        raise DataError(
            f"--{option} is for conversations, and {raw.source or 'the data'} was not recognised as such. "
            "Pass --task chat, or leave it out."
        )
    return chat


def _with_boxes(raw: Raw, reading: Reading) -> Raw:
    """A table of boxes with one row a picture; anything else as it is."""
    if reading.task not in (None, DETECTION) or reading.modality:
        return raw
    rules = tuple(name for name in (reading.group, reading.time) if name)
    return with_boxes(raw, Wish(input=reading.input, label=reading.label, rules=rules))


def _from_path(data: str | os.PathLike[str], reading: Reading) -> Raw:
    text = os.fspath(data)
    path = Path(text).expanduser()
    _check_names([text])
    boxed = reading.task in (None, DETECTION) and reading.modality is None
    asked = reading.task == CHAT
    chatty = reading.task in (None, CHAT) and reading.modality is None and reading.label != ""
    if path.is_dir():
        found = (read_annotated_folder(path) if boxed else None) or (None if asked else read_spoken_folder(path))
        return found or (read_dialogue_folder(path, asked) if chatty else None) or read_folder(path)
    if path.is_file():
        found = (read_annotated_file(path) if boxed else None) or (read_dialogue_file(path, asked) if chatty else None)
        return found or _from_file(path)
    known = table_suffix(path) is not None or path.suffix.lower() in item_suffixes()
    if isinstance(data, str) and is_hub_id(text) and not known:
        return from_hub(text)
    raise DataError(f"There is no file or folder {text!r}.{_nearest_sibling(path)} Check the path.")


def _from_file(path: Path) -> Raw:
    if table_suffix(path):
        return read_table(path)
    if path.suffix.lower() in item_suffixes():
        is_txt = path.suffix.lower() == ".txt"
        notes = ("a .txt file is one text; if it is a table, rename it to .tsv or .csv",) if is_txt else ()
        return Raw(columns={"file": [path]}, name=path.stem, source=str(path), input="file", notes=notes)
    raise DataError(
        f"{path} is of a type that is not known ({path.suffix or 'no suffix'}).{HINTS.get(path.suffix.lower(), '')} "
        f"Give a table ({', '.join(TABLE_SUFFIXES)}; text formats may be .gz) or a folder of class folders."
    )


def _nearest_sibling(path: Path) -> str:
    """Like `did_you_mean`, but with the folder in front, so that it can be pasted."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return f" Nor is there a folder {str(path.parent)!r}."
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f" Did you mean {str(path.parent / near[0])!r}?" if near else ""


def _dataset(raw: Raw, roles: Roles, reading: Reading) -> Dataset:
    """The columns that have a role, in one Arrow table in memory."""
    import datasets

    datasets.disable_progress_bars()
    modality = registry.modality(roles.modality)
    columns: dict[str, list[Any]] = {"input": [modality.store(value, raw.folder) for value in _inputs(raw, roles)]}
    features: dict[str, Any] = {"input": modality.arrow_feature()}
    notes = [*raw.notes, *roles.notes]
    task = None
    if roles.label:
        task, columns["label"], more = _labels(raw.columns[roles.label], roles, reading.task)
        if task == DETECTION:
            columns |= _boxes(columns["input"], columns["label"], roles)
        features["label"] = _label_feature(task)
        notes += more
    if "stated" in columns:
        features["stated"] = [datasets.Value("int32")]
    columns["split"] = raw.splits or _splits(raw, roles.split)
    features["split"] = datasets.Value("string")
    if reading.group:
        columns["group"], features["group"] = (
            _groups(raw.columns[reading.group], reading.group),
            datasets.Value("string"),
        )
    if reading.time:
        columns["time"], features["time"] = _times(raw.columns[reading.time], reading.time), datasets.Value("float64")
    return Dataset(
        table=_table(columns, datasets.Features(features)),
        modality=roles.modality,
        task=task,
        name=raw.name,
        source=raw.source or f"{len(raw):,} {nouns_of(task, roles.modality)[len(raw) != 1]} in memory",
        input_name=None if raw.input else roles.input,
        label_name=roles.label or "label",
        notes=tuple(notes),
    )


def _labels(values: Sequence[Any], roles: Roles, task: str | None) -> Labels:
    """The task, and the labels as it takes them. DataError for transcripts of what nobody can hear."""
    if task == CHAT:
        return Labels(CHAT, list(values), ())
    if task == TRANSCRIPTION and roles.modality != "audio":
        nouns = registry.modality(roles.modality).noun[1]
        raise DataError(
            f"--task transcription learns what is said in sounds, but the input holds {nouns}. "
            "Name the column of sound files with --input COL, or pass another --task."
        )
    return infer_task(values, task, roles.label or "label", heard=roles.modality == "audio")


def _inputs(raw: Raw, roles: Roles) -> Sequence[Any]:
    """The column of the input, or whole rows."""
    if roles.input is not None:
        return raw.columns[roles.input]
    return [
        dict(zip(roles.row, row, strict=True)) for row in zip(*map(raw.columns.__getitem__, roles.row), strict=True)
    ]


def _table(columns: dict[str, list[Any]], features: Any) -> Any:
    """An Arrow table with these `datasets` features, made without their slower per-example encoding."""
    import datasets
    import pyarrow as pa

    try:
        table = pa.Table.from_pydict(columns, schema=features.arrow_schema)
    except UnicodeEncodeError:  # half of a UTF-16 pair, as JSON files of tweets have it, or a file name in Latin-1
        columns["input"] = [printable(item) if isinstance(item, str) else item for item in columns["input"]]
        for values in columns.values():
            _check_names(values)
        table = pa.Table.from_pydict(columns, schema=features.arrow_schema)
    return datasets.Dataset(table)


def _check_names(values: Sequence[Any]) -> None:
    """DataError for a name of a file, class or group that UTF-8 cannot hold."""
    for value in values:
        for name in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            if isinstance(name, str) and printable(name) != name:
                raise DataError(f"The name {name!r} holds bytes that are not UTF-8. Rename the file or class.")


def _label_feature(task: str) -> Any:
    from datasets import Value

    known = {"classification": Value("string"), "multilabel": [Value("string")], "regression": Value("float64")}
    known |= {TRANSCRIPTION: Value("string"), CHAT: [Value("string")]}
    return boxes.feature() if task == DETECTION else known[task]


def _boxes(inputs: Sequence[Any], labels: Sequence[boxes.Annotation | None], roles: Roles) -> dict[str, list[Any]]:
    """The columns "label" and "stated": boxes in pixels of each picture, and the size that its source states."""
    modality = registry.modality(roles.modality)
    if roles.modality != "image":
        raise DataError(
            f"Column {roles.label!r} holds boxes, but the input, {roles.input!r}, holds {modality.noun[1]}. Boxes are "
            "drawn on images: name the column of image files with --input COL."
        )
    sizes = in_threads(modality.size, inputs)
    pairs = zip(labels, sizes, strict=True)
    return {
        "label": [None if one is None else boxes.label_of(one, size) for one, size in pairs],
        "stated": [None if one is None or not one.size else list(one.size) for one in labels],
    }


def _splits(raw: Raw, column: str | None) -> list[str]:
    if column is None:
        return [""] * len(raw)
    return ["" if is_missing(value) else split_name(str(value)) or "" for value in raw.columns[column]]


def _groups(values: Sequence[Any], column: str) -> list[str]:
    n_missing = sum(map(is_missing, values))
    if n_missing:
        raise DataError(
            f"{n_missing:,} of {len(values):,} values in the group column {column!r} are missing. "
            "Fill them in, or give each such example a group of its own."
        )
    return [str(value).strip() for value in values]


def _times(values: Sequence[Any], column: str) -> list[float]:
    """Numbers as they are, dates as seconds since 1970."""
    import pandas as pd

    series = pd.Series(list(values), dtype=object)
    moments = pd.to_numeric(series, errors="coerce")
    if moments.isna().any():
        dates = pd.to_datetime(series, errors="coerce", utc=True, format="ISO8601")
        moments = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    odd = series[moments.isna()]
    if len(odd):
        raise DataError(
            f"{len(odd):,} of {len(values):,} values in the time column {column!r} are neither all numbers nor all "
            f"dates ({listed(map(repr, odd.unique()), 3)}). Write dates as 2024-01-31 or 2024-01-31T12:00."
        )
    return [float(moment) for moment in moments]
