"""Predictions as a table: for the run folder, for the screen, and for a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headstart.data.dataset import Dataset
from headstart.errors import PlanError, listed
from headstart.evidence.base import TestResult
from headstart.modalities.base import Modality
from headstart.tasks.base import Task

if TYPE_CHECKING:
    from headstart.deploy.model import Model

FILES = (".csv", ".tsv", ".jsonl", ".parquet")


def prediction_table(task: Task, names: Sequence[str], scores: np.ndarray) -> pd.DataFrame:
    """One row an item: its name, the prediction, and for classes the probability of each."""
    columns: dict[str, Any] = {"input": list(names), "prediction": task.decode(scores)}
    if task.score_names:
        columns["confidence"] = scores.max(axis=1) if len(scores) else []
        columns |= {f"p({name})": scores[:, k] for k, name in enumerate(task.score_names)}
    return pd.DataFrame(columns)


def test_table(task: Task, modality: Modality, tested: Dataset, test: TestResult) -> bytes:
    """The test split as the content of `predictions.parquet`, with the true labels."""
    table = prediction_table(task, [modality.describe(item) for item in tested.inputs], test.scores)
    table.insert(1, "label", tested.column("label"))
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def predict_all(model: Model, items: Sequence[Any]) -> pd.DataFrame:
    """Predictions for stored items, in order; one that cannot be read has an empty prediction and its `problem`."""
    problems = [model.modality.examine(item).problem for item in items]
    good = [i for i, problem in enumerate(problems) if problem is None]
    names = [model.modality.describe(item) for item in items]
    table = prediction_table(model.task, [names[i] for i in good], model.scores([items[i] for i in good]))
    table.index = pd.Index(good)
    table = table.reindex(range(len(items)))
    table["input"] = names
    if len(good) < len(items):
        table["problem"] = problems
    return table


def check_table_name(path: Path) -> None:
    """PlanError unless `write_table` can write a file of this name."""
    if path.suffix.lower() not in FILES:
        raise PlanError(f"Predictions cannot be written as {path.name!r}: end the name in {listed(FILES)}.")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the form that the file's name asks for."""
    check_table_name(path)
    match path.suffix.lower():
        case ".parquet":
            table.to_parquet(path, index=False)
        case ".jsonl":
            path.write_text(as_jsonl(table), encoding="utf-8")
        case suffix:
            table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")


def as_jsonl(table: pd.DataFrame) -> str:
    """One JSON object a line."""
    return table.to_json(orient="records", lines=True, force_ascii=False)
