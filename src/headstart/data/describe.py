"""One line on a data set: how many of what, from where, which labels, which splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.data import boxes
from headstart.data.dataset import SPLITS, Dataset
from headstart.data.labels import CHAT, DETECTION, TRANSCRIPTION


def describe(dataset: Dataset) -> str:
    """One line on what was read: how many of what, from where, which labels, which splits."""
    noun = dataset.nouns[len(dataset) != 1]
    where = "in memory" if dataset.source.endswith(" in memory") else f"from {dataset.source}"
    column = f" (column {dataset.input_name!r})" if dataset.input_name else ""
    parts = [f"{dataset.name}: {len(dataset):,} {noun} {where}{column}", _labels_line(dataset)]
    splits = Counter(dataset.column("split"))
    given = [f"{name} {splits[name]:,}" for name in SPLITS if splits[name]]
    if given and splits[""]:
        given.append(f"no split {splits['']:,}")
    return "; ".join([*parts, ", ".join(given) or "no split given"])


def _labels_line(dataset: Dataset) -> str:
    if dataset.task is None:
        return "no labels"
    labels = [label for label in dataset.column("label") if label is not None]
    n_missing = len(dataset) - len(labels)
    missing = f", {n_missing:,} missing" if n_missing else ""
    if dataset.task == "regression":
        low, middle, high = (f"{float(value):g}" for value in np.quantile(labels, [0, 0.5, 1]))
        return f"a number in {dataset.label_name!r} (min {low}, median {middle}, max {high}{missing})"
    if dataset.task == DETECTION:
        return _boxes_line(labels) + missing
    if dataset.task == TRANSCRIPTION:
        return f"{_transcripts_line(labels)} in {dataset.label_name!r}{missing}"
    if dataset.task == CHAT:
        return _answers_line(labels)
    several = dataset.task == "multilabel"
    counts = Counter(name for label in labels for name in label) if several else Counter(labels)
    how_many = f"{'several labels' if several else 'one label'} of {len(counts)}"
    return f"{how_many} in {dataset.label_name!r} ({_largest(counts)}{missing})"


def _largest(counts: Counter[str]) -> str:
    """ "good 12, bad 7": the three largest classes."""
    rest = f", … {len(counts) - 3} more" if len(counts) > 3 else ""
    return ", ".join(f"{name} {n:,}" for name, n in counts.most_common(3)) + rest


def _transcripts_line(labels: Sequence[str]) -> str:
    """ "transcripts of 788 words, 25 characters (ન, ર, ત, … 22 more)"; only letters and digits stand alone."""
    words = sum(len(label.split()) for label in labels)
    counts = Counter(character for label in labels for character in label if character != " ")
    alone = [character for character, _ in counts.most_common() if character.isalnum()]
    shown = sorted(alone, key=str.isdigit)[:3]  # letters first
    rest = f", … {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
    characters = f"{len(counts)} character{'s' * (len(counts) != 1)}"
    return f"transcripts of {words:,} word{'s' * (words != 1)}, {characters} ({', '.join(shown)}{rest})"


def _boxes_line(labels: Sequence[Any]) -> str:
    """ "4,886 boxes of 3 classes (…), 2 images without boxes"."""
    counts = Counter(name for label in labels for name in boxes.annotation_of(label).counted)
    n_boxes = sum(len(label["boxes"]) for label in labels)
    n_ignored, n_empty = n_boxes - counts.total(), sum(not label["boxes"] for label in labels)
    line = f"{n_boxes:,} box{'es' * (n_boxes != 1)} of {len(counts)} class{'es' * (len(counts) != 1)}"
    line += f" ({_largest(counts)})" if counts else ""
    line += f", {n_ignored:,} of them ignored" if n_ignored else ""
    return line + (f", {n_empty:,} image{'s' * (n_empty != 1)} without boxes" if n_empty else "")


def _answers_line(labels: Sequence[Sequence[str]]) -> str:
    """ "1,020 answers, median 34 words"."""
    lengths = [len(answer.split()) for answers in labels for answer in answers]
    median = int(np.median(lengths)) if lengths else 0
    return f"{len(lengths):,} answer{'s' * (len(lengths) != 1)}, median {median:,} word{'s' * (median != 1)}"
