"""Utterances with their transcripts, as a recogniser learns from them: batches of cached outputs, or of sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from headstart.backbones.base import Backbone
from headstart.engine.batching import stacked
from headstart.engine.freeze import view_rng
from headstart.engine.maps import Maps
from headstart.modalities.base import Modality


@dataclass(frozen=True, kw_only=True)
class Sayings:
    """Sounds in one view: as they are, or at another speed and with parts left out."""

    stages: tuple[int, ...]  # whose outputs are kept
    modality: Modality
    view: int = 0

    @property
    def suffix(self) -> str:
        """What tells the folder of this view from those of others."""
        return f"-view-{self.view}" if self.view else ""

    def change(self, digest: str, opened: Any) -> Any:
        """The opened sound in this view: the same for ever."""
        return self.modality.augment(opened, view_rng(digest, self.view)) if self.view else opened

    def seen_as(self, view: int) -> Sayings:
        """The same in another view."""
        return replace(self, view=view)


class Letters(Protocol):
    """What transcripts are written in: characters, or a decoder's tokens."""

    def ids(self, text: str) -> list[int]:
        """The indices of a text."""


class Texts(NamedTuple):
    """What N utterances say."""

    ids: Tensor  # (N, L) int64: characters or tokens, padded with 0
    lengths: Tensor  # (N,) int64


class Spoken(NamedTuple):
    """A batch of N utterances. (A named tuple, since Lightning moves one to a device.)"""

    inputs: dict[str, Tensor]  # of the network
    maps: dict[int, Tensor] | None  # stage: its outputs (N, T, D), padded with zeros, where they are cached
    truth: Texts


@dataclass(frozen=True, kw_only=True)
class Utterances:
    """What a recogniser learns from: N sounds and their transcripts. Rows index items, digests, y and views alike."""

    backbone: Backbone
    modality: Modality
    alphabet: Letters
    items: Sequence[Any]
    digests: Sequence[str]
    y: np.ndarray  # (N,) of str
    train: np.ndarray  # rows that teach
    views: tuple[Maps, ...] = field(default=(), repr=False)  # cached, the plain first; empty: sounds are run
    draws: bool = False  # only views are random
    target: None = None  # no strategy for transcripts learns from another domain
    seed: int = 0
    head: Mapping[str, Tensor] | None = None  # a trained head to start from
    checkpoint: Path | None = None  # file to go on from, and to keep now and then

    def batch(self, rows: Sequence[int] | np.ndarray, draw: Sequence[np.random.Generator] | None = None) -> Spoken:
        """These utterances: as they are, or each in a view that its generator draws."""
        texts = [torch.tensor(self.alphabet.ids(self.y[row]), dtype=torch.int64) for row in rows]
        truth = Texts(pad_sequence(texts, batch_first=True), torch.tensor([len(text) for text in texts]))
        if self.views:
            views = [0] * len(rows) if draw is None else [int(one.integers(len(self.views))) for one in draw]
            return Spoken(*self._cached(rows, views), truth)
        opened = [self.modality.open(self.items[row], self.backbone.detail) for row in rows]
        if draw is not None:
            opened = [self.modality.augment(one, rng) for one, rng in zip(opened, draw, strict=True)]
        return Spoken(self.backbone.collate(opened), None, truth)

    def _cached(
        self, rows: Sequence[int] | np.ndarray, views: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
        pieces = [self.views[view].rows([row]) for view, row in zip(views, rows, strict=True)]
        each = {stage: [piece[stage][0] for piece in pieces] for stage in self.views[0].stages}
        kept = each[max(each)]
        opened = [
            self.modality.open(self.items[row], self.backbone.detail) if self.backbone.rereads else None for row in rows
        ]
        return self.backbone.placeholders(opened, kept), {stage: stacked(some) for stage, some in each.items()}
