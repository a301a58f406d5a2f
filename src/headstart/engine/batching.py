"""Batches of a lesson: from cached activations or from the items themselves, in another order each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from headstart.data.batch import shuffled_batches
from headstart.engine.lesson import Lesson
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
    needs_items = backbone.modality != "image"
    opened = [modality.open(lesson.items[row], backbone.detail) if needs_items else None for row in rows]
    view = np.zeros(len(rows), dtype=np.int64)
    if augment and len(lesson.views) > 1:
        view = np.array([np.random.default_rng([lesson.seed, epoch, int(r)]).integers(len(lesson.views)) for r in rows])
    pieces = [lesson.views[v].rows([r])[0] for v, r in zip(view, rows, strict=True)]
    return Batch(backbone.placeholders(opened), stacked(pieces))


def stacked(pieces: Sequence[Tensor]) -> Tensor:
    """Activations of some examples as one batch, texts padded with zeros at the end."""
    if pieces[0].ndim == 2:
        return nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
    batch = torch.stack(list(pieces))
    return batch.to(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def lengths(lesson: Lesson, rows: np.ndarray) -> list[int]:
    """What each example costs, in the network's own unit; pictures are not opened for it."""
    if lesson.backbone.modality == "image":
        return [1] * len(rows)
    return lesson.backbone.lengths([lesson.modality.open(lesson.items[row]) for row in rows])


class Epochs(Sampler[list[int]]):
    """Batches of rows, in another order each epoch; `epoch` is asked whenever an epoch begins."""

    def __init__(self, strategy: Trained, lesson: Lesson, epoch: Callable[[], int]) -> None:
        self.rows, self.size, self.seed, self.epoch = lesson.train, strategy.batch_size, lesson.seed, epoch
        self.lengths = lengths(lesson, self.rows)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        seed = int(np.random.SeedSequence([self.seed, self.epoch()]).generate_state(1)[0])
        for batch in shuffled_batches(self.lengths, self.size, seed):
            yield [int(row) for row in self.rows[batch]]
