"""A target table and perhaps a source, made ready to learn from: audited, split, encoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import registry
from headstart.data.audit import Finding, audit
from headstart.data.audit_splits import audit_splits
from headstart.data.dataset import Dataset
from headstart.data.labels import is_missing_label
from headstart.data.split import split
from headstart.errors import DataError
from headstart.progress import Progress
from headstart.strategies.base import Part
from headstart.tables.base import Domains
from headstart.tables.encoder import Encoder, learn_encoder
from headstart.tasks.base import LinearTask

MANY = 300  # labels of which a fifth can be held back to test on: fewer are measured by cross-validation
LEAST = 10  # labels to measure anything by
LEAST_ALONE = 20  # labels to learn from without a source
COPIED = 0.5  # of the source's rows: if more stand in the target too, they are one table


@dataclass(frozen=True, kw_only=True)
class Side:
    """Rows of one table, as stored, with what they are labelled."""

    dataset: Dataset
    digests: list[str]


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Both tables, audited; the target's labelled rows know whether they teach or test."""

    target: Side  # labelled rows
    unlabelled: Dataset  # rows of the target without a label
    source: Side | None
    task: LinearTask
    findings: tuple[Finding, ...]

    @property
    def teach(self) -> np.ndarray:
        """Positions of the labelled target rows to learn from."""
        return np.flatnonzero(np.asarray(self.target.dataset.column("split")) != "test")

    @property
    def test(self) -> np.ndarray:
        """Positions of the labelled target rows to measure on; none where cross-validation stands in."""
        return self.target.dataset.rows("test")

    @property
    def seen(self) -> frozenset[str]:
        """Digests of what was learnt from; another case with the very same row cannot be told from it."""
        own = [self.target.digests[row] for row in self.teach] + (self.source.digests if self.source else [])
        return frozenset(own)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Both tables as numbers."""

    encoder: Encoder
    domains: Domains
    teach: Part  # labelled target rows
    test: Part
    unlabelled: np.ndarray  # (M, D)
    groups: np.ndarray | None  # (n,) of the rows that teach


def look_at(target: Dataset, source: Dataset | None, seed: int, progress: Progress) -> Tables:
    """Audit both sides and split the target. DataError where there is nothing to learn from."""
    with progress.step("audit"):
        labelled, unlabelled = parted(target)
        own = audited(labelled, "target", progress)
        given = None if source is None else audited(source, "source", progress)
        findings = [*own[1], *(given[1] if given else ())]
        side, beside = own[0], given[0] if given else None
        if beside is not None:
            beside, copies = without_copies(side, beside)
            findings += copies
        task = pose(side.dataset, beside.dataset if beside else None)
        side = replace(side, dataset=divided(side.dataset, beside is not None, seed))
        if len(side.dataset.rows("train")) and len(side.dataset.rows("test")):
            findings += audit_splits(side.dataset)
        for finding in findings:
            progress.say(f"  {finding.severity}: {finding.text}")
    return Tables(target=side, unlabelled=unlabelled, source=beside, task=task, findings=tuple(findings))


def parted(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """(rows with a label, rows without)."""
    if not dataset.has("label"):
        return dataset.select([]), dataset
    missing = np.array([is_missing_label(label) for label in dataset.column("label")], dtype=bool)
    return dataset.select(np.flatnonzero(~missing)), dataset.select(np.flatnonzero(missing))


def audited(dataset: Dataset, name: str, progress: Progress) -> tuple[Side, list[Finding]]:
    """The rows that can be learnt from; findings say which table they are of."""
    if not len(dataset):
        return Side(dataset=dataset, digests=[]), []
    found = audit(dataset, progress)
    said = [replace(one, text=f"{name.capitalize()}: {one.text[:1].lower()}{one.text[1:]}") for one in found.findings]
    return Side(dataset=found.dataset, digests=found.digests), said


def without_copies(target: Side, source: Side) -> tuple[Side, list[Finding]]:
    """The source without rows that stand in the target too, each once; DataError where most of it does."""
    counts = Counter(target.digests) + Counter(source.digests)
    shared = set(target.digests) & set(source.digests)
    if len(shared) > COPIED * len(set(source.digests)):
        raise DataError(
            f"{len(shared):,} of the source's {len(set(source.digests)):,} different rows stand in the target too: "
            f"{source.dataset.source} and {target.dataset.source} are mostly one table, so that nothing is carried "
            "from one to the other. Give another --source, or fit without."
        )
    copies = np.array([digest in shared and counts[digest] == 2 for digest in source.digests], dtype=bool)
    if not copies.any():
        return source, []
    kept = np.flatnonzero(~copies)
    text = f"Left {copies.sum():,} rows out of the source that stand in the target too."
    finding = Finding(kind="leak", severity="warning", text=text)
    return Side(dataset=source.dataset.select(kept), digests=[source.digests[row] for row in kept]), [finding]


def pose(target: Dataset, source: Dataset | None) -> LinearTask:
    """The task of both tables' labels. DataError where they do not fit one another, or there is one class only."""
    kinds = {one.task for one in (target, source) if one is not None and one.task is not None}
    if "multilabel" in kinds:
        raise DataError(
            "Tables are learnt with one label a row, or a number. Give --task classification, or other labels."
        )
    labels = [one.column("label") if one is not None and len(one) else [] for one in (target, source)]
    if source is not None and kinds == {"classification"} and labels[0] and not set(labels[0]) & set(labels[1]):
        raise DataError(
            f"The target's labels ({', '.join(sorted(set(labels[0]))[:4])}) and the source's "
            f"({', '.join(sorted(set(labels[1]))[:4])}) share no class, so that nothing can be carried over. "
            "Write the same classes the same way on both sides, or fit without --source."
        )
    task: LinearTask = registry.TASKS.get(kinds.pop()).from_labels([label for side in labels for label in side])
    return task


def divided(dataset: Dataset, has_source: bool, seed: int) -> Dataset:
    """The labelled rows with splits: as given, a fifth held back where there are many, else all to learn from."""
    given = set(dataset.column("split")) - {""}
    if not has_source and len(dataset) < LEAST_ALONE and not given:
        raise DataError(
            f"{len(dataset):,} labelled rows can be used, but at least {LEAST_ALONE} are needed without a source. "
            "Add rows, or give --source."
        )
    if given:
        test = "test" if "test" in given else "val" if "val" in given else ""
        splits = ["test" if one == test else "train" for one in dataset.column("split")]
        return _noted(dataset, splits, "splits as given: test measures, all other rows teach")
    if len(dataset) < MANY and not dataset.has("time"):
        note = "too few labels to hold some back: all teach, and cross-validation measures"
        return _noted(dataset, ["train"] * len(dataset), note) if len(dataset) else dataset
    found = split(dataset, seed)
    splits = ["test" if one == "test" else "train" for one in found.column("split")]
    notes = [_in_two(note) for note in found.notes]
    return replace(found.with_splits(splits), notes=tuple(notes))


def _in_two(note: str) -> str:
    """What the split in three says, where train and val both teach."""
    note = note.replace("split 60/20/20 into train, val and test", "split 80/20 into train and test")
    return note.replace(
        "the first 60 % train, the next 20 % val, the last 20 % test", "the first 80 % train, the rest test"
    )


def _noted(dataset: Dataset, splits: list[str], note: str) -> Dataset:
    return replace(dataset.with_splits(splits), notes=(*dataset.notes, note))


def encode(tables: Tables, seed: int) -> Encoded:
    """Learn how columns become numbers, on all rows but the test's, and apply it. DataError when no column is left."""
    rows, target = opened(tables.target.dataset), tables.target.dataset
    teach, test = ([rows[i] for i in which] for which in (tables.teach, tables.test))
    unlabelled = opened(tables.unlabelled)
    source = None if tables.source is None else opened(tables.source.dataset)
    encoder = learn_encoder([*teach, *unlabelled], source)
    y = tables.task.encode([_stripped(label) for label in target.column("label")] if len(target) else [])
    X, X_unlabelled = encoder.encode(teach), encoder.encode(unlabelled)
    part = None
    if tables.source is not None and source is not None:
        labels = [_stripped(label) for label in tables.source.dataset.column("label")]
        part = Part(encoder.encode(source), tables.task.encode(labels))
    groups = target.groups
    return Encoded(
        encoder=encoder,
        domains=Domains(task=tables.task, target=np.concatenate([X, X_unlabelled]), source=part, seed=seed),
        teach=Part(X, y[tables.teach]),
        test=Part(encoder.encode(test), y[tables.test]),
        unlabelled=X_unlabelled,
        groups=None if groups is None else np.asarray(groups)[tables.teach],
    )


def opened(dataset: Dataset) -> Sequence[Any]:
    """The rows of a table."""
    modality = registry.modality(dataset.modality)
    return [modality.open(item) for item in dataset.inputs]


def _stripped(label: Any) -> Any:
    return label.strip() if isinstance(label, str) else label
