"""Recordings of any length, heard in flat memory: cut at pauses, run in batches, put together again.

A recording that is no longer than an example may be is heard whole, as those were that the model was measured on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from headstart import registry
from headstart.backbones.base import Backbone
from headstart.engine.freeze import Bar, plan_batches
from headstart.engine.lanes import in_lanes
from headstart.engine.maps import whole_maps
from headstart.engine.recognizer import Hears, Reads
from headstart.modalities.files import file_of
from headstart.modalities.pauses import pieces
from headstart.modalities.waves import LONGEST_S, RATE, stream
from headstart.tasks.base import one_each
from headstart.tasks.heard import Heard, Word

GROUP_S = 240.0  # of sound that is in memory together


class Ear(NamedTuple):
    """A recogniser with its network."""

    recognizer: Reads
    network: Hears


class Part(NamedTuple):
    """What is run at once of a recording."""

    item: int  # position of the recording
    start_s: float
    samples: np.ndarray  # (n,) at RATE


def parts(items: Iterable[Any]) -> Iterator[Part]:
    """Stored sounds in parts, in order, one recording after another."""
    audio = registry.modality("audio")
    for position, item in enumerate(items):
        if (audio.duration(item) or 0.0) <= LONGEST_S:
            yield Part(position, 0.0, audio.open(item, round(LONGEST_S * RATE)))
        else:
            for start, samples in pieces(stream(file_of(item))):
                yield Part(position, start / RATE, samples)


def hear(ears: Sequence[Ear], backbone: Backbone, items: Sequence[Any], bar: Bar, in_turn: bool = False) -> np.ndarray:
    """What each recogniser on a backbone hears in N stored sounds, (recognisers, N) of Heard.

    `in_turn` runs batches one after another, for a thread that is itself one of several lanes.
    """
    found: list[list[list[Word]]] = [[[] for _ in items] for _ in ears]
    with bar(len(items), "sounds") as advance:
        n_done = 0
        for group in groups(parts(items), GROUP_S):
            for part, each in zip(group, _heard(ears, backbone, group, in_turn), strict=True):
                for words, heard in zip(found, each, strict=True):
                    words[part.item] += [word.later(part.start_s) for word in heard.words]
            advance(group[-1].item - n_done)
            n_done = group[-1].item
        advance(len(items) - n_done)
    return np.stack([one_each([Heard.of(tuple(one)) for one in words]) for words in found])


def groups(some: Iterable[Part], seconds: float) -> Iterator[list[Part]]:
    """Consecutive parts, so many that they last that long together."""
    group: list[Part] = []
    n_samples = 0
    for part in some:
        group.append(part)
        n_samples += len(part.samples)
        if n_samples >= seconds * RATE:
            yield group
            group, n_samples = [], 0
    if group:
        yield group


def _heard(ears: Sequence[Ear], backbone: Backbone, group: Sequence[Part], in_turn: bool) -> list[list[Heard]]:
    """What each recogniser hears in each part."""
    stages = sorted({stage for ear in ears for stage in ear.network.stages})

    @torch.inference_mode()
    def work(backbone: Backbone, rows: np.ndarray) -> tuple[np.ndarray, list[list[Heard]]]:
        inputs = backbone.collate([group[row].samples for row in rows])
        whole = whole_maps(backbone, inputs, stages)
        some = [group[row] for row in rows]
        return rows, [_read(ear, ear.network.hears(backbone, inputs, whole), some) for ear in ears]

    found: list[list[Heard]] = [[] for _ in group]
    plan = plan_batches(backbone, [part.samples for part in group])
    for rows, heard in (work(backbone, rows) for rows in plan) if in_turn else in_lanes(backbone, work, plan):
        for row, each in zip(rows, zip(*heard, strict=True), strict=True):
            found[row] = list(each)
    return found


def _read(ear: Ear, found: Sequence[np.ndarray], batch: Sequence[Part]) -> list[Heard]:
    """What a network says of a batch as what is heard in each part."""
    said = [ear.network.said(one, len(part.samples) / RATE) for one, part in zip(found, batch, strict=True)]
    return list(ear.recognizer.read(said))
