"""Maps: whole outputs of several frozen stages of each picture, kept on disk for heads that read more than one.

A stage's maps are an ordinary store of activations (features.py), so that a strategy that freezes less, or a head that
reads other stages, runs nothing twice. They are kept in bfloat16, which halves what they take, unless
`HEADSTART_PRECISION=float32` asks for all digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart import places
from headstart.backbones.base import Backbone
from headstart.engine.fastest import allowed_precision
from headstart.engine.features import Activations, FeatureStore, array_of
from headstart.engine.freeze import MOST_OF_THE_DISK, Filling, Pieces, cut_folder, free_bytes, view_rng
from headstart.modalities.base import Modality
from headstart.modalities.frames import Frame
from headstart.progress import Progress


@dataclass(frozen=True)
class Maps:
    """Maps of N pictures, by stage."""

    stages: Mapping[int, Activations]

    def rows(self, rows: Sequence[int] | np.ndarray) -> dict[int, list[Tensor]]:
        """Each stage's maps (C, H, W), float32, of the pictures at `rows`."""
        return {stage: kept.rows(rows) for stage, kept in self.stages.items()}

    def among(self, rows: np.ndarray, n: int) -> Maps:
        """The same, told of all n pictures of which these are the ones at `rows`."""
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
        """What is kept, and the positions of pictures that some stage lacks."""
        found = {stage: store.find(digests) for stage, store in self.stores.items()}
        missing = sorted({position for _, lacking in found.values() for position in lacking})
        return Maps({s: Activations(one.shards, one.shard_of, one.row_of) for s, (one, _) in found.items()}), missing

    def check_writable(self) -> None:
        """RunError when nothing can be kept here."""
        for store in self.stores.values():
            store.check_writable()

    def add(self, names: Sequence[str], maps: Mapping[int, Sequence[np.ndarray]]) -> None:
        """Keep each stage's maps of the pictures that it lacks."""
        for stage, store in self.stores.items():
            _, lacking = store.find(names)
            if lacking:
                store.add_activations([names[i] for i in lacking], [maps[stage][i] for i in lacking])


def cached_maps(
    backbone: Backbone, modality: Modality, items: Sequence[Any], digests: Sequence[str], looks: Looks, say: Progress
) -> Maps:
    """Maps of N stored pictures; only pictures that no earlier pass has seen are run."""
    folder, kept = places.features() / backbone.fingerprint, kept_type()
    suffix = "" if kept == torch.float32 else "-bfloat16"
    view = f"{looks.view}-flipped" if looks.view and looks.upside_down else looks.view
    name = {stage: f"{cut_folder(stage + 1, 0)}{f'-frame-{view}' if view else ''}{suffix}" for stage in looks.stages}
    store = MapStore({stage: FeatureStore(folder / name[stage]) for stage in looks.stages})

    def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
        whole = whole_maps(backbone, inputs, looks.stages)
        return [array_of(whole[stage].to(kept)) for stage in looks.stages]

    def keep(pieces: Pieces, names: list[str]) -> None:
        store.add(names, {s: [one for _, batch in pieces for one in batch[i]] for i, s in enumerate(looks.stages)})

    def change(digest: str, opened: Any) -> Any:
        return looks.frame(digest).of(opened)

    return Filling(backbone, modality, items, digests, say, look=look, keep=keep, change=change).fill(store)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What is kept of each picture: maps of these stages, in one view of it."""

    stages: tuple[int, ...]
    view: int = 0  # 0 is the plain picture; each other number is another frame, the same for ever
    upside_down: bool = False  # whether frames may turn pictures upside down

    def frame(self, digest: str) -> Frame:
        """How the picture of this digest is looked at."""
        return Frame.of_view(self.view, view_rng(digest, self.view), self.upside_down)

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


def fit_on_disk(backbone: Backbone, stages: Sequence[int], n: int) -> bool:
    """Whether maps of these stages of n pictures, views counted, would leave the disk half of what is free."""
    sizes = [backbone.maps[stage] for stage in stages]
    size = sum(int(np.prod(one)) for one in sizes if one is not None) * torch.finfo(kept_type()).bits // 8
    return size * n < MOST_OF_THE_DISK * free_bytes()
