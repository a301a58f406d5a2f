"""Fracast-0's convolutional block and its forecasting head, ported from ztxtech/fracast-0 (Apache-2.0)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from headstart.backbones.periods import N_RECENCY, filled_with_mean, recency, seasonal_means, significant_periods


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The part of config.json's "model" that makes the network."""

    W: int  # steps of a window
    d_model: int
    n_stages: int  # levels of the ladder
    dilation_base: int = 2
    kernel_size: int = 3
    ffn_mult: float = 1.5
    scale_cond_dim: int = 8
    periodic_topk: int = 4
    periodic_harmonics: int = 1
    periodic_alpha: float = 0.05
    periodic_min_period: int = 2
    quantiles: list[float] = field(default_factory=list)
    horizon: int
    head_d_ff: int
    head_layers: int = 1
    head_fc_layers: int = 2
    head_fc_kernel: int = 3
    head_future_conv_layers: int = 6
    head_future_conv_seed: int = 128
    head_phase_bins: int = 16

    @property
    def n_periods(self) -> int:
        """How many periods describe a window."""
        return min(self.periodic_topk, 1 << max(0, (max(2, self.W) - 1).bit_length() - 1))

    def periods(self, values: Tensor, observed: Tensor) -> Tensor:
        """(N, n_periods) of windows (N, W)."""
        known = filled_with_mean(values.float(), observed)
        return significant_periods(known, self.periodic_min_period, self.periodic_topk, self.periodic_alpha)


class SwiGLU(nn.Module):
    """Gated feed-forward layer (arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) to the same shape."""
        gate, value = self.up(x).chunk(2, dim=-1)
        out: Tensor = self.down(functional.silu(gate) * value)
        return out


class _Depthwise(nn.Module):
    """A causal convolution of each channel by itself; the dilation is given with the input."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.dw_weight = nn.Parameter(torch.empty(width, 1, kernel))
        self.dw_bias = nn.Parameter(torch.zeros(width))
        nn.init.kaiming_uniform_(self.dw_weight, a=math.sqrt(5))

    def convolved(self, x: Tensor, dilation: int) -> Tensor:
        """(N, T, width) to the same shape."""
        width, _, kernel = self.dw_weight.shape
        padded = functional.pad(x.transpose(1, 2), ((kernel - 1) * dilation, 0))
        return functional.conv1d(padded, self.dw_weight, self.dw_bias, dilation=dilation, groups=width).transpose(1, 2)


class Block(_Depthwise):
    """A dilated depthwise-separable convolution and a SwiGLU; one set of weights serves every dilation."""

    def __init__(self, settings: Settings) -> None:
        width = settings.d_model
        super().__init__(width, settings.kernel_size)
        self.pw = nn.Linear(width, width)
        self.ffn = SwiGLU(width, int(width * settings.ffn_mult))
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x: Tensor, dilation: int) -> Tensor:
        """(N, T, width) to the same shape."""
        x = self.norm1(x + self.pw(self.convolved(x, dilation)))
        out: Tensor = self.norm2(x + self.ffn(x))
        return out


class _AlongHorizon(_Depthwise):
    """A dilated depthwise convolution along the horizon."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__(width, kernel)
        self.dilation, self.norm = dilation, nn.RMSNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, width) to the same shape."""
        out: Tensor = self.norm(x + self.convolved(x, self.dilation))
        return out


class _Future(nn.Module):
    """States of the steps to come, from the last states of the window and what the season says of those steps."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings, width = settings, settings.d_model
        self.in_proj = nn.Linear(1 + N_RECENCY, width)
        self.block = Block(settings)
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, states: Tensor, expected: Tensor, where: Tensor) -> Tensor:
        """States (N, W, width), expected values (N, H), positions (H, 5) to (N, H, width)."""
        n, horizon = expected.shape
        told = torch.cat([expected[..., None], where.expand(n, -1, -1)], dim=-1)
        x = torch.cat([states[:, -self.settings.head_future_conv_seed :], self.in_proj(told.to(states.dtype))], dim=1)
        for level in range(self.settings.head_future_conv_layers):
            x = self.block(x, self.settings.dilation_base**level)
        out: Tensor = self.out_proj(x[:, -horizon:])
        return out


class GatherHead(nn.Module):
    """Quantiles of the next steps from the mean and the last of a window's states, and what its season says."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings, width = settings, settings.d_model
        self.summary_proj = nn.Linear(2 * width + N_RECENCY, width)
        self.queries = nn.Parameter(torch.randn(settings.horizon, width) * width**-0.5)
        layers = range(settings.head_layers)
        self.decoder_ffns = nn.ModuleList(SwiGLU(width, settings.head_d_ff) for _ in layers)
        self.decoder_norms = nn.ModuleList(nn.RMSNorm(width) for _ in layers)
        self.fc_blocks = nn.ModuleList(
            _AlongHorizon(width, settings.head_fc_kernel, 2**i) for i in range(settings.head_fc_layers)
        )
        self.out_proj = nn.Linear(width, len(settings.quantiles))
        self.future_conv = _Future(settings)

    def forward(self, states: Tensor, values: Tensor, observed: Tensor) -> Tensor:
        """States (N, W, width) of windows (N, W) to quantiles (N, horizon, Q0), in the unit of the values."""
        n_steps, told = states.shape[1], self.settings
        positions = torch.arange(n_steps, n_steps + told.horizon, device=states.device)
        where = recency(positions, n_steps).to(states.dtype)
        summary = torch.cat([states.mean(dim=1), states[:, -1]], dim=-1)[:, None].expand(-1, told.horizon, -1)
        x = self.summary_proj(torch.cat([where.expand(len(states), -1, -1), summary], dim=-1)) + self.queries
        for ffn, norm in zip(self.decoder_ffns, self.decoder_norms, strict=True):
            x = norm(x + ffn(x))
        for block in self.fc_blocks:
            x = block(x)
        periods = told.periods(values, observed)[:, 0]
        expected = seasonal_means(values, observed, periods, positions, told.head_phase_bins)
        out: Tensor = self.out_proj(x + self.future_conv(states, expected, where))
        return out
