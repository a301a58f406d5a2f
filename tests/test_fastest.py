"""The frozen part in the fastest way that agrees: what is tried, when it is taken, and what a run remembers of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import headstart
from headstart import places, transfer
from headstart.backbones.base import Backbone
from headstart.engine import fastest, onnx, ways
from headstart.engine.features import array_of, from_array
from headstart.errors import BackboneError, MissingExtraError, PlanError
from headstart.evidence.plan import Plan
from headstart.modalities.image import Image
from headstart.modalities.text import Text
from headstart.progress import Progress
from headstart.workshop import load_backbone
from tests.test_backbones import WORDS, save_tiny

EXACT = fastest.Trial(way="float32", seconds=0.02, cosine=1.0)
AGREES = {"way": "bfloat16", "seconds": 0.01, "cosine": 0.9999, "deviation": 0.01}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def backbone(tiny: Path) -> Backbone:
    return load_backbone(str(tiny), Text(), Progress())


def texts(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 6)) + f" number {i}" for i in range(n)]


def answering(monkeypatch: pytest.MonkeyPatch, **found: Any) -> list[list[str]]:
    """Replace the trial by an answer; the ways that it was asked for."""
    asked: list[list[str]] = []

    def try_out(backbone: Backbone, modality: Any, items: list[Any], wanted: list[str]) -> fastest.Trials:
        assert fastest.TRIED <= len(items) <= fastest.MOST_TRIED
        asked.append(wanted)
        trials = (EXACT, *(fastest.Trial(**{**AGREES, **found, "way": way}) for way in wanted if way != EXACT.way))
        return {one.way: one for one in trials}

    monkeypatch.setattr(fastest, "try_out", try_out)
    return asked


def test_a_cast_backbone_has_its_own_features(backbone: Backbone) -> None:
    cast = backbone.cast("bfloat16")
    assert (cast.dtype, backbone.dtype) == ("bfloat16", "float32")
    assert cast.fingerprint != backbone.fingerprint
    assert cast.cast("bfloat16") is cast
    with pytest.raises(BackboneError, match="'int8' is not a type"):
        backbone.cast("int8")
    inputs = backbone.collate(texts(20))
    exact, other = backbone.pooled(inputs), cast.pooled(inputs)
    assert all(one.dtype == torch.float32 for one in other)
    cosine, deviation = fastest.agreement(exact, other)
    assert cosine > 0.999
    assert 0 < deviation < 0.1


def test_what_is_too_few_or_forbidden_is_not_tried(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch)
    assert fastest.fastest(backbone, Text(), texts(fastest.FEWEST - 1), Progress()) is backbone
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    assert fastest.fastest(backbone, Text(), texts(fastest.FEWEST), Progress()) is backbone
    assert asked == []
    monkeypatch.setenv("HEADSTART_PRECISION", "float8")
    with pytest.raises(PlanError, match="auto, float32, int8"):
        fastest.fastest(backbone, Text(), texts(1), Progress())


def test_what_was_found_is_told() -> None:
    assert fastest.Trial(**AGREES).beside(EXACT).startswith("bfloat16 is 2.0 times as fast and agrees (cosine at least")
    refused = fastest.Trial(**{**AGREES, "cosine": 0.98}).beside(EXACT)
    assert "bfloat16 does not agree (cosine at least 0.9800" in refused
    broken = fastest.Trial(way="compiled float32", problem="no compiler")
    assert broken.beside(EXACT) == "compiled float32 cannot be run (no compiler)"


@pytest.mark.parametrize("found", [{"seconds": 0.019}, {"cosine": 0.99}, {"deviation": 0.06}])
def test_what_is_no_faster_or_does_not_agree_is_not_taken(
    found: dict[str, float], backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    answering(monkeypatch, **found)
    assert fastest.fastest(backbone, Text(), texts(300), Progress()) is backbone


def test_a_trial_is_made_once_for_a_machine(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    asked = answering(monkeypatch)
    for _ in range(2):
        assert fastest.fastest(backbone, Text(), texts(300), Progress()).way == "bfloat16"
    assert asked == [["float32", "bfloat16"]]
    next(places.fastest().glob("*.json")).write_text("{")
    fastest.fastest(backbone, Text(), texts(300), Progress())
    assert len(asked) == 2


def test_what_is_slow_to_prepare_is_tried_where_there_is_much_to_run(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    monkeypatch.setattr(ways, "run_as", lambda backbone, way: backbone)
    asked = answering(monkeypatch)
    # 10 ms an item, of which a tenth may be saved; 8 s to export, 25 to compile
    for n in (7_000, 9_000, 26_000, 26_000):
        fastest.fastest(backbone, Text(), texts(10) * (n // 10), Progress())
    assert asked == [["float32", "bfloat16"], ["onnx float32"], ["compiled bfloat16"]]


def test_ways_are_run_and_measured(backbone: Backbone) -> None:
    found = fastest.try_out(backbone, Text(), texts(20), ["bfloat16"])
    assert list(found) == ["float32", "bfloat16"]
    assert found["float32"].seconds > 0
    assert found["bfloat16"].cosine > 0.999
    assert (found["bfloat16"].seconds > 0) == found["bfloat16"].agrees  # what does not agree is not timed


def test_a_way_that_fails_is_remembered_and_not_taken(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(backbone: Backbone, way: str) -> Backbone:
        raise OSError("no compiler found")

    monkeypatch.setattr(ways, "run_as", fail)
    found = fastest.try_out(backbone, Text(), texts(20), ["compiled float32"])
    assert found["compiled float32"].problem == "OSError: no compiler found"
    assert fastest.best(found).way == "float32"


def test_a_way_must_be_known(backbone: Backbone) -> None:
    for way in ("float16", "", "folded", "boiled float32"):
        with pytest.raises(PlanError, match="no way to run a backbone"):
            ways.run_as(backbone, way)
    assert ways.run_as(backbone, "float32") is backbone


def test_what_is_not_a_number_does_not_agree() -> None:
    one = torch.randn(5, 3)
    broken = one.clone()
    broken[2, 1] = float("nan")
    cosine, deviation = fastest.agreement([one], [broken])
    assert not fastest.Trial(**{**AGREES, "cosine": cosine, "deviation": deviation}).agrees


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_come_back_from_the_disk_as_they_were(dtype: torch.dtype) -> None:
    one = torch.randn(4, 3).to(dtype)
    kept = array_of(one)
    assert kept.nbytes == one.nbytes
    assert torch.equal(from_array(np.array(kept)), one.float())


def test_a_run_remembers_the_type_it_was_fitted_in(tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """New texts go through the network in the type in which the head was solved, on whatever machine."""
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    answering(monkeypatch)
    labels = ["cat" if "cat" in text.split() else "none" for text in texts(300)]
    pd.DataFrame({"text": texts(300), "label": labels}).to_csv(tmp_path / "cats.csv", index=False)
    for strategy in ("probe", "partial"):
        run = tmp_path / strategy
        transfer.fit(str(tmp_path / "cats.csv"), backbone=str(tiny), strategy=strategy, scratch=False, out=run)
        assert json.loads((run / "plan.json").read_text())["way"] == "bfloat16"
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    again = transfer.fit(str(tmp_path / "cats.csv"), plan=tmp_path / "probe")  # a plan is repeated in its own type
    assert again.plan.way == "bfloat16"
    before = again.plan.to_json() | {"dtype": "bfloat16"}
    del before["way"]
    assert Plan.from_json(before) == again.plan  # as plans were written at first
    saved = pd.read_parquet(tmp_path / "probe" / "predictions.parquet")
    loaded = headstart.load(tmp_path / "probe")
    np.testing.assert_allclose(loaded.predict_proba(saved["input"].tolist())[:, 0], saved["p(cat)"], atol=0.02)
    assert loaded.backbone.dtype == "bfloat16"
    assert headstart.load(tmp_path / "partial").backbone.dtype == "float32"


def test_onnx_runtime_gives_the_features_of_texts_of_any_length(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    other = ways.run_as(backbone, "onnx float32")
    assert other.fingerprint != backbone.fingerprint
    for some in (texts(5), texts(1), [f"{text} and more of it" for text in texts(9)]):
        inputs = backbone.collate(some)
        for one, two in zip(backbone.pooled(inputs), other.pooled(inputs), strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    torch.testing.assert_close(backbone.activations(inputs, 1), other.activations(inputs, 1), atol=1e-5, rtol=0)
    assert sorted(file.name[:9] for file in places.exports().rglob("*.onnx")) == ["cut-01-to", "pooled-04"]
    eight = ways.run_as(backbone, "onnx int8")
    cosine, deviation = fastest.agreement(backbone.pooled(inputs), eight.pooled(inputs))
    assert cosine > 0.99
    assert deviation > 0


def test_lanes_that_ask_at_once_export_once(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    exported: list[Path] = []
    export = onnx.export

    def counted(network: Any, inputs: Any, file: Path) -> None:
        exported.append(file)
        export(network, inputs, file)

    monkeypatch.setattr(onnx, "export", counted)
    other, inputs = ways.run_as(backbone, "onnx int8"), backbone.collate(texts(3))
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: other.pooled(inputs, 1), range(2))
    torch.testing.assert_close(one, two)
    assert len(exported) == 1


def test_onnx_runtime_gives_the_features_of_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    backbone = load_backbone(str(save_tiny("resnet", tmp_path / "resnet")), Image(), Progress())
    other = ways.run_as(backbone, "onnx float32")
    for n in (1, 3):
        inputs = {"pixel_values": torch.randn(n, 3, backbone.detail, backbone.detail)}
        for one, two in zip(backbone.pooled(inputs), other.pooled(inputs), strict=True):
            torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_8_bits_are_taken_where_they_are_asked_for_and_never_else(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    answering(monkeypatch, cosine=0.5)
    monkeypatch.setenv("HEADSTART_PRECISION", "int8")
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text))
    assert fastest.fastest(backbone, Text(), texts(40), Progress()).way == "onnx int8"
    assert "runs in onnx int8" in said[0]
    assert "does not agree" in said[0]
    answering(monkeypatch)
    fastest.fastest(backbone, Text(), texts(300), Progress())
    monkeypatch.setenv("HEADSTART_PRECISION", "auto")
    assert "int8" not in fastest.fastest(backbone, Text(), texts(300), Progress()).way


def test_8_bits_without_onnx_runtime_name_the_extra(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "can_export", lambda: False)
    with pytest.raises(MissingExtraError, match=r"headstart\[onnx\]"):
        ways.run_as(backbone, "onnx int8")


def test_a_compiled_backbone_gives_the_same_features(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Inductor, which takes long and needs a C++ compiler."""
    compiled: list[Any] = []

    def compile_eagerly(function: Any, dynamic: bool) -> Any:
        compiled.append(function)
        return plain(function, dynamic=dynamic, backend="eager")

    plain = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    other = ways.run_as(backbone, "compiled float32")
    assert len(compiled) == sum(len(stage.modules) for stage in backbone.stages)
    inputs = backbone.collate(texts(5))
    for one, two in zip(backbone.pooled(inputs), other.pooled(inputs), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
