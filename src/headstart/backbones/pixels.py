"""Pictures as tensors, the same way for every image backbone.

The whole picture is squashed to a square. ImageNet's own convention, to resize the shorter side and crop the centre,
loses the borders, and in a user's pictures what matters may lie there.
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
    """How a picture becomes numbers: resized to side × side, then (value / 255 - mean) / std per channel."""

    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int = 3  # PIL's number of the filter: 2 is bilinear, 3 bicubic

    def to_json(self) -> dict[str, Any]:
        """For a backbone's `preprocessing`."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std), "fit": "squash"}

    def tensor(self, pictures: Sequence[Any]) -> Tensor:
        """RGB PIL images as (N, 3, side, side) float32."""
        from PIL import Image

        size, resample = (self.side, self.side), Image.Resampling(self.resample)
        array = np.stack([np.asarray(picture.resize(size, resample), dtype=np.uint8) for picture in pictures])
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255 - mean) / std
