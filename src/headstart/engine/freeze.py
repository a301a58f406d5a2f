"""Run the frozen part of a backbone: once over each distinct item, in `eval()`, batches of similar length."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from headstart import places
from headstart.backbones.base import Backbone
from headstart.data.batch import batches
from headstart.engine.allocator import keep_memory
from headstart.engine.features import Activations, Features, FeatureStore, array_of
from headstart.engine.lanes import in_lanes
from headstart.errors import RunError
from headstart.modalities.base import Modality
from headstart.progress import Progress

Bar = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]
Look = Callable[[Backbone, dict[str, Any]], list[np.ndarray]]  # a batch's inputs -> what is kept of its items
Pieces = list[tuple[np.ndarray, list[np.ndarray]]]  # positions of the items of a batch, what is kept of it

Found = TypeVar("Found", covariant=True)


class Store(Protocol[Found]):
    """Where what a pass gives is kept."""

    @property
    def folder(self) -> Path:
        """Where it is."""

    @property
    def thrown_away(self) -> int:
        """Damaged shards met so far."""

    def find(self, digests: Sequence[str]) -> tuple[Found, list[int]]:
        """What is kept of the items, and the positions of those that are lacking."""

    def check_writable(self) -> None:
        """RunError when nothing can be kept here."""


SHARD_ITEMS, SHARD_S, SHARD_BYTES = 1024, 20.0, 256 << 20  # a killed pass loses at most so much
N_SIZED = 16  # items that are run to foretell what all will take on the disk
MOST_OF_THE_DISK = 0.5  # of what is free, that activations at one cut may take


def _unchanged(digest: str, opened: Any) -> Any:
    return opened


def features(
    backbone: Backbone,
    modality: Modality,
    items: Sequence[Any],
    digests: Sequence[str],
    progress: Progress,
    variant: int = 0,
) -> Features:
    """Pooled features of N stored items at every stage; only items that no earlier pass has seen are run.

    Variant 0 is the plain item; each other number is one of the modality's other forms of it.
    """
    folder = places.features() / backbone.fingerprint
    store = FeatureStore(folder / f"variant-{variant}" if variant else folder)

    def keep(pieces: Pieces, names: list[str]) -> None:
        store.add(names, [np.concatenate(stage) for stage in zip(*(stages for _, stages in pieces), strict=True)])

    def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
        return [stage.numpy(force=True) for stage in backbone.pooled(inputs)]

    def change(digest: str, opened: Any) -> Any:
        return modality.variant(opened, variant) if variant else opened

    return Filling(backbone, modality, items, digests, progress, look=look, keep=keep, change=change).fill(store)


def activations(
    backbone: Backbone,
    modality: Modality,
    items: Sequence[Any],
    digests: Sequence[str],
    cut: int,
    progress: Progress,
    view: int = 0,
) -> Activations:
    """Whole outputs of the stage below `cut` of N stored items; only items that no earlier pass has seen are run.

    View 0 is the plain item; each other number is a random view of it, the same for ever.
    """
    store = FeatureStore(places.features() / backbone.fingerprint / cut_folder(cut, view))

    def keep(pieces: Pieces, names: list[str]) -> None:
        store.add_activations(names, [one for _, batch in pieces for one in batch])

    def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
        return [array_of(one) for one in backbone.unpad(backbone.activations(inputs, cut), inputs)]

    def change(digest: str, opened: Any) -> Any:
        return modality.augment(opened, view_rng(digest, view)) if view else opened

    filling = Filling(backbone, modality, items, digests, progress, look=look, keep=keep, change=change)
    found = filling.fill(store)
    return Activations(found.shards, found.shard_of, found.row_of)


def cut_folder(cut: int, view: int) -> str:
    """Where the activations at a cut are kept, below the folder of the backbone's fingerprint."""
    return f"cut-{cut:02d}" + (f"-view-{view}" if view else "")


def view_rng(digest: str, view: int) -> np.random.Generator:
    """What decides how the item of this digest looks in a view: the same for ever."""
    return np.random.default_rng([view, int(digest[:15], 16)])


def fits_on_disk(backbone: Backbone, modality: Modality, items: Sequence[Any], cut: int) -> bool:
    """Whether the activations at `cut` of all items would leave the disk half of what is free; judged by a few."""
    some = items[:: max(1, len(items) // N_SIZED)][:N_SIZED]
    few = [modality.open(item, backbone.detail) for item in some]
    inputs = backbone.collate(few)
    size = np.mean([one.nbytes for one in backbone.unpad(backbone.activations(inputs, cut), inputs)])
    return bool(size * len(items) < MOST_OF_THE_DISK * free_bytes())


def free_bytes() -> int:
    """What is free on the disk that features are kept on."""
    folder = next(path for path in (places.features(), *places.features().parents) if path.exists())
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Filling:
    """A frozen pass over what a store lacks of N stored items; each distinct item is run once."""

    backbone: Backbone
    modality: Modality
    items: Sequence[Any]
    digests: Sequence[str]
    progress: Progress
    look: Look = field(kw_only=True)
    keep: Callable[[Pieces, list[str]], None] = field(kw_only=True)  # what was looked at, and the items' digests
    change: Callable[[str, Any], Any] = field(default=_unchanged, kw_only=True)  # (digest, opened) -> what is run

    def fill(self, store: Store[Found]) -> Found:
        """What the store holds of the items, after running the backbone over those that it lacks."""
        found, missing = store.find(self.digests)
        if store.thrown_away:
            self.progress.say(
                f"{store.thrown_away} damaged pieces of the feature cache were thrown away and are computed again."
            )
        if not missing:
            return found
        store.check_writable()
        self._run({self.digests[i] for i in missing})
        found, missing = store.find(self.digests)
        if missing:
            raise RunError(f"Another process is clearing the feature cache {store.folder}. Run this again.")
        return found

    def _run(self, lacking: set[str]) -> None:
        """Run the items with these digests, and keep what is looked at, a shard at a time."""
        first_of = {self.digests[i]: i for i in reversed(range(len(self.digests)))}  # identical items run once
        distinct = sorted(first_of.values())
        wanted = np.array([self.digests[i] in lacking for i in distinct])

        def change(position: int, opened: Any) -> Any:
            return self.change(self.digests[distinct[position]], opened)

        pieces: Pieces = []
        names: list[str] = []
        size, since = 0, time.monotonic()
        with self.progress.bar(len(lacking), self.modality.noun[1]) as advance:
            items = [self.items[i] for i in distinct]
            for rows, arrays in run(self.backbone, self.modality, items, self.look, wanted, change):
                pieces.append((rows, arrays))
                names += [self.digests[distinct[row]] for row in rows]
                size += sum(array.nbytes for array in arrays)
                if len(names) >= SHARD_ITEMS or size > SHARD_BYTES or time.monotonic() - since > SHARD_S:
                    self.keep(pieces, names)
                    pieces, names, size, since = [], [], 0, time.monotonic()
                advance(len(rows))
            if names:
                self.keep(pieces, names)


def embed(
    backbone: Backbone,
    modality: Modality,
    items: Sequence[Any],
    digests: Sequence[str],
    stages: Sequence[int],
    bar: Bar,
) -> np.ndarray:
    """Features (N, D) float32 of these stages side by side, for prediction.

    What the cache holds is read from it; the rest is run no further than needed, and not kept.
    """
    found, missing = FeatureStore(places.features() / backbone.fingerprint).find(digests)
    known = np.setdiff1d(np.arange(len(items)), missing)
    parts = [(known, side_by_side(found, stages, known))] if len(known) else []
    positions: dict[str, list[int]] = {}  # of identical items, which run once
    for position in missing:
        positions.setdefault(digests[position], []).append(position)
    alike = list(positions.values())

    def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
        pooled = backbone.pooled(inputs, max(stages) + 1)
        return [np.concatenate([pooled[stage].numpy(force=True) for stage in stages], axis=1)]

    with bar(len(missing), modality.noun[1]) as advance:
        for rows, (features,) in run(backbone, modality, [items[same[0]] for same in alike], look):
            n_alike = [len(alike[row]) for row in rows]
            parts.append((np.concatenate([alike[row] for row in rows]), np.repeat(features, n_alike, axis=0)))
            advance(sum(n_alike))
    out = np.empty((len(items), parts[0][1].shape[1] if parts else 0), dtype=np.float32)
    for rows, features in parts:
        out[rows] = features
    return out


def side_by_side(features: Features, stages: Sequence[int], rows: np.ndarray) -> np.ndarray:
    """(n, sum of widths) float32: these stages of the items at `rows`, next to each other."""
    columns = [features.stage(stage, rows) for stage in stages]
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def run(
    backbone: Backbone,
    modality: Modality,
    items: Sequence[Any],
    look: Look,
    wanted: np.ndarray | None = None,
    change: Callable[[int, Any], Any] = lambda position, opened: opened,
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """(positions of the items, what `look` makes of them), a batch at a time; only the `wanted` (N,) ones are run.

    Batches are those of all items, so that a pass that was killed goes on in the very batches it would have had: the
    padding of a batch shows in the last digit. They come in a seeded random order, so that the rate seen so far
    foretells the time left.
    """
    keep_memory()
    plan = plan_batches(backbone, [modality.outline(item) for item in items])
    order = np.random.default_rng(0).permutation(len(plan))
    tasks = [plan[number] if wanted is None else plan[number][wanted[plan[number]]] for number in order]

    def work(backbone: Backbone, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        opened = [change(int(row), modality.open(items[row], backbone.detail)) for row in rows]
        return rows, look(backbone, backbone.collate(opened))

    yield from in_lanes(backbone, work, [rows for rows in tasks if len(rows)])


def plan_batches(backbone: Backbone, items: Sequence[Any]) -> list[np.ndarray]:
    """Positions of the items (opened, or in outline) of each batch, those of like length together."""
    return batches(backbone.lengths(items), backbone.batch_budget) if items else []
