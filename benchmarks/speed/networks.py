"""The pretrained networks as the peers get them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.speed.tasks import Case
from headstart.backbones.base import Located
from headstart.backbones.efficientnet_lite import EfficientnetLite

SIDE, MEAN, STD, WIDTH = 224, (127 / 255,) * 3, (128 / 255,) * 3, 1280


def efficientnet(case: Case) -> nn.Module:
    """EfficientNet-Lite0, trainable and contiguous as any network from a file is; (N, 3, 224, 224) to (N, 1000).

    Its children are stem, blocks, head and classifier. It answers as the package efficientnet_lite_pytorch does, to
    the last bit, and takes as long.
    """
    folder = case.weights / "efficientnet-lite0"
    located = Located(
        name=folder.name, family="efficientnet_lite", folder=folder, source="", licence="Apache-2.0", sha256=""
    )
    network = EfficientnetLite.load(located).network.requires_grad_(True)
    return network.to(memory_format=torch.contiguous_format)


def pixels(paths: Sequence[str]) -> Tensor:
    """Pictures as (N, 3, 224, 224) float32, resized and normalised as the weights want it."""
    from headstart.backbones.pixels import Pixels

    opened = [Image.open(path).convert("RGB") for path in paths]
    return Pixels(side=SIDE, mean=MEAN, std=STD).tensor(opened)


def chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    """The items in order, `size` at a time."""
    return (items[i : i + size] for i in range(0, len(items), size))
