"""A model from the network's inputs to its scores, as one torch module: what exports are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from headstart.deploy.model import Model
from headstart.engine.onnx import Pooled
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
        self.final = FINAL[model.task.final]
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


def calibrated_head(model: Model) -> tuple[Tensor, Tensor]:
    """(weight (K, D), bias (K,)) with the temperature in them, for stages in order of depth."""
    temperature = model.plan.temperature if model.task.calibrated else 1.0
    weight = torch.from_numpy(model.head.weight)[:, _in_order_of_depth(model)]
    return weight / temperature, torch.from_numpy(model.head.bias) / temperature


def exact(model: Model) -> Model:
    """The same model, run by torch in float32: what exports are held against. PlanError for a classical model."""
    if model.classical is not None:
        raise PlanError(
            f"This run ships its classical model ({model.classical.title}), which is no network and cannot be "
            "exported. Use `headstart bundle` to take it elsewhere, or fit again with --strategy auto to ship the "
            "adapted network."
        )
    return replace(model, plan=replace(model.plan, way=EXACT), _backbone=None)


def _in_order_of_depth(model: Model) -> Tensor:
    """Columns of the head's weights when its stages come from the input on."""
    widths = _stage_widths(model)
    starts = {stage: sum(widths[:i]) for i, stage in enumerate(model.stages)}
    ends = {stage: starts[stage] + widths[i] for i, stage in enumerate(model.stages)}
    return torch.cat([torch.arange(starts[stage], ends[stage]) for stage in sorted(model.stages)])


def _stage_widths(model: Model) -> list[int]:
    """Width D of the pooled features of each stage that the head reads, in the head's order."""
    if len(model.stages) == 1:
        return [model.head.weight.shape[1]]
    backbone = model.backbone
    blank = torch.zeros(1, 3, backbone.detail or 1, backbone.detail or 1)
    inputs = {"pixel_values": blank} if backbone.modality == "image" else backbone.collate(["a"])
    pooled = backbone.pooled(inputs, max(model.stages) + 1)
    return [pooled[stage].shape[1] for stage in model.stages]
