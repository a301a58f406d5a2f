"""A detector: the maps of a backbone, a head that reads them, and what it finds in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.base import Backbone
from headstart.backbones.changes import Changes
from headstart.backbones.costs import work_of
from headstart.backbones.resume import Resumable
from headstart.engine import freeze
from headstart.engine.maps import whole_maps
from headstart.engine.platt import Line
from headstart.errors import PlanError
from headstart.modalities.base import Modality
from headstart.tasks.assign import Said
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Detections, Truth, none_found, suppressed
from headstart.tasks.coco import MOST
from headstart.tasks.pyramid import Levels, Pyramid

STRIDES = (8, 16, 32)  # of the levels of a pyramid, in pixels of the canvas
WIDE = 1024  # channels: a stage that has more, behind another of its stride, widens its maps for a classifier
HEAD_WORK = 4.0  # times what is counted of a head
FLOOR = 0.02  # candidates that are less sure are dropped
MOST_CANDIDATES = 600  # of a picture, that are compared with each other
MOST_SHARED = 0.55  # intersection over union of two boxes of a class that both stay


class Network(Protocol):
    """What finds boxes: of the pyramid head on any backbone, or ready-made. A torch module."""

    head: nn.Module  # what is no stage of the backbone
    suppresses: bool  # whether candidates need non-maximum suppression

    def __call__(self, inputs: Mapping[str, Tensor], maps: Mapping[int, Tensor] | None = None) -> Any:
        """What `loss` and `candidates` read; with `maps`, cached ones, the stages below them are not run."""

    def loss(self, raw: Any, truth: Sequence[Truth]) -> Tensor:
        """Mean loss () of a batch."""

    def candidates(self, raw: Any) -> tuple[Tensor, Tensor]:
        """(relative boxes (N, P, 4), scores (N, P, K) in 0 … 1)."""


class OnPyramid(nn.Module):
    """A pyramid head on the stages of a backbone above a cut."""

    suppresses = True

    def __init__(self, upper: Resumable | None, levels: Levels) -> None:
        super().__init__()
        self.upper, self.levels = upper, levels  # no `upper`: the maps come from a backbone that others run
        head: Any = Pyramid(levels)
        self.head: Pyramid = head.to(memory_format=torch.channels_last)

    def forward(self, inputs: Mapping[str, Tensor], maps: Mapping[int, Tensor] | None = None) -> Said:
        """What is said of every location."""
        assert self.upper is not None, "a pyramid that only predicts is given maps"
        whole = self.upper.whole(inputs, self.levels.stages, maps)
        return self.head([whole[stage].float() for stage in self.levels.stages])

    def loss(self, raw: Said, truth: Sequence[Truth]) -> Tensor:
        """As the head has it."""
        return self.head.loss(raw, truth)

    def candidates(self, raw: Said) -> tuple[Tensor, Tensor]:
        """As the head has them."""
        return self.head.candidates(raw)


class Finder(Protocol):
    """What finds boxes without a network."""

    def found(self, modality: Modality, items: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        """Detections (N,) in stored items, in pixels of pictures of these widths and heights."""

    def state(self) -> dict[str, np.ndarray]:
        """Every array of it, by name."""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """What a run keeps of a detector: how it is built, what was learnt, and how sure it must be."""

    class_names: tuple[str, ...]
    canvas: tuple[int, int]  # height and width that every picture is resized to
    levels: Levels | None  # None for a ready-made detector, whose head is its own
    head: Mapping[str, Tensor] = field(repr=False)  # the head's tensors
    changes: Changes | None = None  # what training changed in the backbone
    confidence: tuple[Sure, ...] = ()  # of each class
    classical: Finder | None = None  # what finds boxes in place of the network, where validation preferred it

    def to_json(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON values."""
        return {
            "class_names": list(self.class_names),
            "canvas": list(self.canvas),
            "levels": self.levels.to_json() if self.levels else None,
            "confidence": [vars(one) for one in self.confidence],
            "classical": self.classical is not None,
        }

    @classmethod
    def restore(cls, saved: Mapping[str, Any], head: Mapping[str, Tensor], changes: Changes | None) -> Detector:
        """The inverse of `to_json`, with the tensors."""
        return cls(
            class_names=tuple(saved["class_names"]),
            canvas=(saved["canvas"][0], saved["canvas"][1]),
            levels=Levels.from_json(saved["levels"]) if saved["levels"] else None,
            head=head,
            changes=changes,
            confidence=tuple(Sure(**one) for one in saved["confidence"]),
        )

    def network(self, backbone: Backbone) -> Any:
        """The `Network`, ready to predict, on a backbone at this canvas that holds the changes already."""
        network: Any
        if self.levels is not None:
            network = OnPyramid(None, self.levels)
        else:
            network = build(Resumable(backbone, 0, backbone.placeholders([None])), None, self.class_names)
        network.head.load_state_dict(dict(self.head))
        return network.eval().requires_grad_(False)

    def calibrated(self, found: Detections) -> Detections:
        """With confidences that mean what they say."""
        if not self.confidence or not len(found):
            return found
        confidence = found.confidence.copy()
        for k, line in enumerate(self.confidence):
            own = found.classes == k
            confidence[own] = line.of(found.confidence[own])
        order = np.argsort(-confidence, kind="stable")
        return replace(found, confidence=confidence).take(order)

    def shown(self, found: Detections) -> Detections:
        """Those that are sure enough."""
        return found.take(self.sure(found))

    def sure(self, found: Detections) -> np.ndarray:
        """(n,) whether each is: at the confidence that was best for its class on validation."""
        if not self.confidence:
            return np.ones(len(found), dtype=bool)
        least = np.array([one.threshold for one in self.confidence])
        return found.confidence >= least[found.classes]


@dataclass(frozen=True, kw_only=True)
class Sure(Line):
    """What a class's scores mean, and from which confidence on its boxes are shown."""

    threshold: float = 0.5


def build(upper: Resumable, levels: Levels | None, class_names: Sequence[str]) -> Any:
    """The `Network` on the stages above a cut: a ready-made backbone's own, or a pyramid."""
    own = upper.backbone[0].detector(upper, class_names)
    if own is not None:
        return own
    assert levels is not None, "a backbone without a head of its own gets a pyramid"
    return OnPyramid(upper, levels)


def levels_of(backbone: Backbone, n_classes: int) -> Levels:
    """A pyramid on the last stage of each stride. PlanError for a backbone whose stages hand on no such maps."""
    assert backbone.canvas is not None, "a backbone for pictures must say what they are resized to"
    by_stride: dict[int, int] = {}
    for stage, size in enumerate(backbone.maps):
        stride = 0 if size is None else round(backbone.canvas[0] / size[1])
        if size is not None and (size[0] <= WIDE or stride not in by_stride):
            by_stride[stride] = stage
    if not set(STRIDES) <= set(by_stride):
        raise PlanError(
            f"The stages of {backbone.provenance.name} have strides {sorted(by_stride) or 'of no map'}, and boxes need "
            f"{', '.join(map(str, STRIDES))}. Use a convolutional backbone, such as 'efficientnet-lite0'."
        )
    stages = tuple(by_stride[stride] for stride in STRIDES)
    maps = tuple(size for stage in stages if (size := backbone.maps[stage]) is not None)
    return Levels(stages=stages, maps=maps, canvas=backbone.canvas, n_classes=n_classes)


def head_cost(backbone: Backbone, levels: Levels | None) -> float:
    """What a pyramid's forward pass costs, as a share of the backbone's; 0 for a head that the backbone brings.

    Its depthwise convolutions and norms move several times what they write (HEAD_WORK, measured: docs/log.md).
    """
    if levels is None:
        return 0.0
    blank = {"pixel_values": backbone.placeholders([None])["pixel_values"]}
    maps = [torch.zeros(1, *size) for size in levels.maps]
    return HEAD_WORK * work_of(Pyramid(levels), maps) / work_of(backbone.network, **blank)


def detect(network: Any, backbone: Backbone, modality: Modality, items: Sequence[Any], bar: freeze.Bar) -> np.ndarray:
    """What is found in N stored pictures, (N,) of Detections in relative boxes, of scores as the network gives them.

    A pyramid reads the maps of `backbone`, in the way that it is run; a ready-made network runs by itself.
    """

    def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
        return [one_each(found_in(network, backbone, inputs))]

    found = one_each([none_found((1, 1))] * len(items))
    with bar(len(items), modality.noun[1]) as advance:
        for rows, (some,) in freeze.run(backbone, modality, items, look):
            found[rows] = some
            advance(len(rows))
    return found


@torch.inference_mode()
def found_in(network: Any, backbone: Backbone, inputs: Mapping[str, Tensor]) -> list[Detections]:
    """What is found in a batch of N pictures; boxes are relative."""
    if not isinstance(network, OnPyramid):
        return chosen(network, network(inputs))
    return found_on(network, whole_maps(backbone, inputs, network.levels.stages))


def found_on(network: OnPyramid, whole: Mapping[int, Tensor]) -> list[Detections]:
    """What a pyramid finds on whole maps (N, C, H, W) by stage; boxes are relative."""
    return chosen(network, network.head([whole[stage].float() for stage in network.levels.stages]))


def chosen(network: Any, raw: Any) -> list[Detections]:
    """Of what a network says of N pictures, what stays after suppression; boxes are relative."""
    boxes, scores = (one.float().numpy(force=True) for one in network.candidates(raw))
    return [of_candidates(box, score, network.suppresses) for box, score in zip(boxes, scores, strict=True)]


def of_candidates(boxes: np.ndarray, scores: np.ndarray, suppresses: bool) -> Detections:
    """Relative boxes (P, 4) and scores (P, K) of a picture as what is found there, the surest first."""
    place, classes = np.nonzero(scores >= FLOOR)
    confidence = scores[place, classes]
    order = np.argsort(-confidence, kind="stable")[: MOST_CANDIDATES if suppresses else MOST]
    place, classes, confidence = place[order], classes[order], confidence[order]
    if suppresses:
        kept = suppressed(boxes[place], classes, confidence, MOST_SHARED, MOST)
        place, classes, confidence = place[kept], classes[kept], confidence[kept]
    return Detections(boxes[place].astype(np.float32), classes.astype(np.int64), confidence.astype(np.float32), (1, 1))


def sized(found: Sequence[Detections] | np.ndarray, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """N relative detections in pixels of pictures of these widths and heights."""
    return one_each(
        [
            replace(one, boxes=one.boxes * np.array(size * 2, np.float32), size=size)
            for one, size in zip(found, sizes, strict=True)
        ]
    )
