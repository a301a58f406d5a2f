"""The preprocessing of pictures as a torch module, so that exports take raw pixels: Pillow's resize, to the digit.

Pillow filters the rows, rounds to 8 bits, filters the columns and rounds again (`Resample.c`). ONNX Runtime's own
antialiased Resize differs from it by a few levels at a few pixels, enough to move a probability by .002.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import PlanError

MOST_PIXELS = 1 << 15  # a side
ONE = float(1 << 22)  # in Pillow's fixed-point coefficients; sums stay far below 2^53, so that float64 is exact


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x).clamp(min=0)


def _bicubic(x: Tensor) -> Tensor:
    """Keys 1981 (doi:10.1109/TASSP.1981.1163711) with a = -0.5, for x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


FILTERS = {2: _bilinear, 3: _bicubic}  # PIL's number of the filter


class Squash(nn.Module):
    """Pictures (N, H, W, 3) uint8 of one size to the network's (N, 3, height, width) float32."""

    def __init__(self, preprocessing: Mapping[str, Any]) -> None:
        super().__init__()
        if preprocessing.get("fit") != "squash" or preprocessing.get("resample") not in FILTERS:
            raise PlanError(
                "This backbone prepares pictures in a way that an export cannot hold: it must squash them to one size "
                f"with PIL's filter 2 (bilinear) or 3 (bicubic), and says {preprocessing}. Use `headstart bundle`."
            )
        self.height, self.width = preprocessing.get("canvas") or [int(preprocessing["side"])] * 2
        self.filter = FILTERS[preprocessing["resample"]]
        self.mean = nn.Parameter(torch.tensor(preprocessing["mean"]).view(3, 1, 1), False)
        self.std = nn.Parameter(torch.tensor(preprocessing["std"]).view(3, 1, 1), False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Rows, then columns, as Pillow does; then (value / 255 - mean) / std."""
        rows = self._resized(pixels.permute(0, 3, 1, 2).double(), self.width)
        both = self._resized(rows.transpose(2, 3), self.height).transpose(2, 3)
        return (both.float() / 255 - self.mean) / self.std

    def _resized(self, picture: Tensor, side: int) -> Tensor:
        """(N, 3, A, B) to (N, 3, A, side), rounded half up and clipped to 8 bits; whole numbers in float64."""
        place = torch.arange(picture.shape[3], dtype=torch.float64) + 0.5
        scale = torch.ones_like(place).sum() / side
        centre = (torch.arange(side, dtype=torch.float64) + 0.5) * scale
        weights = self.filter((place[:, None] - centre).abs() / scale.clamp(min=1))
        fixed = (weights / weights.sum(0) * ONE).round()
        return ((picture @ fixed) / ONE + 0.5).floor().clamp(0, 255)
