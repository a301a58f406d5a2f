"""What in an item drove its answer, and which of the run's examples are like it.

Pictures: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391). For a linear head on mean-pooled maps that is the class
activation map (Zhou et al. 2016, arXiv:1512.04150), and exact. Texts, and what no network with a grid answered:
occlusion (Zeiler and Fergus 2014, arXiv:1311.2901), which needs nothing but the scores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.base import Backbone, Enough, tensor_of
from headstart.deploy.examples import Neighbour
from headstart.engine import freeze
from headstart.progress import Progress
from headstart.tasks.base import LinearHead

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from headstart.deploy.model import Model

MOST_PARTS = 64  # words of a text that are left out one at a time; of a longer one, groups of words
PATCHES = 8  # of a picture, a side
OCCLUDED_PIXELS = 256  # the longer side of a picture that is covered patch by patch
WEAK, STRONG = (255, 196, 0), (214, 40, 20)  # RGB of what counted for a little and for most
CONTRAST = 1.5  # what counted for half as much as most shall look like less than half
OPAQUE = 0.7  # how much of the picture the strongest colour hides


def word_weights(model: Model, text: str, k: int) -> list[tuple[str, float]]:
    """The text in pieces, each with how much score `k` falls when it is left out; joined they are the text."""
    pieces = pieces_of(text)
    without = ["".join([*pieces[:i], *pieces[i + 1 :]]) for i in range(len(pieces))]
    whole, *rest = _scores(model, [text, *without], k)
    return [(piece, float(whole - score)) for piece, score in zip(pieces, rest, strict=True)]


def pieces_of(text: str, most: int = MOST_PARTS) -> list[str]:
    """The words of a text with the space behind each; more than `most` of them in groups of the same size."""
    words = re.findall(r"\s*\S+\s*", text)
    size = max(1, math.ceil(len(words) / most))
    return ["".join(words[i : i + size]) for i in range(0, len(words), size)]


def heat_map(model: Model, item: Any, k: int) -> np.ndarray:
    """(h, w) in 0 … 1: how much each place of a stored picture spoke for score `k`; 1 is the place that did most."""
    places = None
    if model.classical is None:
        backbone = model.backbone if model.changes is not None else model.pretrained  # in float32, with gradients
        opened = model.modality.open(item, backbone.detail)
        places = activation_map(backbone, model.linear, model.stages, opened, k, spread=bool(model.task.score_names))
    if places is None:
        places = patch_weights(model, item, k)
    positive = np.maximum(places, 0)
    return positive / (positive.max() or 1.0)


def activation_map(
    backbone: Backbone, head: LinearHead, stages: Sequence[int], opened: Any, k: int, spread: bool = True
) -> np.ndarray | None:
    """What each place adds to logit `k`, (h, w) float32 with signs; None where no stage has a grid of places.

    It is read at the deepest grid below the head. What has no place (the bias, other stages, a class token) is spread
    evenly, so that the places add up to the logit; without `spread` they add up to 0.
    """
    inputs = {
        name: one.requires_grad_() if one.is_floating_point() else one
        for name, one in backbone.collate([opened]).items()
    }
    outputs = _outputs(backbone, inputs, max(stages) + 1)
    pooled = [backbone.pool(outputs[backbone.stages[stage].modules[-1]], inputs)[0] for stage in stages]
    logit = torch.cat(pooled).float() @ torch.tensor(head.weight[k]) + float(head.bias[k])
    seen = next((one for one in reversed(outputs.values()) if grid(one) is not None), None)
    if seen is None:
        return None
    (gradient,) = torch.autograd.grad(logit, seen)
    maps, slopes = grid(seen), grid(gradient)
    assert maps is not None, "it has a grid"
    assert slopes is not None, "a gradient has the shape of what it is the gradient of"
    places = (slopes.mean((1, 2))[:, None, None] * maps).sum(0).detach().float()
    total = float(logit.detach()) if spread else 0.0
    return (places + (total - places.sum()) / places.numel()).numpy()


def grid(activation: Tensor) -> Tensor | None:
    """Of one picture, (1, C, H, W) or tokens (1, T, D) in a square as (C, h, w); None where there are no places.

    A token more than a square is the class token, and left out.
    """
    if activation.ndim == 4:
        return activation[0] if activation[0, 0].numel() > 1 else None
    if activation.ndim != 3:
        return None
    tokens = activation[0]
    side = math.isqrt(len(tokens))
    if side * side + 1 == len(tokens):
        tokens = tokens[1:]
    if side < 2 or side * side != len(tokens):
        return None
    return tokens.T.reshape(-1, side, side)


def patch_weights(model: Model, item: Any, k: int) -> np.ndarray:
    """(8, 8): how much score `k` of a stored picture falls when a patch is covered with the picture's mean colour."""
    picture = model.modality.open(item, OCCLUDED_PIXELS)
    picture.thumbnail((OCCLUDED_PIXELS, OCCLUDED_PIXELS))
    pixels = np.asarray(picture)
    rows, columns = (np.linspace(0, side, PATCHES + 1).round().astype(int) for side in pixels.shape[:2])
    covered = []
    for i, j in np.ndindex(PATCHES, PATCHES):
        copy = pixels.copy()
        copy[rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = pixels.mean((0, 1))
        covered.append(model.modality.store(copy, None))
    whole, *rest = _scores(model, [model.modality.store(pixels, None), *covered], k)
    return whole - np.reshape(rest, (PATCHES, PATCHES))


def overlay(picture: Picture, heat: np.ndarray, pixels: int = 480) -> Picture:
    """The RGB picture in grey, at most so many pixels a side, with the `heat` (h, w) in 0 … 1 laid over in colour."""
    from PIL import Image

    scale = min(1.0, pixels / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    base = np.asarray(picture.resize(size).convert("L").convert("RGB"), dtype=np.float32)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(smooth), 0, 1)[:, :, None] ** CONTRAST
    colour = (1 - share) * np.array(WEAK) + share * np.array(STRONG)
    return Image.fromarray((base + OPAQUE * share * (colour - base)).round().astype(np.uint8))


def most_similar(model: Model, item: Any, n: int = 5) -> list[Neighbour]:
    """The run's own examples that are most like a stored item to the pretrained network; [] where it kept none."""
    kept = model.examples
    if kept is None or not kept.embeddings.size:
        return []
    backbone = model.backbone if model.changes is None else model.pretrained
    digests = [model.modality.examine(item).digest]
    last = [backbone.n_stages - 1]
    return kept.nearest(freeze.embed(backbone, model.modality, [item], digests, last, Progress().bar)[0], n)


def _outputs(backbone: Backbone, inputs: dict[str, Tensor], n_stages: int) -> dict[str, Tensor]:
    """Path -> output of every module of the first stages, in the order in which they run, with gradients."""
    network = backbone.beside().network  # hooks of its own
    paths = [path for stage in backbone.stages[:n_stages] for path in stage.modules]
    outputs: dict[str, Tensor] = {}

    def keep(path: str, output: Any) -> None:
        outputs[path] = tensor_of(output)
        if path == paths[-1]:
            raise Enough

    def hook(path: str) -> Any:
        def ran(module: nn.Module, args: Any, output: Any) -> None:
            keep(path, output)

        return network.get_submodule(path).register_forward_hook(ran)

    with torch.enable_grad(), ExitStack() as hooks, suppress(Enough):
        for path in paths:
            hooks.callback(hook(path).remove)
        network(**inputs)
    return outputs


def _scores(model: Model, items: Sequence[Any], k: int) -> np.ndarray:
    """Score `k` (N,) of stored items."""
    return model.scores(items, [model.modality.examine(item).digest for item in items])[:, k]
