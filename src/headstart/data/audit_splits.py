"""Look at train, val and test before anything is trained: what makes the score too good, too unsure or partial.

A check is a function from a data set that has its splits to its findings. To add one, write it and name it in
`audit_splits`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

from headstart.data.audit import class_counts
from headstart.data.audit_state import N_EXAMPLES, Finding, names_in
from headstart.data.dataset import SPLITS, Dataset
from headstart.data.labels import CHAT
from headstart.errors import listed

FEW_IN_TEST = 50  # below it an interval at 90 % accuracy is wider than ± 8 points
FEW_GROUPS = 10  # below it resampling whole groups gives intervals that are clearly too narrow
COVERAGE = {2: 45, 3: 72, 5: 81}  # groups in test -> % of simulated 95 % intervals that hold the truth; 10 groups: 92


def audit_splits(dataset: Dataset) -> tuple[Finding, ...]:
    """What the splits mean for the score; `dataset` as `split` returns it. Nothing is changed."""
    checks = (_torn_groups, _few_groups, _unseen_classes, _untested_classes, _few_examples)
    return tuple(chain.from_iterable(check(dataset) for check in checks))


def _torn_groups(dataset: Dataset) -> Iterator[Finding]:
    """Groups on more than one side, which given splits can bring about."""
    sides = _sides(dataset)
    in_test = [group for group, where in sides.items() if "test" in where and len(where) > 1]
    in_val = [group for group, where in sides.items() if where == {"train", "val"}]
    for torn, harm in (
        (in_test, "the score is too good to be true for new ones"),
        (in_val, "what is chosen on val suits them more than new ones"),
    ):
        if torn:
            where = _joined([name for name in SPLITS if any(name in sides[group] for group in torn)])
            stand = f"{'stands' if len(torn) == 1 else 'stand'} in {where}"
            text = f"{len(torn):,} of {_groups(dataset, len(sides))} {stand}: {harm} ({listed(torn, 3)})."
            yield Finding(kind="leak", severity="warning", text=text)


def _few_groups(dataset: Dataset) -> Iterator[Finding]:
    """Intervals resample whole groups: a few show less of how groups differ than there is, and one shows nothing."""
    n = sum("test" in where for where in _sides(dataset).values())
    if 0 < n < FEW_GROUPS:
        harm = "there is none for new groups"
        if n > 1:
            known = max(size for size in COVERAGE if size <= n)
            held = f"about {COVERAGE[known]} % of 95 % intervals from {known} groups held the truth"
            harm = f"they are too narrow (simulated: {held})"
        text = f"The test split holds only {_groups(dataset, n)}. Intervals resample whole groups, so {harm}."
        yield Finding(kind="few groups", severity="warning", text=text)


def _unseen_classes(dataset: Dataset) -> Iterator[Finding]:
    """Classes that train does not hold cannot be learnt."""
    counts = {name: n for name, n in class_counts(dataset).items() if not n["train"]}
    if not counts:
        return
    where = [split for split in ("val", "test") if any(n.get(split) for n in counts.values())]
    labels, splits = dataset.column("label"), dataset.column("split")
    rows = [row for row, label in enumerate(labels) if not counts.keys().isdisjoint(names_in(label))]
    n_test = sum(splits[row] == "test" for row in rows)
    count = "Their objects are counted as missed" if dataset.task == "detection" else "Counted as errors"
    errors = f"{count} in test: {_count(dataset, n_test)}." if n_test else "The score does not cover this."
    yield Finding(
        kind="unseen class",
        severity="warning",
        text=f"In {_joined(where)} but not in train, so never predicted: {listed(counts)}. {errors}",
        examples=tuple(dataset.named(row) for row in rows[:N_EXAMPLES]),
    )


def _untested_classes(dataset: Dataset) -> Iterator[Finding]:
    """Classes that are learnt, but not measured."""
    absent = [name for name, n in class_counts(dataset).items() if n["train"] and not n["test"]]
    if absent:
        text = f"In train but not in test, so that the score does not cover them: {listed(absent)}."
        yield Finding(kind="untested class", severity="info", text=text)


def _few_examples(dataset: Dataset) -> Iterator[Finding]:
    """Too few to measure well."""
    n = len(dataset.rows("test"))
    if n < FEW_IN_TEST:
        half = 196 * math.sqrt(0.9 * 0.1 / n)
        wide = (
            "" if dataset.task in ("regression", "detection", CHAT) else f", about ± {half:.0f} points at 90 % accuracy"
        )
        text = f"Only {_count(dataset, n)} to test on: the intervals will be wide{wide}."
        yield Finding(kind="few examples", severity="warning", text=text)


def _sides(dataset: Dataset) -> dict[str, set[str]]:
    """Group -> the splits that it stands in, in the data's order; {} without groups."""
    sides: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(dataset.groups or (), dataset.column("split"), strict=dataset.has("group")):
        sides[group].add(split)
    return sides


def _groups(dataset: Dataset, n: int) -> str:
    """'1 group of 'patient'', '12 groups of 'patient''."""
    return f"{n:,} {'group' if n == 1 else 'groups'} of {dataset.overruled.get('group', 'group')!r}"


def _count(dataset: Dataset, n: int) -> str:
    """'1 text', '3 texts'."""
    return f"{n:,} {dataset.nouns[int(n != 1)]}"


def _joined(names: Sequence[str]) -> str:
    """'train', 'train and test', 'train, val and test'."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
