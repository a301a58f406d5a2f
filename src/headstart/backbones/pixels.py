"""Pictures as tensors, the same way for every image backbone.

The whole picture is squashed to a square, or to a canvas of another shape where boxes are looked for. ImageNet's own
convention, to resize the shorter side and crop the centre, loses the borders, and in a user's pictures what matters may
lie there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How a picture becomes numbers: resized to side × side or to the canvas, then (value / 255 - mean) / std."""

    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int = 3  # PIL's number of the filter: 2 is bilinear, 3 bicubic
    canvas: tuple[int, int] | None = None  # height and width, where it is no square of that side

    def to_json(self) -> dict[str, Any]:
        """For a backbone's `preprocessing`."""
        said = {**asdict(self), "mean": list(self.mean), "std": list(self.std), "fit": "squash"}
        canvas = said.pop("canvas")
        return {**said, **({"canvas": list(canvas)} if canvas else {})}

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        return self.canvas or (self.side, self.side)

    def tensor(self, pictures: Sequence[Any]) -> Tensor:
        """RGB PIL images as (N, 3, height, width) float32."""
        from PIL import Image

        size, resample = self.shape[::-1], Image.Resampling(self.resample)
        array = np.stack([np.asarray(picture.resize(size, resample), dtype=np.uint8) for picture in pictures])
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255 - mean) / std
