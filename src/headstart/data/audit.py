"""Look before anything is trained: what is broken, doubled, contradictory or too little.

A check is a function from one `State` to the next: it may leave rows out, mend labels and add findings. To add one,
write it and name it in `_checks`. A given test split is never changed for the sake of train: its copies, conflicts and
classes that train lacks stay. Only what cannot be scored leaves it, an item that cannot be read or has no label, and
spaces around its labels are taken off. Boxes are looked at in audit_boxes.py, sounds and transcripts in
audit_sounds.py, conversations in audit_chat.py, and how the splits fit one another in audit_splits.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from headstart import registry
from headstart.data.audit_boxes import checks_of_boxes, checks_of_objects
from headstart.data.audit_chat import checks_of_copies, checks_of_turns
from headstart.data.audit_sounds import checks_of_sounds, checks_of_transcripts
from headstart.data.audit_state import (
    FEW_IN_CLASS,
    FEW_IN_TRAIN,
    IMBALANCE,
    LEAST_IN_CLASS,
    Finding,
    State,
    classes_of,
    comparable,
    names_in,
    stripped,
)
from headstart.data.columns import ROWS
from headstart.data.dataset import Dataset
from headstart.data.labels import CHAT, TRANSCRIPTION
from headstart.data.threads import in_threads
from headstart.errors import DataError, listed
from headstart.progress import Progress

LEAST_EXAMPLES = 20  # fewer cannot be split and measured


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A data set that can be trained on, and what had to be said about it."""

    dataset: Dataset  # rows left out, labels mended
    digests: list[str]  # sha256 of each remaining item's content, in the data set's order
    findings: tuple[Finding, ...]


def audit(dataset: Dataset, progress: Progress) -> Audited:
    """Examine every item and every label, and leave out what would mislead.

    DataError when nothing is left to learn from: no readable item, one class only, or fewer than 20 examples.
    """
    import pandas as pd

    rows = pd.DataFrame(_examine(dataset, progress), columns=["digest", "problem", "remarks"], dtype=object)
    rows["split"] = pd.Series(dataset.column("split"), dtype=object)
    if dataset.task and dataset.task != CHAT:
        labels = [comparable(label, dataset.task) for label in dataset.column("label")]
        rows["label"] = pd.Series(labels, dtype=float if dataset.task == "regression" else object)
    state = State(dataset=dataset, rows=rows)
    checks = _checks_of_rows(dataset.task) if dataset.modality == ROWS else _checks(dataset.task)
    for check in [*(checks_of_sounds() if dataset.modality == "audio" else ()), *checks]:
        state = check(state)
    return Audited(dataset=state.cleaned(), digests=state.rows["digest"].tolist(), findings=state.findings)


def class_counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Class name -> split -> examples, or objects in boxes; {} for numbers and without labels."""
    if dataset.task not in ("classification", "multilabel", "detection"):
        return {}
    return classes_of(dataset.column("label"), dataset.column("split"))


def _examine(dataset: Dataset, progress: Progress) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """(digest, problem, remarks) of every item, in order."""
    modality = registry.modality(dataset.modality)
    inputs = dataset.table["input"]  # lazy: each thread reads only the items it is at
    with progress.bar(len(dataset), dataset.nouns[1]) as advance:
        examined = in_threads(modality.examine, inputs, advance)
    return [(one.digest, one.problem, one.remarks) for one in examined]


def _checks(task: str | None) -> list[Callable[[State], State]]:
    """The checks that apply, in order: items, labels, copies, classes, numbers."""
    if task is None:
        return [_unreadable, _test_split, _duplicates, _leaks]
    if task == "regression":
        return [_unreadable, _missing_labels, _test_split, _conflicts, _duplicates, _leaks, _one_label, _too_few]
    if task == "detection":
        labels = [_unreadable, _missing_labels, _spaced_labels, *checks_of_boxes(), _test_split]
        return [*labels, _conflicts, _duplicates, _leaks, *checks_of_objects(), _too_few]
    if task == CHAT:
        return [_unreadable, *checks_of_turns(), _test_split, *checks_of_copies(), _too_few]
    if task == TRANSCRIPTION:
        spoken = [_unreadable, _missing_labels, _test_split, _conflicts, _duplicates, _leaks]
        return [*spoken, *checks_of_transcripts(), _too_few]
    labels = [_unreadable, _missing_labels, _spaced_labels, _test_split, _conflicts, _duplicates, _leaks]
    return [*labels, _tiny_classes, _one_label, _small_classes, _imbalance, _too_few]


def _checks_of_rows(task: str | None) -> list[Callable[[State], State]]:
    """For labelled plain tables, whose rows recur by themselves where columns are few, with different labels too.

    How many labels are enough is for the fit to say: a source may stand in for them.
    """
    spaced = [] if task == "regression" else [_spaced_labels]
    return [_unreadable, _missing_labels, *spaced, _recurring, _imbalance]


def _recurring(state: State) -> State:
    """Rows that are equal in every column stay; the finding says how many there are."""
    again = state.rows.duplicated(["digest"])
    if not again.any():
        return state
    text = f"{state.count(again.sum())} equal to another in every column: kept, since they may be two cases alike."
    return state.found("duplicate", "info", text, again)


def _unreadable(state: State) -> State:
    """Items that cannot be read, and empty ones, are left out."""
    problems = state.rows["problem"].fillna("")
    bad, empty = problems != "", problems.str.startswith("empty")
    if bad.all():
        named = state.found("unreadable", "warning", "", bad).findings[-1].examples
        raise DataError(
            f"None of the {state.count(len(bad))} in {state.dataset.source} can be used. "
            f"{'; '.join(f'{name}: {why}' for name, why in zip(named, problems, strict=False))}. "
            "Check that the paths are right and the files whole."
        )
    broken = bad & ~empty
    if broken.any():
        reasons = problems[broken].str.partition(":")[0].value_counts()
        why = ", ".join(f"{reason} ({n:,})" for reason, n in reasons.items())
        state = state.found("unreadable", "warning", f"Left out {state.count(broken.sum())} for {why}.", broken)
    if empty.any():
        state = state.found("empty", "warning", f"Left out {state.count(empty.sum())} for being empty.", empty)
    return state.without(bad)


def _missing_labels(state: State) -> State:
    """Rows without a label are left out; an empty list of labels is a label."""
    labels = state.rows["label"]
    blank = labels.map(lambda label: isinstance(label, str) and not label.strip()).astype(bool)
    missing = labels.isna() | labels.isin((math.inf, -math.inf)) | blank
    if not missing.any():
        return state
    text = f"Left out {state.count(missing.sum())} with no value for {state.dataset.label_name!r}."
    return state.found("missing label", "warning", text, missing).without(missing)


def _spaced_labels(state: State) -> State:
    """'cat ' becomes 'cat'."""
    labels = state.rows["label"]
    spaced = labels.map(lambda label: stripped(label) != label).astype(bool)
    if not spaced.any():
        return state
    forms = {name for label in labels[spaced] for name in names_in(label) if name != name.strip()}
    shown = listed((f"{form!r} became {form.strip()!r}" for form in sorted(forms)), most=3)
    text = f"Took spaces off the labels of {state.count(spaced.sum())}: {shown}."
    return state.found("label spaces", "info", text, spaced).with_labels(labels.map(stripped))


def _test_split(state: State) -> State:
    """Where test is not given, val will serve as it (see split.py), so that it is looked at as the test split."""
    split = state.rows["split"]
    if (split == "test").any():
        return state
    return replace(state, rows=state.rows.assign(split=split.replace("val", "test")))


def _conflicts(state: State) -> State:
    """The same item with different labels: nobody knows which is right, so no copy is learnt from."""
    digests = state.rows[["digest", "label"]].drop_duplicates()["digest"]
    clashing = digests[digests.duplicated()]
    conflict = state.rows["digest"].isin(clashing)
    if not conflict.any():
        return state
    leaving = conflict & (state.rows["split"] != "test")
    kept = f", kept {(conflict & ~leaving).sum():,} in test as given" if state.given else ""
    text = f"Different labels for {state.count(clashing.nunique())}: left out {leaving.sum():,} copies{kept}."
    return state.found("conflict", "warning", text, conflict).without(leaving)


def _duplicates(state: State) -> State:
    """Exact copies within a split: the first stays. A given test split is only reported on."""
    copies = state.rows.duplicated([column for column in ("digest", "label", "split") if column in state.rows])
    leaving = copies & (state.rows["split"] != "test")
    staying = copies & ~leaving
    if leaving.any():
        text = f"Left out {state.count(leaving.sum())} for repeating another exactly."
        state = state.found("duplicate", "info", text, leaving)
    if staying.any():
        text = f"Exact copies within the given test split, kept: {state.count(staying.sum())}."
        state = state.found("duplicate", "warning", text, staying)
    return state.without(leaving)


def _leaks(state: State) -> State:
    """What stands in test leaves train and val; what stands in val leaves train."""
    digests, split = state.rows["digest"], state.rows["split"]
    in_test = (split != "test") & digests.isin(digests[split == "test"])
    in_val = ~split.isin(("val", "test")) & ~in_test & digests.isin(digests[split == "val"])
    leaving = in_test | in_val
    if not leaving.any():
        return state
    parts = (("train and val for standing in test", in_test), ("train for standing in val", in_val))
    left = " and ".join(f"{state.count(mask.sum())} out of {where}" for where, mask in parts if mask.any())
    text = f"The given splits overlap. Left {left}."
    return state.found("leak", "warning", text, leaving).without(leaving)


def _tiny_classes(state: State) -> State:
    """Without given splits, a class of one or two cannot be in train, val and test: its rows leave.

    With several labels a row stays and loses the label.
    """
    tiny = [] if state.given else [name for name, n in state.classes.items() if sum(n.values()) < LEAST_IN_CLASS]
    if not tiny:
        return state
    labels, gone = state.rows["label"], frozenset(tiny)
    hit = labels.map(lambda label: not gone.isdisjoint(names_in(label))).astype(bool)
    several = state.dataset.task == "multilabel"
    why = f"having fewer than {LEAST_IN_CLASS} examples, too few for train, val and test"
    done = "Took that label off" if several else "Left out"
    text = f"Not learnt, for {why}: {listed(tiny)}. {done} {state.count(hit.sum())}."
    state = state.found("rare class", "warning", text, hit)
    if several:
        return state.with_labels(labels.map(lambda label: tuple(name for name in label if name not in gone)))
    return state.without(hit)


def _one_label(state: State) -> State:
    """There must be something to tell apart in what is learnt from."""
    learnt = ~state.rows["split"].isin(("val", "test"))
    labels = state.rows["label"][learnt] if learnt.any() else state.rows["label"]  # without train, splitting says so
    where = " in train" if state.given else ""
    if len(labels.drop_duplicates()) > 1:
        return state
    before = " ".join(finding.text for finding in state.findings if finding.severity == "warning")
    if labels.empty:
        left = "No example is left to learn from."
    elif state.dataset.task == "regression":
        left = f"All {len(labels):,} numbers{where} are {labels.iloc[0]:g}."
    else:
        name = listed(names_in(labels.iloc[0])) or "no label"
        left = f"Only one class is left{where}: {name} ({len(labels):,} examples)."
    raise DataError(
        f"{left} At least two different values of {state.dataset.label_name!r} are needed, with {LEAST_IN_CLASS} "
        f"examples each: add examples, or name another label column. {before}".strip()
    )


def _small_classes(state: State) -> State:
    """Classes that stay, but cannot be learnt or measured well."""
    least, where = (FEW_IN_TRAIN, " in train") if state.given else (FEW_IN_CLASS, "")
    learnt = {name: sum(n.values()) - n.get("val", 0) - n.get("test", 0) for name, n in state.classes.items()}
    small = [name for name, n in learnt.items() if 0 < n < least]
    if not small:
        return state
    text = f"Fewer than {least} examples{where}, so that their predictions are unsure: {listed(small)}."
    return state.found("rare class", "warning", text)


def _imbalance(state: State) -> State:
    """One class far more frequent than another: accuracy alone would flatter."""
    if state.dataset.task != "classification":
        return state
    sizes = {name: sum(n.values()) for name, n in state.classes.items()}
    largest, smallest = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    if sizes[largest] <= IMBALANCE * sizes[smallest]:
        return state
    shares = [f"{name!r} holds {100 * sizes[name] / len(state.rows):.1f} %" for name in (largest, smallest)]
    text = f"The classes are uneven: of the examples {' and '.join(shares)}. Look at balanced accuracy."
    return state.found("imbalance", "info", text)


def _too_few(state: State) -> State:
    """Fewer than 20 cannot be split and measured; how small a given test split may be is its owner's choice."""
    n = len(state.rows)
    if n < LEAST_EXAMPLES and not state.given:
        raise DataError(
            f"{state.count(n)} can be used, but at least {LEAST_EXAMPLES} are needed to split and to measure. "
            "Add examples, or give train and test yourself."
        )
    return state
