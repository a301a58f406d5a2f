"""Fold each batch norm of a frozen network into the convolution before it, and compute the activation along with it.

In `eval()` a batch norm is one multiplication and one addition a channel, which the convolution's own weights can do
(Jacob et al. 2018, arXiv:1712.05877, section 3.2), and an activation can be applied before a result leaves the
processor's cache. Half of the time of a mobile network goes into memory traffic that this saves. The function stays
the same, but for rounding.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from headstart.backbones.base import Backbone

ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {  # oneDNN's word for it, and its numbers
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}


class PadsBySize(nn.Conv2d, ABC):
    """A convolution whose own `forward` pads by the size of its input."""

    @abstractmethod
    def padding_of(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Rows above and below, columns left and right."""


@dataclass(frozen=True)
class Chain:
    """A convolution, the batch norm that alone reads it and the activation that alone reads that, by their paths."""

    conv: str
    norm: str
    activation: str | None
    size: tuple[int, int]  # of the convolution's input, height and width


class FoldedConv2d(nn.Conv2d):
    """A convolution with its batch norm in its weights and its activation applied on the way out."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, activation: nn.Module | None, size: tuple[int, int]) -> None:
        statistics: Any = norm
        weight: Tensor
        weight, bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            statistics.running_mean,
            statistics.running_var,
            statistics.eps,
            statistics.weight,
            statistics.bias,
        )
        padding: Any = conv.padding
        if isinstance(conv, PadsBySize):
            weight, padding = _symmetric(weight, conv.padding_of(*size))
        kernel: Any = weight.shape[2:]
        stride: Any = conv.stride
        dilation: Any = conv.dilation
        super().__init__(
            conv.in_channels, conv.out_channels, kernel, stride, padding, dilation, conv.groups, device="meta"
        )
        self.weight, self.bias = nn.Parameter(_like(conv.weight, weight), False), nn.Parameter(bias, False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        if x.device.type == "cpu" and torch.backends.mkldnn.is_available():
            name, numbers = ACTIVATIONS[type(self.activation)] if self.activation is not None else ("none", [])
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups, name, numbers, ""
            )
        y = super().forward(x)
        return y if self.activation is None else self.activation(y)


def folded(backbone: Backbone) -> Backbone:
    """This backbone with every batch norm folded that can be; itself where there is none."""
    chains = find_chains(backbone)
    if not chains:
        return backbone
    other = copy.copy(backbone)
    other.network = network = copy.deepcopy(backbone.network)
    for chain in chains:
        conv, norm = network.get_submodule(chain.conv), network.get_submodule(chain.norm)
        activation = network.get_submodule(chain.activation) if chain.activation else None
        assert isinstance(conv, nn.Conv2d)
        network.set_submodule(chain.conv, FoldedConv2d(conv, norm, activation, chain.size))
        for path in filter(None, (chain.norm, chain.activation)):
            network.set_submodule(path, nn.Identity())
    return other


@torch.no_grad()
def find_chains(backbone: Backbone) -> list[Chain]:
    """The convolutions that a batch norm follows, seen by running an empty picture: a module reads what another gave.

    A module that runs twice, or that is read as a stage's output before the activation, is left alone. That nothing
    else reads a convolution's output is not seen here: whoever takes the result must compare it (`engine/fastest.py`).
    """
    if backbone.modality != "image":  # nothing else has two-dimensional convolutions
        return []
    kinds: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.BatchNorm2d, *ACTIVATIONS)
    modules = {p: m for p, m in backbone.network.named_modules() if isinstance(m, kinds)}
    given: dict[str, list[Version]] = {path: [] for path in modules}
    gave: dict[str, list[Version]] = {path: [] for path in modules}
    hooks = []
    for path, module in modules.items():
        hooks.append(module.register_forward_pre_hook(lambda _m, args, path=path: given[path].append(Version(args[0]))))
        hooks.append(module.register_forward_hook(lambda _m, _a, output, path=path: gave[path].append(Version(output))))
    try:
        backbone.network(**backbone.placeholders([None]))
    finally:
        for hook in hooks:
            hook.remove()
    reader = {one[0].key: path for path, one in given.items() if len(one) == 1}
    ends = {path for stage in backbone.stages for path in stage.modules}

    def next_of(path: str, *kinds: type[nn.Module]) -> str | None:
        found = reader.get(gave[path][0].key) if path not in ends else None
        return found if found is not None and type(modules[found]) in kinds else None

    chains = []
    for path, module in modules.items():
        if len(gave[path]) != 1 or not isinstance(module, nn.Conv2d):
            continue
        if type(module) is not nn.Conv2d and not isinstance(module, PadsBySize):
            continue  # with a forward of its own
        norm = next_of(path, nn.BatchNorm2d)
        if norm and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            height, width = given[path][0].tensor.shape[2:]
            chains.append(Chain(path, norm, next_of(norm, *ACTIVATIONS), (height, width)))
    return chains


class Version:
    """A tensor as it was at some time: one that is then changed in place is another."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor  # kept, so that nothing else gets its id
        self.key = (id(tensor), tensor._version)


def _symmetric(weight: Tensor, padding: tuple[int, int, int, int]) -> tuple[Tensor, tuple[int, int]]:
    """The same convolution with as much padding on both sides: zeros in the kernel where the smaller side was."""
    above, below, left, right = padding
    height, width = max(above, below), max(left, right)
    zeros = [width - left, width - right, height - above, height - below]
    return nn.functional.pad(weight, zeros), (height, width)


def _like(original: Tensor, weight: Tensor) -> Tensor:
    """In the memory format of the original."""
    return weight.contiguous(
        memory_format=torch.channels_last
        if original.is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
