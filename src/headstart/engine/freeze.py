"""Run the frozen part of a backbone: once over each distinct item, in `eval()`, batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headstart import places
from headstart.backbones.base import Backbone
from headstart.data.batch import batches
from headstart.engine.features import Features, FeatureStore
from headstart.errors import RunError
from headstart.modalities.base import Modality
from headstart.progress import Progress

SHARD_ITEMS = 1024  # a killed pass loses at most so many


def features(
    backbone: Backbone, modality: Modality, items: Sequence[Any], digests: Sequence[str], progress: Progress
) -> Features:
    """Pooled features of N stored items at every stage; only items that no earlier pass has seen are run."""
    store = FeatureStore(places.features() / backbone.fingerprint)
    found, missing = store.find(digests)
    if store.thrown_away:
        progress.say(
            f"{store.thrown_away} damaged pieces of the feature cache were thrown away and are computed again."
        )
    if not missing:
        return found
    store.check_writable()
    first_of = {digests[i]: i for i in reversed(missing)}  # identical items run once
    todo = sorted(first_of.values())
    kept_digests: list[str] = []
    kept: list[list[np.ndarray]] = []
    with progress.bar(len(todo), modality.noun[1]) as advance:
        for rows, stages in run(backbone, modality, [items[i] for i in todo]):
            kept_digests += [digests[todo[row]] for row in rows]
            kept.append(stages)
            if len(kept_digests) >= SHARD_ITEMS:
                store.add(kept_digests, _joined(kept))
                kept_digests, kept = [], []
            advance(len(rows))
        if kept:
            store.add(kept_digests, _joined(kept))
    found, missing = store.find(digests)
    if missing:
        raise RunError(f"Another process is clearing the feature cache {store.folder}. Run this again.")
    return found


def embed(
    backbone: Backbone, modality: Modality, items: Sequence[Any], n_frozen: int, progress: Progress
) -> np.ndarray:
    """Features (N, D) float32 of the last of the first `n_frozen` stages; nothing is kept on disk."""
    out: np.ndarray | None = None
    with progress.bar(len(items), modality.noun[1]) as advance:
        for rows, stages in run(backbone, modality, items, n_frozen):
            if out is None:
                out = np.empty((len(items), stages[-1].shape[1]), dtype=np.float32)
            out[rows] = stages[-1]
            advance(len(rows))
    return np.empty((0, 0), dtype=np.float32) if out is None else out


def run(
    backbone: Backbone, modality: Modality, items: Sequence[Any], n_frozen: int | None = None
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """(positions of the items, their features (n, D_s) at each stage), a batch at a time.

    Batches come in a seeded random order, so that the rate seen so far foretells the time left.
    """
    plan = batches(backbone.lengths(items), backbone.batch_budget)
    for number in np.random.default_rng(0).permutation(len(plan)):
        rows = plan[number]
        opened = [modality.open(items[row], backbone.detail) for row in rows]
        stages = backbone.pooled(backbone.collate(opened), n_frozen)
        yield rows, [stage.numpy(force=True) for stage in stages]


def _joined(kept: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(stage) for stage in zip(*kept, strict=True)]
