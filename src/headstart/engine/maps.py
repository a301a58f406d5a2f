"""Maps: whole outputs of several frozen stages of each item, kept on disk for heads that read more than one.

A stage's maps are an ordinary store of activations (features.py), so that a strategy that freezes less, or a head that
reads other stages, runs nothing twice. They are kept in bfloat16, which halves what they take, unless
`HEADSTART_PRECISION=float32` asks for all digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from headstart import places
from headstart.backbones.base import Backbone
from headstart.engine.fastest import allowed_precision
from headstart.engine.features import Activations, FeatureStore, array_of
from headstart.engine.freeze import MOST_OF_THE_DISK, N_SIZED, Filling, Pieces, cut_folder, free_bytes, view_rng
from headstart.modalities.base import Modality
from headstart.modalities.frames import Frame
from headstart.progress import Progress


@dataclass(frozen=True)
class Maps:
    """Maps of N items, by stage."""

    stages: Mapping[int, Activations]

    def rows(self, rows: Sequence[int] | np.ndarray) -> dict[int, list[Tensor]]:
        """Each stage's outputs (C, H, W) or (T, D), float32, of the items at `rows`."""
        return {stage: kept.rows(rows) for stage, kept in self.stages.items()}

    def among(self, rows: np.ndarray, n: int) -> Maps:
        """The same, told of all n items of which these are the ones at `rows`."""
        spread = {}
        for stage, kept in self.stages.items():
            shard_of, row_of = np.full(n, -1), np.full(n, -1)
            shard_of[rows], row_of[rows] = kept.shard_of, kept.row_of
            spread[stage] = Activations(kept.shards, shard_of, row_of)
        return Maps(spread)


@dataclass
class MapStore:
    """Stores of activations, one a stage, that are filled by one pass."""

    stores: Mapping[int, FeatureStore]

    @property
    def folder(self) -> Path:
        """Of one of them."""
        return next(iter(self.stores.values())).folder

    @property
    def thrown_away(self) -> int:
        """Damaged shards met so far."""
        return sum(store.thrown_away for store in self.stores.values())

    def find(self, digests: Sequence[str]) -> tuple[Maps, list[int]]:
        """What is kept, and the positions of items that some stage lacks."""
        found = {stage: store.find(digests) for stage, store in self.stores.items()}
        missing = sorted({position for _, lacking in found.values() for position in lacking})
        return Maps({s: Activations(one.shards, one.shard_of, one.row_of) for s, (one, _) in found.items()}), missing

    def check_writable(self) -> None:
        """RunError when nothing can be kept here."""
        for store in self.stores.values():
            store.check_writable()

    def add(self, names: Sequence[str], maps: Mapping[int, Sequence[np.ndarray]]) -> None:
        """Keep each stage's outputs of the items that it lacks."""
        for stage, store in self.stores.items():
            _, lacking = store.find(names)
            if lacking:
                store.add_activations([names[i] for i in lacking], [maps[stage][i] for i in lacking])


class Views(Protocol):
    """What is kept of each item: whole outputs of these stages, in one view of it."""

    @property
    def stages(self) -> tuple[int, ...]:
        """Which stages."""

    @property
    def suffix(self) -> str:
        """What tells the folder of this view from those of others; "" for the plain one."""

    def change(self, digest: str, opened: Any) -> Any:
        """The opened item of this digest as it is looked at in this view: the same for ever."""


def cached_maps(
    backbone: Backbone, modality: Modality, items: Sequence[Any], digests: Sequence[str], views: Views, say: Progress
) -> Maps:
    """Maps of N stored items; only items that no earlier pass has seen are run."""
    folder, kept = places.features() / backbone.fingerprint, kept_type()
    suffix = views.suffix + ("" if kept == torch.float32 else "-bfloat16")
    store = MapStore({stage: FeatureStore(folder / f"{cut_folder(stage + 1, 0)}{suffix}") for stage in views.stages})

    def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
        whole = whole_maps(backbone, inputs, views.stages)
        return [array_of(one.to(kept)) for stage in views.stages for one in backbone.unpad(whole[stage], inputs)]

    def keep(pieces: Pieces, names: list[str]) -> None:
        maps: dict[int, list[np.ndarray]] = {stage: [] for stage in views.stages}
        for rows, batch in pieces:  # stage after stage, each with one array an item
            for number, stage in enumerate(views.stages):
                maps[stage] += batch[number * len(rows) : (number + 1) * len(rows)]
        store.add(names, maps)

    return Filling(backbone, modality, items, digests, say, look=look, keep=keep, change=views.change).fill(store)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Pictures in a frame: the plain one, or one that turns and scales them."""

    stages: tuple[int, ...]
    view: int = 0  # 0 is the plain picture; each other number is another frame, the same for ever
    upside_down: bool = False  # whether frames may turn pictures upside down

    @property
    def suffix(self) -> str:
        """What tells the folder of this view from those of others."""
        turned = "-flipped" if self.upside_down else ""
        return f"-frame-{self.view}{turned}" if self.view else ""

    def frame(self, digest: str) -> Frame:
        """How the picture of this digest is looked at."""
        return Frame.of_view(self.view, view_rng(digest, self.view), self.upside_down)

    def change(self, digest: str, opened: Any) -> Any:
        """The opened picture in its frame."""
        return self.frame(digest).of(opened)

    def seen_as(self, view: int) -> Looks:
        """The same in another view."""
        return replace(self, view=view)


def whole_maps(backbone: Backbone, inputs: Mapping[str, Tensor], stages: Sequence[int]) -> dict[int, Tensor]:
    """Whole outputs (N, …) of these stages, from one pass by torch."""
    whole = backbone.outputs(inputs, (), [stage + 1 for stage in stages])[1]
    return {stage: whole[stage + 1] for stage in stages}


def kept_type() -> torch.dtype:
    """The type that maps are kept in."""
    return torch.float32 if allowed_precision() == "float32" else torch.bfloat16


def sounds_fit_on_disk(
    backbone: Backbone, modality: Modality, items: Sequence[Any], stages: Sequence[int], n_views: int
) -> bool:
    """Whether outputs of these stages in all views would leave the disk half of what is free; judged by a few items."""
    some = items[:: max(1, len(items) // N_SIZED)][:N_SIZED]
    inputs = backbone.collate([modality.open(item, backbone.detail) for item in some])
    whole = whole_maps(backbone, inputs, stages)
    size = sum(one.numel() for stage in stages for one in backbone.unpad(whole[stage], inputs)) / len(some)
    size *= torch.finfo(kept_type()).bits // 8
    return bool(size * len(items) * n_views < MOST_OF_THE_DISK * free_bytes())


def outputs_fit_on_disk(size: int) -> bool:
    """Whether so many bytes would leave the disk half of what is free."""
    return size < MOST_OF_THE_DISK * free_bytes()


def fit_on_disk(backbone: Backbone, stages: Sequence[int], n: int) -> bool:
    """Whether maps of these stages of n pictures, views counted, would leave the disk half of what is free."""
    sizes = [backbone.maps[stage] for stage in stages]
    size = sum(int(np.prod(one)) for one in sizes if one is not None) * torch.finfo(kept_type()).bits // 8
    return size * n < MOST_OF_THE_DISK * free_bytes()
