"""Batches of a lesson: from cached activations or from the items themselves, in another order each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from headstart.data.batch import shuffled_batches
from headstart.engine.lesson import Lesson, Taught
from headstart.strategies.base import Trained


@dataclass(frozen=True)
class Batch:
    """Keyword arguments of the network, and the activation at the cut where it is cached."""

    inputs: dict[str, Tensor]
    activation: Tensor | None


def batch_of(lesson: Lesson, rows: Sequence[int] | np.ndarray, epoch: int, augment: bool = False) -> Batch:
    """These rows; in training, each in a view drawn for it and for this epoch."""
    backbone, modality = lesson.backbone, lesson.modality
    if not lesson.views:
        opened = [modality.open(lesson.items[row], backbone.detail) for row in rows]
        if augment:
            generators = (np.random.default_rng([lesson.seed, epoch, int(row)]) for row in rows)
            opened = [modality.augment(item, rng) for item, rng in zip(opened, generators, strict=True)]
        return Batch(backbone.collate(opened), None)
    opened = [modality.open(lesson.items[row], backbone.detail) if backbone.rereads else None for row in rows]
    view = np.zeros(len(rows), dtype=np.int64)
    if augment and len(lesson.views) > 1:
        view = np.array([np.random.default_rng([lesson.seed, epoch, int(r)]).integers(len(lesson.views)) for r in rows])
    pieces = [lesson.views[v].rows([r])[0] for v, r in zip(view, rows, strict=True)]
    return Batch(backbone.placeholders(opened, pieces), stacked(pieces))


def stacked(pieces: Sequence[Tensor]) -> Tensor:
    """Activations of some examples as one batch, texts and sounds padded with zeros at the end."""
    if pieces[0].ndim == 2:
        return nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
    batch = torch.stack(list(pieces))
    return batch.to(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def lengths(lesson: Taught, rows: np.ndarray) -> list[int]:
    """What each example costs, in the network's own unit; pictures and sounds are not opened for it."""
    if lesson.backbone.modality == "image":
        return [1] * len(rows)
    return lesson.backbone.lengths([lesson.modality.outline(lesson.items[row]) for row in rows])


class Epochs(Sampler[list[int]]):
    """Batches of rows, in another order each epoch; `epoch` is asked whenever an epoch begins.

    Where the strategy needs a target, each batch of source rows is followed by as many target rows, of like length.
    """

    def __init__(self, strategy: Trained, lesson: Taught, epoch: Callable[[], int]) -> None:
        self.rows, self.size, self.seed, self.epoch = lesson.train, strategy.batch_size, lesson.seed, epoch
        self.lengths = np.array(lengths(lesson, self.rows))
        self.target = lesson.target if strategy.needs_target else None
        self.target_lengths = np.array([] if self.target is None else lengths(lesson, self.target))

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch()
        seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        found = shuffled_batches(list(self.lengths), self.size, seed)
        partners = self._partners(found, epoch)
        for batch, partner in zip(found, partners, strict=True):
            yield [int(row) for row in (*self.rows[batch], *partner)]

    def _partners(self, found: list[np.ndarray], epoch: int) -> list[np.ndarray]:
        """Target rows for each batch of the source, as many; every one once before any comes twice."""
        if self.target is None:
            return [np.empty(0, dtype=np.int64)] * len(found)
        rng, n = np.random.default_rng([self.seed, epoch, 2]), len(self.rows)
        rounds = [rng.permutation(len(self.target)) for _ in range(-(-n // len(self.target)))]
        drawn = np.concatenate(rounds)[:n]
        drawn_lengths = self.target_lengths[drawn]
        batches = shuffled_batches(list(drawn_lengths), self.size, int(rng.integers(2**31)))
        partners = list(found)
        for i, j in zip(_by_length(found, self.lengths), _by_length(batches, drawn_lengths), strict=True):
            partners[i] = self.target[drawn[batches[j]]]
        return partners


def _by_length(found: Sequence[np.ndarray], lengths: np.ndarray) -> list[int]:
    """Which batch comes when they are sorted by their size and then by the mean length of what they hold."""
    return sorted(range(len(found)), key=lambda i: (len(found[i]), float(lengths[found[i]].mean())))
