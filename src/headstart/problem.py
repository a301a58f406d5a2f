"""The data made ready to learn from: audited, split and encoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import registry
from headstart.data.audit import Finding, audit
from headstart.data.audit_splits import FEW_GROUPS, audit_splits
from headstart.data.columns import ROWS
from headstart.data.dataset import SPLITS, Dataset
from headstart.data.describe import describe
from headstart.data.read import Reading, read_beside
from headstart.data.read import read as read_data
from headstart.data.split import split
from headstart.errors import DataError, PlanError, listed
from headstart.modalities.base import Modality
from headstart.progress import Progress
from headstart.strategies.base import Part
from headstart.tasks.base import LinearTask, Task

LINEAR = ("one label of several", "several labels at once", "a number")
FEW_VAL = 20  # fewer validation examples than this choose at random: cross-validation takes their place


def read(
    data: Any,
    labels: Any = None,
    *,
    input: str | None = None,
    label: str | None = None,
    task: str | None = None,
    group: str | None = None,
    time: str | None = None,
    modality: str | None = None,
    system: str | None = None,
    redact: bool = False,
) -> Dataset:
    """Examples from a folder, a table file, a `datasets` data set, or Python objects with their `labels`.

    What the data are is found out; the keywords overrule: `input` and `label` name columns, `task` is
    "classification", "multilabel", "regression", "detection", "transcription" or "chat", `group` names the column whose
    values stay on one side of every split (a patient, a speaker), `time` the column to split by; `modality` "tabular"
    takes whole rows as the input, as is done anyway with a labelled table that holds no text and no picture. In chat,
    `system` stands before conversations that have no words of the system, and `redact` masks personal data. DataError
    says what was found and what is needed.
    """
    said = {"input": input, "label": label, "task": task, "group": group, "time": time, "modality": modality}
    said["system"] = system
    dataset = read_data(data, labels, reading=Reading(**said, redact=redact))
    overruled = {name: value for name, value in said.items() if value is not None}
    return replace(dataset, overruled=overruled | ({"redact": ""} if redact else {}))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Audited, split and encoded data, with the axes that they ask for."""

    dataset: Dataset  # every example has its split
    digests: list[str]
    findings: tuple[Finding, ...]
    modality: Modality
    task: Task
    y: np.ndarray  # (N, …) encoded labels
    rows: dict[str, np.ndarray]  # split -> indices of its examples; "target" are unlabelled, their y is a placeholder

    @property
    def linear(self) -> LinearTask:
        """The task, whose head is a linear map of pooled features. PlanError where it is another."""
        if not isinstance(self.task, LinearTask):
            raise PlanError(
                f"This works for {listed(LINEAR)}, and the data hold {self.task.title}. Learn them with "
                "`headstart fit DATA` (in Python: headstart.fit(data))."
            )
        return self.task

    @property
    def crosswise(self) -> bool:
        """Whether labels are so few that all of them teach, and cross-validation chooses."""
        return np.array_equal(self.rows["train"], self.rows["val"])

    @property
    def target(self) -> np.ndarray | None:
        """Indices of the unlabelled examples of the target domain, None where there is none."""
        return self.rows.get("target")

    @property
    def seen(self) -> frozenset[str]:
        """Digests of the examples that taught or chose; the model must not be measured on them."""
        return frozenset(self.digests[row] for name in ("train", "val") for row in self.rows[name])

    def in_fixed_order(self) -> Problem:
        """The same with its examples sorted by content, so that nothing depends on the order of files or rows."""
        order = np.argsort(np.array(self.digests), kind="stable")
        dataset = self.dataset.select(order)
        return replace(
            self,
            dataset=dataset,
            digests=[self.digests[row] for row in order],
            y=self.y[order],
            rows={name: dataset.rows(name) for name in self.rows},
        )

    def part(self, name: str, features: Callable[[np.ndarray], Any]) -> Part:
        """One split, with `features` of its rows."""
        rows = self.rows[name]
        together = None if self.all_groups is None else self.all_groups[rows]
        return Part(features(rows), self.y[rows], groups=together)

    @property
    def all_groups(self) -> np.ndarray | None:
        """(N,) the group of each example, None where none was asked for."""
        return None if self.dataset.groups is None else np.asarray(self.dataset.groups)

    def groups(self, name: str) -> list[str] | None:
        """The group of each example of a split, None where none was asked for."""
        return self.dataset.select(self.rows[name]).groups


def labelled(data: Any, progress: Progress) -> Dataset:
    """What was given, read if it is not yet; DataError when it has no labels."""
    with progress.step("read"):
        dataset = data if isinstance(data, Dataset) else read(data)
    if dataset.task is None:
        raise DataError(
            f"{dataset.source} has no labels, and there is nothing to learn without them. "
            "Name the label column with --label (in Python: headstart.read(data, label=…)). "
            + " ".join(f"{note[:1].upper()}{note[1:]}." for note in dataset.notes)
        )
    progress.say(describe(dataset))
    return dataset


def pair(data: Any, source: Any, progress: Progress, **said: Any) -> tuple[Dataset, Dataset]:
    """(target, source) as tables of rows whose label has one name; what is a Dataset already stays as it is.

    `said` has keywords of `read`; `label` and `task` are for both, all else is for the target. DataError when the
    source has no labels.
    """
    with progress.step("read"):
        if isinstance(data, Dataset) and data.task is not None:
            said = {"label": data.label_name, "task": data.task, **{k: v for k, v in said.items() if v is not None}}
        both = {name: value for name, value in said.items() if name in ("label", "task")}
        given = source if isinstance(source, Dataset) else read(source, modality=ROWS, **both)
        if given.task is None:
            raise DataError(
                f"The source {given.source} has no labels, so that there is nothing to carry over. Name their column "
                "with --label COL: it must be there in the source, and may be empty in the target."
            )
        own = {name: value for name, value in said.items() if name in ("group", "time")}
        target = data if isinstance(data, Dataset) else read_beside(data, given, Reading(**own))
    for dataset, side in ((target, "target"), (given, "source")):
        if dataset.modality != ROWS:
            raise DataError(
                f"The {side} {dataset.source} was read as {registry.modality(dataset.modality).noun[1]}, but a source "
                'is learnt from row by row. Read it with headstart.read(data, label=…, modality="tabular").'
            )
    if not isinstance(data, Dataset):
        overruled = {name: value for name, value in said.items() if value is not None}
        target = replace(target, overruled=overruled | {"label": given.label_name})
    return target, given


def pose(dataset: Dataset, seed: int, progress: Progress, crosswise: bool = True) -> Problem:
    """Audit, split and encode; DataError when there is nothing to learn from.

    With `crosswise`, labels or groups too few to spare some for validation all teach, and cross-validation chooses.
    """
    with progress.step("audit"):
        audited = audit(dataset, progress)
    val_given = "val" in audited.dataset.column("split") and "test" in audited.dataset.column("split")
    with progress.step("split"):
        dataset = split(audited.dataset, seed)
        findings = (*audited.findings, *audit_splits(dataset))
        for line in (*(f"{finding.severity}: {finding.text}" for finding in findings), *dataset.notes):
            progress.say(f"  {line}")
        labels = dataset.column("label")
        task = registry.TASKS.get(str(dataset.task)).from_labels(labels)
        rows = {name: dataset.rows(name) for name in SPLITS}
        if crosswise and (why := few(dataset, rows, given=val_given)):
            rows["train"] = rows["val"] = np.sort(np.concatenate([rows["train"], rows["val"]]))
            note = f"{why} are too few to spare some: five-fold cross-validation chooses"
            progress.say(f"  {note}")
            dataset = replace(dataset, notes=(*dataset.notes, note))
        return Problem(
            dataset=dataset,
            digests=audited.digests,
            findings=findings,
            modality=registry.modality(dataset.modality),
            task=task,
            y=task.truth(dataset.inputs, labels),
            rows=rows,
        )


def few(dataset: Dataset, rows: dict[str, np.ndarray], given: bool = False) -> str:
    """What is too small in number for some to be spared to choose by: "9 labels", "4 groups"; "" where all is well.

    Of fewer than ten groups, validation would hold one, and what suits one speaker or hospital best is chance. A
    validation that was `given` in whole groups is kept.
    """
    if not len(rows["val"]) or not len(rows["train"]):
        return ""
    n = len(rows["train"]) + len(rows["val"])
    if not dataset.has("group"):
        return f"{n} labels" if len(rows["val"]) < FEW_VAL else ""
    groups = dataset.groups or []
    n_groups = len({groups[row] for name in ("train", "val") for row in rows[name]})
    return f"{n_groups} groups" if n_groups < FEW_GROUPS and not given else ""


def some_of_each(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Sorted positions of about n examples, each class with its share and at least one; any n for other labels."""
    order = np.random.default_rng(seed).permutation(len(y))
    if y.dtype.kind != "i":
        return np.sort(order[:n])
    kept = []
    for label in np.unique(y):
        own = order[y[order] == label]
        kept.append(own[: max(1, round(n * len(own) / len(y)))])
    return np.sort(np.concatenate(kept))
