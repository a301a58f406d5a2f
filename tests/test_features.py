"""Invariant 2: the cache can only be right or absent. And: what is frozen is run once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headstart import places, registry
from headstart.backbones.base import Backbone, Provenance, Stage
from headstart.engine import freeze
from headstart.engine.features import SEAL, Activations, FeatureStore, Shard
from headstart.errors import RunError
from headstart.progress import Progress

DIGESTS = [f"{i:064x}" for i in range(6)]
STAGES = [np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(18, dtype=np.float32).reshape(6, 3)]


class Letters(Backbone):
    """A backbone of two stages that counts how many texts it has run."""

    modality = "text"

    def __init__(self, scale: float = 1.0, name: str = "letters") -> None:
        network = nn.Sequential(nn.Linear(26, 4), nn.Linear(4, 3))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(scale)
        stages = [Stage(name="one", modules=("0",)), Stage(name="two", modules=("1",))]
        provenance = Provenance(name=name, source="test", licence="none", sha256=f"{scale}", n_parameters=0)
        super().__init__(network, stages, provenance, {})
        self.n_run = 0

    @classmethod
    def load(cls, located: Any) -> Letters:
        return cls()

    def lengths(self, items: Sequence[str]) -> list[int]:
        return [len(item) for item in items]

    def collate(self, items: Sequence[str]) -> dict[str, Tensor]:
        self.n_run += len(items)
        counts = [[float(item.count(chr(97 + k))) for k in range(26)] for item in items]
        return {"input": torch.tensor(counts)}

    def pool(self, output: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return output


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))


def extract(backbone: Letters, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    modality = registry.modality("text")
    digests = [modality.examine(text).digest for text in texts]
    found = freeze.features(backbone, modality, texts, digests, Progress())
    every = np.arange(len(texts))
    return found.stage(0, every), found.stage(1, every)


def shards() -> list[Path]:
    return sorted(places.features().glob("*/shard-*"))


def test_rows_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "s")
    store.add(DIGESTS[:4], [stage[:4] for stage in STAGES])
    store.add(DIGESTS[4:], [stage[4:] for stage in STAGES])
    order = [5, 0, 3, 3, 4]
    for reopened in (store, FeatureStore(tmp_path / "s")):
        found, missing = reopened.find([DIGESTS[i] for i in order])
        assert missing == []
        for index, stage in enumerate(STAGES):
            assert (found.stage(index, np.arange(5)) == stage[order]).all()
        assert (found.stage(1, np.array([4, 1])) == STAGES[1][[4, 0]]).all()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "s")
    store.add(DIGESTS[:2], [stage[:2] for stage in STAGES])
    assert store.find([DIGESTS[1], DIGESTS[4], DIGESTS[0], DIGESTS[5]])[1] == [1, 3]


@pytest.mark.parametrize("file", ["digests.npy", "stage_00.npy", "stage_01.npy", SEAL])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_shard_is_never_read(tmp_path: Path, file: str, damage: str) -> None:
    FeatureStore(tmp_path / "s").add(DIGESTS, STAGES)
    victim = next((tmp_path / "s").glob("shard-*")) / file
    content = bytearray(victim.read_bytes())
    if damage == "delete":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    store = FeatureStore(tmp_path / "s")
    assert store.find(DIGESTS)[1] == list(range(6))
    assert store.thrown_away == 1
    assert not victim.parent.exists()


@pytest.mark.parametrize("file", ["digests.npy", "values.npy", "shapes.npy", SEAL])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damaged_activations_are_never_read(tmp_path: Path, file: str, damage: str) -> None:
    """Whole activations, of a length of their own each, come back as they were, or not at all."""
    rng = np.random.default_rng(0)
    kept = [rng.normal(size=(n, 3)).astype(np.float32) for n in (4, 1, 7, 2, 2, 5)]
    FeatureStore(tmp_path / "s").add_activations(DIGESTS, kept)
    found, missing = FeatureStore(tmp_path / "s").find(DIGESTS[::-1])
    assert missing == []
    rows = Activations(found.shards, found.shard_of, found.row_of).rows(np.arange(6))
    assert all((one == other).all() for one, other in zip(rows, kept[::-1], strict=True))
    victim = next((tmp_path / "s").glob("shard-*")) / file
    content = bytearray(victim.read_bytes())
    if damage == "delete":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    store = FeatureStore(tmp_path / "s")
    assert store.find(DIGESTS)[1] == list(range(6))
    assert store.thrown_away == 1
    assert not victim.parent.exists()


def test_an_unfinished_shard_is_not_there(tmp_path: Path) -> None:
    FeatureStore(tmp_path / "s").add(DIGESTS, STAGES)
    done = next((tmp_path / "s").glob("shard-*"))
    done.rename(done.with_name("making-1"))  # as if killed before the last rename
    assert FeatureStore(tmp_path / "s").find(DIGESTS)[1] == list(range(6))
    assert list((tmp_path / "s").iterdir())  # another process may still be at it
    os.utime(tmp_path / "s" / "making-1", (0, 0))
    FeatureStore(tmp_path / "s")
    assert not list((tmp_path / "s").iterdir())


def test_only_the_shards_in_use_are_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path / "s")
    for i in range(0, 6, 2):
        store.add(DIGESTS[i : i + 2], [stage[i : i + 2] for stage in STAGES])
    proved = []
    whole = Shard.is_whole
    monkeypatch.setattr(Shard, "is_whole", lambda shard: (proved.append(shard), whole(shard))[1])
    reopened = FeatureStore(tmp_path / "s")
    assert reopened.find([DIGESTS[3]])[1] == []
    assert len(proved) == 1
    reopened.find(DIGESTS)
    assert len(proved) == 3
    reopened.find(DIGESTS)
    assert len(proved) == 3


def test_an_empty_seal_proves_nothing(tmp_path: Path) -> None:
    FeatureStore(tmp_path / "s").add(DIGESTS, STAGES)
    (next((tmp_path / "s").glob("shard-*")) / SEAL).write_text(json.dumps({}))
    assert len(FeatureStore(tmp_path / "s").find(DIGESTS)[1]) == 6


def test_a_cache_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="HEADSTART_HOME"):
        FeatureStore(tmp_path / "file" / "s").add(DIGESTS, STAGES)


def test_a_second_pass_runs_nothing_and_gives_the_same() -> None:
    texts = ["a quick fox", "zebra", "a", "quiet bee", "zebra"]
    first, again = Letters(), Letters()
    features = extract(first, texts)
    assert first.n_run == 4  # the second zebra is the first one
    repeated = extract(again, texts)
    assert again.n_run == 0
    for one, other in zip(features, repeated, strict=True):
        assert (one == other).all()
    assert (features[0][1] == features[0][4]).all()


def test_only_new_items_are_run() -> None:
    extract(Letters(), ["one", "two"])
    backbone = Letters()
    extract(backbone, ["two", "three", "one", "four"])
    assert backbone.n_run == 2


def test_features_equal_a_plain_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze, "SHARD_ITEMS", 3)  # several shards
    texts = [("abcz" * (i % 5 + 1))[: i + 1] for i in range(12)]
    backbone = Letters(scale=0.5)
    one, two = extract(backbone, texts)
    with torch.inference_mode():
        expected = backbone.network[0](backbone.collate(texts)["input"])
        assert np.allclose(one, expected.numpy(), atol=1e-6)
        assert np.allclose(two, backbone.network[1](expected).numpy(), atol=1e-6)
    assert len(shards()) > 1


def test_other_weights_have_other_features() -> None:
    texts = ["one", "two"]
    extract(Letters(scale=1.0), texts)
    other = Letters(scale=2.0)
    extract(other, texts)
    assert other.n_run == 2


def test_a_flipped_byte_is_computed_again_with_the_same_result() -> None:
    texts = ["one", "two", "three"]
    before = extract(Letters(), texts)
    victim = shards()[0] / "stage_01.npy"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 64
    victim.write_bytes(content)
    backbone = Letters()
    after = extract(backbone, texts)
    assert backbone.n_run == 3
    assert (before[1] == after[1]).all()


def embed(backbone: Letters, texts: list[str], stages: Sequence[int]) -> np.ndarray:
    modality = registry.modality("text")
    digests = [modality.examine(text).digest for text in texts]
    return freeze.embed(backbone, modality, texts, digests, stages, Progress().bar)


def test_prediction_reads_what_the_cache_holds() -> None:
    known = extract(Letters(), ["one", "two"])
    backbone = Letters()
    features = embed(backbone, ["two", "three", "one"], [0])
    assert backbone.n_run == 1
    assert (features[[2, 0]] == known[0]).all()
    assert np.allclose(features[1], Letters().pooled(Letters().collate(["three"]))[0], atol=1e-6)
    assert embed(backbone, [], [0]).shape == (0, 0)


def test_several_stages_stand_side_by_side_from_the_cache_and_from_the_network() -> None:
    known = np.concatenate(extract(Letters(), ["one", "two"]), axis=1)
    backbone = Letters()
    features = embed(backbone, ["two", "three", "one"], [0, 1])
    assert backbone.n_run == 1
    assert (features[[2, 0]] == known).all()
    pooled = torch.cat(Letters().pooled(Letters().collate(["three"])), dim=1)
    assert np.allclose(features[1], pooled[0], atol=1e-6)


def test_a_pass_for_prediction_stops_at_the_cut_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["abc", "d"]
    backbone = Letters()
    assert embed(backbone, texts, [1]).shape == (2, 3)
    assert embed(backbone, texts, [0, 1]).shape == (2, 7)

    def refuse(*_: Any) -> None:
        raise AssertionError("the pass went on past the cut")

    monkeypatch.setattr(backbone.network[1], "forward", refuse)
    assert embed(backbone, texts, [0]).shape == (2, 4)
    assert shards() == []
