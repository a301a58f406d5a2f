"""A picture as another photograph of the same thing might be: cropped, mirrored, in other light, and changed once more.

The random resized crop is that of Szegedy et al. 2014 (arXiv:1409.4842), though milder; one further operation of
random kind and strength is in the manner of RandAugment (Cubuk et al. 2019, arXiv:1909.13719).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from PIL.Image import Image as Picture

AREA = (0.6, 1.0)  # share of the picture that a crop keeps
RATIO = (3 / 4, 4 / 3)  # width to height of a crop, relative to the picture's own
JITTER = 0.3  # brightness, contrast and saturation go by a factor of 1 - JITTER to 1 + JITTER
TURN_DEGREES = 15.0
SHEAR = 0.15  # how far the bottom moves against the top, as a share of the height; and the right against the left
SHIFT = 0.15  # share of the width, or of the height
SHARPNESS = 0.7  # 1 - SHARPNESS is blurred, 1 + SHARPNESS is sharpened
POSTERIZE_BITS = (5, 7)  # of 8 a channel
_GREY = (128, 128, 128)  # what comes into the picture from outside it


def augmented(picture: Picture, rng: np.random.Generator) -> Picture:
    """A changed copy, RGB and of the same size; `rng` alone decides how."""
    changed = random_resized_crop(picture.convert("RGB"), rng)
    if rng.random() < 0.5:
        changed = ImageOps.mirror(changed)
    changed = colour_jitter(changed, rng)
    return OPERATIONS[int(rng.integers(len(OPERATIONS)))](changed, rng)


def random_resized_crop(picture: Picture, rng: np.random.Generator) -> Picture:
    """A part of the picture, enlarged to the whole's size."""
    area = rng.uniform(*AREA)
    # between these two ratios neither side of the crop is longer than the picture's, so that no draw is in vain
    ratio = np.exp(rng.uniform(np.log(max(RATIO[0], area)), np.log(min(RATIO[1], 1 / area))))
    width, height = picture.width * min(1.0, (area * ratio) ** 0.5), picture.height * min(1.0, (area / ratio) ** 0.5)
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    box = (left, top, min(left + width, picture.width), min(top + height, picture.height))  # rounding may exceed it
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


def colour_jitter(picture: Picture, rng: np.random.Generator) -> Picture:
    """Another brightness, contrast and saturation."""
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhancer(picture).enhance(rng.uniform(1 - JITTER, 1 + JITTER))
    return picture


def _rotate(picture: Picture, rng: np.random.Generator) -> Picture:
    angle = rng.uniform(-TURN_DEGREES, TURN_DEGREES)
    return picture.rotate(angle, Image.Resampling.BILINEAR, fillcolor=_GREY)


def _shear_x(picture: Picture, rng: np.random.Generator) -> Picture:
    slope = rng.uniform(-SHEAR, SHEAR)
    return _affine(picture, (1, slope, -slope * picture.height / 2, 0, 1, 0))  # about the middle, which stays


def _shear_y(picture: Picture, rng: np.random.Generator) -> Picture:
    slope = rng.uniform(-SHEAR, SHEAR)
    return _affine(picture, (1, 0, 0, slope, 1, -slope * picture.width / 2))


def _translate(picture: Picture, rng: np.random.Generator) -> Picture:
    x, y = rng.uniform(-SHIFT, SHIFT, 2)
    return _affine(picture, (1, 0, x * picture.width, 0, 1, y * picture.height))


def _autocontrast(picture: Picture, rng: np.random.Generator) -> Picture:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Picture, rng: np.random.Generator) -> Picture:
    return ImageOps.equalize(picture)


def _sharpness(picture: Picture, rng: np.random.Generator) -> Picture:
    return ImageEnhance.Sharpness(picture).enhance(rng.uniform(1 - SHARPNESS, 1 + SHARPNESS))


def _posterize(picture: Picture, rng: np.random.Generator) -> Picture:
    return ImageOps.posterize(picture, int(rng.integers(*POSTERIZE_BITS, endpoint=True)))


def _affine(picture: Picture, coefficients: tuple[float, ...]) -> Picture:
    """(a, b, c, d, e, f): the pixel at (x, y) is taken from (ax + by + c, dx + ey + f)."""
    kind, smooth = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return picture.transform(picture.size, kind, coefficients, smooth, fillcolor=_GREY)


Operation = Callable[[Picture, np.random.Generator], Picture]
OPERATIONS: tuple[Operation, ...] = (
    _rotate,
    _shear_x,
    _shear_y,
    _translate,
    _autocontrast,
    _equalize,
    _sharpness,
    _posterize,
)
