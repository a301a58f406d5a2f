"""Which examples teach, which choose, and which test: the given split, else a seeded 60/20/20.

Stratified by label, or by the rarest of several labels or of a picture's objects; by groups that stay whole, or by
time, where the data set has such a column.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headstart.data.audit_state import names_in
from headstart.data.dataset import SPLITS, Dataset
from headstart.data.labels import CHAT, DETECTION, TRANSCRIPTION
from headstart.errors import DataError, PlanError, listed

_ALL = ("train", "val", "train", "test", "train")  # 60/20/20: every fifth example of a class goes the same way
_TRAIN_VAL = ("train", "train", "val", "train", "train")
_NEEDED = ("train", "test", "val")  # where the examples of a rare class go first
_MIN_RARE = 5  # a label rarer than this is no stratum of its own where examples have several


def split(dataset: Dataset, seed: int) -> Dataset:
    """The same examples, each in "train", "val" or "test"; a note says what was done.

    What is given stays: only what is missing is made. DataError when train is missing, when only some examples have
    a split, and when there is too little to divide; PlanError when both groups and times are to rule.
    """
    _check_one_rule(dataset)
    given = np.asarray(dataset.column("split"), dtype=object)
    counts = Counter(given)
    _check_given(counts)
    if set(counts) <= {"", "train"}:
        splits = _divided(dataset, np.arange(len(dataset)), _ALL, seed)
        return _noted(dataset, splits, _how(dataset, seed))
    if counts["val"] and counts["test"]:
        return _noted(dataset, given, "train, val and test as given")
    if counts["val"]:
        given[given == "val"] = "test"
        note = "'val' serves as the test set; validation is taken from train"
    else:
        note = "train and test as given; validation is 20 % of train"
    train = np.flatnonzero(given == "train")
    given[train] = _divided(dataset, train, _TRAIN_VAL, seed)
    return _noted(dataset, given, note)


def split_train_val(dataset: Dataset, seed: int) -> Dataset:
    """The same examples, four fifths in "train" and one fifth in "val", whatever splits were given.

    For callers that test elsewhere. DataError and PlanError as for `split`.
    """
    _check_one_rule(dataset)
    return dataset.with_splits(_divided(dataset, np.arange(len(dataset)), _TRAIN_VAL, seed).tolist())


def _check_one_rule(dataset: Dataset) -> None:
    if dataset.has("group") and dataset.has("time"):
        raise PlanError("Splitting by group and by time at once is not possible. Pass one of --group and --time.")


def _check_given(counts: Counter[str]) -> None:
    n_given = sum(counts[name] for name in SPLITS)
    shown = listed(f"{name} {counts[name]:,}" for name in SPLITS if counts[name])
    if n_given and counts[""]:
        raise DataError(
            f"{counts['']:,} examples have no split, beside {n_given:,} that have one ({shown}). "
            "Give every example a split, or none."
        )
    if n_given and not counts["train"]:
        raise DataError(f"The data give no train split, only {shown}. Add one, or leave the splits out.")


def _noted(dataset: Dataset, splits: np.ndarray, note: str) -> Dataset:
    return replace(dataset.with_splits(splits.tolist()), notes=(*dataset.notes, note))


def _how(dataset: Dataset, seed: int) -> str:
    if dataset.has("time"):
        return "split by time: the first 60 % train, the next 20 % val, the last 20 % test"
    by = "the rarest class in each" if dataset.task == DETECTION else repr(dataset.label_name)
    apart = dataset.task == CHAT or (dataset.task == TRANSCRIPTION and not any(_recurring(dataset.column("label"))))
    stratified = f", stratified by {by}" if dataset.task and not apart else ""
    groups = f", {len(set(dataset.column('group'))):,} groups kept whole" if dataset.has("group") else ""
    return f"split 60/20/20 into train, val and test{stratified}{groups} (seed {seed})"


def _divided(dataset: Dataset, rows: np.ndarray, pattern: Sequence[str], seed: int) -> np.ndarray:
    """Split names (n,) for `rows` (n,) in the shares of `pattern`. DataError when one of them stays empty."""
    if dataset.has("time"):
        found = _by_time(np.asarray(dataset.column("time"))[rows], pattern)
    elif dataset.has("group"):
        groups = np.unique(np.asarray(dataset.column("group"))[rows], return_inverse=True)[1]
        found = _by_group(groups, _strata(dataset, rows), pattern, seed)
    else:
        found = _by_stratum(_strata(dataset, rows), pattern, seed)
    lacking = [name for name in SPLITS if name in pattern and name not in found]
    if lacking:
        by = "times" if dataset.has("time") else "groups" if dataset.has("group") else _kinds(dataset)
        raise DataError(
            f"{len(rows):,} examples cannot be divided into {', '.join(dict.fromkeys(pattern))}: {listed(lacking)} "
            f"would be empty, as there are too few different {by}. Give more data, or a column "
            f"'split'{', or leave out --group' if dataset.has('group') else ''}."
        )
    return found


def _kinds(dataset: Dataset) -> str:
    return dataset.nouns[1] if dataset.task == CHAT else "examples of each class"


def _strata(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Stratum (n,) int64 of each row: its class, its rarest label, or its tenth of the numbers."""
    if dataset.task in (None, CHAT):
        return np.zeros(len(rows), dtype=np.int64)
    values = dataset.column("label")
    labels = [values[row] for row in rows]
    if dataset.task == "regression":
        n_bins = min(10, max(1, len(rows) // 10))
        order = np.argsort([np.inf if label is None else label for label in labels], kind="stable")
        return np.argsort(order, kind="stable") * n_bins // len(rows)
    if dataset.task == DETECTION:
        labels = [None if label is None else sorted(set(names_in(label))) for label in labels]
    if dataset.task in ("multilabel", DETECTION):
        labels = _rarest(labels)
    if dataset.task == TRANSCRIPTION:
        labels = _recurring(labels)
    names = ["" if label is None else str(label) for label in labels]
    return np.unique(names, return_inverse=True)[1]


def _recurring(transcripts: Sequence[str | None]) -> list[str]:
    """Transcripts that recur so often that they can be divided; "" for the rest, sentences as a rule."""
    counts = Counter(transcripts)
    return [one if one is not None and counts[one] >= _MIN_RARE else "" for one in transcripts]


def _rarest(labels: Sequence[Any]) -> list[str]:
    """Of each example's labels the rarest that is not too rare to divide; "" where there is none."""
    counts = Counter(name for names in labels for name in names or ())
    usable = [[name for name in names or () if counts[name] >= _MIN_RARE] for names in labels]
    return [min(names, key=lambda name: (counts[name], name), default="") for names in usable]


def _by_stratum(strata: np.ndarray, pattern: Sequence[str], seed: int) -> np.ndarray:
    """Each stratum shuffled, then dealt out along the pattern, which runs on from one stratum to the next.

    So every split's size is exact to one example, and a stratum's share of it to less than two; but a stratum of
    three or more is in every split, and a smaller one in train first.
    """
    rng = np.random.default_rng(seed)
    found = np.empty(len(strata), dtype=object)
    needed = [name for name in _NEEDED if name in pattern]
    by_stratum = np.split(np.argsort(strata, kind="stable"), np.cumsum(np.bincount(strata))[:-1]) if len(strata) else []
    start = 0
    for rows in by_stratum:
        names = [pattern[(start + i) % len(pattern)] for i in range(len(rows))]
        start += len(rows)
        found[rng.permutation(rows)] = _complete(names, needed[: len(rows)])
    return found


def _complete(names: list[str], needed: Sequence[str]) -> list[str]:
    """Split names with one exchanged for each needed name that is not among them."""
    for name in needed:
        if name not in names:
            spare = Counter(n for n in names if n not in needed or names.count(n) > 1)
            names[names.index(spare.most_common(1)[0][0])] = name
    return names


def _by_group(groups: np.ndarray, strata: np.ndarray, pattern: Sequence[str], seed: int) -> np.ndarray:
    """Groups (n,) int64 kept whole: five stratified folds, of which the most even ones become val and test."""
    found = np.full(len(groups), "train", dtype=object)
    held = [name for name in _NEEDED if name in pattern and name != "train"]
    folds = _folds(groups, strata, seed)
    sizes = np.bincount(folds)
    if np.count_nonzero(sizes) <= len(held):
        return found
    sizes = np.where(sizes, sizes, 2 * len(groups))  # an empty fold holds nothing out
    for name, fold in zip(held, np.argsort(np.abs(sizes - len(groups) / 5), kind="stable"), strict=False):
        found[folds == fold] = name
    return found


def _folds(groups: np.ndarray, strata: np.ndarray, seed: int) -> np.ndarray:
    """Fold (n,) of each row; each group is a fold where there are fewer than five."""
    from sklearn.model_selection import StratifiedGroupKFold

    if len(np.unique(groups)) < 5:
        return groups
    if np.bincount(strata).max() < 5:  # scikit-learn wants one stratum with a row for each fold
        strata = np.zeros_like(strata)
    folds = np.empty(len(groups), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        found = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=seed).split(strata, strata, groups)
        for fold, (_, rows) in enumerate(found):
            folds[rows] = fold
    return folds


def _by_time(times: np.ndarray, pattern: Sequence[str]) -> np.ndarray:
    """Times (n,) in the order train, val, test; equal times stay together on the earlier side."""
    ordered = np.sort(times)
    found = np.full(len(times), "train", dtype=object)
    share = 0.0
    for before, after in zip(SPLITS, [name for name in SPLITS if name in pattern][1:], strict=False):
        share += pattern.count(before) / len(pattern)
        last = ordered[max(0, round(share * len(times)) - 1)]
        found[times > last] = after
    return found
