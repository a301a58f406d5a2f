"""What a loss without labels learns from: items, views of them, and the batches of all steps, in a seeded order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from headstart.backbones.base import Backbone, Located
from headstart.data.batch import shuffled_batches
from headstart.engine.batching import stacked
from headstart.engine.features import Activations
from headstart.losses.base import Loss, View
from headstart.modalities.base import Modality

ROUND = 25  # steps between which a run can be stopped and go on
ORDER, VIEWS, NOISE, HELD, START = range(5)  # what a seed is for


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a loss learns from. Rows index `items` and the activations alike."""

    backbone: Backbone
    located: Located  # its files
    modality: Modality
    items: Sequence[Any]  # N stored items
    learn: np.ndarray  # rows that teach
    held: np.ndarray  # rows that the loss is measured on, before and after
    seed: int = 0
    views: tuple[Activations, ...] = ()  # activations at the cut; empty: items are run each time
    checkpoint: Path | None = None  # file to go on from, and to keep after some rounds

    @cached_property
    def lengths(self) -> list[int]:
        """What each item to learn from costs; pictures and sounds are not opened for it."""
        if self.backbone.modality == "image":
            return [1] * len(self.learn)
        return self.backbone.lengths([self.modality.outline(self.items[row]) for row in self.learn])

    def draws(self, *what: int) -> np.random.Generator:
        """The generator of one purpose."""
        return np.random.default_rng([self.seed, *what])

    def batch(self, loss: Loss, rows: Sequence[int] | np.ndarray, *what: int) -> list[View]:
        """These rows in as many views as the loss compares; `what` decides which."""
        if not self.views:
            return [self._opened(loss, rows, (*what, number)) for number in range(loss.n_views)]
        drawn = np.array([self.draws(VIEWS, *what, row).permutation(len(self.views)) for row in rows])
        return [self._cached(rows, drawn[:, number]) for number in range(loss.n_views)]

    def _opened(self, loss: Loss, rows: Sequence[int] | np.ndarray, what: Sequence[int]) -> View:
        opened = [self.modality.open(self.items[row], self.backbone.detail) for row in rows]
        if loss.augments:
            generators = [self.draws(VIEWS, *what, row) for row in rows]
            opened = [self.modality.augment(item, rng) for item, rng in zip(opened, generators, strict=True)]
        return View(self.backbone.collate(opened))

    def _cached(self, rows: Sequence[int] | np.ndarray, views: np.ndarray) -> View:
        rereads = self.backbone.rereads
        opened = [self.modality.open(self.items[row], self.backbone.detail) if rereads else None for row in rows]
        pieces = [self.views[view].rows([row])[0] for view, row in zip(views, rows, strict=True)]
        return View(self.backbone.placeholders(opened, pieces), stacked(pieces))


class Steps(Sampler[list[tuple[int, np.ndarray]]]):
    """The batches of all steps; each epoch has another order, and whole batches only."""

    def __init__(self, loss: Loss, corpus: Corpus, n_steps: int, n_done: Callable[[], int] = lambda: 0) -> None:
        self.corpus, self.n_done = corpus, n_done
        self.size = min(loss.batch_size, len(corpus.learn))
        self.n_rounds = -(-n_steps // ROUND)
        self.round = -(-n_steps // self.n_rounds)

    @property
    def an_epoch(self) -> int:
        """Steps of a pass over the data."""
        return len(self.corpus.learn) // self.size

    @property
    def n_steps(self) -> int:
        """In all, in rounds of the same length."""
        return self.n_rounds * self.round

    def __len__(self) -> int:
        return self.round

    def __iter__(self) -> Iterator[list[tuple[int, np.ndarray]]]:
        """(step, its rows), as a batch of one."""
        first = self.n_done() * self.round
        for step in range(first, first + self.round):
            yield [(step, self.rows(step))]

    def rows(self, step: int) -> np.ndarray:
        """Rows of the examples of one step."""
        epoch, place = divmod(step, self.an_epoch)
        return self.corpus.learn[self._epoch(epoch)[place]]

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        if epoch != getattr(self, "_of", None):
            seed = int(self.corpus.draws(ORDER, epoch).integers(2**31))
            found = shuffled_batches(self.corpus.lengths, self.size, seed)
            self._of, self._batches = epoch, [batch for batch in found if len(batch) == self.size]
        return self._batches


class AsIs(Dataset[Any]):
    """Gives what it is asked for: the sampler says all that there is to say."""

    def __getitem__(self, index: Any) -> Any:
        return index


def moved(view: View, device: torch.device) -> View:
    """The view on another device."""
    inputs = {name: tensor.to(device) for name, tensor in view.inputs.items()}
    return View(inputs, None if view.activation is None else view.activation.to(device))
