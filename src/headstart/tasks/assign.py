"""Which location learns which box, and the loss of that: task-aligned assignment (TOOD, arXiv:2108.07755).

A location is the better for a box the surer it is of its class and the better its own box fits; the best few learn it,
and what score they are taught says how well they fit (quality focal loss, Li et al. 2020, arXiv:2006.04388). Boxes are
compared by their generalised intersection over union (Rezatofighi et al. 2019, arXiv:1902.09630).

Shapes: N pictures, P locations, M boxes (padded), K classes. Boxes are corners in pixels of the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from headstart.tasks.boxes import Truth

N_BEST = 10  # locations that learn a box
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0  # of what makes a location good for a box
FOCUS = 2.0  # the power of how far off a score is, that its loss is weighed by
BOX_WEIGHT = 2.0  # of the boxes' loss beside that of the classes
LEAST = 5.0  # more than half a step of the finest usual level: every box has a location in it
NONE = -1  # class of a row of padding
SMALL = 1e-6


@dataclass(frozen=True)
class Grid:
    """Where the locations of all levels are on the canvas."""

    centres: Tensor  # (P, 2) x and y in pixels

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, int]], canvas: tuple[int, int]) -> Grid:
        """For maps of these heights and widths, spread evenly over a canvas of that height and width."""
        centres = []
        for height, width in shapes:
            y = (torch.arange(height) + 0.5) * canvas[0] / height
            x = (torch.arange(width) + 0.5) * canvas[1] / width
            centres.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2))
        return cls(torch.cat(centres))

    def on(self, device: torch.device) -> Grid:
        """The same on a device."""
        return self if self.centres.device == device else Grid(self.centres.to(device))

    def boxes(self, sides: Tensor) -> Tensor:
        """Distances to left, top, right and bottom (…, P, 4) as corners."""
        return torch.cat([self.centres - sides[..., :2], self.centres + sides[..., 2:]], -1)

    def within(self, boxes: Tensor) -> Tensor:
        """(N, M, P): whether a location lies in a box (N, M, 4), or in LEAST pixels around the middle of a tiny one."""
        middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
        return ((self.centres - middle[..., None, :]).abs() < half.clamp(min=LEAST)[..., None, :]).all(-1)


@dataclass(frozen=True)
class Padded:
    """The boxes of a batch, as many rows for each picture."""

    boxes: Tensor  # (N, M, 4)
    classes: Tensor  # (N, M), NONE in rows of padding
    ignored: Tensor  # (N, M)

    @classmethod
    def of(cls, truth: Sequence[Truth], canvas: tuple[int, int]) -> Padded:
        """Relative boxes on a canvas of this height and width."""
        device, most = truth[0].boxes.device, max(1, *(len(one.boxes) for one in truth))
        boxes = torch.zeros(len(truth), most, 4, device=device)
        classes = torch.full((len(truth), most), NONE, device=device)
        ignored = torch.zeros(len(truth), most, dtype=torch.bool, device=device)
        size = torch.tensor([canvas[1], canvas[0]] * 2, device=device, dtype=torch.float32)
        for row, one in enumerate(truth):
            n = len(one.boxes)
            boxes[row, :n], classes[row, :n], ignored[row, :n] = one.boxes * size, one.classes, one.ignored
        return cls(boxes, classes, ignored)

    @property
    def taught(self) -> Tensor:
        """(N, M): rows that are boxes to learn."""
        return (self.classes != NONE) & ~self.ignored


@dataclass(frozen=True)
class Assigned:
    """Of n locations that learn a box: their picture and place, the box and its class, and how well they may score."""

    picture: Tensor  # (n,)
    place: Tensor  # (n,)
    boxes: Tensor  # (n, 4)
    classes: Tensor  # (n,)
    quality: Tensor  # (n,) in 0 … 1


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and generalised, of boxes (…, 4) that broadcast."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    iou = shared / union.clamp(min=SMALL)
    return iou, iou - (hull - union) / hull.clamp(min=SMALL)


@torch.no_grad()
def assign(grid: Grid, logits: Tensor, boxes: Tensor, truth: Padded) -> Assigned:
    """The locations that learn the boxes; of logits (N, P, K) and the locations' own boxes (N, P, 4)."""
    near = grid.within(truth.boxes) & truth.taught[..., None]  # (N, M, P)
    score = logits.sigmoid().transpose(1, 2).gather(1, truth.classes.clamp(min=0)[..., None].expand_as(near))
    iou = overlap(truth.boxes[:, :, None], boxes[:, None])[0] * near
    fit = score.pow(SCORE_POWER) * iou.pow(OVERLAP_POWER) + SMALL * SMALL * iou  # or a tiny box would have none
    best = fit.topk(min(N_BEST, fit.shape[2]), dim=2)
    chosen = torch.zeros_like(near).scatter_(2, best.indices, best.values > 0) & near
    most, owner = torch.where(chosen, iou, -1.0).max(1)  # (N, P): of several boxes the one that is overlapped most
    picture, place = (most >= 0).nonzero(as_tuple=True)
    box = owner[picture, place]
    won = torch.zeros_like(near)
    won[picture, box, place] = True
    peak, ceiling = (fit * won).amax(2).clamp(min=SMALL * SMALL * SMALL), (iou * won).amax(2)  # (N, M)
    quality = fit[picture, box, place] / peak[picture, box] * ceiling[picture, box]
    return Assigned(picture, place, truth.boxes[picture, box], truth.classes[picture, box], quality)


def aligned_loss(grid: Grid, logits: Tensor, sides: Tensor, truth: Sequence[Truth], canvas: tuple[int, int]) -> Tensor:
    """Loss () of logits (N, P, K) and distances (N, P, 4); places in ignored boxes are no background."""
    padded, boxes = Padded.of(truth, canvas), grid.boxes(sides)
    found = assign(grid, logits, boxes, padded)
    taught = torch.zeros_like(logits)
    taught[found.picture, found.place, found.classes] = found.quality
    total = found.quality.sum().clamp(min=1.0)
    counted = ~(grid.within(padded.boxes) & padded.ignored[..., None]).any(1)  # (N, P)
    counted[found.picture, found.place] = True
    classes = (quality_focal(logits, taught) * counted[..., None]).sum()
    _, fit = overlap(boxes[found.picture, found.place], found.boxes)
    return (classes + BOX_WEIGHT * ((1 - fit) * found.quality).sum()) / total


def quality_focal(logits: Tensor, taught: Tensor) -> Tensor:
    """Cross-entropy with the scores that are taught, weighed by how far off each is; of the logits' own shape."""
    off = (logits.detach().sigmoid() - taught).abs().pow(FOCUS)
    return binary_cross_entropy_with_logits(logits, taught, reduction="none") * off
