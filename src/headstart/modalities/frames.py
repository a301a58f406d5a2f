"""Another look at a picture whose boxes go along: nearer or farther, moved, mirrored.

The scale jitter is that of SSD (Liu et al. 2015, arXiv:1512.02325), milder: a zoom keeps most objects whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL.Image import Image as Picture
from PIL.Image import Resampling, Transform, Transpose

ZOOM = (0.75, 1.25)  # side of what is looked at, as a share of the picture's
LEAST_KEPT = 0.4  # of a box's area, or it is no longer looked for
GREY = (128, 128, 128)  # what comes into the picture from outside it


@dataclass(frozen=True)
class Frame:
    """The part of a picture that is looked at, and how it is turned."""

    left: float = 0.0  # in shares of the picture's width; what lies outside 0 … 1 is grey
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    mirrored: bool = False  # left and right change places
    flipped: bool = False  # top and bottom change places

    @classmethod
    def drawn(cls, rng: np.random.Generator, upside_down: bool) -> Frame:
        """A random one; `upside_down` where top and bottom may change places too."""
        zoom = float(np.exp(rng.uniform(*np.log(ZOOM))))
        left, top = (float(value) for value in rng.uniform(min(0.0, 1 - zoom), max(0.0, 1 - zoom), 2))
        mirrored, flipped = (bool(value) for value in rng.random(2) < 0.5)
        return cls(left, top, zoom, zoom, mirrored, flipped and upside_down)

    @classmethod
    def of_view(cls, view: int, rng: np.random.Generator, upside_down: bool) -> Frame:
        """That of a numbered view: 0 is the plain picture, the next are it turned, and then random ones follow."""
        turned = [(False, False), (True, False), *([(False, True), (True, True)] if upside_down else [])]
        if view >= len(turned):
            return cls.drawn(rng, upside_down)
        mirrored, flipped = turned[view]
        return cls(mirrored=mirrored, flipped=flipped)

    def of(self, picture: Picture) -> Picture:
        """What is seen of an RGB picture, in the picture's own size."""
        w, h = picture.size
        extent = (self.left * w, self.top * h, (self.left + self.width) * w, (self.top + self.height) * h)
        if (self.left, self.top, self.width, self.height) != (0, 0, 1, 1):
            picture = picture.transform(picture.size, Transform.EXTENT, extent, Resampling.BILINEAR, fillcolor=GREY)
        if self.mirrored:
            picture = picture.transpose(Transpose.FLIP_LEFT_RIGHT)
        return picture.transpose(Transpose.FLIP_TOP_BOTTOM) if self.flipped else picture

    def boxes(self, relative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(relative boxes (n, 4) as they lie in the frame, cut off at its sides; which (n,) are still there)."""
        origin, extent = np.array([self.left, self.top] * 2), np.array([self.width, self.height] * 2)
        moved = (relative - origin) / extent
        whole = (moved[:, 2] - moved[:, 0]) * (moved[:, 3] - moved[:, 1])
        moved = moved.clip(0, 1)
        if self.mirrored:
            moved[:, [0, 2]] = 1 - moved[:, [2, 0]]
        if self.flipped:
            moved[:, [1, 3]] = 1 - moved[:, [3, 1]]
        left = (moved[:, 2] - moved[:, 0]) * (moved[:, 3] - moved[:, 1])
        return moved.astype(np.float32), left > LEAST_KEPT * whole


PLAIN = Frame()
