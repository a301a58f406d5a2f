"""What one check of the audit hands to the next, what it finds, and labels in a form that can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headstart.data.boxes import Annotation, annotation_of, label_of
from headstart.data.dataset import SPLITS, Dataset

if TYPE_CHECKING:
    import pandas as pd

LEAST_IN_CLASS = 3  # one each for train, val and test
FEW_IN_CLASS, FEW_IN_TRAIN = 15, 10  # where a class becomes unsure: without given splits, and in a given train split
IMBALANCE = 5  # largest class over smallest
N_EXAMPLES = 5  # names that a finding carries


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that the audit found."""

    kind: str  # "unreadable", "duplicate", "leak" …: each check names its own
    severity: str  # "info" or "warning"
    text: str  # one sentence for people: what, how many, and what was done about it
    examples: tuple[str, ...] = ()  # names of a few items


def comparable(label: Any, task: str | None) -> Any:
    """A label as it can be compared and counted: several names as a sorted tuple, boxes as an `Annotation`."""
    if label is None or task not in ("multilabel", "detection"):
        return label
    if task == "multilabel":
        return tuple(sorted(set(label)))
    drawn = annotation_of(label)
    return replace(drawn, boxes=tuple(sorted(drawn.boxes)))


def stored(label: Any) -> Any:
    """The way back from `comparable`."""
    if isinstance(label, Annotation):
        return label_of(label, label.size)
    return label if isinstance(label, str) else list(label)


def stripped(label: Any) -> Any:
    """A label without white space around its names; several are sorted, each once. A number stays as it is."""
    if isinstance(label, Mapping):
        return stored(stripped(annotation_of(label)))
    if isinstance(label, Annotation):
        return replace(label, boxes=tuple(box._replace(name=box.name.strip()) for box in label.boxes))
    if isinstance(label, (list, tuple)):
        return tuple(sorted({name.strip() for name in label} - {""}))
    return label.strip() if isinstance(label, str) else label


def names_in(label: Any) -> Sequence[str]:
    """The class names in a label: the one, all of several, or that of each object that counts."""
    if isinstance(label, Mapping):
        label = annotation_of(label)
    if isinstance(label, Annotation):
        return list(label.counted)
    if label is None:
        return ()
    return (label,) if isinstance(label, str) else label


def classes_of(labels: Iterable[Any], splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Class name -> split -> examples, or objects where the labels are boxes, for every split that occurs."""
    present = [split for split in (*SPLITS, "") if split in set(splits)]
    counts: dict[str, dict[str, int]] = {}
    for label, split in zip(labels, splits, strict=True):
        for name in names_in(label):
            counts.setdefault(name, dict.fromkeys(present, 0))[split] += 1
    return dict(sorted(counts.items()))


@dataclass(frozen=True, kw_only=True)
class State:
    """What one check hands to the next."""

    dataset: Dataset  # as it was read
    rows: (
        pd.DataFrame
    )  # the rows still in, by position; columns digest, problem, remarks, split, and label when there is one
    findings: tuple[Finding, ...] = ()
    relabelled: bool = False

    @cached_property
    def given(self) -> bool:
        """Whether the data came with splits; train alone is divided as if it had none."""
        return bool(self.rows["split"].isin(("val", "test")).any())

    @cached_property
    def classes(self) -> dict[str, dict[str, int]]:
        """Class name -> split -> rows still in."""
        return classes_of(self.rows["label"], self.rows["split"].tolist())

    def count(self, n: int) -> str:
        """'1 text', '3 texts'."""
        return f"{n:,} {self.dataset.nouns[int(n != 1)]}"

    def found(self, kind: str, severity: str, text: str, about: pd.Series | None = None) -> State:
        """With one more finding, about the rows where the mask `about` is true."""
        first = () if about is None else self.rows.index[about][:N_EXAMPLES].tolist()
        examples = tuple(self.dataset.named(row) for row in first)
        new = Finding(kind=kind, severity=severity, text=text, examples=examples)
        return replace(self, findings=(*self.findings, new))

    def without(self, leaving: pd.Series) -> State:
        """Without the rows where the mask is true."""
        return replace(self, rows=self.rows[~leaving])

    def with_labels(self, labels: pd.Series) -> State:
        """With other labels in the rows still in."""
        return replace(self, rows=self.rows.assign(label=labels), relabelled=True)

    def cleaned(self) -> Dataset:
        """The data set as the checks leave it."""
        dataset, kept = self.dataset, self.rows.index.to_numpy()
        if self.relabelled:
            labels = dataset.column("label")
            for row, label in zip(kept.tolist(), self.rows["label"], strict=True):
                labels[row] = stored(label)
            feature = dataset.table.features["label"]
            table = dataset.table.remove_columns(["label"]).add_column("label", labels, feature=feature)
            dataset = replace(dataset, table=table)
        return dataset if len(kept) == len(dataset) else dataset.select(kept)
