"""Which location learns which box, and the loss of that, as in FCOS (Tian et al. 2019, arXiv:1904.01355).

A location near the middle of a box learns it, on the level whose reach the box's size fits; of several boxes the
smallest. Classes are learnt by focal loss (Lin et al. 2017, arXiv:1708.02002), boxes by their generalised intersection
over union (Rezatofighi et al. 2019, arXiv:1902.09630), and how far off the middle a location is by a score of its own.

Shapes: N pictures, P locations, M boxes (padded), K classes. Boxes are corners in pixels of the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from headstart.tasks.boxes import Truth

RADIUS = 1.5  # strides around the middle of a box, in which locations learn it
REACH = 4.0  # strides: a level learns boxes whose longer side is under twice that, and above that of the level below
FOCUS, BALANCE = 2.0, 0.25  # of the focal loss: power of how far off a score is, weight of what is there
BOX_WEIGHT = 2.0  # of the boxes' loss beside that of the classes
NONE = -1  # class of a row of padding
SMALL = 1e-6


@dataclass(frozen=True)
class Grid:
    """Where the locations of all levels are on the canvas."""

    centres: Tensor  # (P, 2) x and y in pixels
    strides: Tensor  # (P,) pixels from one location of a level to the next

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, int]], canvas: tuple[int, int]) -> Grid:
        """For maps of these heights and widths, finest first, spread evenly over a canvas of that height and width."""
        centres, strides = [], []
        for height, width in shapes:
            y = (torch.arange(height) + 0.5) * canvas[0] / height
            x = (torch.arange(width) + 0.5) * canvas[1] / width
            centres.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2))
            strides.append(torch.full((height * width,), canvas[0] / height))
        return cls(torch.cat(centres), torch.cat(strides))

    def on(self, device: torch.device) -> Grid:
        """The same on a device."""
        return self if self.centres.device == device else Grid(self.centres.to(device), self.strides.to(device))

    def boxes(self, sides: Tensor) -> Tensor:
        """Distances to left, top, right and bottom (…, P, 4) as corners."""
        return torch.cat([self.centres - sides[..., :2], self.centres + sides[..., 2:]], -1)

    def sides(self, boxes: Tensor) -> Tensor:
        """Distances (N, M, P, 4) of each location to the sides of boxes (N, M, 4); all positive within."""
        return torch.cat([self.centres - boxes[..., None, :2], boxes[..., None, 2:] - self.centres], -1)


@dataclass(frozen=True)
class Padded:
    """The boxes of a batch, as many rows for each picture."""

    boxes: Tensor  # (N, M, 4)
    classes: Tensor  # (N, M), NONE in rows of padding
    ignored: Tensor  # (N, M)

    @classmethod
    def of(cls, truth: Sequence[Truth], canvas: tuple[int, int]) -> Padded:
        """Relative boxes on a canvas of this height and width."""
        device, most = truth[0].boxes.device, max([1, *(len(one.boxes) for one in truth)])
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
    """Of n locations that learn a box: their picture and place, the box and its class, and how near its middle."""

    picture: Tensor  # (n,)
    place: Tensor  # (n,)
    boxes: Tensor  # (n, 4)
    classes: Tensor  # (n,)
    centreness: Tensor  # (n,) 1 in the middle of the box, 0 at its sides


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and generalised, of boxes (…, 4) that broadcast."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    iou = shared / union.clamp(min=SMALL)
    return iou, iou - (hull - union) / hull.clamp(min=SMALL)


@torch.no_grad()
def assign(grid: Grid, truth: Padded) -> Assigned:
    """The locations that learn the boxes of a batch."""
    boxes, sides = truth.boxes, grid.sides(truth.boxes)
    middle, extent = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    off = (grid.centres - middle[:, :, None]).abs()  # (N, M, P, 2)
    tiny = off.amax(-1) <= grid.strides / 2  # a box that no location lies in is learnt by the one that is nearest
    near = (off.amax(-1) < RADIUS * grid.strides) & ((sides.amin(-1) > 0) | tiny) & truth.taught[..., None]
    near &= fits(grid, extent.amax(-1)[..., None] / 2)
    area = torch.where(near, extent.prod(-1)[..., None], torch.inf)
    smallest, owner = area.min(1)  # (N, P)
    picture, place = smallest.isfinite().nonzero(as_tuple=True)
    box = owner[picture, place]
    return Assigned(
        picture, place, boxes[picture, box], truth.classes[picture, box], centreness(sides[picture, box, place])
    )


def fits(grid: Grid, half: Tensor) -> Tensor:
    """(N, M, P): whether a box whose longer side is twice `half` (N, M, 1) is for the location's level."""
    finest, coarsest = grid.strides == grid.strides.min(), grid.strides == grid.strides.max()
    return ((half >= REACH * grid.strides / 2) | finest) & ((half < REACH * grid.strides) | coarsest)


def centreness(sides: Tensor) -> Tensor:
    """(n, 4) to (n,)."""
    x, y = sides[:, [0, 2]].clamp(min=SMALL), sides[:, [1, 3]].clamp(min=SMALL)
    return (x.amin(1) / x.amax(1) * y.amin(1) / y.amax(1)).sqrt()


@dataclass(frozen=True)
class Said:
    """What a head says of every location."""

    logits: Tensor  # (N, P, K)
    sides: Tensor  # (N, P, 4) distances to the sides of a box, in pixels
    centreness: Tensor  # (N, P) logits of how near the middle of the box it is


def loss_of(grid: Grid, said: Said, truth: Sequence[Truth], canvas: tuple[int, int]) -> Tensor:
    """Mean loss () over locations that learn a box; those in ignored boxes are no background."""
    padded = Padded.of(truth, canvas)
    found = assign(grid, padded)
    n, weight = max(1, len(found.place)), found.centreness
    taught = torch.zeros_like(said.logits)
    taught[found.picture, found.place, found.classes] = 1.0
    classes = focal(said.logits, taught) * counted(grid, padded, found)[..., None]
    boxes = grid.boxes(said.sides)[found.picture, found.place]
    _, fit = overlap(boxes, found.boxes)
    own = said.centreness[found.picture, found.place]
    middle = binary_cross_entropy_with_logits(own, weight, reduction="sum")
    placed = ((1 - fit) * weight).sum() / weight.sum().clamp(min=SMALL)
    return (classes.sum() + middle) / n + BOX_WEIGHT * placed


def counted(grid: Grid, padded: Padded, found: Assigned) -> Tensor:
    """(N, P): places whose class is taught: all but those in ignored boxes that learn no other."""
    within = grid.sides(padded.boxes).amin(-1) > 0
    kept = ~(within & padded.ignored[..., None]).any(1)
    kept[found.picture, found.place] = True
    return kept


def focal(logits: Tensor, taught: Tensor) -> Tensor:
    """Cross-entropy with what is taught (0 or 1), less for what is nearly right; of the logits' own shape."""
    score = logits.sigmoid()
    off = torch.where(taught > 0, 1 - score, score).pow(FOCUS)
    weight = torch.where(taught > 0, BALANCE, 1 - BALANCE)
    return binary_cross_entropy_with_logits(logits, taught, reduction="none") * off * weight
