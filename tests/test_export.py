"""Exports answer as the model does, or are not kept; a bundle needs nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import headstart
from headstart import places, registry
from headstart.backbones.pixels import Pixels
from headstart.deploy.bundle import bundle
from headstart.deploy.export import export, parity
from headstart.deploy.export.onnx import answer
from headstart.deploy.export.pixels import Squash
from headstart.deploy.export.whole import Whole, exact
from headstart.deploy.model import Model
from headstart.errors import BackboneError, DataError, PlanError, RunError
from headstart.tasks.base import LinearHead
from tests.conftest import call

TEXTS = ["what a lovely film", "a dreadful, boring meal; never again!", "ok"]
ODD = [
    "",
    "   ",
    "Café naïve — “quoted” 10,000€ won't",
    "日本語のテキスト and English",
    "tab\tnew\nline\u200bzero\u00adsoft",
    "x" * 150,
    "word " * 700,
    "emoji 🙂 ʻokina ß İstanbul ﬁne",
    "[CLS]-like <tags> & a_b^c$d+e|f~g`h",
]


@pytest.fixture(scope="module")
def texts(text_run: Path) -> Model:
    return headstart.load(text_run)


@pytest.fixture(scope="module")
def parts(image_run: Path) -> Model:
    return headstart.load(image_run)


@pytest.fixture(scope="module")
def text_onnx(texts: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(texts, "onnx", tmp_path_factory.mktemp("exports") / "onnx").folder


@pytest.fixture(scope="module")
def image_onnx(parts: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(parts, "onnx", tmp_path_factory.mktemp("exports") / "onnx").folder


def test_text_onnx_answers_as_the_model(texts: Model, text_onnx: Path) -> None:
    assert np.allclose(answer(text_onnx, TEXTS), exact(texts).predict_proba(TEXTS), atol=1e-5)


def test_image_onnx_resizes_as_the_model(parts: Model, image_onnx: Path) -> None:
    rng = np.random.default_rng(1)
    rough = [Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)) for _ in range(3)]
    pictures = [one.resize(size, 3) for one, size in zip(rough, ((500, 375), (60, 90), (224, 224)), strict=True)]
    assert np.allclose(answer(image_onnx, pictures), exact(parts).predict_proba(pictures), atol=1e-3)


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("size", [(300, 300), (500, 333), (100, 80), (224, 1000), (224, 224), (112, 448), (3, 2)])
def test_pixels_are_resized_as_pillow_does(size: tuple[int, int], resample: int) -> None:
    pixels = Pixels(side=224, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), resample=resample)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    found = Squash(pixels.to_json())(torch.from_numpy(np.array(picture)[None]))
    assert torch.allclose(found, pixels.tensor([picture]), atol=1e-5)  # one level of 255 would be .01 and more


def test_onnx_takes_many_at_once(texts: Model, text_onnx: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(text_onnx / "model.onnx"))
    inputs = texts.backbone.collate(TEXTS)
    found = session.run(["scores"], {name: one.numpy() for name, one in inputs.items()})[0]
    assert np.allclose(found, exact(texts).predict_proba(TEXTS), atol=1e-5)


def test_the_script_needs_only_onnxruntime_and_numpy(text_onnx: Path) -> None:
    refuse = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'tokenizers', 'headstart', 'PIL', 'sklearn', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(text_onnx)!r}); sys.argv = ['predict.py', 'what a lovely film']\n"
        f"import runpy; runpy.run_path({str(text_onnx / 'predict.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", refuse], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'good': 0." in done.stdout or "'good': 1.0" in done.stdout


def test_tokens_in_plain_python_are_the_tokenizers(texts: Model, text_onnx: Path) -> None:
    import runpy

    token_ids = runpy.run_path(str(text_onnx / "tokens.py"))["token_ids"]
    for text in TEXTS + ODD:
        ids = texts.backbone.collate([text])["input_ids"][0].tolist()
        assert token_ids(text) == ids, text


def test_other_tokenizers_are_left_to_their_library(text_onnx: Path, tmp_path: Path) -> None:
    from headstart.deploy.export.tokens import write_tokens

    saved = json.loads((text_onnx / "tokenizer.json").read_text())
    saved["pre_tokenizer"] = {"type": "Whitespace"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    write_tokens(tmp_path)
    assert "from tokenizers import" in (tmp_path / "tokens.py").read_text()


@pytest.mark.parametrize("kind", ["torch", "hf"])
def test_other_formats_are_checked_too(texts: Model, tmp_path: Path, kind: str) -> None:
    found = export(texts, kind, tmp_path / "out")
    assert found.parity.n == 24
    assert found.parity.largest_difference < 1e-5


def test_the_program_loads_alone(parts: Model, tmp_path: Path) -> None:
    folder = export(parts, "torch", tmp_path / "out").folder
    pictures = [Image.new("RGB", (64, 64), color) for color in ("red", "white", "black")]
    loaded: Any = torch.export.load(folder / "model.pt2").module()
    pixels = torch.from_numpy(np.stack([np.asarray(one) for one in pictures]))
    found = loaded(pixels=pixels).detach().numpy()
    assert np.allclose(found, exact(parts).predict_proba(pictures), atol=1e-5)


@pytest.mark.parametrize("run", ["text_run", "image_run"])
def test_8_bits_state_their_cost(run: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = export(headstart.load(request.getfixturevalue(run)), "onnx", tmp_path / "small", int8=True)
    assert found.parity.lost is not None
    assert found.parity.lost.low <= found.parity.lost.value <= found.parity.lost.high
    assert "in 8 bits it loses" in (tmp_path / "small" / "README.md").read_text()


@pytest.mark.parametrize(
    "spoil", [lambda p: {**p, "std": [2 * one for one in p["std"]]}, lambda p: {**p, "mean": [0.0, 0.0, 0.0]}]
)
def test_a_broken_export_is_refused(parts: Model, tmp_path: Path, monkeypatch: Any, spoil: Callable[..., Any]) -> None:
    from headstart.deploy.export import whole

    right = whole.Squash
    monkeypatch.setattr(whole, "Squash", lambda preprocessing: right(spoil(preprocessing)))
    soft = replace(parts, head=LinearHead(parts.head.weight / 10, parts.head.bias / 10))  # these data leave no doubt
    with pytest.raises(RunError, match=r"was not kept: \d+ of 48 training examples .* differ .*\.png"):
        export(soft, "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_one_other_label_is_enough_to_refuse(texts: Model) -> None:
    plain = exact(texts)
    asked = parity.sample(texts, plain)
    even = np.full_like(asked.scores, 0.5)
    close = replace(asked, scores=even + np.array([1e-5, -1e-5]), as_run=even)
    flipped = close.scores.copy()
    flipped[3] = flipped[3][::-1]
    parity.check(plain, close, close.scores)
    with pytest.raises(RunError, match=r"1 of 24 .* another label"):
        parity.check(plain, close, flipped)


def test_8_bits_that_ruin_the_model_are_refused(texts: Model) -> None:
    plain = exact(texts)
    asked = parity.sample(texts, plain)
    with pytest.raises(RunError, match="Export without --int8"):
        parity.check_int8(plain, asked, asked.scores[:, ::-1])


def test_what_cannot_be_checked_is_not_exported(parts: Model, tmp_path: Path) -> None:
    lost = replace(parts, files={name: one for name, one in parts.files.items() if name != "examples.parquet"})
    with pytest.raises(DataError, match="--data"):
        export(lost, "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_labelled_data_may_take_the_place_of_the_runs_own(parts: Model, pictures: Path, tmp_path: Path) -> None:
    lost = replace(parts, files={})
    assert export(lost, "torch", tmp_path / "out", data=str(pictures)).parity.n == 60


def test_several_stages_are_read_in_order_of_depth(texts: Model) -> None:
    rng = np.random.default_rng(0)
    width = texts.head.weight.shape[1]
    head = LinearHead(rng.normal(size=(2, 2 * width)).astype(np.float32), np.zeros(2, dtype=np.float32))
    both = exact(replace(texts, stages=(5, 2), head=head))
    with torch.no_grad():
        found = Whole(both)(**both.backbone.collate(TEXTS)).numpy()
    assert np.allclose(found, both.predict_proba(TEXTS), atol=1e-5)


def test_a_trained_network_is_exported_whole(reviews: Path, tmp_path: Path) -> None:
    arguments = ("--strategy", "partial", "--freeze", "5", "--no-scratch", "--quiet")
    assert call("fit", reviews, *arguments, "--out", tmp_path / "run") == 0
    model = headstart.load(tmp_path / "run")
    assert model.changes is not None
    for kind in ("onnx", "torch", "hf"):
        assert export(model, kind, tmp_path / kind).parity.largest_difference < 1e-4


def test_hub_folders_of_pictures_use_transformers_own_class(tmp_path: Path, pictures: Path) -> None:
    import transformers

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    torch.manual_seed(0)
    transformers.ResNetModel(config).save_pretrained(tmp_path / "tiny")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "tiny")
    probe = ("--strategy", "probe", "--freeze", "3", "--no-scratch", "--quiet")
    assert call("fit", pictures, "--backbone", tmp_path / "tiny", *probe, "--out", tmp_path / "run") == 0
    found = export(headstart.load(tmp_path / "run"), "hf", tmp_path / "hf")
    assert found.parity.largest_difference < 1e-4
    assert json.loads((found.folder / "config.json").read_text())["architectures"] == ["ResNetForImageClassification"]


def test_what_transformers_does_not_know_is_said(parts: Model, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="--format onnx or torch"):
        export(parts, "hf", tmp_path / "out")


@pytest.mark.parametrize(
    ("wishes", "message"),
    [({"kind": "onx"}, "Did you mean 'onnx'"), ({"kind": "hf", "int8": True}, "8-bit weights are for --format onnx")],
)
def test_wrong_wishes_are_said(texts: Model, tmp_path: Path, wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        export(texts, out=tmp_path / "out", **wishes)


def test_nothing_is_overwritten(texts: Model, text_onnx: Path) -> None:
    before = sorted(path.name for path in text_onnx.iterdir())
    with pytest.raises(RunError, match="nothing was overwritten"):
        export(texts, "onnx", text_onnx)
    assert sorted(path.name for path in text_onnx.iterdir()) == before


@pytest.mark.parametrize("name", ["there", "there.zip"])
def test_a_bundle_needs_no_weights_cache(
    image_run: Path, parts: Model, pictures: Path, tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    asked = sorted(map(str, pictures.rglob("*.png")))[:3]
    expected = parts.predict_proba(asked)
    out = bundle(parts, tmp_path / name)
    if out.suffix == ".zip":
        shutil.unpack_archive(out, tmp_path)
        out = tmp_path / "there"
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    assert not places.weights().exists()
    moved = headstart.load(out)
    assert np.allclose(moved.predict_proba(asked), expected, atol=1e-6)
    assert moved.examples is not None
    assert all(item["bytes"] for item in moved.examples.items)


def test_a_damaged_bundle_is_said(parts: Model, tmp_path: Path, pictures: Path) -> None:
    out = bundle(parts, tmp_path / "there")
    weights = out / "backbone" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BackboneError, match="damaged or not complete"):
        headstart.load(out).predict([str(next(pictures.rglob("*.png")))])


def test_only_saved_models_are_bundled(texts: Model, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="not saved"):
        bundle(replace(texts, run=None), tmp_path / "there")


def test_the_verbs_say_where_and_how_well(text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("export", text_run, "--format", "torch", "--out", tmp_path / "out", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parity"]["n"] == 24
    assert Path(told["export"]) == tmp_path / "out"
    assert call("bundle", text_run, "--out", tmp_path / "run.zip", "--quiet") == 0
    assert capsys.readouterr().out == f"Bundle: {tmp_path / 'run.zip'}\n"
    assert call("export", text_run, "--format", "onx", "--out", tmp_path / "other") == 1
    assert "Did you mean 'onnx'" in capsys.readouterr().err


def test_a_hub_folder_says_how_it_is_loaded(texts: Model, tmp_path: Path) -> None:
    said = (export(texts, "hf", tmp_path / "hf").folder / "README.md").read_text()
    assert said.startswith("---\n")
    assert "library_name: transformers" in said
    assert "trust_remote_code=True" in said
    assert "headstart.load" not in said


def test_examples_that_taught_are_not_called_validation(parts: Model, tmp_path: Path) -> None:
    assert parts.examples is not None
    assert set(parts.examples.splits) == {"train"}  # so few labels that all of them teach
    assert "training examples (none were spared" in str(export(parts, "torch", tmp_path / "out").parity)


def test_small_numbers_are_compared_in_their_own_unit(texts: Model) -> None:
    task = registry.TASKS.get("regression").from_labels([0.01, 0.02, 0.03])
    number = replace(exact(texts), task=task)
    scores = np.linspace(0.01, 0.02, 24)[:, None]
    asked = replace(parity.sample(texts, exact(texts)), scores=scores, as_run=scores)
    parity.check(number, asked, scores + 1e-7)
    with pytest.raises(RunError, match="24 of 24"):
        parity.check(number, asked, scores + 5e-4)  # a sixth of their standard deviation
