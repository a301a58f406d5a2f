"""The classical detector finds what stands out from noise, the same for the same seed, and bears odd pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load, save
from skimage.feature import hog

from headstart.evidence.gradients import MOST, N_ORIENTATIONS, cells, described
from headstart.evidence.sliding import Sliding, fit_sliding
from headstart.evidence.windows import Shape, Template, moved, offsets
from headstart.modalities.image import Image as Pictures
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Objects
from headstart.tasks.detection import Detection

PICTURES = Pictures()
SIZE = (80, 60)


def scene(rng: np.random.Generator, kinds: tuple[int, ...] = (0, 1, 1), size: tuple[int, int] = SIZE) -> Any:
    """(stored picture, its Objects): bright squares (0) and discs (1), one in each of three columns, on noise."""
    pixels = rng.integers(60, 110, (size[1], size[0])).astype(np.uint8)
    boxes = []
    for column, _ in enumerate(kinds):
        side = int(rng.integers(14, 22))
        x, y = column * size[0] // 3 + int(rng.integers(0, 5)), int(rng.integers(0, size[1] - side))
        down, across = np.mgrid[:side, :side] - (side - 1) / 2
        inside = (down**2 + across**2 <= side**2 / 4) | (kinds[column] == 0)
        pixels[y : y + side, x : x + side][inside] = 200
        boxes.append([x, y, x + side, y + side])
    found = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    own = Objects(found, np.array(kinds, dtype=np.int64), np.zeros(len(kinds), bool), size)
    return PICTURES.store(np.stack([pixels] * 3, axis=2), None), own


def scenes(seed: int, n: int, kinds: tuple[int, ...] = (0, 1, 1)) -> tuple[list[Any], np.ndarray]:
    rng = np.random.default_rng(seed)
    made = [scene(rng, tuple(rng.permutation(kinds).tolist())) for _ in range(n)]
    return [item for item, _ in made], one_each([own for _, own in made])


def fit(train: Any, val: Any, seed: int = 0) -> Sliding:
    return fit_sliding(PICTURES, *train, 2, seed, *val)


def find(model: Sliding, items: list[Any], size: tuple[int, int] = SIZE) -> np.ndarray:
    return model.found(PICTURES, items, [size] * len(items))


@pytest.fixture(scope="module")
def fitted() -> Sliding:
    return fit(scenes(0, 14), scenes(1, 4))


def test_shapes_on_noise_are_found(fitted: Sliding) -> None:
    items, y = scenes(2, 8)
    task, plain = Detection(class_names=("square", "disc")), np.ones((1, len(y)))
    ap50 = next(metric for metric in task.metrics() if metric.name == "map50")
    found = find(fitted, items)
    assert ap50.compute(y, found, plain)[0] > 0.75
    assert ap50.compute(y, task.naive(scenes(0, 14)[1], len(y)), plain)[0] < 0.3
    for one in found:
        assert len(one) <= 100
        assert (np.diff(one.confidence) <= 0).all()
        assert one.confidence.min() >= 0
        assert one.confidence.max() <= 1
        assert (one.boxes >= 0).all()
        assert (one.boxes <= [*SIZE, *SIZE]).all()


def test_it_comes_back_from_its_arrays(fitted: Sliding) -> None:
    items, _ = scenes(3, 2)
    again = Sliding.restore(load(save(fitted.state())))
    for one, other in zip(find(fitted, items), find(again, items), strict=True):
        assert len(one)
        assert (one.boxes == other.boxes).all()
        assert (one.confidence == other.confidence).all()


def test_the_same_seed_finds_the_same() -> None:
    items, _ = scenes(2, 2)
    for one, other in zip(*(find(fit(scenes(0, 5), scenes(1, 2)), items) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.confidence, other.confidence)


def test_a_class_without_objects_is_never_found() -> None:
    model = fit(scenes(0, 4, (1, 1)), scenes(1, 2))
    found = find(model, scenes(2, 2)[0])
    assert all((one.classes == 1).all() and len(one) for one in found)


def test_one_picture_and_no_validation() -> None:
    items, y = scenes(0, 1)
    found = find(fit((items, y), ([], one_each([]))), items)
    assert len(found[0]) > 0


def test_no_objects_at_all() -> None:
    items, y = scenes(0, 2, ())
    found = find(fit((items, y), (items, y)), items)
    assert [len(one) for one in found] == [0, 0]


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (90, 2)])
def test_odd_pictures(fitted: Sliding, size: tuple[int, int]) -> None:
    item = PICTURES.store(np.full((size[1], size[0], 3), 90, np.uint8), None)
    whole = Objects(np.array([[0, 0, *size]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool), size)
    model = fit(([item], one_each([whole])), ([item], one_each([whole])))
    for found in (find(model, [item], size)[0], find(fitted, [item], size)[0]):
        assert np.isfinite(found.boxes).all()
        assert (found.boxes <= [*size, *size]).all()


def test_ignored_objects_do_not_teach() -> None:
    items, y = scenes(0, 2, (1,))
    ignored = one_each([Objects(one.boxes, one.classes, np.ones(1, bool), one.size) for one in y])
    assert not fit((items, ignored), (items, ignored)).templates


def test_histograms_are_those_of_scikit_image() -> None:
    """Cells of whole pixels, normalised in each of four blocks, against `hog`'s own blocks."""
    grey = np.random.default_rng(0).integers(0, 256, (48, 40)).astype(np.uint8)
    ours = described(cells(Image.fromarray(grey).convert("RGB"), [(6, 5)])[0])
    blocks = hog(grey / 255, pixels_per_cell=(8, 8), cells_per_block=(2, 2), block_norm="L2", feature_vector=False)
    for row in range(1, 5):
        for column in range(1, 4):
            each = [blocks[row - 1 + i, column - 1 + j, 1 - i, 1 - j] for i in (0, 1) for j in (0, 1)]
            each = [np.minimum(one, MOST) for one in each]
            np.testing.assert_allclose(ours[row, column, :N_ORIENTATIONS], np.sum(each, axis=0), atol=2e-3)
            np.testing.assert_allclose(ours[row, column, 9:13], [one.sum() for one in each], atol=2e-3)


def test_a_template_is_a_product_with_each_window() -> None:
    rng, shape = np.random.default_rng(0), Shape(20.0, 15.0, 4, 3)
    grid = shape.grid((80, 60))
    held = rng.random((*grid, 12)).astype(np.float16)
    template = Template(
        shape, np.array([0, 1]), rng.normal(size=(7, 4 * 3 * 16)).astype(np.float32), rng.normal(size=7)
    )
    numbers = described(held)
    brute = [
        template.weight @ numbers[i : i + 3, j : j + 4].ravel() + template.bias
        for i in range(grid[0] - 2)
        for j in range(grid[1] - 3)
    ]
    np.testing.assert_allclose(template.outputs(held), brute, rtol=1e-4, atol=1e-4)
    assert len(brute) == len(shape.boxes((80, 60)))


def test_offsets_move_a_box_to_another() -> None:
    corner = np.random.default_rng(0).uniform(0, 50, (9, 2))
    boxes, other = (
        np.concatenate([corner, corner + 20], axis=1),
        np.concatenate([corner + 3, corner + np.array([19, 30])], axis=1),
    )
    np.testing.assert_allclose(moved(boxes, offsets(boxes, other)), other)
