"""Fracast-0: one convolution on a ladder of dilations, for series of all kinds (ztxtech/fracast-0, Apache-2.0).

The network is ported from the package `fracast` 0.1.0, its weights in float32. A window is 2048 steps, of which a
shorter series fills the end, normalised to its own least and greatest value. All levels of the ladder are the same
block, so that none can be frozen without the others: the ladder is one stage, and there are two.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from headstart.backbones.base import Located, Provenance, Stage
from headstart.backbones.families import is_fracast
from headstart.backbones.fracast_head import Block, GatherHead, Settings
from headstart.backbones.periods import N_RECENCY, phases, recency
from headstart.backbones.series import SeriesBackbone, check_last, ends_together, seasons, whole
from headstart.backbones.transformers import read_json
from headstart.data.stretches import Stretch
from headstart.errors import BackboneError

EPSILON = 1e-5  # the least range, in the series' own unit, as its authors have it
BUDGET = 16 * 2048  # steps a batch
BUILT = {  # settings with one value in all that was published: the code for others was not ported
    "level_widths": None,
    "causal": True,
    "separable_conv": True,
    "share_stages": True,
    "scale_cond": "film",
    "recency_encoding": True,
    "periodic_phase": True,
    "head_kind": "gather",
    "head_output_mode": "direct",
    "head_future_conv": True,
    "head_seasonal_fill_mode": "phase_mean",
}
STAGES = (
    Stage(name="embedding", modules=("core.in_proj", "core.periodic")),
    Stage(name="ladder", modules=("core.block", "core.scale", "core.norm")),
)


class Fracast(SeriesBackbone):
    """The embedding of a window, then the ladder."""

    network: Network

    @classmethod
    def load(cls, located: Located) -> Fracast:
        """Build the network of a folder in the hub's layout, in float32."""
        settings = _settings(read_json(located, "config.json"), located)
        try:
            network = Network(settings)
            network.load_state_dict(load_file(located.folder / "model.safetensors"))
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise BackboneError(f"The weights in {located.folder} do not fit its config.json: {error}") from error
        network.float()
        seen = {"normalised": "min-max", "config": _sha256(settings)}
        made = cls(network, STAGES, Provenance.of(located, network), seen)
        made.detail = made.context
        return made

    @property
    def context(self) -> int:
        """The window, 2048 steps."""
        return self.network.settings.W

    @property
    def own_horizon(self) -> int:  # type: ignore[override]
        """48 steps."""
        return self.network.settings.horizon

    @property
    def own_levels(self) -> tuple[float, ...]:  # type: ignore[override]
        """From .1 to .9."""
        return tuple(self.network.settings.quantiles)

    @property
    def batch_budget(self) -> int:
        """Steps."""
        return BUDGET

    def lengths(self, items: Sequence[Stretch]) -> list[int]:
        """The window, however little of it a stretch fills."""
        return [self.context] * len(items)

    def collate(self, items: Sequence[Stretch]) -> dict[str, Tensor]:
        """T is the window; see series.py."""
        values, observed = ends_together(items, self.context)
        known = observed.any(1)
        low = np.where(known, np.where(observed, values, np.inf).min(1), 0.0)
        high = np.where(known, np.where(observed, values, -np.inf).max(1), 1.0)
        return whole(values, observed, low, np.maximum(high - low, EPSILON)) | {"season": seasons(items)}

    def unpad(self, activation: Tensor, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(W, C) of each window: what lies before a short series is convolved too."""
        return list(activation)

    def states(self, output: Tensor, inputs: Mapping[str, Tensor], origins: Tensor) -> Tensor:
        """(N, 1, 2 C): the mean and the last of the window's states, which are what its own head reads."""
        check_last(inputs, origins)
        return torch.cat([output.mean(dim=1), output[:, -1]], dim=-1)[:, None]

    def own_quantiles(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, 48, 9)."""
        states = self.network(**inputs)
        out: Tensor = self.network.head(states, inputs["values"], inputs["observed"])
        return out


class Network(nn.Module):
    """The encoder, by the names of the hub's files; the head is there for whoever calls it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.core, self.head = _Core(settings), GatherHead(settings)

    def forward(self, values: Tensor, observed: Tensor, **unread: Tensor) -> Tensor:
        """Windows (N, W) to states (N, W, C)."""
        out: Tensor = self.core(values, observed)
        return out


class _Core(nn.Module):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings, width = settings, settings.d_model
        self.in_proj = nn.Linear(2 + N_RECENCY, width)
        self.periodic = _Periodic(settings)
        self.block = Block(settings)
        self.scale = _Scale(settings)
        self.norm = nn.RMSNorm(width)

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        n, n_steps = values.shape
        where = recency(torch.arange(n_steps, device=values.device), n_steps).to(values.dtype)
        seen = torch.stack([values, observed.to(values.dtype)], dim=-1)
        x = self.periodic(self.in_proj(torch.cat([seen, where.expand(n, -1, -1)], dim=-1)), values, observed)
        for level in range(self.settings.n_stages):
            dilation = self.settings.dilation_base**level
            x = self.block(self.scale(x, dilation), dilation)
        out: Tensor = self.norm(x)
        return out


class _Periodic(nn.Module):
    """Adds where each step stands in the window's strongest periods."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.proj = nn.Linear(2 * settings.n_periods * settings.periodic_harmonics, settings.d_model)

    def forward(self, x: Tensor, values: Tensor, observed: Tensor) -> Tensor:
        positions = torch.arange(values.shape[1], device=values.device)
        told = phases(positions, self.settings.periods(values, observed), self.settings.periodic_harmonics)
        return x + self.proj(told.to(x.dtype))


class _Scale(nn.Module):
    """Tells the block at which dilation it runs: a factor and a shift of each channel (FiLM, arXiv:1709.07871)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.n_waves = max(1, settings.scale_cond_dim // 2)
        self.to_gb = nn.Linear(2 * self.n_waves, 2 * settings.d_model)
        nn.init.zeros_(self.to_gb.weight)
        nn.init.zeros_(self.to_gb.bias)

    def forward(self, x: Tensor, dilation: int) -> Tensor:
        angle = math.log2(dilation) / torch.pow(2.0, torch.arange(self.n_waves, device=x.device)) * math.pi
        factor, shift = self.to_gb(torch.cat([angle.sin(), angle.cos()]).to(x.dtype)).chunk(2, dim=-1)
        return x * (1.0 + factor) + shift


def _settings(saved: Mapping[str, Any], located: Located) -> Settings:
    if not is_fracast(saved):
        raise BackboneError(f'{located.name} is no Fracast: its config.json has no "model" of the family "fracast".')
    model: dict[str, Any] = saved["model"]
    wanted = BUILT | {"level_widths": [model.get("W")]}
    odd = {name: model[name] for name, value in wanted.items() if name in model and model[name] != value}
    if odd or (saved.get("pyramid") or {}).get("ratios"):
        raise BackboneError(
            f"{located.name} has settings that no published Fracast has: {odd or saved['pyramid']}. "
            f"Headstart runs Fracast-0 and networks with { ({name: wanted[name] for name in odd} or 'no pyramid') }."
        )
    names = {field.name for field in dataclasses.fields(Settings)}
    try:
        return Settings(**{name: value for name, value in model.items() if name in names})
    except TypeError as error:
        raise BackboneError(f"{located.name} has settings that make no network: {error}") from error


def _sha256(settings: Settings) -> str:
    return hashlib.sha256(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode()).hexdigest()
