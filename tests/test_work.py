"""A guard against slowness that no clock is needed for: passes run, rows padded, bytes kept, examples trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headstart import places, registry, transfer
from headstart.backbones.base import Backbone
from headstart.engine import freeze
from headstart.engine import train as engine
from headstart.progress import Progress
from headstart.workshop import load_backbone
from tests.test_backbones import WORDS, save_tiny

N, N_TWICE = 200, 20  # texts, and how many of them stand in the table twice


@dataclass
class Work:
    """What a fit made its networks do."""

    rows: list[int] = field(default_factory=list)  # of each frozen pass over a batch
    tokens: int = 0  # padding counted
    real: int = 0
    steps: int = 0  # optimiser steps
    stages: list[int] = field(default_factory=list)  # how far each frozen pass went


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    found = Work()
    outputs, step = Backbone.outputs, engine.Adapting.training_step

    def counted(self: Backbone, inputs: Any, pooled: Any, cuts: Any) -> Any:
        mask = inputs["attention_mask"]
        found.rows.append(len(mask))
        found.tokens += mask.numel()
        found.real += int(mask.sum())
        found.stages.append(max([*cuts, *(stage + 1 for stage in pooled)]))
        return outputs(self, inputs, pooled, cuts)

    def stepped(self: Any, batch: Any, index: int) -> Any:
        found.steps += 1
        return step(self, batch, index)

    monkeypatch.setattr(Backbone, "outputs", counted)
    monkeypatch.setattr(engine.Adapting, "training_step", stepped)
    return found


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(save_tiny("bert", tmp_path / "model"))


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 20))) + f" {i}" for i in range(N)]
    labels = ["cat" if "cat" in text.split() else "none" for text in texts]
    splits = [("train", "val", "train", "test", "train")[i % 5] for i in range(N)]
    rows = pd.DataFrame({"text": texts, "label": labels, "split": splits})
    rows = pd.concat([rows, rows[rows["split"] == "test"].head(N_TWICE)])  # copies in test stay
    rows.to_csv(tmp_path / "table.csv", index=False)
    return str(tmp_path / "table.csv")


def test_a_probe_runs_every_distinct_text_once_and_keeps_one_vector_a_stage(tiny: str, table: str, work: Work) -> None:
    model = transfer.fit(table, backbone=tiny, strategy="probe", scratch=False)
    assert sum(work.rows) == N
    assert set(work.stages) == {model.plan.n_stages}
    assert work.tokens < 1.15 * work.real  # batches of like length: little is padding
    kept = sum(file.stat().st_size for file in places.features().rglob("stage_*.npy"))
    width = model.backbone.network.config.hidden_size
    assert kept < 1.1 * N * model.plan.n_stages * width * 4 + 4096
    before = len(work.rows)
    transfer.fit(table, backbone=tiny, strategy="probe", scratch=False)
    assert len(work.rows) == before  # a second fit runs nothing


def test_training_above_a_cut_runs_what_is_below_it_once(tiny: str, table: str, work: Work) -> None:
    """One pass for the profile, one to the cut for train and validation, one over test by the trained network."""
    plain = transfer.fit(table, backbone=tiny, strategy="partial", freeze=2, scratch=False).plan
    n = {split: N * share // 5 for split, share in (("train", 3), ("val", 1), ("test", 1))}
    below = [rows for rows, stage in zip(work.rows, work.stages, strict=True) if stage == 2]
    assert sum(below) == n["train"] + n["val"] + freeze.N_SIZED
    assert sum(work.rows) == N + sum(below) + n["test"]
    assert work.steps <= plain.settings["epochs"] * -(-n["train"] // plain.settings["batch_size"])
    values = sum(file.stat().st_size for file in places.features().rglob("values.npy"))
    opened = pd.read_csv(table).drop_duplicates("text")
    texts = opened[opened["split"] != "test"]["text"].tolist()
    network = load_backbone(tiny, registry.modality("text"), Progress())
    n_tokens = sum(network.lengths(texts))
    assert values <= n_tokens * network.network.config.hidden_size * 4 + 4096  # unpadded


def test_bfloat16_halves_what_a_cut_keeps(tiny: str, table: str) -> None:
    network = load_backbone(tiny, registry.modality("text"), Progress())
    inputs = network.collate(["a cat"])
    one, other = (net.activations(inputs, 2) for net in (network, network.cast("bfloat16")))
    assert other.nbytes * 2 == one.nbytes
