"""PEFT's low-rank adapters run as one operation each (LoRA, arXiv:2106.09685): half of what they cost goes into casts.

Frozen weights stand in bfloat16 where training multiplies in it, and adapters in float32, so that small steps are not
lost; PEFT's own forward then takes every input to float32 and back. Here the two products of an adapter are added onto
the frozen one in its own type, and the way back is written out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def run_lean(network: nn.Module) -> None:
    """Let every adapter on a matrix of the network run in this way; its parameters stay PEFT's."""
    adapter: Any
    for adapter in network.modules():
        if hasattr(adapter, "lora_A") and "default" in adapter.lora_A:
            base, rate = adapter.get_base_layer(), adapter.lora_dropout["default"]
            if isinstance(base, nn.Linear) and isinstance(rate, nn.Identity):
                adapter.forward = partial(adapted, adapter, base)


def adapted(adapter: Any, base: nn.Linear, x: Tensor) -> Tensor:
    """x (…, in) times the frozen weight and its update: (…, out)."""
    down, up = adapter.lora_A["default"].weight, adapter.lora_B["default"].weight
    kind = base.weight.dtype
    flat = x.reshape(-1, x.shape[-1]).to(kind)
    with torch.autocast(x.device.type, enabled=False):
        y = LowRank.apply(flat, base.weight, down.to(kind), up.to(kind), adapter.scaling["default"])
        y = y if base.bias is None else y + base.bias
    return y.view(*x.shape[:-1], -1)


class LowRank(torch.autograd.Function):
    """y = x W' + s (x A') B' of x (N, in), W (out, in), A (r, in), B (out, r); W has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        """(N, out)"""
        narrow = x @ down.t()
        ctx.save_for_backward(x, weight, down, up, narrow)
        ctx.scale = scale
        return torch.addmm(nn.functional.linear(x, weight), narrow, up.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Of x, A and B."""
        x, weight, down, up, narrow = ctx.saved_tensors
        (gradient,) = outputs
        back = gradient @ up
        of_x = torch.addmm(gradient @ weight, back, down, alpha=ctx.scale) if ctx.needs_input_grad[0] else None
        return of_x, None, (back.t() @ x).mul_(ctx.scale), (gradient.t() @ narrow).mul_(ctx.scale), None
