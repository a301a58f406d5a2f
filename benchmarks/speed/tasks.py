"""The two tasks, laid out alike: train.csv, val.csv and test.csv, of a text or a picture's path and a label."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.fit import SHARED

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One split: N texts or paths of pictures, and N labels, 0 or 1."""

    inputs: list[str]
    labels: list[int]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a system is given."""

    data: Path  # folder that `prepare` filled
    weights: Path  # folder of pretrained weights, a folder for each network
    out: Path  # empty folder to save the model in

    def read(self, split: str) -> Rows:
        """The rows of "train", "val" or "test"."""
        with (self.data / f"{split}.csv").open(newline="", encoding="utf-8") as file:
            _, *rows = csv.reader(file)
        return Rows(inputs=[item for item, _ in rows], labels=[int(label) for _, label in rows])


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a system hands back once its model is saved."""

    predict: Callable[[Sequence[str]], np.ndarray]  # N inputs -> probabilities (N,) of label 1
    steps: dict[str, float] = field(default_factory=dict)  # seconds of its own steps


def prepare(task: str, folder: Path) -> dict[str, int]:
    """Write the task's three tables into `folder`; the number of rows of each."""
    column, splits = {"sst2": _sst2, "cells": _cells}[task]()
    for name in SPLITS:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([(column, "label"), *splits[name]])
    return {name: len(splits[name]) for name in SPLITS}


def _sst2() -> tuple[str, dict[str, list[tuple[str, int]]]]:
    """Film sentiment, a seeded draw of 2,000 from train; validation and test are the official ones."""
    splits = {}
    for name, file_name in zip(SPLITS, ("train", "dev", "test"), strict=True):
        with (SHARED / "text_sst2" / f"{file_name}.csv").open(newline="", encoding="utf-8") as file:
            splits[name] = [(row["text"], int(row["label"])) for row in csv.DictReader(file)]
    splits["train"] = random.Random(0).sample(splits["train"], 2000)
    return "text", splits


def _cells() -> tuple[str, dict[str, list[tuple[str, int]]]]:
    """Is a solar cell defective? Headstart's own seeded split, and of its train a seeded draw of 1,000."""
    from headstart.demo import demo_data
    from headstart.problem import pose, read
    from headstart.progress import Progress

    path, label = demo_data("image", Progress())
    problem = pose(read(path, label=label), 0, Progress())
    rows = {name: problem.rows[name].tolist() for name in SPLITS}
    rows["train"] = random.Random(0).sample(rows["train"], 1000)
    labels = problem.dataset.column("label")
    return "file", {
        name: [(problem.dataset.inputs[row]["path"], int(labels[row] == "defective")) for row in rows[name]]
        for name in SPLITS
    }
