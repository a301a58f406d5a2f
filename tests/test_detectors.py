"""Ready-made detectors: stages, boxes, losses and resuming, against transformers' own answers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor

from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.backbones.changes import Changes
from headstart.backbones.detectors import Detectors, canvas_of
from headstart.backbones.queries import Queries
from headstart.backbones.resume import Resumable
from headstart.engine.heads import HeadLearner
from headstart.errors import BackboneError, PlanError
from headstart.progress import Progress
from headstart.strategies.frozen import Frozen
from headstart.tasks.boxes import Truth

NAMES = ["Person", "dog", "cat"]  # of the pretrained network
WANTED = ["screw", "CAT", "person", "nut"]  # of the user
CANVAS = (64, 96)

_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_DETR = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 7,
}
_HYBRID = _DETR | {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [8, 12, 16],
    "decoder_in_channels": [16, 16, 16],
    "encoder_layers": 1,
    "num_denoising": 6,
}


def _resnet(*features: str) -> Any:
    return transformers.ResNetConfig(**_RESNET, out_features=list(features))


def _rt_resnet() -> Any:
    return transformers.RTDetrResNetConfig(**_RESNET, out_features=["stage2", "stage3", "stage4"])


def _hgnet() -> Any:
    return transformers.HGNetV2Config(
        embedding_size=8,
        hidden_sizes=[8, 8, 12, 16],
        depths=[1, 1, 1, 1],
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 8, 12],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 8, 12, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[2, 2, 2, 2],
        out_features=["stage2", "stage3", "stage4"],
    )


def _deformable(**more: Any) -> Any:
    trunk = _resnet("stage2", "stage3", "stage4")
    settings = _DETR | {"d_model": 32, "num_feature_levels": 4, "with_box_refine": False} | more
    return transformers.DeformableDetrConfig(**settings, use_timm_backbone=False, backbone_config=trunk)


CONFIGS: dict[str, Callable[[], Any]] = {
    "detr": lambda: transformers.DetrConfig(**_DETR, use_timm_backbone=False, backbone_config=_resnet("stage4")),
    "detr, auxiliary": lambda: transformers.DetrConfig(
        **_DETR, auxiliary_loss=True, use_timm_backbone=False, backbone_config=_resnet("stage4")
    ),
    "conditional_detr": lambda: transformers.ConditionalDetrConfig(
        **_DETR, use_timm_backbone=False, backbone_config=_resnet("stage4")
    ),
    "deformable_detr": lambda: _deformable(),
    "deformable_detr, two stages": lambda: _deformable(
        two_stage=True, with_box_refine=True, two_stage_num_proposals=7, auxiliary_loss=True
    ),
    "rt_detr": lambda: transformers.RTDetrConfig(**_HYBRID, backbone_config=_rt_resnet()),
    "rt_detr_v2": lambda: transformers.RTDetrV2Config(**_HYBRID, backbone_config=_rt_resnet()),
    "d_fine": lambda: transformers.DFineConfig(**_HYBRID, depth_mult=0.34, backbone_config=_hgnet()),
    "yolos": lambda: transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[64, 64],
        num_detection_tokens=7,
    ),
}


DENOISED = ("rt_detr", "rt_detr_v2", "d_fine")
PROCESSED = {  # what transformers itself makes boxes with
    "detr": "DetrImageProcessorPil",
    "detr, auxiliary": "DetrImageProcessorPil",
    "conditional_detr": "ConditionalDetrImageProcessorPil",
    "deformable_detr": "DeformableDetrImageProcessorPil",
    "deformable_detr, two stages": "DeformableDetrImageProcessorPil",
    "rt_detr": "RTDetrImageProcessorPil",
    "rt_detr_v2": "RTDetrImageProcessorPil",
    "d_fine": "RTDetrImageProcessorPil",
    "yolos": "YolosImageProcessorPil",
}
SAVED = {"size": {"height": 64, "width": 96}, "do_normalize": False, "do_rescale": True, "resample": 2}


def save_tiny(name: str, folder: Path) -> Path:
    """A random detector in the hub's layout; its weights are large enough for errors to show."""
    torch.manual_seed(0)
    config = CONFIGS[name]()
    config.id2label = dict(enumerate(NAMES))
    network = transformers.AutoModelForObjectDetection.from_config(config)
    with torch.no_grad():
        for path, parameter in network.named_parameters():
            if not path.endswith(("reg_scale", "up")):
                parameter.add_(0.2 * torch.randn_like(parameter))
        for path, buffer in network.named_buffers():
            if path.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SAVED))
    return folder


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Detectors]:
    """The tiny detector of a name, each made once; not to be changed."""

    @cache
    def of(name: str) -> Detectors:
        found = catalog.load(str(save_tiny(name, tmp_path_factory.mktemp("detector"))), Progress())
        assert isinstance(found, Detectors)
        return found

    return of


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in [(64, 96), (50, 20), (40, 70)]]


def truths(*numbers: int) -> list[Truth]:
    """So many random objects in each picture, and one more that is ignored."""
    rng, found = torch.Generator().manual_seed(0), []
    for n in numbers:
        corners = torch.rand(n + 1, 2, 2, generator=rng).sort(dim=1).values.flatten(1)
        classes = torch.randint(len(WANTED), (n + 1,), generator=rng)
        found.append(Truth(corners, classes, torch.arange(n + 1) == n))
    return found


def labels_of(truth: list[Truth]) -> list[dict[str, Tensor]]:
    """As transformers takes them: centre and size, without what is ignored."""
    to_centres = transformers.image_transforms.corners_to_center_format
    return [{"class_labels": one.classes[:-1], "boxes": to_centres(one.boxes[:-1])} for one in truth]


def detector(backbone: Detectors, cut: int = 0, from_scratch: bool = False) -> Queries:
    upper = Resumable(backbone, cut, backbone.placeholders([None]), from_scratch)
    torch.manual_seed(1)
    return backbone.detector(upper, WANTED)


def reference(found: Queries) -> Any:
    """A network of transformers' own with four classes and the same weights."""
    config = copy.deepcopy(found.upper.network.config)
    network = transformers.AutoModelForObjectDetection.from_config(config)
    lacking = network.load_state_dict(found.upper.network.state_dict(), strict=False)
    assert not lacking.missing_keys
    return network.train(found.training)


def maps_of(backbone: Backbone, inputs: dict[str, Tensor], cut: int) -> dict[int, Tensor]:
    reads = backbone.read_above(cut)
    found = backbone.outputs(inputs, (), [stage + 1 for stage in reads])[1]
    return {stage: found[stage + 1].clone() for stage in reads}


@pytest.mark.parametrize("name", CONFIGS)
def test_stages_hold_every_weight_but_those_of_the_head(load: Callable[[str], Detectors], name: str) -> None:
    backbone = load(name)
    found = detector(backbone)
    free = {path for path, one in found.upper.network.named_parameters() if not one.requires_grad}
    fixed = {"model.decoder.reg_scale", "model.decoder.up", "model.level_embed"}  # parameters of no module of their own
    assert free <= fixed
    assert backbone.stages[0].name == "stem"
    assert len({stage.name for stage in backbone.stages}) == backbone.n_stages
    for stage in backbone.stages:
        assert all(backbone.network.get_submodule(path) is not None for path in (*stage.modules, *stage.shared))


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_boxes_are_those_that_transformers_makes(load: Callable[[str], Detectors], name: str) -> None:
    backbone = load(name)
    inputs, found = backbone.collate(pictures()), detector(backbone).eval()
    boxes, scores = found.candidates(found(inputs))
    output = reference(found)(**inputs)
    process = getattr(transformers, PROCESSED[name])()
    for picture, size in enumerate([(100, 200), (50, 50), (30, 70)]):
        own = process.post_process_object_detection(output, threshold=0.0, target_sizes=[size] * 3)[picture]
        scale = torch.tensor([size[1], size[0]] * 2)
        if process.__class__.__name__ in ("DetrImageProcessorPil", "YolosImageProcessorPil"):
            best, label = scores[picture].max(-1)
            place = torch.arange(len(best))
        else:
            best, order = scores[picture].flatten().topk(len(own["scores"]))
            place, label = order // len(WANTED), order % len(WANTED)
        torch.testing.assert_close(best, own["scores"])
        torch.testing.assert_close(boxes[picture][place] * scale, own["boxes"])
        assert torch.equal(label, own["labels"])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_is_the_networks_own(load: Callable[[str], Detectors], name: str, training: bool) -> None:
    backbone, truth = load(name), truths(2, 0, 3)
    inputs, found = backbone.collate(pictures()), detector(backbone).train(training)
    expected = reference(found)
    for path, module in expected.named_modules():
        module.training = found.upper.network.get_submodule(path).training  # batch norms stay as they are
    torch.manual_seed(2)
    loss = found.loss(found(inputs), truth)
    torch.manual_seed(2)
    own = expected(**inputs, labels=labels_of(truth)).loss
    torch.testing.assert_close(loss, own)
    loss.backward()
    shared = found.head.named_parameters(remove_duplicate=False)
    moved = {path.partition(".")[0] for path, one in shared if one.grad is not None}
    assert moved == set(found.head) or not training  # every layer of the head is taught


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_without_objects_teach_that_there_are_none(
    load: Callable[[str], Detectors], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.loss import loss_deformable_detr, loss_for_object_detection, loss_rt_detr

    backbone, truth = load(name), truths(0, 0, 0)
    inputs, found = backbone.collate(pictures()), detector(backbone).eval()
    loss = found.loss(found(inputs), truth)
    nothing = torch.zeros(0, dtype=torch.int64)
    for matcher in (
        loss_for_object_detection.HungarianMatcher,
        loss_deformable_detr.DeformableDetrHungarianMatcher,
        loss_rt_detr.RTDetrHungarianMatcher,
    ):  # they fail where nothing is to be paired
        monkeypatch.setattr(matcher, "forward", lambda self, outputs, targets: [(nothing, nothing)] * len(targets))
    own = reference(found)(**inputs, labels=labels_of(truth))
    expected = own.loss
    if name == "d_fine":  # its layers also teach each other, which needs no object
        expected = sum(one for key, one in own.loss_dict.items() if key.startswith("loss_vfl"))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_resumed_from_kept_maps_is_the_same_at_every_cut(load: Callable[[str], Detectors], name: str) -> None:
    backbone = load(name)
    inputs, blank = backbone.collate(pictures()), backbone.placeholders([None] * 3)
    for cut in range(1, backbone.n_stages + 1):
        found, maps = detector(backbone, cut).eval(), maps_of(backbone, inputs, cut)
        plain, resumed = found.candidates(found(inputs)), found.candidates(found(blank, maps))
        for one, other in zip(plain, resumed, strict=True):
            torch.testing.assert_close(other, one, atol=1e-5, rtol=0)
        for stage in maps.keys() - set(backbone.read_above(cut + 1) if cut < backbone.n_stages else ()):
            # read here for the last time: it is not kept in vain
            noise = maps | {stage: torch.randn_like(maps[stage])}
            assert not torch.equal(found.candidates(found(blank, noise))[0], resumed[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_from_kept_maps_are_the_same(load: Callable[[str], Detectors], name: str) -> None:
    backbone, truth = load(name), truths(2, 0, 3)
    inputs, blank = backbone.collate(pictures()), backbone.placeholders([None] * 3)
    for cut in (backbone.n_stages - 3, backbone.n_stages):
        found, maps = detector(backbone, cut).train(), maps_of(backbone, inputs, cut)
        gradients = []
        for seen, given in ((inputs, None), (blank, maps)):
            found.zero_grad()
            torch.manual_seed(3)  # of dropout and of noisy labels
            found.loss(found(seen, given), truth).backward()
            trained = {path: one for path, one in found.named_parameters() if one.requires_grad}
            gradients.append({path: one.grad.clone() for path, one in trained.items() if one.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        assert any(path.startswith("upper.network") for path in gradients[0])
        for path, one in gradients[0].items():
            torch.testing.assert_close(gradients[1][path], one, atol=1e-5, rtol=1e-4, msg=path)
        if cut == backbone.n_stages:
            assert not any(p.requires_grad for s in range(cut) for p in found.upper.stage_parameters(s))


@pytest.mark.parametrize("name", ["detr", "rt_detr", "d_fine", "yolos"])
def test_classes_of_the_same_name_start_as_they_were(load: Callable[[str], Detectors], name: str) -> None:
    backbone = load(name)
    found = detector(backbone)
    path = {"detr": "class_labels_classifier", "yolos": "class_labels_classifier.layers.2"}.get(
        name, "model.decoder.class_embed.1"
    )
    old, new = backbone.network.get_submodule(path), found.upper.network.get_submodule(path)
    assert torch.equal(new.weight[2], old.weight[0])  # person
    assert torch.equal(new.weight[1], old.weight[2])  # cat
    assert new.bias[1] == old.bias[2]
    assert not any(torch.equal(new.weight[0], row) for row in old.weight)
    if name in ("detr", "yolos"):
        assert torch.equal(new.weight[-1], old.weight[-1])  # no object
    else:
        noise, before = found.upper.network.model.denoising_class_embed, backbone.network.model.denoising_class_embed
        assert torch.equal(noise.weight[1], before.weight[2])
        assert noise.num_embeddings == len(WANTED) + 1
    assert backbone.network.config.num_labels == len(NAMES)  # the pretrained one stays as it is


@pytest.mark.parametrize("name", ["detr", "rt_detr", "d_fine", "yolos"])
def test_what_was_trained_from_scratch_is_kept_and_comes_back(load: Callable[[str], Detectors], name: str) -> None:
    backbone, truth = load(name), truths(2, 0, 3)
    inputs, found = backbone.collate(pictures()), detector(backbone, from_scratch=True).train()
    before = found.upper.network.state_dict()
    assert not torch.equal(before[next(iter(before))], backbone.network.state_dict()[next(iter(before))])
    optimiser = torch.optim.SGD(found.parameters(), lr=1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        found.loss(found(inputs), truth).backward()
        optimiser.step()
    kept = Changes({path: one.detach().clone() for path, one in found.upper.network.state_dict().items()})
    again = detector(backbone.adapted(kept)).eval()
    again.head.load_state_dict(found.head.state_dict())
    found.eval()
    with torch.no_grad():
        for one, other in zip(found.candidates(found(inputs)), again.candidates(again(inputs)), strict=True):
            torch.testing.assert_close(other, one)


def test_a_checkpoint_holds_what_is_trained_and_nothing_twice(load: Callable[[str], Detectors]) -> None:
    backbone = load("rt_detr")
    found = detector(backbone, backbone.n_stages)
    scenes: Any = SimpleNamespace(backbone=backbone, train=[0])
    module = HeadLearner(Frozen(), scenes, found.upper, found)
    module.configure_optimizers()
    kept = module.learnt()
    assert sum(one.numel() for one in kept.values()) == sum(one.numel() for one in found.head.parameters())
    before = {name: one.clone() for name, one in found.head.state_dict().items()}
    module.load_state_dict({name: one + 1 for name, one in kept.items()}, strict=False)
    for name, one in found.head.state_dict().items():
        torch.testing.assert_close(one, before[name] + 1)


def test_a_canvas_is_part_of_the_fingerprint(load: Callable[[str], Detectors]) -> None:
    backbone = load("rt_detr")
    wide = backbone.at((64, 128))
    assert wide.collate(pictures())["pixel_values"].shape == (3, 3, 64, 128)
    assert wide.fingerprint != backbone.fingerprint == backbone.at(CANVAS).fingerprint
    assert wide.maps[2] == (8, 8, 16)
    with pytest.raises(PlanError, match="multiples of 32"):
        backbone.at((60, 128))


@pytest.mark.parametrize(
    ("saved", "canvas"),
    [
        ({"size": {"height": 800, "width": 800}}, (800, 800)),
        ({"size": {"height": 480, "width": 1280}}, (256, 640)),
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, (384, 640)),
        ({"size": 800, "max_size": 1333}, (384, 640)),
        ({"size": 512}, (512, 512)),
        ({}, (640, 640)),
    ],
)
def test_the_canvas_is_what_the_preprocessor_comes_to(saved: dict[str, Any], canvas: tuple[int, int]) -> None:
    assert canvas_of(saved) == canvas


def test_pixels_are_those_of_transformers_own_processor(load: Callable[[str], Detectors]) -> None:
    own = transformers.RTDetrImageProcessorPil(size={"height": 64, "width": 96}, do_normalize=False)
    for picture in pictures():
        expected = own(picture, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(load("rt_detr").collate([picture])["pixel_values"], expected, atol=1 / 255, rtol=0)


def test_one_map_alone_does_where_nothing_else_is_read(load: Callable[[str], Detectors]) -> None:
    backbone = load("rt_detr")
    inputs = backbone.collate(pictures())
    assert torch.equal(backbone.activations(inputs, 2), maps_of(backbone, inputs, 2)[1])
    with pytest.raises(PlanError, match=r"freeze=4.*Freeze one of 1, 2, 3 of its 12 stages"):
        backbone.activations(inputs, 4)


def test_a_detector_that_needs_timm_is_told_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    saved = {"model_type": "detr", "architectures": ["DetrForObjectDetection"], "use_timm_backbone": True}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(BackboneError, match="without timm, such as 'facebook/detr-resnet-50@no_timm'"):
        catalog.load(str(tmp_path), Progress())


def test_an_unknown_detector_is_told_which_are_known(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    saved = {"model_type": "owlvit", "architectures": ["OwlViTForObjectDetection"]}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(BackboneError, match=r"of the type 'owlvit'.*rt_detr"):
        catalog.load(str(tmp_path), Progress())


def test_missing_weights_are_named(tmp_path: Path) -> None:
    save_tiny("yolos", tmp_path)
    network = transformers.YolosModel.from_pretrained(tmp_path)
    network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["YolosForObjectDetection"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"lack .* of the network's tensors"):
        catalog.load(str(tmp_path), Progress())


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_tiny("yolos", tmp_path)
    capfd.readouterr()
    catalog.load(str(tmp_path), Progress())
    assert capfd.readouterr() == ("", "")
