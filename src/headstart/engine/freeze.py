"""Run the frozen part of a backbone: once over each distinct item, in `eval()`, batches of similar length."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from headstart import places
from headstart.backbones.base import Backbone
from headstart.data.batch import batches
from headstart.engine.features import Features, FeatureStore
from headstart.errors import RunError
from headstart.modalities.base import Modality
from headstart.progress import Progress

Bar = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]

SHARD_ITEMS, SHARD_S = 1024, 20.0  # a killed pass loses at most so many items, or so many seconds


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
    since = time.monotonic()
    with progress.bar(len(todo), modality.noun[1]) as advance:
        for rows, stages in run(backbone, modality, [items[i] for i in todo]):
            kept_digests += [digests[todo[row]] for row in rows]
            kept.append(stages)
            if len(kept_digests) >= SHARD_ITEMS or time.monotonic() - since > SHARD_S:
                store.add(kept_digests, _joined(kept))
                kept_digests, kept, since = [], [], time.monotonic()
            advance(len(rows))
        if kept:
            store.add(kept_digests, _joined(kept))
    found, missing = store.find(digests)
    if missing:
        raise RunError(f"Another process is clearing the feature cache {store.folder}. Run this again.")
    return found


def embed(
    backbone: Backbone, modality: Modality, items: Sequence[Any], digests: Sequence[str], n_frozen: int, bar: Bar
) -> np.ndarray:
    """Features (N, D) float32 of the last of the first `n_frozen` stages, for prediction.

    What the cache holds is read from it; the rest is run no further than needed, and not kept.
    """
    found, missing = FeatureStore(places.features() / backbone.fingerprint).find(digests)
    known = np.setdiff1d(np.arange(len(items)), missing)
    parts = [(known, found.stage(n_frozen - 1, known))] if len(known) else []
    with bar(len(missing), modality.noun[1]) as advance:
        for rows, stages in run(backbone, modality, [items[i] for i in missing], n_frozen):
            parts.append((np.asarray(missing)[rows], stages[-1]))
            advance(len(rows))
    out = np.empty((len(items), parts[0][1].shape[1] if parts else 0), dtype=np.float32)
    for rows, features in parts:
        out[rows] = features
    return out


def run(
    backbone: Backbone, modality: Modality, items: Sequence[Any], n_frozen: int | None = None
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """(positions of the items, their features (n, D_s) at each stage), a batch at a time.

    Batches come in a seeded random order, so that the rate seen so far foretells the time left.
    """
    plan = batches(backbone.lengths(items), backbone.batch_budget) if items else []
    for number in np.random.default_rng(0).permutation(len(plan)):
        rows = plan[number]
        opened = [modality.open(items[row], backbone.detail) for row in rows]
        stages = backbone.pooled(backbone.collate(opened), n_frozen)
        yield rows, [stage.numpy(force=True) for stage in stages]


def _joined(kept: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(stage) for stage in zip(*kept, strict=True)]
