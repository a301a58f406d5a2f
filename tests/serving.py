"""Tiny models to serve, made without a fit: random networks, random heads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart import registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.backbones.changes import DOWN, UP, Changes
from headstart.deploy import artifact
from headstart.deploy.model import Model
from headstart.deploy.serve.shared import SharedPass
from headstart.evidence.baselines import fit_classical
from headstart.progress import Progress
from headstart.strategies.base import Part
from headstart.tasks.base import LinearHead
from tests import samples
from tests.test_backbones import WORDS, save_tiny

KINDS = {"classification": "texts", "multilabel": "multilabel", "regression": "regression"}


def backbone(family: str, folder: Path) -> Backbone:
    """A random network of three or four stages, in float32."""
    return catalog.load(str(save_tiny(family, folder / family)), Progress())


def texts(n: int, seed: int = 0) -> list[str]:
    """n distinct texts of one to nine words that the tiny tokenizer knows."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        found[" ".join(rng.choice(WORDS, rng.integers(1, 10)))] = None
    return list(found)


def model(on: Backbone, *, stages: Sequence[int] = (), changed: int | None = None, **more: Any) -> Model:
    """A model with a random head: a probe on some stages, or one whose stages from `changed` on are changed.

    `low_rank` makes the changes adapters; `task`, `way` and `seed` are what they say.
    """
    seed, task, low_rank = more.get("seed", 0), more.get("task", "classification"), more.get("low_rank", False)
    rng = np.random.default_rng(seed)
    stages = tuple(stages) or (on.n_stages - 1,)
    modality = registry.modality(on.modality)
    inputs = on.collate([modality.open(modality.store(modality.example(), None), on.detail)])
    pooled = on.pooled(inputs)
    width = sum(pooled[stage].shape[1] for stage in stages)
    record = samples.record(KINDS[task])
    bound = record.task
    n_outputs = max(1, len(bound.score_names))
    head = LinearHead(
        rng.normal(0, 0.3, (n_outputs, width)).astype(np.float32), rng.normal(0, 0.3, n_outputs).astype(np.float32)
    )
    return Model(
        task=bound,
        modality=modality,
        head=head,
        stages=stages,
        changes=None if changed is None else _changes(on, changed, low_rank, seed),
        plan=samples.plan(way=more.get("way", "float32"), cut=on.n_stages if changed is None else changed),
        provenance=on.provenance,
        fingerprint=on.fingerprint,
        evidence=record.evidence,
        files={"metrics.json": artifact.to_bytes(record.to_json())},
        _pretrained=on,
    )


def _changes(on: Backbone, cut: int, low_rank: bool, seed: int) -> Changes:
    generator = torch.Generator().manual_seed(seed)
    below = tuple(f"{path}." for stage in on.stages[cut:] for path in (*stage.modules, *stage.shared))
    found = {}
    for name, tensor in on.network.named_parameters():
        if name.startswith(below) and not low_rank:
            found[name] = tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
        elif name.startswith(below) and tensor.ndim == 2:
            found[name + DOWN] = 0.1 * torch.randn(2, tensor.shape[1], generator=generator)
            found[name + UP] = 0.1 * torch.randn(tensor.shape[0], 2, generator=generator)
    return Changes(found)


def classical(on: Backbone) -> Model:
    """A model that ships TF-IDF and logistic regression."""
    one, items = model(on), texts(60)
    y = np.arange(60) % len(one.task.score_names)
    part = Part(items, y)
    one.classical = fit_classical(one.modality, one.task, part, Part(items[:30], y[:30]), 0)
    return one


class Held:
    """Lanes that stop before each run until they are let go; `runs` has the number of items of each."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.began, self.go = threading.Semaphore(0), threading.Event()

    def run(self, n: int) -> None:
        self.runs.append(n)
        self.began.release()
        assert self.go.wait(30)


@contextmanager
def held_lanes() -> Iterator[Held]:
    """Every shared pass stops before it runs."""
    held, plain = Held(), SharedPass.run

    def run(self: SharedPass, lane: int, items: Sequence[Any], asked: Any) -> Any:
        held.run(len(items))
        return plain(self, lane, items, asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SharedPass, "run", run)
        try:
            yield held
        finally:
            held.go.set()
