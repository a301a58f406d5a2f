"""Pictures with their boxes, as a detector learns from them: batches of cached maps or of pixels, in moving frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from headstart.backbones.base import Backbone
from headstart.engine.batching import stacked
from headstart.engine.maps import Looks, Maps
from headstart.modalities.augment import colour_jitter
from headstart.modalities.base import Modality
from headstart.modalities.frames import PLAIN, Frame
from headstart.tasks.boxes import Objects, Truth


class Scene(NamedTuple):
    """A batch of N pictures. (A named tuple, since Lightning moves one to a device.)"""

    inputs: dict[str, Tensor]  # of the network
    maps: dict[int, Tensor] | None  # stage: its maps (N, C, H, W), where they are cached
    truth: list[Truth]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """What a detector learns from: N pictures and their boxes. Rows index items, digests, y and views alike."""

    backbone: Backbone
    modality: Modality
    items: Sequence[Any]
    digests: Sequence[str]
    y: np.ndarray  # (N,) of Objects
    train: np.ndarray  # rows that teach
    looks: Looks  # which maps are read, and how frames are drawn
    views: tuple[Maps, ...] = field(default=(), repr=False)  # cached maps, the plain first; empty: pictures are run
    draws: bool = False  # only views are random
    target: None = None  # no strategy for boxes learns from another domain
    seed: int = 0
    head: Mapping[str, Tensor] | None = None  # a trained head to start from
    checkpoint: Path | None = None  # file to go on from, and to keep now and then

    def batch(self, rows: Sequence[int] | np.ndarray, draw: Sequence[np.random.Generator] | None = None) -> Scene:
        """These pictures: plain ones, or each in a view or a frame that its generator draws."""
        generators: Sequence[np.random.Generator | None] = draw or [None] * len(rows)
        if self.views:
            return self._cached(rows, [0 if one is None else int(one.integers(len(self.views))) for one in generators])
        frames = [PLAIN if one is None else Frame.drawn(one, self.looks.upside_down) for one in generators]
        pictures = [self.modality.open(self.items[row], self.backbone.detail) for row in rows]
        seen = [frame.of(picture) for frame, picture in zip(frames, pictures, strict=True)]
        seen = [one if rng is None else colour_jitter(one, rng) for one, rng in zip(seen, generators, strict=True)]
        truth = [truth_of(self.y[row], frame) for row, frame in zip(rows, frames, strict=True)]
        return Scene(self.backbone.collate(seen), None, truth)

    def _cached(self, rows: Sequence[int] | np.ndarray, views: Sequence[int]) -> Scene:
        pieces = [self.views[view].rows([row]) for view, row in zip(views, rows, strict=True)]
        maps = {stage: stacked([piece[stage][0] for piece in pieces]) for stage in self.views[0].stages}
        frames = [self.looks.seen_as(view).frame(self.digests[row]) for view, row in zip(views, rows, strict=True)]
        truth = [truth_of(self.y[row], frame) for row, frame in zip(rows, frames, strict=True)]
        return Scene(self.backbone.placeholders(list(rows)), maps, truth)


def truth_of(objects: Objects, frame: Frame) -> Truth:
    """The boxes of a picture as they lie in a frame."""
    boxes, there = frame.boxes(objects.boxes / np.array(objects.size * 2, dtype=np.float32))
    kept = (boxes[there], objects.classes[there], objects.ignored[there])
    return Truth(*(torch.from_numpy(np.ascontiguousarray(one)) for one in kept))
