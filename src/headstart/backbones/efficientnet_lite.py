"""EfficientNet-Lite: a mobile ImageNet network (Tan & Le 2019, arXiv:1905.11946; the Lite variants are Google's, 2020).

Lite means: no squeeze-and-excite, ReLU6 instead of swish, and a stem and head that do not grow with the network.
The weights are TensorFlow's, so strided convolutions pad as TensorFlow's "SAME" does (more on the right and below),
and pictures are normalised with (value - 127) / 128.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import pad

from headstart.backbones.base import Backbone, Located, Provenance, Stage
from headstart.backbones.fold import PadsBySize
from headstart.backbones.pixels import Pixels
from headstart.errors import BackboneError, listed

VARIANTS = {  # name: width, depth, side of the pictures it was trained on
    "efficientnet-lite0": (1.0, 1.0, 224),
    "efficientnet-lite1": (1.0, 1.1, 240),
    "efficientnet-lite2": (1.1, 1.2, 260),
}
BLOCKS = (  # per group of blocks: repeats, kernel, stride of the first, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280  # channels

T = TypeVar("T")


class EfficientnetLite(Backbone):
    """Stem, seven groups of blocks, head: 9 stages. Pooling is the mean over the picture."""

    modality = "image"
    network: _Network

    def __init__(self, network: _Network, provenance: Provenance, pixels: Pixels) -> None:
        groups = [Stage(name=f"blocks {i + 1}", modules=(f"blocks.{i}",)) for i in range(len(BLOCKS))]
        stages = [Stage(name="stem", modules=("stem",)), *groups, Stage(name="head", modules=("head",))]
        super().__init__(network, stages, provenance, pixels.to_json())
        self.pixels = pixels
        self.detail, self.canvas = min(pixels.shape), pixels.shape

    @classmethod
    def load(cls, located: Located) -> EfficientnetLite:
        """Build the variant that `located` names from model.safetensors, with the published file's keys."""
        variant = located.variant or located.name
        if variant not in VARIANTS:
            raise BackboneError(f"{variant!r} is not an EfficientNet-Lite that Headstart knows: {listed(VARIANTS)}.")
        width, depth, side = VARIANTS[variant]
        network = _Network(width, depth)
        published = load_file(located.folder / "model.safetensors")
        try:
            network.load_state_dict(_renamed(published, network))
        except (RuntimeError, KeyError) as error:
            raise BackboneError(f"The weights in {located.folder} do not fit {variant}: {error}") from error
        nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast here
        pixels = Pixels(side=side, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
        backbone = cls(network, Provenance.of(located, network), pixels)
        backbone.variant = variant
        return backbone

    def weights(self, located: Located) -> dict[str, Tensor]:
        """The network's tensors by the published names."""
        names = {name: name for name in load_file(located.folder / "model.safetensors")}
        state = self.network.state_dict()
        return {theirs: state[ours].contiguous() for ours, theirs in _renamed(names, self.network).items()}

    def lengths(self, items: Sequence[Any]) -> list[int]:
        """1 for each picture."""
        return [1] * len(items)

    def at(self, canvas: tuple[int, int]) -> EfficientnetLite:
        """For pictures of any size."""
        pixels = replace(self.pixels, canvas=canvas)
        other = EfficientnetLite(self.network, self.provenance, pixels)
        other.variant = self.variant
        return other

    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """RGB PIL images as `pixel_values` (N, 3, side, side)."""
        return {"pixel_values": self.pixels.tensor(items)}

    def pool(self, output: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, C, H, W) to (N, C)."""
        return output.float().mean((2, 3))

    @property
    def source_head(self) -> tuple[Tensor, Tensor]:
        """ImageNet's classifier: weight (1000, 1280), bias (1000,)."""
        return self.network.classifier.weight, self.network.classifier.bias

    @torch.inference_mode()
    def classify(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, 1000) of the ImageNet classes that the network was trained on."""
        return self.network(**inputs)


class _Network(nn.Module):
    """(N, 3, S, S) to logits (N, 1000)."""

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.stem = _conv(3, STEM, kernel=3, stride=2)
        groups, channels = [], STEM
        for i, (repeats, kernel, stride, expansion, base) in enumerate(BLOCKS):
            out = _rounded(base * width)
            n = repeats if i in (0, len(BLOCKS) - 1) else math.ceil(repeats * depth)  # the ends do not grow deeper
            first = _Block(channels, out, kernel, stride, expansion)
            groups.append(nn.Sequential(first, *(_Block(out, out, kernel, 1, expansion) for _ in range(n - 1))))
            channels = out
        self.blocks = nn.Sequential(*groups)
        self.head = _conv(channels, HEAD, kernel=1)
        self.classifier = nn.Linear(HEAD, 1000)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.classifier(self.head(self.blocks(self.stem(pixel_values))).mean((2, 3)))


class _Block(nn.Module):
    """Inverted residual: widen, filter each channel by itself, narrow."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = _conv(channels, wide, kernel=1) if expansion > 1 else nn.Identity()
        self.depthwise = _conv(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = _conv(wide, out, kernel=1, act=False)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class _SameConv2d(PadsBySize):
    """A strided convolution that pads as TensorFlow's "SAME": the odd pixel goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        above, below, left, right = self.padding_of(x.shape[2], x.shape[3])
        return super().forward(pad(x, (left, right, above, below)))

    def padding_of(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Rows above and below, columns left and right."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        totals = (max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in (height, width))
        (above, below), (left, right) = ((total // 2, total - total // 2) for total in totals)
        return above, below, left, right


def _conv(channels: int, out: int, *, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    if stride > 1:
        conv: nn.Conv2d = _SameConv2d(channels, out, kernel, stride, groups=groups, bias=False)
    else:
        conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(out, eps=1e-3, momentum=0.01)
    return nn.Sequential(conv, norm, nn.ReLU6()) if act else nn.Sequential(conv, norm)


def _rounded(channels: float) -> int:
    """To the nearest multiple of 8, but never down by more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


OUTER = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1", "_fc": "classifier"}
INNER = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}


def _renamed(published: Mapping[str, T], network: _Network) -> dict[str, T]:
    """The published file's keys, which count the blocks from first to last, as ours, which count within groups."""
    groups = [len(list(group.children())) for group in network.blocks]
    places = [f"blocks.{i}.{j}" for i, n_blocks in enumerate(groups) for j in range(n_blocks)]
    ours = {}
    for key, value in published.items():
        match key.split("."):
            case ["_blocks", index, layer, leaf] if int(index) < len(places):
                ours[f"{places[int(index)]}.{INNER[layer]}.{leaf}"] = value
            case [layer, leaf]:
                ours[f"{OUTER[layer]}.{leaf}"] = value
            case _:
                raise KeyError(key)
    return ours
