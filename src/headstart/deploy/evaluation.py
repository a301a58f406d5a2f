"""Which labelled examples a model may be measured on, and what it scored there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.audit import names_in, stripped
from headstart.data.dataset import Dataset
from headstart.errors import DataError, listed
from headstart.evidence.base import Scores
from headstart.modalities.base import Examined

if TYPE_CHECKING:
    from headstart.deploy.model import Model


@dataclass(frozen=True)
class Evaluation:
    """What a model scored on new data."""

    metrics: Scores  # name -> value with its 95 % interval
    n: int  # examples measured on
    notes: tuple[str, ...]  # what was left out and why, one line each
    titles: Mapping[str, str] = field(default_factory=dict)  # name -> for people, where the run's evidence has none


@dataclass(frozen=True)
class HeldOut:
    """What a model may be measured on."""

    dataset: Dataset
    labels: list[Any]  # without white space around them, all known to the model
    digests: list[str]  # of the items
    notes: tuple[str, ...]


def held_out(model: Model, dataset: Dataset) -> HeldOut:
    """The rows to measure on, and a note for each kind of row left out. DataError when none is left."""
    if dataset.task is None:
        raise DataError(f"{dataset.source} has no labels to measure against. Name their column with --label.")
    splits = np.asarray(dataset.column("split"))
    held = next((name for name in ("test", "val") if (splits == name).any()), None)
    tested = dataset if held is None else dataset.select(np.flatnonzero(splits == held))
    notes = [] if held is None else [f"measured on the {held} split, {len(tested):,} of {len(dataset):,} examples"]
    examined = [model.examine(item) for item in tested.inputs]
    labels = [stripped(label) for label in tested.column("label")]
    keep = np.ones(len(tested), dtype=bool)
    for why, drop in _reasons(model):
        bad = np.array([drop(one, label) for one, label in zip(examined, labels, strict=True)])
        if (bad & keep).any():
            notes.append(f"left out {(bad & keep).sum():,} that {why}")
        keep &= ~bad
    if not keep.any():
        raise DataError(f"{dataset.source} has no example to measure on: {'; '.join(notes)}. Give new, labelled data.")
    rows = np.flatnonzero(keep)
    return HeldOut(
        tested.select(rows), [labels[row] for row in rows], [examined[row].digest for row in rows], tuple(notes)
    )


def _reasons(model: Model) -> list[tuple[str, Callable[[Examined, Any], bool]]]:
    known = set(model.task.score_names)
    return [
        ("cannot be read", lambda one, label: one.problem is not None),
        ("have no label", lambda one, label: label in (None, "") or label != label),
        ("were used to fit the model", lambda one, label: one.digest in model.seen),
        (
            f"have a label that the model does not know (it knows {listed(sorted(known), 5)})",
            lambda one, label: bool(known) and not known.issuperset(names_in(label)),
        ),
    ]
