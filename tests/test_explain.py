"""What drove an answer, against closed forms and brute force; what is like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import headstart
from headstart import registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone, Located, Provenance, Stage
from headstart.deploy import explain
from headstart.deploy.model import Model
from headstart.progress import Progress
from headstart.tasks.base import LinearHead
from tests.conftest import call
from tests.test_backbones import IMAGE_CONFIGS, pictures, save_tiny


class Tiny(Backbone):
    """Two convolutions, mean-pooled."""

    modality = "image"

    def __init__(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3))
        provenance = Provenance(name="tiny", source="made here", licence="unknown", sha256="0", n_parameters=1)
        super().__init__(network, [Stage(name="a", modules=("0",)), Stage(name="b", modules=("2",))], provenance, {})

    @classmethod
    def load(cls, located: Located) -> Tiny:
        return cls()

    def lengths(self, items: Sequence[Any]) -> list[int]:
        return [1] * len(items)

    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        return {
            "input": torch.stack([torch.from_numpy(np.asarray(one).copy()).permute(2, 0, 1) / 255 for one in items])
        }

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return output.mean((2, 3))


def head(width: int, n_classes: int = 3) -> LinearHead:
    rng = np.random.default_rng(0)
    return LinearHead(
        rng.normal(size=(n_classes, width)).astype(np.float32), rng.normal(size=n_classes).astype(np.float32)
    )


def test_on_pooled_maps_it_is_the_class_activation_map() -> None:
    """Zhou et al.: the head's weights times the maps; its mean is the logit without the bias."""
    backbone, linear, picture = Tiny(), head(6), pictures()[0]
    inputs = backbone.collate([picture])
    with torch.no_grad():
        maps = backbone.network(**inputs)[0].numpy()
    weighted = np.einsum("c,chw->hw", linear.weight[1], maps)
    logit = linear.logits(backbone.pooled(inputs)[1].numpy())[0, 1]
    assert weighted.mean() == pytest.approx(logit - linear.bias[1], abs=1e-5)
    found = explain.activation_map(backbone, linear, [1], picture, k=1)
    assert found is not None
    assert np.allclose(found, (weighted + linear.bias[1]) / weighted.size, atol=1e-6)
    assert found.sum() == pytest.approx(logit, abs=1e-5)


def test_at_a_lower_grid_it_is_grad_cam() -> None:
    """The head reads both stages; the gradient by finite differences is that of the deeper one."""
    backbone, linear, picture = Tiny(), head(10), pictures()[0]
    found = explain.activation_map(backbone, linear, [0, 1], picture, k=2, spread=False)
    with torch.no_grad():
        maps = backbone.network(**backbone.collate([picture]))[0].numpy()
    expected = np.einsum("c,chw->hw", linear.weight[2, 4:], maps) / maps[0].size
    assert found is not None
    assert np.allclose(found, expected - expected.mean(), atol=1e-6)


@pytest.mark.parametrize("name", IMAGE_CONFIGS)
def test_every_family_of_pictures_has_a_map(name: str, tmp_path: Path) -> None:
    backbone = catalog.load(str(save_tiny(name, tmp_path / "model")), Progress())
    picture, last = pictures()[0], backbone.n_stages - 1
    pooled = backbone.pooled(backbone.collate([picture]))
    linear = head(pooled[-1].shape[1])
    found = explain.activation_map(backbone, linear, [last], picture, k=0)
    assert found is not None
    assert found.ndim == 2
    assert found.size > 1 or name in ("resnet", "mobilenet_v2")  # 32 pixels leave them one place at the end
    assert found.sum() == pytest.approx(linear.logits(pooled[-1].numpy())[0, 0], abs=1e-3)


def test_a_class_token_is_no_place() -> None:
    tokens = torch.arange(10.0).reshape(1, 10, 1)
    places = explain.grid(tokens)
    assert places is not None
    assert places[0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert explain.grid(torch.zeros(1, 7, 4)) is None
    assert explain.grid(torch.zeros(1, 7)) is None


def test_pieces_join_to_the_text_and_are_not_too_many() -> None:
    long = "  one two\n three " * 50
    for text in ("a b  c", long, "word"):
        pieces = explain.pieces_of(text, most=20)
        assert "".join(pieces) == text
        assert len(pieces) <= 20
    assert explain.pieces_of(" ") == []


def test_words_weigh_what_the_answer_loses_without_them(text_run: Path) -> None:
    model = headstart.load(text_run)
    text = "what a lovely film"
    found = explain.word_weights(model, text, k=1)
    assert [piece.strip() for piece, _ in found] == text.split()
    words = text.split()
    for i, (_, weight) in enumerate(found):
        without = " ".join(words[:i] + words[i + 1 :])
        both = model.predict_proba([text, without])[:, 1]
        assert weight == pytest.approx(both[0] - both[1], abs=1e-3)
    assert max(found, key=lambda pair: pair[1])[0].strip() == "lovely"


def test_a_picture_has_a_map_and_an_overlay(image_run: Path, pictures: Path) -> None:
    model = headstart.load(image_run)
    path = pictures / "striped" / "00.png"
    heat = explain.heat_map(model, model.modality.store(path, None), k=1)
    assert heat.max() == 1
    assert heat.min() >= 0
    shown = explain.overlay(Image.open(path).resize((900, 600)), heat)
    assert (shown.mode, shown.size) == ("RGB", (480, 320))


def test_the_overlay_leaves_cold_places_grey_and_colours_hot_ones() -> None:
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[:2] = 1
    shown = np.asarray(explain.overlay(Image.new("RGB", (40, 40), (10, 200, 30)), heat)).astype(int)
    assert np.ptp(shown[-1, 0]) == 0
    assert shown[0, 0, 0] - shown[0, 0, 2] > 100


def test_covering_patches_finds_the_one_that_decides(text_run: Path) -> None:
    """A model that sees only how bright the upper left eighth is; brute force is its closed form."""
    image = registry.modality("image")

    class Bright(Model):
        def scores(self, stored: Sequence[Any], digests: Sequence[str], progress: Progress | None = None) -> np.ndarray:
            corner = [np.asarray(image.open(one))[:8, :8].mean() / 255 for one in stored]
            return np.array([[1 - value, value] for value in corner])

    model = headstart.load(text_run)
    seen = Bright(
        task=model.task, modality=image, head=model.head, plan=model.plan, provenance=model.provenance,
        fingerprint="", evidence=model.evidence,
    )  # fmt: skip
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:8, :8] = 255
    found = explain.patch_weights(seen, image.store(pixels, None), k=1)
    assert found[0, 0] == pytest.approx(1 - np.floor(pixels.mean()) / 255, abs=1e-6)
    assert np.count_nonzero(found) == 1


def test_a_run_that_ships_the_classical_model_explains_itself(pictures: Path, tmp_path: Path) -> None:
    model = headstart.load(classical(pictures, tmp_path))
    item = model.modality.store(pictures / "striped" / "00.png", None)
    assert model.classical is not None
    assert explain.heat_map(model, item, k=1).shape == (8, 8)
    assert explain.most_similar(model, item, 3)[0].similarity == pytest.approx(1, abs=1e-3)


def classical(data: Path, folder: Path) -> Path:
    """The run of the plan that ships the classical model."""
    import json

    assert call("fit", data, "--strategy", "probe", "--no-scratch", "--out", folder / "first", "--quiet") == 0
    plan = json.loads((folder / "first" / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"ships": "classical"}))
    out = folder / "classical"
    assert call("fit", data, "--plan", folder / "plan.json", "--no-scratch", "--out", out, "--quiet") == 0
    return out


def test_what_was_learnt_from_is_most_like_itself(text_run: Path) -> None:
    model = headstart.load(text_run)
    kept = model.examples
    assert kept is not None
    nearest = explain.most_similar(model, kept.items[3], 2)
    assert nearest[0].item == kept.items[3]
    assert nearest[0].label == kept.labels[3]
