"""Training detectors: cached maps give the weights that pictures give, frames carry boxes along, locations learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageDraw

from headstart import registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.engine.detector import Detector, build, detect, levels_of, sized
from headstart.engine.heads import train_head
from headstart.engine.lesson import resumable
from headstart.engine.maps import Looks, cached_maps
from headstart.engine.scenes import Scenes
from headstart.engine.trials import Trainee
from headstart.errors import PlanError
from headstart.evidence.orientation import has_an_up
from headstart.modalities.frames import PLAIN, Frame
from headstart.progress import Progress
from headstart.strategies.base import Trained
from headstart.strategies.frozen import Frozen
from headstart.strategies.full import Full
from headstart.strategies.partial import Partial
from headstart.tasks.assign import Grid, Padded, assign, overlap
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Objects, Truth, overlaps
from headstart.tasks.detection import Detection
from headstart.tasks.pyramid import Levels

CANVAS, N, CLASSES = (64, 96), 12, ("disc", "square")


def train_detector(strategy: Trained, scenes: Scenes, levels: Levels, classes: tuple[str, ...]) -> Trainee:
    return train_head(strategy, scenes, lambda upper: build(upper, levels, classes))


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Red squares and blue discs on noise, and their boxes as `headstart.read` takes them."""
    rng = np.random.default_rng(seed)
    drawn = Image.fromarray(rng.integers(90, 140, (size[1], size[0], 3), dtype=np.uint8))
    pen, boxes = ImageDraw.Draw(drawn), []
    for place in range(int(rng.integers(1, 4))):
        side, left, top = int(rng.integers(14, 22)), int(rng.integers(0, 8)) + 30 * place, int(rng.integers(2, 38))
        name = CLASSES[int(rng.integers(2))]
        shape, colour = (pen.ellipse, (20, 20, 230)) if name == "disc" else (pen.rectangle, (230, 20, 20))
        shape((left, top, left + side, top + side), fill=colour)
        boxes.append({"name": name, "x": left, "y": top, "width": side, "height": side})
    return drawn, boxes


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A small ResNet with random weights whose strides are 4, 4, 8, 16 and 32, at a canvas that is no square."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"size": {"height": 64, "width": 64}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
    )
    return catalog.load(str(folder), Progress()).at(CANVAS)


@pytest.fixture(scope="module")
def scenes(backbone: Backbone) -> Scenes:
    modality = registry.modality("image")
    drawn = [picture(seed) for seed in range(N)]
    items = [modality.store(one, None) for one, _ in drawn]
    labels = [{"width": 96, "height": 64, "boxes": [{**box, "ignored": False} for box in boxes]} for _, boxes in drawn]
    return Scenes(
        backbone=backbone,
        modality=modality,
        items=items,
        digests=[modality.examine(item).digest for item in items],
        y=Detection(class_names=CLASSES).encode(labels),
        train=np.arange(N),
        looks=Looks(stages=()),
    )


def with_views(scenes: Scenes, strategy: Trained, read: tuple[int, ...], n_views: int) -> Scenes:
    cut = strategy.cut(scenes.backbone.n_stages)
    looks = Looks(stages=tuple(sorted({*(s for s in read if s < cut), cut - 1})), upside_down=True)
    views = [
        cached_maps(
            scenes.backbone, scenes.modality, scenes.items, scenes.digests, looks.seen_as(view), Progress()
        ).among(np.arange(N), N)
        for view in range(n_views)
    ]
    return replace(scenes, looks=looks, views=tuple(views))


@pytest.mark.parametrize("strategy", [Frozen(epochs=2, batch_size=4), Partial(freeze=3, epochs=2, batch_size=4)])
def test_cached_maps_give_the_same_weights_as_pictures(
    scenes: Scenes, strategy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 1, in float32."""
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    levels = levels_of(scenes.backbone, len(CLASSES))
    cached = train_detector(strategy, with_views(scenes, strategy, levels.stages, 1), levels, CLASSES)
    uncached = train_detector(strategy, scenes, levels, CLASSES)
    for name, one in cached.head.items():
        torch.testing.assert_close(one, uncached.head[name], rtol=1e-5, atol=1e-5)
    assert (cached.changes is None) == (strategy.cut(scenes.backbone.n_stages) == scenes.backbone.n_stages)
    for name, one in (cached.changes.tensors if cached.changes else {}).items():
        assert uncached.changes is not None
        torch.testing.assert_close(one, uncached.changes.tensors[name], rtol=1e-5, atol=1e-5)


def test_maps_are_kept_in_half_the_bytes_unless_all_digits_are_asked_for(
    scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, levels = Frozen(), levels_of(scenes.backbone, len(CLASSES))
    half = with_views(scenes, strategy, levels.stages, 1).views[0].rows([3])
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    whole = with_views(scenes, strategy, levels.stages, 1).views[0].rows([3])
    for stage, (one,) in half.items():
        torch.testing.assert_close(one, whole[stage][0].bfloat16().float())


def test_a_trained_detector_comes_back_and_finds_what_it_learnt(scenes: Scenes) -> None:
    levels = levels_of(scenes.backbone, len(CLASSES))
    strategy = Full(epochs=30, batch_size=4, learning_rate=5e-3, head_rate=1.0, stage_decay=1.0)
    trainee = train_detector(strategy, scenes, levels, CLASSES)
    kept = Detector(class_names=CLASSES, canvas=CANVAS, levels=levels, head=trainee.head, changes=trainee.changes)
    again = Detector.restore(kept.to_json(), kept.head, kept.changes)
    assert again.levels == levels
    found = []
    for one in (kept, again):
        assert one.changes is not None
        changed = scenes.backbone.adapted(one.changes)
        answers = detect(one.network(changed), changed, scenes.modality, scenes.items, Progress().bar)
        found.append(sized(answers, [objects.size for objects in scenes.y]))
    assert all((a.boxes == b.boxes).all() for a, b in zip(*found, strict=True))
    map50 = Detection(class_names=CLASSES).metrics()[1]
    assert map50.compute(scenes.y, found[0], np.ones((1, N)))[0] > 0.5
    guess = Detection(class_names=CLASSES).naive(scenes.y, N)
    assert map50.compute(scenes.y, guess, np.ones((1, N)))[0] < 0.4


def test_training_can_be_repeated_and_goes_on_from_a_head(scenes: Scenes) -> None:
    levels, strategy = levels_of(scenes.backbone, len(CLASSES)), Frozen(epochs=1, batch_size=4, augment=True)
    first, second = (train_detector(strategy, scenes, levels, CLASSES) for _ in range(2))
    assert all(torch.equal(one, second.head[name]) for name, one in first.head.items())
    onward = train_detector(replace(strategy, learning_rate=1e-9), replace(scenes, head=first.head), levels, CLASSES)
    for name, one in onward.head.items():
        torch.testing.assert_close(one, first.head[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_frames_move_boxes_as_they_move_pixels(seed: int) -> None:
    """A white box on black is found again in the frame by its pixels."""
    frame = Frame.drawn(np.random.default_rng(seed), upside_down=True)
    black = Image.new("RGB", (400, 300))
    ImageDraw.Draw(black).rectangle((150, 110, 239, 179), fill="white")
    moved, there = frame.boxes(np.array([[150 / 400, 110 / 300, 240 / 400, 180 / 300]]))
    white = np.asarray(frame.of(black))[..., 0] > 200
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    seen = np.array([[columns[0] / 400, rows[0] / 300, (columns[-1] + 1) / 400, (rows[-1] + 1) / 300]])
    assert there.all()
    assert overlaps(moved, seen)[0, 0] > 0.93


def test_views_turn_the_picture_and_are_the_same_for_ever() -> None:
    rng = np.random.default_rng(0)
    turned = [Frame.of_view(view, rng, upside_down=True) for view in range(4)]
    assert turned[0] == PLAIN
    assert {(one.mirrored, one.flipped) for one in turned} == {(a, b) for a in (False, True) for b in (False, True)}
    assert not any(Frame.of_view(view, rng, upside_down=False).flipped for view in range(8))
    looks = Looks(stages=(1,), view=7)
    assert looks.frame("ab" * 32) == looks.frame("ab" * 32) != looks.frame("cd" * 32)


def test_a_box_that_leaves_the_frame_is_no_longer_looked_for() -> None:
    _, there = Frame(left=0.5, width=1.0).boxes(np.array([[0.1, 0.1, 0.55, 0.2], [0.45, 0.1, 0.9, 0.2]]))
    assert there.tolist() == [False, True]


def test_locations_learn_the_smallest_box_that_they_are_in_the_middle_of() -> None:
    """By brute force over every location and box."""
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 50, (7, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(3, 60, (7, 2))], axis=1).clip(0, 64).astype(np.float32)
    grid = Grid.of([(8, 8), (4, 4)], (64, 64))
    truth = Truth(torch.from_numpy(boxes / 64), torch.arange(7), torch.zeros(7, dtype=torch.bool))
    found = assign(grid, Padded.of([truth], (64, 64)))
    learnt = dict(zip(found.place.tolist(), found.classes.tolist(), strict=True))
    for place, ((x, y), stride) in enumerate(zip(grid.centres.tolist(), grid.strides.tolist(), strict=True)):
        may = []
        for number, (left, top, right, bottom) in enumerate(boxes.tolist()):
            off = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
            within = left < x < right and top < y < bottom
            half = max(right - left, bottom - top) / 2
            level = half < 32 if stride == 8 else half >= 32
            if off < 1.5 * stride and (within or off <= stride / 2) and level:
                may.append(((right - left) * (bottom - top), number))
        assert learnt.get(place) == (min(may)[1] if may else None)


def test_every_tiny_box_is_learnt_by_some_location() -> None:
    grid = Grid.of([(8, 8), (4, 4)], (64, 64))
    for x in np.linspace(0, 61, 23):
        tiny = torch.tensor([[x, 31.0, x + 2, 33.0]], dtype=torch.float32) / 64
        truth = Truth(tiny, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool))
        assert len(assign(grid, Padded.of([truth], (64, 64))).place)


def test_ignored_boxes_neither_teach_nor_count(scenes: Scenes) -> None:
    network = build(resumable(Frozen(), scenes), levels_of(scenes.backbone, 2), CLASSES)
    raw = network(scenes.batch([0]).inputs)
    whole = Truth(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0]), torch.tensor([True]))
    nothing = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    assert network.loss(raw, [whole]).item() == 0
    assert network.loss(raw, [nothing]).item() > 0


def test_overlap_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 1, (20, 2))], axis=1)
    iou, generalised = overlap(torch.from_numpy(boxes)[:, None], torch.from_numpy(boxes)[None])
    np.testing.assert_allclose(iou, overlaps(boxes, boxes), atol=1e-6)
    assert (generalised <= iou + 1e-9).all()
    assert (generalised >= -1).all()


def test_up_is_told_from_down_only_where_there_is_one(backbone: Backbone) -> None:
    modality, rng = registry.modality("image"), np.random.default_rng(0)
    noise = [modality.store(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8), None) for _ in range(40)]
    sky = np.linspace(255, 0, 64)[:, None, None]
    photographs = [
        modality.store((0.7 * sky + 0.3 * rng.uniform(0, 255, (64, 96, 3))).astype(np.uint8), None) for _ in range(40)
    ]
    assert not has_an_up(backbone, modality, noise, seed=0).told
    assert has_an_up(backbone, modality, photographs, seed=0).told


def test_a_backbone_without_maps_is_refused(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": 32, "image_mean": [0,0,0], "image_std": [1,1,1]}')
    with pytest.raises(PlanError, match="tokens rather than maps"):
        catalog.load(str(tmp_path), Progress()).at((64, 64))


def test_objects_keep_their_form_in_arrays() -> None:
    one = Objects(np.zeros((2, 4), np.float32), np.zeros(2, int), np.zeros(2, bool), (4, 4))
    array = one_each([one, one])
    assert array.shape == (2,)
    assert array[np.array([1])][0] is one
