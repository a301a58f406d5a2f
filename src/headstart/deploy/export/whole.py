"""A model from the network's inputs to its scores, as one torch module: what exports are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from headstart import registry
from headstart.deploy.export.pixels import MOST_PIXELS, Squash
from headstart.deploy.model import Model
from headstart.engine.onnx import MOST_TOKENS, Pooled
from headstart.engine.ways import EXACT
from headstart.errors import PlanError

FINAL: dict[str, Callable[[Tensor], Tensor]] = {  # what a task does to its calibrated logits (N, K)
    "softmax": lambda logits: logits.softmax(-1),
    "sigmoid": lambda logits: logits.sigmoid(),
    "identity": lambda logits: logits,
}


class Whole(nn.Module):
    """Network, pooling, head, temperature and the task's last step; the features never leave the module."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        weight, bias = calibrated_head(model)
        self.pooled = Pooled(model.backbone, sorted(model.stages))
        self.final = FINAL[model.linear_task.final]
        self.weight, self.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
    ) -> Tensor:
        """Scores (N, K) float32. Keyword arguments by name, since the exporter reads the signature."""
        pooled = self.pooled(input_ids, attention_mask, pixel_values)
        return self.final(nn.functional.linear(torch.cat(pooled, dim=1), self.weight, self.bias))


class FromPixels(nn.Module):
    """A model of pictures from raw pixels to its scores."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.squash, self.whole = Squash(model.backbone.preprocessing), Whole(model)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pictures (N, H, W, 3) uint8 of one size to scores (N, K) float32."""
        return self.whole(pixel_values=self.squash(pixels))


@dataclass(frozen=True)
class Exportable:
    """A module in `eval()`, an example of its inputs by name, and the axes of each that may differ."""

    module: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, dict[int, Any]]
    outputs: tuple[str, ...] = ("scores",)


def exportable(model: Model) -> Exportable:
    """The model from tokens, or from raw pixels, to its scores."""
    backbone = model.backbone
    if backbone.modality == "image":
        sides = {axis: Dim(name, max=MOST_PIXELS) for axis, name in ((1, "height"), (2, "width"))}
        inputs = {"pixels": torch.randint(0, 256, (2, 250, 300, 3), dtype=torch.uint8)}
        return Exportable(FromPixels(model).eval(), inputs, {"pixels": {0: Dim("examples"), **sides}})
    inputs = backbone.collate(["an example", "of two texts"])
    axes = {0: Dim("examples"), 1: Dim("tokens", max=backbone.preprocessing.get("max_tokens", MOST_TOKENS))}
    return Exportable(Whole(model).eval(), inputs, dict.fromkeys(inputs, axes))


def calibrated_head(model: Model) -> tuple[Tensor, Tensor]:
    """(weight (K, D), bias (K,)) with the temperature in them, for stages in order of depth."""
    temperature = model.plan.temperature if model.linear_task.calibrated else 1.0
    weight = torch.from_numpy(model.linear.weight)[:, _in_order_of_depth(model)]
    return weight / temperature, torch.from_numpy(model.linear.bias) / temperature


def exact(model: Model) -> Model:
    """The same model, run by torch in float32: what exports are held against. PlanError for a classical model."""
    if model.table is not None:
        raise PlanError(
            "This model takes rows of a table; it is no network and cannot be exported. `headstart bundle` packs it "
            "with its README."
        )
    if model.classical is not None:
        raise PlanError(
            f"This run ships its classical model ({model.classical.title}), which is no network and cannot be "
            "exported. Use `headstart bundle` to take it elsewhere, or fit again with --strategy auto to ship the "
            "adapted network."
        )
    if registry.plugin_name(model.modality) == "audio":
        raise PlanError("Models of sounds are not exported yet. Use `headstart bundle` to take this one elsewhere.")
    return replace(model, plan=replace(model.plan, way=EXACT), _backbone=None, _network=None)


def _in_order_of_depth(model: Model) -> Tensor:
    """Columns of the head's weights when its stages come from the input on."""
    widths = _stage_widths(model)
    starts = {stage: sum(widths[:i]) for i, stage in enumerate(model.stages)}
    ends = {stage: starts[stage] + widths[i] for i, stage in enumerate(model.stages)}
    return torch.cat([torch.arange(starts[stage], ends[stage]) for stage in sorted(model.stages)])


def _stage_widths(model: Model) -> list[int]:
    """Width D of the pooled features of each stage that the head reads, in the head's order."""
    if len(model.stages) == 1:
        return [model.linear.weight.shape[1]]
    backbone = model.backbone
    pooled = backbone.pooled(backbone.example(), max(model.stages) + 1)
    return [pooled[stage].shape[1] for stage in model.stages]
