"""Two domains made ready: a labelled source and an unlabelled target, side by side as one problem.

The target's labels, where the user has some and names them, are kept apart: they measure at the very end, and neither
teach nor choose.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import registry
from headstart.data.audit import Finding, audit, stripped
from headstart.data.columns import NoColumnError
from headstart.data.dataset import Dataset
from headstart.data.describe import describe
from headstart.data.read import Reading
from headstart.data.read import read as read_data
from headstart.errors import DataError, PlanError, listed
from headstart.problem import Problem, pose
from headstart.progress import Progress

AUTO = "auto"  # the labels that the reader finds in the target by itself
FEWEST = 20  # target examples that a domain can be told by
TRUTH = "truth"  # the column of the target's labels, where they measure


@dataclass(frozen=True, kw_only=True)
class Domains:
    """A source that teaches and chooses, a target that does neither, and what is known of the target's labels."""

    source: Problem  # the source alone
    both: Problem  # source, then target; rows["target"] are the target's, whose y says nothing
    target: Dataset  # audited, without labels
    truth: np.ndarray  # (n_target,) int64 class of each target example, -1 where it is not known
    findings: tuple[Finding, ...]  # of the target

    @property
    def rows(self) -> np.ndarray:
        """Indices of the target examples in `both`."""
        return self.both.rows["target"]

    @property
    def known(self) -> np.ndarray:
        """Positions in the target of the examples that it can be measured on."""
        return np.flatnonzero(self.truth >= 0)

    @property
    def measured(self) -> bool:
        """Whether the target can be measured on."""
        return len(self.known) > 0


def read_target(target: Any, source: Dataset, labels: str | None) -> Dataset:
    """The target as a Dataset of the source's kind; `labels` names its column of labels, None looks at none.

    DataError when it cannot be read, or holds another kind of items than the source.
    """
    if isinstance(target, Dataset):
        found = target if labels is not None else _without_labels(target)
    else:
        found = _read(target, source, labels)
    if found.modality != source.modality:
        nouns = [registry.modality(one.modality).noun[1] for one in (source, found)]
        raise DataError(
            f"The source {source.name!r} holds {nouns[0]}, but the target {found.name!r} holds {nouns[1]}. "
            "Give --to data of the same kind."
        )
    if labels is not None and found.task is None:
        raise DataError(
            f"The target {found.name!r} has no labels that can be found, but --target-labels {labels} asks for them. "
            "Name their column, or leave --target-labels out."
        )
    return replace(found, overruled={"target-labels": labels}) if labels else found


def _read(target: Any, source: Dataset, labels: str | None) -> Dataset:
    """With the input column that the source has, where the target has it too."""
    label = {None: "", AUTO: None}.get(labels, labels)
    task = source.task if label != "" else None
    try:
        if source.input_name:
            with suppress(NoColumnError):  # its input may be called otherwise
                return read_data(target, reading=Reading(input=source.input_name, label=label, task=task))
        return read_data(target, reading=Reading(label=label, task=task))
    except DataError as error:
        raise DataError(f"The target: {str(error).replace('--label', '--target-labels')}") from error


def _without_labels(dataset: Dataset) -> Dataset:
    gone = [name for name in ("label",) if dataset.has(name)]
    return replace(dataset, table=dataset.table.remove_columns(gone), task=None)


def bring(source: Dataset, target: Dataset, seed: int, progress: Progress) -> Domains:
    """Audit and split the source, audit the target, and lay them side by side; alike whether the target has labels.

    DataError when the target is too small; PlanError unless the task is classification.
    """
    if source.task != "classification":
        raise PlanError(
            f"Adapting to an unlabelled target works for one label of several (classification) so far; "
            f"{source.label_name!r} in {source.name!r} is {source.task}. Fit without --to, or pass "
            "--task classification where every value is a class."
        )
    truth = _truth_column(target)
    problem = pose(source, seed, progress, crosswise=False)
    with progress.step("audit"):
        named = target.table.add_column(TRUTH, truth) if truth is not None else target.table
        bare = _without_labels(replace(target, table=named))
        audited = audit(bare.with_splits([""] * len(bare)), progress)
    progress.say(f"target {describe(bare)}" + ("" if truth is None else "; its labels are kept for the end"))
    if len(audited.digests) < FEWEST:
        raise DataError(
            f"{len(audited.digests)} examples of the target {target.name!r} can be used, but a domain needs at least "
            f"{FEWEST} to be told by. Add some; they need no labels."
        )
    known, notes = _known(audited.dataset, problem)
    findings = (*audited.findings, *_shared(audited.digests, problem), *notes)
    for finding in findings:
        progress.say(f"  {finding.severity}: target: {finding.text}")
    plain = audited.dataset
    plain = replace(plain, table=plain.table.remove_columns([TRUTH])) if plain.has(TRUTH) else plain
    return Domains(
        source=problem,
        both=_side_by_side(problem, plain, audited.digests),
        target=plain,
        truth=known,
        findings=findings,
    )


def _truth_column(target: Dataset) -> list[str | None] | None:
    if not target.has("label"):
        return None
    return [None if label is None else str(stripped(label)) for label in target.column("label")]


def _known(target: Dataset, problem: Problem) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """(class of each example, -1 where it is not known; what had to be said of it)."""
    if not target.has(TRUTH):
        return np.full(len(target), -1), ()
    names = problem.task.score_names
    index = {name: k for k, name in enumerate(names)}
    labels = target.column(TRUTH)
    truth = np.array([index.get(label, -1) for label in labels], dtype=np.int64)
    strange = sorted({label for label in labels if label is not None and label not in index})
    if (truth < 0).all():
        raise DataError(
            f"None of the target's labels ({listed(strange, 5) or 'all are missing'}) is a class of the source "
            f"({listed(names, 5)}). Name another column with --target-labels, or leave it out."
        )
    notes = []
    if strange:
        n = sum(label in strange for label in labels)
        text = f"{n:,} examples have a class that the source lacks ({listed(strange, 5)}): no answer on them is right."
        notes.append(Finding(kind="open set", severity="warning", text=f"{text} They are not measured on."))
    return truth, tuple(notes)


def _shared(digests: list[str], problem: Problem) -> tuple[Finding, ...]:
    """Items that stand in both domains."""
    n = len(set(digests) & set(problem.digests))
    if n == len(set(digests)):
        raise DataError(
            "Every item of the target stands in the source as well: it is the same domain, and there is nothing to "
            "adapt to. Give --to other data, or leave it out."
        )
    if not n:
        return ()
    return (Finding(kind="shared", severity="warning", text=f"{n:,} of its items stand in the source as well."),)


def _side_by_side(problem: Problem, target: Dataset, digests: list[str]) -> Problem:
    import datasets

    names = [name for name in ("input", "label", "split", "group") if problem.dataset.has(name)]
    own = problem.dataset.table.select_columns(names)
    other = target.table.select_columns(["input"])
    for name in names[1:]:
        other = other.add_column(name, ["target" if name == "split" else None] * len(other))
    table = datasets.concatenate_datasets([own, other.cast(own.features)])
    n = len(problem.digests)
    y = np.concatenate([problem.y, np.full(len(digests), -1, dtype=problem.y.dtype)])
    return replace(
        problem,
        dataset=replace(problem.dataset, table=table),
        digests=[*problem.digests, *digests],
        y=y,
        rows={**problem.rows, "target": np.arange(n, n + len(digests))},
    )
