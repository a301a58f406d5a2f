"""What passes cost: floating-point operations, and what is moved to and from memory; counted, not timed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from headstart.backbones.base import Backbone, tensor_of

MEMORY = 100  # measured: foretells each stage of EfficientNet-Lite0 to 0.03 of a pass (docs/log.md)
DISK = 300  # measured: what it takes to keep a number and read it again (docs/log.md)


def stage_costs(backbone: Backbone, items: Sequence[Any]) -> tuple[list[float], list[float]]:
    """What each stage costs, as shares of a forward pass over these items: to run it, to write or read its output.

    A number that a layer writes to memory counts as much as MEMORY floating-point operations: early stages of
    convolutional networks compute little and move much. One that is kept and read again counts as DISK.
    """
    done, kept, written = [0.0], list[float](), 0
    inputs = backbone.collate(items)

    def write(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal written
        written += output.numel() if isinstance(output, Tensor) else 0

    def end(module: nn.Module, args: Any, output: Any) -> None:
        done.append(float(counter.get_total_flops()) + MEMORY * written)
        kept.append(DISK * tensor_of(output).numel())

    layers = [module for module in backbone.network.modules() if not list(module.children())]
    ends = [backbone.network.get_submodule(stage.modules[-1]) for stage in backbone.stages]
    hooks = [layer.register_forward_hook(write) for layer in layers]
    hooks += [module.register_forward_hook(end) for module in ends]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            backbone.network(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    work = [after - before for before, after in itertools.pairwise(done)]
    total = sum(work) or 1.0
    return [one / total for one in work], [one / total for one in kept]


@torch.no_grad()
def work_of(module: nn.Module, *args: Any, **kwargs: Any) -> float:
    """What one forward pass of a module costs: its floating-point operations, and MEMORY for each number written."""
    written = 0

    def write(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal written
        written += output.numel() if isinstance(output, Tensor) else 0

    layers = [one for one in module.modules() if not list(one.children())]
    hooks = [layer.register_forward_hook(write) for layer in layers]
    try:
        with FlopCounterMode(display=False) as counter:
            module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return float(counter.get_total_flops()) + MEMORY * written
