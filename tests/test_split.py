"""Splits: sizes, strata, groups and times, checked by counting; batches, by brute force."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.batch import batches
from headstart.data.dataset import Dataset
from headstart.data.split import split, split_train_val
from headstart.errors import DataError, PlanError

NAMES = {"train", "val", "test"}
quick = settings(max_examples=40, deadline=None)


def make(labels, task="classification", splits=None, **columns) -> Dataset:
    table = {"input": [f"text {i}" for i in range(len(labels))], "split": splits or [""] * len(labels), **columns}
    if task:
        table["label"] = labels
    return Dataset(table=datasets.Dataset.from_dict(table), modality="text", task=task, name="d", source="here")


def names(dataset: Dataset) -> list[str]:
    return dataset.column("split")


@quick
@given(st.lists(st.sampled_from("abcdef"), min_size=30, max_size=200), st.integers(0, 5))
def test_sizes_and_classes(labels, seed):
    whole = make(labels)
    done = split(whole, seed)
    assert done.column("input") == whole.column("input")
    assert done.column("label") == labels
    assert set(names(done)) == NAMES
    seen = defaultdict(Counter)
    for label, name in zip(labels, names(done), strict=True):
        seen[label][name] += 1
    n, n_rare = len(labels), sum(min(c.total(), 5) for c in seen.values() if c.total() < 5)
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert abs(names(done).count(name) - share * n) <= 1 + n_rare
    for counts in seen.values():
        assert counts["train"] >= 1
        assert set(counts) == NAMES or counts.total() < 3
        if counts.total() >= 5:
            assert abs(counts["test"] - counts.total() / 5) < 1
            assert abs(counts["val"] - counts.total() / 5) < 1


def test_the_same_seed_repeats_and_another_differs():
    whole = make(list("ab") * 50)
    assert names(split(whole, 1)) == names(split(whole, 1))
    assert names(split(whole, 1)) != names(split(whole, 2))


def test_a_class_does_not_depend_on_the_row_order_of_another():
    rng = np.random.default_rng(0)
    labels = np.array(list("aab") * 40)
    fixed = np.flatnonzero(labels == "b")
    moved = np.arange(len(labels))
    moved[labels == "a"] = rng.permutation(moved[labels == "a"])
    first, second = split(make(labels.tolist()), 3), split(make(labels.tolist()).select(moved), 3)
    assert [names(first)[i] for i in fixed] == [names(second)[i] for i in fixed]


@quick
@given(st.lists(st.floats(-1e6, 1e6), min_size=30, max_size=200, unique=True), st.integers(0, 3))
def test_numbers_are_split_along_their_whole_range(labels, seed):
    done = split(make(labels, task="regression"), seed)
    assert abs(names(done).count("test") - len(labels) / 5) <= 1
    middle = np.median(labels)
    below = np.mean([label < middle for label, name in zip(labels, names(done), strict=True) if name == "test"])
    assert 0.2 <= below <= 0.8


@quick
@given(st.lists(st.sets(st.sampled_from("abcd")), min_size=40, max_size=150))
def test_several_labels(labels):
    done = split(make([sorted(label) for label in labels], task="multilabel"), 0)
    assert abs(names(done).count("test") - len(labels) / 5) <= 8
    assert set(names(done)) == NAMES


def test_the_rarest_label_reaches_every_split():
    labels = [["common", "rare"] if i % 10 == 0 else ["common"] for i in range(100)]
    done = split(make(labels, task="multilabel"), 0)
    held = Counter(name for label, name in zip(labels, names(done), strict=True) if "rare" in label)
    assert held == {"train": 6, "val": 2, "test": 2}


def test_without_labels():
    assert Counter(names(split(make([0] * 50, task=None), 0))) == {"train": 30, "val": 10, "test": 10}


@quick
@given(st.integers(5, 30), st.integers(0, 3), st.data())
def test_groups_stay_whole(n_groups, seed, data):
    groups = [f"g{i}" for i in range(n_groups) for _ in range(data.draw(st.integers(1, 6)))]
    labels = data.draw(st.lists(st.sampled_from("ab"), min_size=len(groups), max_size=len(groups)))
    done = split(make(labels, group=groups), seed)
    sides = set(zip(groups, names(done), strict=True))
    assert len(sides) == n_groups
    assert set(names(done)) == NAMES


def test_groups_of_like_size_give_60_20_20_of_every_class():
    groups = [f"g{i // 4}" for i in range(400)]
    labels = ["a", "a", "a", "b"] * 100
    done = split(make(labels, group=groups), 0)
    assert Counter(names(done)) == {"train": 240, "val": 80, "test": 80}
    assert Counter(zip(labels, names(done), strict=True))["b", "test"] == 20
    assert names(done) != names(split(make(labels, group=groups), 1))


def test_three_groups_are_enough_and_two_are_not():
    done = split(make(list("ab") * 15, group=["x"] * 20 + ["y"] * 5 + ["z"] * 5), 0)
    assert dict(zip(done.column("group"), names(done), strict=True))["x"] == "train"
    assert set(names(done)) == NAMES
    with pytest.raises(DataError, match="too few different groups"):
        split(make(list("ab") * 15, group=["x"] * 15 + ["y"] * 15), 0)


@quick
@given(st.lists(st.integers(0, 40), min_size=60, max_size=150))
def test_time_goes_forward_and_ties_stay_together(times):
    try:
        done = split(make(["a", "b"] * len(times), time=[float(t) for t in times] * 2), 0)
    except DataError:
        assert len(set(times)) < 3 or max(Counter(times).values()) >= 0.2 * len(times) - 1
        return
    by = {name: [t for t, n in zip(done.column("time"), names(done), strict=True) if n == name] for name in NAMES}
    assert max(by["train"]) < min(by["val"])
    assert max(by["val"]) < min(by["test"])
    assert len(by["train"]) >= 0.6 * 2 * len(times) - 1  # ties go to the earlier side


def test_time_without_ties_is_60_20_20():
    done = split(make(["a"] * 10, time=[float(t) for t in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]), 0)
    assert names(done) == ["test"] * 2 + ["val"] * 2 + ["train"] * 6


def test_group_and_time_together():
    with pytest.raises(PlanError, match="--group and --time"):
        split(make(["a"], group=["x"], time=[1.0]), 0)


def test_given_splits_are_kept():
    given_splits = ["test", "val", "train", "train"]
    done = split(make(list("abab"), splits=given_splits), 0)
    assert names(done) == given_splits
    assert done.notes == ("train, val and test as given",)


def test_train_and_test_given():
    done = split(make(list("ab") * 50, splits=["train"] * 60 + ["test"] * 40), 0)
    assert names(done)[60:] == ["test"] * 40
    assert Counter(zip(done.column("label")[:60], names(done)[:60], strict=True))["a", "val"] == 6
    assert names(done).count("val") == 12


def test_val_serves_as_test():
    done = split(make(list("ab") * 50, splits=["train"] * 60 + ["val"] * 40), 0)
    assert names(done)[60:] == ["test"] * 40
    assert names(done).count("val") == 12
    assert "'val' serves as the test set; validation is taken from train" in done.notes


def test_validation_is_the_latest_part_of_train_by_time():
    done = split(make(list("ab") * 10, splits=["train"] * 10 + ["test"] * 10, time=[float(i) for i in range(20)]), 0)
    assert names(done) == ["train"] * 8 + ["val"] * 2 + ["test"] * 10


def test_train_alone_is_as_if_nothing_were_given():
    labels = list("ab") * 20
    assert names(split(make(labels, splits=["train"] * 40), 0)) == names(split(make(labels), 0))


@quick
@given(st.lists(st.sampled_from("abc"), min_size=20, max_size=100), st.integers(0, 3))
def test_train_and_val_only(labels, seed):
    whole = make(labels)
    done = split_train_val(whole, seed)
    assert done.column("input") == whole.column("input")
    counts = Counter(zip(labels, names(done), strict=True))
    n_rare = sum(n < 5 for n in Counter(labels).values())
    assert abs(names(done).count("val") - len(labels) / 5) <= 1 + n_rare
    for label, n in Counter(labels).items():
        assert counts[label, "train"] + counts[label, "val"] == n
        assert counts[label, "train"] >= 1
        assert n < 2 or counts[label, "val"] >= 1
        assert n < 5 or abs(counts[label, "val"] - n / 5) < 1


def test_four_examples_are_enough_for_train_and_val():
    assert Counter(names(split_train_val(make(list("aabb")), 0))) == {"train": 2, "val": 2}
    assert set(names(split_train_val(make([1.0, 2.0, 3.0, 4.0], task="regression"), 0))) == {"train", "val"}
    with pytest.raises(DataError, match="2 examples cannot be divided into train, val: val would be empty"):
        split_train_val(make(list("ab")), 0)


def test_train_and_val_by_group_and_by_time():
    groups = [f"g{i // 4}" for i in range(80)]
    done = split_train_val(make(list("ab") * 40, group=groups), 0)
    assert len(set(zip(groups, names(done), strict=True))) == 20
    assert Counter(names(done)) == {"train": 64, "val": 16}
    done = split_train_val(make(list("ab") * 5, time=[float(i) for i in range(10)]), 0)
    assert names(done) == ["train"] * 8 + ["val"] * 2
    with pytest.raises(PlanError, match="--group and --time"):
        split_train_val(make(["a"], group=["x"], time=[1.0]), 0)


def test_train_and_val_take_the_place_of_given_splits():
    labels = list("ab") * 10
    assert names(split_train_val(make(labels, splits=["test"] * 20), 0)) == names(split_train_val(make(labels), 0))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["test", "test", "test"], "no train split, only test 3"),
        (["val", "val", "test"], "no train split, only val 2, test 1"),
        (["train", "test", ""], r"1 examples have no split, beside 2 .*train 1, test 1"),
    ],
)
def test_given_splits_that_do_not_do(splits, message):
    with pytest.raises(DataError, match=message):
        split(make(list("aba"), splits=splits), 0)


def test_too_few_examples():
    with pytest.raises(DataError, match="2 examples cannot be divided"):
        split(make(list("ab")), 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 200))
def test_batches(lengths, budget):
    found = batches(lengths, budget)
    assert sorted(i for batch in found for i in batch.tolist()) == list(range(len(lengths)))
    longest = [max(lengths[i] for i in batch) for batch in found]
    assert longest == sorted(longest, reverse=True)
    for batch, most in zip(found, longest, strict=True):
        assert len(batch) == 1 or len(batch) * most <= budget
    for batch, after in pairwise(found):  # none could have taken the next example too
        assert (len(batch) + 1) * max(1, lengths[batch[0]]) > budget
        assert min(lengths[i] for i in batch) >= lengths[after[0]]
