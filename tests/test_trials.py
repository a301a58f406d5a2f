"""Trials are kept until their fit is done: read back as they were or not at all, under a key of all that decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart import registry
from headstart.backbones.changes import DOWN, UP, Changes
from headstart.engine import trials as engine
from headstart.engine.features import Activations
from headstart.engine.lesson import Learnt, Lesson
from headstart.engine.trials import Trials, key_of
from headstart.strategies.base import Adapted, Trained
from headstart.strategies.full import Full
from headstart.strategies.lora import Lora
from headstart.strategies.partial import Partial
from headstart.strategies.scratch import Scratch
from headstart.tasks.base import LinearHead
from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression
from tests.test_features import Letters

KEY, OTHER = "a" * 64, "b" * 64
DIGESTS = [f"{i:064x}" for i in range(8)]


def learnt_of(changes: Changes | None) -> Learnt:
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=2).astype(np.float32))
    logits = rng.normal(size=(5, 2)).astype(np.float32)
    return Learnt(Adapted(head, None, 0.1 + 0.2, changes), logits, (1 / 3, 0.1 + 0.2, 0.7), 12.345)


CHANGES = {
    "whole": Changes({"layer.weight": torch.randn(4, 3), "layer.bias": torch.randn(4)}),
    "integers": Changes({"norm.num_batches_tracked": torch.tensor(7), "norm.running_mean": torch.randn(4)}),
    "low rank": Changes({f"layer.weight{DOWN}": torch.randn(2, 3), f"layer.weight{UP}": torch.randn(4, 2)}),
    "a transposed one": Changes({"layer.weight": torch.randn(3, 4).T}),
    "empty": Changes({}),
    "none": None,
}


def assert_same(one: Learnt, other: Learnt) -> None:
    assert (one.adapted.head.weight == other.adapted.head.weight).all()
    assert (one.adapted.head.bias == other.adapted.head.bias).all()
    assert (one.val_logits == other.val_logits).all()
    for name in ("strength", "val_loss"):
        assert getattr(one.adapted, name) == getattr(other.adapted, name)
    assert (one.val_losses, one.seconds) == (other.val_losses, other.seconds)
    mine, theirs = one.adapted.changes, other.adapted.changes
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert mine.tensors.keys() == theirs.tensors.keys()
        for name, tensor in mine.tensors.items():
            assert tensor.dtype == theirs.tensors[name].dtype
            assert torch.equal(tensor, theirs.tensors[name])


@pytest.mark.parametrize("name", CHANGES)
def test_a_trial_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    learnt = learnt_of(CHANGES[name])
    Trials(tmp_path / "trials").put(KEY, learnt)
    found = Trials(tmp_path / "trials").get(KEY)
    assert found is not None
    assert_same(found, learnt)
    assert {path.name for path in (tmp_path / "trials").iterdir()} == {f"{KEY}.safetensors", f"{KEY}.json"}


def test_what_was_never_run_is_not_there(tmp_path: Path) -> None:
    assert Trials(tmp_path / "nothing").get(KEY) is None
    trials = Trials(tmp_path)
    trials.put(KEY, learnt_of(None))
    assert trials.get(OTHER) is None


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_flipped_byte_is_never_read(suffix: str, tmp_path: Path) -> None:
    """Any byte, any bit: nothing, or, where two ways to write a number mean the same, what was kept."""
    trials, learnt = Trials(tmp_path), learnt_of(CHANGES["whole"])
    trials.put(KEY, learnt)
    file = tmp_path / f"{KEY}.{suffix}"
    content = file.read_bytes()
    n_refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        found = trials.get(KEY)
        n_refused += found is None
        if found is not None:
            assert_same(found, learnt)
    assert n_refused >= len(content) - 3
    assert suffix == "json" or n_refused == len(content)
    file.write_bytes(content)
    assert trials.get(KEY) is not None


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
@pytest.mark.parametrize("damage", [None, b"", b"[]", b"null", b"{}", b"\xff" * 100])
def test_a_lost_or_broken_file_is_never_read(suffix: str, damage: bytes | None, tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.put(KEY, learnt_of(CHANGES["whole"]))
    file = tmp_path / f"{KEY}.{suffix}"
    file.unlink() if damage is None else file.write_bytes(damage)
    assert trials.get(KEY) is None
    trials.put(KEY, learnt_of(CHANGES["none"]))  # run again, and kept in its place
    found = trials.get(KEY)
    assert found is not None
    assert found.adapted.changes is None


def test_the_files_of_two_trials_are_not_mixed(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.put(KEY, learnt_of(CHANGES["whole"]))
    trials.put(OTHER, learnt_of(CHANGES["none"]))
    (tmp_path / f"{KEY}.safetensors").write_bytes((tmp_path / f"{OTHER}.safetensors").read_bytes())
    assert trials.get(KEY) is None
    assert trials.get(OTHER) is not None


def test_a_trial_that_is_done_needs_no_checkpoint(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "trials")
    checkpoint = trials.checkpoint(KEY)
    checkpoint.write_bytes(b"half way")
    trials.put(OTHER, learnt_of(None))
    assert checkpoint.exists()
    trials.put(KEY, learnt_of(None))
    assert not checkpoint.exists()


def test_where_the_disk_refuses_a_trial_is_only_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    Trials(tmp_path / "file").put(KEY, learnt_of(None))
    trials = Trials(tmp_path / "full")
    save = engine.save_file

    def half_way(tensors: Any, path: Path) -> None:
        save(tensors, path)
        save(tensors, tmp_path / "none" / "file")  # safetensors has an error of its own for this

    monkeypatch.setattr(engine, "save_file", half_way)
    trials.put(KEY, learnt_of(None))
    assert trials.get(KEY) is None
    assert list((tmp_path / "full").iterdir()) == []


def test_a_fit_that_is_done_forgets_what_it_asked_for_and_nothing_else(tmp_path: Path) -> None:
    asked, found, mine, other = ("c" * 64, "d" * 64, KEY, OTHER)
    Trials(tmp_path).put(other, learnt_of(None))  # of another fit
    Trials(tmp_path).put(found, learnt_of(None))  # of this fit, before it was killed
    (tmp_path / f"{other}.ckpt").write_bytes(b"under way")
    trials = Trials(tmp_path)
    assert trials.get(asked) is None
    assert trials.get(found) is not None
    assert trials.get(mine) is None
    trials.checkpoint(mine).write_bytes(b"under way")
    trials.put(mine, learnt_of(None))
    trials.checkpoint(asked).write_bytes(b"under way")
    trials.forget()
    assert {path.name for path in tmp_path.iterdir()} == {f"{other}.{s}" for s in ("safetensors", "json", "ckpt")}
    trials.forget()  # once more does no harm


# --- keys ------------------------------------------------------------------------------------------------------------


def make_lesson() -> Lesson:
    rng = np.random.default_rng(0)
    return Lesson(
        backbone=Letters(),
        modality=registry.modality("text"),
        task=Classification(class_names=("a", "b"), positive="b"),
        items=[f"text {i}" for i in range(8)],
        y=np.arange(8) % 2,
        train=np.arange(5),
        val=np.arange(5, 7),
        seed=0,
        head=LinearHead(rng.normal(size=(2, 3)).astype(np.float32), np.zeros(2, dtype=np.float32)),
    )


def with_head(lesson: Lesson, part: str) -> LinearHead:
    assert lesson.head is not None
    return replace(lesson.head, **{part: getattr(lesson.head, part) + np.float32(1e-3)})


def moved(lesson: Lesson) -> Lesson:
    """One example of train in val instead."""
    return replace(lesson, train=lesson.train[:-1], val=np.concatenate([lesson.train[-1:], lesson.val]))


OTHER_LESSONS: dict[str, Callable[[Lesson], Lesson]] = {
    "seed": lambda one: replace(one, seed=1),
    "a label of train": lambda one: replace(one, y=np.where(np.arange(8) == 2, 1 - one.y, one.y)),
    "a label of val": lambda one: replace(one, y=np.where(np.arange(8) == 6, 1 - one.y, one.y)),
    "backbone": lambda one: replace(one, backbone=Letters(scale=2.0)),
    "adapted backbone": lambda one: replace(one, backbone=one.backbone.adapted(Changes({"0.bias": torch.ones(4)}))),
    "fewer of train": lambda one: replace(one, train=one.train[:-1]),
    "order of train": lambda one: replace(one, train=one.train[::-1]),
    "other of val": lambda one: replace(one, val=np.array([5, 7])),
    "from train to val": moved,
    "task": lambda one: replace(one, task=Regression()),
    "class names": lambda one: replace(one, task=Classification(class_names=("a", "c"), positive="c")),
    "weight of the head": lambda one: replace(one, head=with_head(one, "weight")),
    "bias of the head": lambda one: replace(one, head=with_head(one, "bias")),
    "no head": lambda one: replace(one, head=None),
    "cached": lambda one: replace(one, views=(Activations((), np.zeros(8, int), np.zeros(8, int)),)),
}


def test_the_same_twice_has_one_key() -> None:
    key = key_of(Full(), make_lesson(), DIGESTS)
    assert key == key_of(Full(), make_lesson(), DIGESTS)
    assert len(key) == 64


@pytest.mark.parametrize("name", OTHER_LESSONS)
def test_another_lesson_has_another_key(name: str) -> None:
    lesson = make_lesson()
    assert key_of(Full(), OTHER_LESSONS[name](lesson), DIGESTS) != key_of(Full(), lesson, DIGESTS)


@pytest.mark.parametrize("row", [0, 4, 5, 6])
def test_another_item_has_another_key(row: int) -> None:
    digests = [*DIGESTS]
    digests[row] = "e" * 64
    assert key_of(Full(), make_lesson(), digests) != key_of(Full(), make_lesson(), DIGESTS)


def test_what_is_not_looked_at_does_not_change_the_key() -> None:
    """Neither the test split's items and labels, nor how items are called, nor where a checkpoint lies."""
    lesson = make_lesson()
    key = key_of(Full(), lesson, DIGESTS)
    assert key_of(Full(), lesson, [*DIGESTS[:7], "e" * 64]) == key
    assert key_of(Full(), replace(lesson, y=np.where(np.arange(8) == 7, 1 - lesson.y, lesson.y)), DIGESTS) == key
    assert key_of(Full(), replace(lesson, checkpoint=Path("somewhere.ckpt")), DIGESTS) == key


OTHER_STRATEGIES: list[Trained] = [
    Full(epochs=5),
    Full(batch_size=8),
    Full(learning_rate=2e-4),
    Full(head_rate=5.0),
    Full(stage_decay=0.5),
    Full(weight_decay=0.1),
    Full(patience=2),
    Full(class_weight="balanced"),
    Full(augment=True),
    Full(views=2),
    Full(gradual=True),
    Partial(freeze=1),
    Partial(freeze=2),
    Lora(freeze=1),
    Lora(freeze=1, rank=4),
    Lora(freeze=1, alpha=8),
    Scratch(),
    Scratch(learning_rate=1e-4, head_rate=10.0, stage_decay=0.9),  # the settings of Full, from random weights
]


def test_every_setting_has_its_key() -> None:
    lesson = make_lesson()
    keys = {key_of(strategy, lesson, DIGESTS) for strategy in (Full(), *OTHER_STRATEGIES)}
    assert len(keys) == 1 + len(OTHER_STRATEGIES)
    told = {name for strategy in OTHER_STRATEGIES for name in strategy.settings()}
    assert told == set(Lora(freeze=1).settings()) | {"gradual"}  # a new setting belongs in the list


def test_another_arithmetic_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for precision in ("32-true", "bf16-mixed"):
        monkeypatch.setattr(engine, "precision", lambda backbone, precision=precision: precision)
        keys.add(key_of(Full(), make_lesson(), DIGESTS))
    assert len(keys) == 2
