"""Augmentation: decided by its generator alone, mild, and each part does what its name says."""

import numpy as np
import pytest
from PIL import Image as Pillow

from headstart import registry
from headstart.data.stretches import Stretch
from headstart.modalities import augment

RNG = np.random.default_rng(0)
NOISE = RNG.integers(60, 200, (8, 12, 3), dtype=np.uint8)  # not of full contrast, smooth once enlarged
PHOTO = Pillow.fromarray(NOISE).resize((96, 64), Pillow.Resampling.BICUBIC)
SAMPLES = {
    "audio": np.sin(np.arange(8000) / 6).astype(np.float32),
    "image": PHOTO,
    "text": "a good film",
    "series": Stretch(np.arange(9.0), 7),
    "tabular": {"age": 4, "kind": "a"},
}  # opened; a new modality adds its line here


class Fixed:
    """A generator whose uniform draws lie at one share of their range."""

    def __init__(self, share):
        self.share = share

    def uniform(self, low, high, size=None):
        value = low + self.share * (high - low)
        return value if size is None else np.full(size, value)

    def integers(self, low, high, endpoint):
        assert endpoint
        return low + round(self.share * (high - low))


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("name", registry.MODALITIES.names())
def test_the_generator_alone_decides(name):
    modality, item = registry.modality(name), SAMPLES[name]
    before = np.array(item)
    first, again, other = (modality.augment(item, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert same(first, again)
    assert same(first, other) != modality.augments
    assert same(first, item) != modality.augments
    assert same(item, before)  # never in place


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (33, 7), (1, 1), (1, 300)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_stay_rgb_of_their_size(size, mode):
    rng = np.random.default_rng(0)
    for _ in range(40):
        found = registry.modality("image").augment(PHOTO.resize(size).convert(mode), rng)
        assert (found.mode, found.size) == ("RGB", size)


def test_what_is_shown_is_still_shown():
    """A changed copy is nearer to its own original than to any other picture, nearly always."""
    side = np.arange(64) - 31.5  # about the middle, so that a mirrored picture is the same one
    waves = [(9, 30), (30, 9), (14, 14), (9, 9)]
    grids = [np.cos(side[:, None] / y) + np.cos(side[None] / x) for y, x in waves]
    pictures = [Pillow.fromarray(np.uint8(128 + 60 * grid)).convert("RGB") for grid in grids]
    rng, n_right = np.random.default_rng(0), 0
    for index in np.repeat(np.arange(4), 50):
        changed = np.asarray(augment.augmented(pictures[index], rng)).ravel()
        n_right += index == np.argmax([np.corrcoef(changed, np.asarray(p).ravel())[0, 1] for p in pictures])
    assert n_right > 150  # of 200; 50 by chance


def test_crops_keep_their_area_and_their_ratio():
    ramp = np.stack(np.broadcast_arrays(np.arange(200.0), np.arange(150.0)[:, None]), axis=2)
    picture = Pillow.fromarray(np.dstack([ramp, np.zeros((150, 200))]).astype(np.uint8))  # red is x, green is y
    rng, areas, ratios = np.random.default_rng(0), [], []
    for _ in range(300):
        found = np.asarray(augment.random_resized_crop(picture, rng), dtype=float)
        # away from the edges, where the resampling has less to go by
        width, height = np.ptp(found[75, 20:180, 0]) / 159, np.ptp(found[15:135, 100, 1]) / 119
        areas.append(width * height)
        ratios.append(width / height)
    assert 0.58 < min(areas) < 0.63 < 0.97 < max(areas) < 1.02
    assert 0.73 < min(ratios) < 0.82 < 1.22 < max(ratios) < 1.36


def test_half_of_the_pictures_are_mirrored():
    ramp = Pillow.fromarray(np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))).convert("RGB")
    rng = np.random.default_rng(0)
    rows = [np.asarray(augment.augmented(ramp, rng), dtype=float)[20, 15:45, 0] for _ in range(400)]
    n_mirrored = sum(row[-5:].mean() < row[:5].mean() for row in rows)
    assert abs(n_mirrored - 200) < 50  # 5 standard deviations


def test_colour_jitter_is_pillows():
    grey = Pillow.new("RGB", (4, 4), (100, 100, 100))
    assert augment.colour_jitter(grey, Fixed(0.5)).getpixel((0, 0)) == (100, 100, 100)
    assert augment.colour_jitter(grey, Fixed(1.0)).getpixel((0, 0)) == (130, 130, 130)  # contrast is about the mean
    assert augment.colour_jitter(grey, Fixed(0.0)).getpixel((0, 0)) == (70, 70, 70)


@pytest.mark.parametrize("operation", augment.OPERATIONS, ids=lambda operation: operation.__name__)
def test_every_operation_changes_a_picture_mildly(operation):
    for share in (0.0, 1.0):
        found = operation(PHOTO, Fixed(share))
        assert (found.mode, found.size) == ("RGB", PHOTO.size)
        assert not same(found, PHOTO)
        assert np.abs(np.asarray(found, float) - np.asarray(PHOTO, float)).mean() < 40


def test_operations_move_by_their_share():
    shift = np.asarray(augment._translate(PHOTO, Fixed(1.0)), dtype=float)
    expected = PHOTO.transform(PHOTO.size, Pillow.Transform.AFFINE, (1, 0, 14.4, 0, 1, 9.6), Pillow.Resampling.BILINEAR)
    np.testing.assert_allclose(shift[:50, :80], np.asarray(expected)[:50, :80], atol=1)  # 14.4 is not exact
    assert (shift[-9:, :] == 128).all()  # nothing of the picture is left there
    middle = np.asarray(PHOTO)[31:33].mean(0)
    for share in (0.0, 1.0):
        sheared = np.asarray(augment._shear_x(PHOTO, Fixed(share)), dtype=float)[31:33].mean(0)
        assert np.abs(sheared[2:-2] - middle[2:-2]).max() < 8  # it turns about the middle


def test_posterize_keeps_the_high_bits():
    found = np.asarray(augment._posterize(PHOTO, Fixed(0.0)))
    np.testing.assert_array_equal(found, np.asarray(PHOTO) & 0b11111000)
