"""Predictions as a table: for the run folder, for the screen, and for a file."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headstart.data.dataset import Dataset
from headstart.deploy.detections import Found, find
from headstart.deploy.talk import Answered
from headstart.deploy.transcripts import SUFFIXES as ONE_RECORDING
from headstart.deploy.transcripts import Transcripts, transcribe
from headstart.errors import PlanError, RunError, listed
from headstart.evidence import words
from headstart.evidence.base import TestResult
from headstart.modalities.base import Modality
from headstart.progress import Progress
from headstart.tasks.base import Task

if TYPE_CHECKING:
    from headstart.deploy.model import Model

FILES = (".csv", ".tsv", ".jsonl", ".parquet")
ONE_VALUE_A_CELL = (".csv", ".tsv")
COCO = ".json"


def prediction_table(task: Task, names: Sequence[str], scores: np.ndarray) -> pd.DataFrame:
    """One row an item: its name, the prediction, and for classes the probability of each."""
    columns: dict[str, Any] = {"input": list(names), "prediction": task.decode(scores)}
    if task.score_names:
        columns["confidence"] = scores.max(axis=1) if len(scores) else []
        columns |= {f"p({name})": scores[:, k] for k, name in enumerate(task.score_names)}
    return pd.DataFrame(columns)


def test_table(task: Task, modality: Modality, tested: Dataset, test: TestResult) -> bytes:
    """The test split as the content of `predictions.parquet`, with the true labels."""
    table = prediction_table(task, [modality.name_in_full(item) for item in tested.inputs], test.scores)
    table.insert(1, "label", tested.column("label") if tested.has("label") else [])
    return table_bytes(table)


def unlabelled_table(task: Task, modality: Modality, rows: Dataset, scores: np.ndarray) -> bytes:
    """Predictions for the target's rows that have no label, as the content of `unlabelled.parquet`."""
    return table_bytes(prediction_table(task, [modality.name_in_full(item) for item in rows.inputs], scores))


def table_bytes(table: pd.DataFrame) -> bytes:
    """A table as the content of a parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def predict_all(model: Model, items: Sequence[Any], progress: Progress) -> pd.DataFrame:
    """Predictions for stored items, in order; one that cannot be read has an empty prediction and its `problem`."""
    if model.detector is not None:
        return find(model, items, progress).pictures()
    if model.recognizer is not None:
        return transcribe(model, items, progress).table()
    examined = [model.modality.examine(item) for item in items]
    good = [i for i, one in enumerate(examined) if one.problem is None]
    scores = model.scores([items[i] for i in good], [examined[i].digest for i in good], progress)
    names = [model.modality.name_in_full(item) for item in items]
    table = prediction_table(model.task, [names[i] for i in good], scores)
    table.index = pd.Index(good)
    table = table.reindex(range(len(items)))
    table["input"] = names
    if len(good) < len(items):
        table["problem"] = [one.problem for one in examined]
    return table


def check_free(path: Path) -> None:
    """PlanError unless a new file of this name can be written."""
    if path.exists():
        raise PlanError(f"{path} is there already, and nothing was overwritten. Choose another --out, or remove it.")
    if not path.absolute().parent.is_dir():
        raise PlanError(f"There is no folder {path.parent} to write {path.name} in. Make it, or choose another --out.")


def check_table_name(path: Path, more: Sequence[str] = ()) -> None:
    """PlanError unless `write_table` can write a new file of this name; or whoever knows `more` endings."""
    check_free(path)
    known = (*more, *FILES)
    if path.suffix.lower() not in known:
        raise PlanError(f"Predictions cannot be written as {path.name!r}: end the name in {listed(known)}.")


def write_boxes(found: Found, path: Path) -> None:
    """Write what a detector found: .json is COCO's, .csv and .tsv have a row a box, .jsonl and .parquet a picture."""
    check_table_name(path, (COCO,))
    suffix = path.suffix.lower()
    if suffix == COCO:
        content = json.dumps(found.coco(path.parent), ensure_ascii=False)
        _write(path, lambda making: making.write_text(content, encoding="utf-8"))
    else:
        write_table(found.boxes() if suffix in ONE_VALUE_A_CELL else found.pictures(), path)


def write_transcripts(found: Transcripts, path: Path) -> None:
    """Write what a recogniser heard: .srt, .vtt, .txt and .json hold one recording, the others a row a recording."""
    check_table_name(path, ONE_RECORDING)
    if path.suffix.lower() in ONE_RECORDING:
        content = found.single(path)
        _write(path, lambda making: making.write_text(content, encoding="utf-8"))
    else:
        write_table(found.short() if path.suffix.lower() in ONE_VALUE_A_CELL else found.table(), path)


def write_answers(found: Answered, path: Path) -> None:
    """Write what a chatbot answered: .csv and .tsv have the question and the answer, the others all messages too."""
    write_table(found.short() if path.suffix.lower() in ONE_VALUE_A_CELL else found.table(), path)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the form that the file's name asks for: whole, or not at all (RunError)."""
    check_table_name(path)
    match path.suffix.lower():
        case ".parquet":
            _write(path, lambda making: table.to_parquet(making, index=False))
        case ".jsonl":
            _write(path, lambda making: making.write_text(as_jsonl(table), encoding="utf-8"))
        case suffix:
            _write(path, lambda making: table.to_csv(making, index=False, sep="\t" if suffix == ".tsv" else ","))


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """The whole file, or RunError and nothing."""
    making = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        write(making)
        making.rename(path)
    except OSError as error:
        making.unlink(missing_ok=True)
        raise RunError(f"{path} could not be written: {error.strerror or error}. Choose another --out.") from error


def as_jsonl(table: pd.DataFrame) -> str:
    """One JSON object a line."""
    return _plain(table).to_json(orient="records", lines=True, force_ascii=False)


def as_records(table: pd.DataFrame) -> str:
    """One JSON list of objects."""
    return _plain(table).to_json(orient="records", force_ascii=False)


def in_digits(table: pd.DataFrame) -> pd.DataFrame:
    """For people: times without a clock that says nothing, numbers with the digits that their column needs."""
    shown = _plain(table)
    for name in shown.columns:
        if shown[name].dtype.kind == "f":
            digits = 2 + words.decimals(*(float(one) for one in shown[name]))
            shown[name] = [words.number(float(one), digits) for one in shown[name]]
    return shown


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """With times as text: '2014-03-01', '2014-03-01 14:00'."""
    times = [name for name in table.columns if table[name].dtype.kind == "M"]
    return table.assign(**{name: [_said(text) for text in table[name].astype(str)] for name in times})


def _said(time: str) -> str:
    """Without a clock, or seconds, that say nothing."""
    return time.removesuffix(" 00:00:00") if time.endswith(" 00:00:00") else time.removesuffix(":00")
