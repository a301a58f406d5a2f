"""A detector from raw pixels to its candidates, as one torch module; what is suppressed lies beside it as plain Python.

Suppression is a loop that depends on what is found. As numpy it is short, and the same in every runtime.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from headstart.deploy import artifact
from headstart.deploy.export.pixels import MOST_PIXELS, Squash
from headstart.deploy.export.whole import Exportable
from headstart.deploy.model import Model
from headstart.engine.detector import FLOOR, MOST_CANDIDATES, MOST_SHARED, OnPyramid
from headstart.engine.onnx import Outputs
from headstart.tasks.coco import MOST

SETTINGS, SUPPRESSION = "boxes.json", "suppression.py"
OUTPUTS = ("boxes", "scores")


class OfPyramid(nn.Module):
    """Candidates of a pyramid head, on the maps of a backbone that is run to its end."""

    def __init__(self, model: Model, network: OnPyramid) -> None:
        super().__init__()
        self.maps, self.head = Outputs(model.backbone, list(network.levels.stages)), network.head

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, height, width) to relative boxes (N, P, 4) and scores (N, P, K)."""
        return self.head.candidates(self.head([one.float() for one in self.maps(pixel_values=pixel_values)]))


class OfQueries(nn.Module):
    """Candidates of a ready-made detector."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, height, width) to relative boxes (N, Q, 4) and scores (N, Q, K)."""
        return self.network.candidates(self.network({"pixel_values": pixel_values}))


class FromPixels(nn.Module):
    """A detector from raw pixels to its candidates."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        network = network_of(model)
        self.squash = Squash(model.backbone.preprocessing)
        self.found = OfPyramid(model, network) if isinstance(network, OnPyramid) else OfQueries(network)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, H, W, 3) uint8 of one size to relative boxes (N, P, 4) and scores (N, P, K), float32."""
        return self.found(self.squash(pixels))


def network_of(model: Model) -> Any:
    """The detector's network with what was learnt."""
    assert model.detector is not None, "only a detector has candidates"
    return model.detector.network(model.backbone)


def exportable(model: Model) -> Exportable:
    """The detector from raw pixels of any size to its candidates; a ready-made one takes one picture at a time."""
    module = FromPixels(model).eval()
    several = isinstance(module.found, OfPyramid)
    sides = {axis: Dim(name, max=MOST_PIXELS) for axis, name in ((1, "height"), (2, "width"))}
    inputs = {"pixels": torch.randint(0, 256, (2 if several else 1, 250, 300, 3), dtype=torch.uint8)}
    return Exportable(module, inputs, {"pixels": ({0: Dim("examples")} if several else {}) | sides}, OUTPUTS)


def write_suppression(model: Model, folder: Path) -> None:
    """suppression.py, which needs numpy alone, and boxes.json, which says what it goes by."""
    detector = model.detector
    assert detector is not None, "only a detector suppresses"
    suppresses = bool(network_of(model).suppresses)
    said = {
        "names": list(detector.class_names),
        "floor": FLOOR,  # scores below it are dropped
        "candidates": MOST_CANDIDATES if suppresses else MOST,
        "overlap": MOST_SHARED if suppresses else None,  # of two boxes of a class that both stay; None: any
        "most": MOST,
        "confidence": [asdict(one) for one in detector.confidence],
    }
    (folder / SETTINGS).write_bytes(artifact.to_bytes(said))
    (folder / SUPPRESSION).write_text((Path(__file__).parent / "suppression.py.txt").read_text(encoding="utf-8"))
