"""The head that finds boxes: a feature pyramid over frozen or trained maps, and one anchor-free head for all levels.

The pyramid is that of Lin et al. 2016 (arXiv:1612.03144), the head that of FCOS (Tian et al. 2019, arXiv:1904.01355).
Convolutions are depthwise and pointwise ones, and norms are of groups, so that the head trains on small batches.

Shapes: N pictures, P locations (of all levels, level after level, row by row), K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from headstart.tasks.assign import Grid, Said, loss_of
from headstart.tasks.boxes import Truth

PRIOR = 0.01  # score of every location before anything is learnt
FIRST_SIDES = 2.0  # strides from a location to each side of its box, before anything is learnt
MOST_GROWTH = 6.0  # of the logarithm of a distance in strides
GROUPS = 8  # of channels, that are normalised together


@dataclass(frozen=True, kw_only=True)
class Levels:
    """What a pyramid stands on, and how wide it is."""

    stages: tuple[int, ...]  # of the backbone, finest first
    maps: tuple[tuple[int, int, int], ...]  # channels, height and width of what each of them hands on
    canvas: tuple[int, int]  # height and width of the picture that the network sees
    n_classes: int
    width: int = 96  # channels of the pyramid and of the head
    n_convs: int = 2  # in each tower

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the canvas from one location of a level to the next."""
        return tuple(round(self.canvas[0] / height) for _, height, _ in self.maps)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "stages": list(self.stages), "maps": [list(one) for one in self.maps]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Levels:
        """The inverse of `to_json`."""
        tuples = {name: tuple(saved[name]) for name in ("stages", "canvas")}
        return cls(**{**saved, **tuples, "maps": tuple(tuple(one) for one in saved["maps"])})


class Pyramid(nn.Module):
    """Maps of L levels to what is said of every location."""

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        self.levels = levels
        self.neck, self.head = Neck(levels), Head(levels)
        self.grid = Grid.of([(height, width) for _, height, width in levels.maps], levels.canvas)

    def forward(self, maps: Sequence[Tensor]) -> Said:
        """L maps (N, C_l, H_l, W_l), finest first."""
        return self.head(self.neck(maps))

    def loss(self, said: Said, truth: Sequence[Truth]) -> Tensor:
        """Mean loss () of a batch, of its classes and its boxes."""
        return loss_of(self.grid.on(said.logits.device), said, truth, self.levels.canvas)

    def candidates(self, said: Said) -> tuple[Tensor, Tensor]:
        """(relative boxes (N, P, 4), scores (N, P, K)), before suppression."""
        height, width = self.levels.canvas
        size = said.sides.new_tensor([width, height, width, height])
        boxes = self.grid.on(said.logits.device).boxes(said.sides) / size
        return boxes.clamp(0, 1), (said.logits.sigmoid() * said.centreness.sigmoid()[..., None]).sqrt()


class Neck(nn.Module):
    """From the coarsest level down, each gets what the coarser ones know."""

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        laterals = (nn.Conv2d(channels, levels.width, 1) for channels, _, _ in levels.maps)
        self.laterals = nn.ModuleList(nn.Sequential(conv, nn.GroupNorm(GROUPS, levels.width)) for conv in laterals)
        self.smooth = nn.ModuleList(_separable(levels.width) for _ in levels.maps)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """L maps (N, C_l, H_l, W_l) to L maps (N, width, H_l, W_l)."""
        seen = [lateral(one) for lateral, one in zip(self.laterals, maps, strict=True)]
        for level in range(len(seen) - 2, -1, -1):
            height, width = seen[level].shape[2:]
            seen[level] = seen[level] + interpolate(seen[level + 1], size=(height, width), mode="nearest")
        return [smooth(one) for smooth, one in zip(self.smooth, seen, strict=True)]


class Head(nn.Module):
    """Classes, distances and centreness at every location, by the same weights at every level."""

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        width = levels.width
        self.strides = levels.strides
        self.class_tower = nn.Sequential(*(_separable(width) for _ in range(levels.n_convs)))
        self.box_tower = nn.Sequential(*(_separable(width) for _ in range(levels.n_convs)))
        self.classes = nn.Conv2d(width, levels.n_classes, 3, padding=1)
        self.sides = nn.Conv2d(width, 5, 3, padding=1)  # the last one is centreness
        self.scales = nn.Parameter(torch.ones(len(levels.maps)))
        for layer, bias in ((self.classes, -math.log((1 - PRIOR) / PRIOR)), (self.sides, math.log(FIRST_SIDES))):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]  # it has one
        nn.init.zeros_(self.sides.bias[4:])  # type: ignore[index]

    def forward(self, maps: Sequence[Tensor]) -> Said:
        """L maps (N, width, H_l, W_l) to what is said of their locations, float32."""
        logits = [_rows(self.classes(self.class_tower(one))) for one in maps]
        boxes = [_rows(self.sides(self.box_tower(one))) for one in maps]
        sides = [
            (self.scales[level] * one[..., :4]).clamp(max=MOST_GROWTH).exp() * self.strides[level]
            for level, one in enumerate(boxes)
        ]
        return Said(torch.cat(logits, 1), torch.cat(sides, 1), torch.cat([one[..., 4] for one in boxes], 1))


def _rows(maps: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H W, C), float32."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2).float()


def _separable(width: int) -> nn.Sequential:
    """A 3 × 3 convolution of each channel by itself, one of all channels at each place, a norm, ReLU."""
    each = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
    return nn.Sequential(each, nn.Conv2d(width, width, 1), nn.GroupNorm(GROUPS, width), nn.ReLU(inplace=True))
