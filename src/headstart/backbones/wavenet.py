"""WaveNet for series (van den Oord et al. 2016, arXiv:1609.03499): causal dilated gated convolutions, in stages.

What stands at a step depends on nothing after it, and each step is read in units of what came before it
(`causal_scale`), so that one pass over a series gives the states that forecasts from all its steps start from.
Networks of this kind are made by `headstart pretrain SOURCE --task forecasting`, and kept with the head that they
learnt with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from headstart.backbones.base import Located, Provenance, Stage
from headstart.backbones.quantile_head import Outlooks, QuantileHead, at
from headstart.backbones.series import SeriesBackbone
from headstart.data.causal_scale import N_INPUTS
from headstart.data.stretches import Stretch
from headstart.errors import BackboneError

MODEL_TYPE = "headstart-wavenet"
NETWORK, HEAD = "network.", "head."  # of the names in the weight file
FURTHEST = 1024  # steps that one convolution may look back
TAPS = 2  # steps that a convolution looks at


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a network is built."""

    width: int = 48
    dilations: tuple[tuple[int, ...], ...] = ((1, 2, 4), (8, 16, 32), (64, 128, 256))  # of each stage's convolutions
    dropout: float = 0.0

    @classmethod
    def of_season(cls, season: int) -> Layout:
        """Dilations that meet the same phase of the seasons before (measured: docs/log.md)."""
        if season < 2:
            return cls()
        groups = ((1, 2, 4), (max(1, season // 3), season, 2 * season), (4 * season, 7 * season, 14 * season))
        kept = (tuple(one for one in group if one <= FURTHEST) for group in groups)
        return cls(width=64, dilations=tuple(group for group in kept if group), dropout=0.1)

    @property
    def context(self) -> int:
        """Steps that a state depends on."""
        return 1 + (TAPS - 1) * sum(sum(stage) for stage in self.dilations)


class WaveNet(SeriesBackbone):
    """Stages: the input layer, groups of dilated convolutions, and the layer after them."""

    dense = True

    def __init__(self, network: Network, own: QuantileHead | None, provenance: Provenance) -> None:
        layout = network.layout
        stages = [Stage(name="input", modules=("enter",))]
        stages += [
            Stage(name=f"dilations {group[0]} to {group[-1]}", modules=(f"groups.{number}",))
            for number, group in enumerate(layout.dilations)
        ]
        stages.append(Stage(name="output", modules=("leave",)))
        super().__init__(network, stages, provenance, {"inputs": N_INPUTS, **_plain(layout)})
        self.own = own

    @classmethod
    def load(cls, located: Located) -> WaveNet:
        """Network and head out of a folder that `headstart pretrain` wrote."""
        try:
            saved = json.loads((located.folder / "config.json").read_text(encoding="utf-8"))
            tensors = load_file(located.folder / "model.safetensors")
            network = Network(_layout(saved["layout"]))
            network.load_state_dict(_part(tensors, NETWORK))
            own = QuantileHead(Outlooks.from_json(saved["outlooks"]))
            own.load_state_dict(_part(tensors, HEAD))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            said = str(error).partition("\n")[0]
            raise BackboneError(
                f"{located.folder} holds no WaveNet that this version reads ({type(error).__name__}: {said}). "
                "Run `headstart pretrain SOURCE --task forecasting` again, or copy the folder anew."
            ) from error
        return cls(network, own.eval().requires_grad_(False), Provenance.of(located, network))

    @classmethod
    def blank(cls, layout: Layout, provenance: Provenance) -> WaveNet:
        """With random weights, from torch's global generator, and no head."""
        return cls(Network(layout), None, provenance)

    @property
    def context(self) -> int:
        """Steps that the states of an origin depend on; scales fade out over as many again."""
        layout: Layout = self.network.layout
        return layout.context

    @property
    def own_outlooks(self) -> Outlooks | None:
        """What the head that it was pretrained with reads and writes."""
        return None if self.own is None else self.own.outlooks

    def collate(self, items: Sequence[Stretch]) -> dict[str, Tensor]:
        """`inputs` (N, T, N_INPUTS) and `observed` (N, T), padded at the end; `steps` (N,) that count."""
        longest = max(len(item) for item in items)
        return {
            "inputs": _stacked([item.scaled.inputs for item in items], longest),
            "observed": _stacked([item.scaled.observed for item in items], longest),
            "steps": torch.tensor([len(item) for item in items]),
        }

    def unpad(self, activation: Tensor, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(T_i, C) of each stretch."""
        return [row[:n] for row, n in zip(activation, inputs["steps"].tolist(), strict=True)]

    def states(self, output: Tensor, inputs: Mapping[str, Tensor], origins: Tensor) -> Tensor:
        """(N, K, C) what stands at the origins (N, K)."""
        return at(output, origins)

    def reinitialised(self) -> nn.Module:
        """A network of the same layout with random weights."""
        return Network(self.network.layout)


class Network(nn.Module):
    """Inputs (N, T, N_INPUTS) to states (N, T, width)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.enter = Enter(layout.width)
        self.groups = nn.ModuleList(Group(layout, dilations) for dilations in layout.dilations)
        self.leave = Leave(layout.width, sum(len(group) for group in layout.dilations))

    def forward(self, inputs: Tensor, **beside: Tensor) -> Tensor:
        """What else is known of a series is for the head."""
        both = self.enter(inputs)
        for group in self.groups:
            both = group(both)
        return torch.as_tensor(self.leave(both))


class Enter(nn.Module):
    """Inputs to what is handed on (N, T, 2 × width): states, and the sum of what convolutions skip to the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(N_INPUTS, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Nothing is skipped yet."""
        states = self.linear(inputs)
        return torch.cat([states, torch.zeros_like(states)], -1)


class Group(nn.Module):
    """Gated convolutions of growing dilation, one after the other."""

    def __init__(self, layout: Layout, dilations: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(layout, dilation) for dilation in dilations)

    def forward(self, both: Tensor) -> Tensor:
        """States and skipped sum, as handed on."""
        states, skipped = both.chunk(2, -1)
        for block in self.blocks:
            states, more = block(states)
            skipped = skipped + more
        return torch.cat([states, skipped], -1)


class Block(nn.Module):
    """One gated convolution over the step itself and one that lies `dilation` steps back."""

    def __init__(self, layout: Layout, dilation: int) -> None:
        super().__init__()
        self.dilation, width = dilation, layout.width
        self.gate = nn.Linear(TAPS * width, 2 * width)
        self.drop = nn.Dropout(layout.dropout)
        self.out = nn.Linear(width, 2 * width)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(states, what is skipped to the end), both (N, T, width)."""
        n_steps = states.shape[1]
        back = nn.functional.pad(states, (0, 0, self.dilation, 0))[:, :n_steps]
        value, gate = self.gate(torch.cat([states, back], -1)).chunk(2, -1)
        more, skipped = self.out(self.drop(value.tanh() * gate.sigmoid())).chunk(2, -1)
        return (states + more) * math.sqrt(0.5), skipped


class Leave(nn.Module):
    """What was skipped to the end, as states of unit size."""

    def __init__(self, width: int, n_blocks: int) -> None:
        super().__init__()
        self.n_blocks = n_blocks
        self.linear, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, both: Tensor) -> Tensor:
        """(N, T, 2 × width) to (N, T, width)."""
        skipped = both.chunk(2, -1)[1] / math.sqrt(self.n_blocks)
        silu = nn.functional.silu
        return torch.as_tensor(self.norm(silu(self.linear(silu(skipped)))))


def files_of(backbone: WaveNet, head: Mapping[str, Tensor], outlooks: Outlooks) -> dict[str, Any]:
    """(settings, tensors by name) of a folder that `load` takes: {"config": …, "tensors": …}."""
    tensors = {f"{NETWORK}{name}": one.contiguous() for name, one in backbone.network.state_dict().items()}
    tensors |= {f"{HEAD}{name}": one.contiguous() for name, one in head.items()}
    layout: Layout = backbone.network.layout
    config = {"model_type": MODEL_TYPE, "layout": asdict(layout), "outlooks": outlooks.to_json()}
    return {"config": config, "tensors": tensors}


def _stacked(rows: Sequence[np.ndarray], longest: int) -> Tensor:
    """(T_i, …) each, as (N, longest, …), zeros after the end."""
    padded = [np.pad(row, [(0, longest - len(row)), *[(0, 0)] * (row.ndim - 1)]) for row in rows]
    return torch.from_numpy(np.stack(padded))


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


def _plain(layout: Layout) -> dict[str, Any]:
    return {**asdict(layout), "dilations": [list(group) for group in layout.dilations]}


def _layout(saved: dict[str, Any]) -> Layout:
    return Layout(**{**saved, "dilations": tuple(tuple(group) for group in saved["dilations"])})
