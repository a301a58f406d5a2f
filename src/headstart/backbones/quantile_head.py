"""A head that forecasts: quantiles of each step ahead, from what a network says of a series and from the season before.

Loss is the pinball loss of the quantiles (Koenker & Bassett 1978). A forecast is made relative to an anchor in units of
the series' own scale, so that what a head that has learnt nothing says is a naive forecast with a band. The anchor is
the value one season before the step; where there is no season the last value, or the smoothed one of series that come
back to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headstart.data.causal_scale import DAYS
from headstart.data.stretches import LEVELS

SEASON, LAST, CENTRE = ANCHORS = ("season", "last", "centre")
N_RAW = 4  # numbers of the series itself that the head reads beside the network's states
CLIPPED = 6.0  # scales: further away the past is read as being so far
START = 1.25  # scales: half the width of the first band, over that of a normal one


@dataclass(frozen=True, kw_only=True)
class Outlooks:
    """What a head reads and writes."""

    stage: int  # whose states it reads
    width: int  # numbers a state
    horizon: int
    season: int
    by_step: bool  # whether there is a state at every step, so that those of the season before are read too
    anchor: str = SEASON  # what forecasts are relative to, one of ANCHORS
    known: tuple[str, ...] = ()  # covariates known in advance
    static: tuple[str, ...] = ()  # covariates of whole series
    hidden: int = 64

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Outlooks:
        """The inverse of `to_json`."""
        return cls(**{**saved, "known": tuple(saved["known"]), "static": tuple(saved["static"])})

    @property
    def n_phases(self) -> int:
        """How many states of the season before are read."""
        return min(self.season, self.horizon) if self.by_step and self.season > 1 else 0

    @property
    def n_beside(self) -> int:
        """Numbers of covariates a step: of that step, how they differ from those at the anchor, of the series."""
        return 2 * len(self.known) + len(self.static)


class Around(NamedTuple):
    """What stands around N × K origins, in the series' own unit less an offset."""

    anchor: Tensor  # (N, K, H) the value that a forecast is relative to
    raw: Tensor  # (N, K, H, N_RAW) the past in units of the scale
    scale: Tensor  # (N, K)
    phases: Tensor  # (N, K, n_phases) steps of the season before the first steps ahead
    anchored: Tensor  # (N, K, H) the step that each anchor is the value of


def look_around(series: dict[str, Tensor], origins: Tensor, outlooks: Outlooks) -> Around:
    """What stands around origins (N, K) of series: `last` (carried forward), `centre` and `scale`, each (N, T)."""
    horizon, season = outlooks.horizon, outlooks.season
    ahead = torch.arange(1, horizon + 1, device=origins.device)
    long = 7 * season if season in DAYS else season
    last, centre, scale = (at(series[name], origins) for name in ("last", "centre", "scale"))

    def before(steps: int) -> Tensor:
        """The latest steps at or before the origin that lie a whole number of `steps` before each step ahead."""
        return origins[..., None] + ahead - steps * -(-ahead // steps)

    wide = (*origins.shape, horizon)
    seasonal = outlooks.anchor == SEASON and season > 1
    anchored = before(season) if seasonal else origins[..., None].expand(wide)
    anchor = centre[..., None].expand(wide) if outlooks.anchor == CENTRE else at(series["last"], anchored)
    unit = scale[..., None]
    raw = torch.zeros(*wide, N_RAW, device=origins.device)
    if outlooks.anchor == CENTRE:
        raw[..., 3] = (last[..., None] - anchor) / unit
    elif seasonal:  # of one that walks, how far it is from its mean only made the median worse
        raw[..., 0] = (centre[..., None] - anchor) / unit
        raw[..., 1] = (at(series["last"], before(long)) - anchor) / unit
        raw[..., 2] = (at(series["last"], anchored - season) - anchor) / unit
        raw[..., 3] = ((last - at(series["last"], origins - season)) / scale)[..., None]
    steps = torch.arange(1, outlooks.n_phases + 1, device=origins.device) - season
    return Around(anchor, raw, scale, (origins[..., None] + steps).clamp(min=0), anchored.clamp(min=0))


def at(series: Tensor, steps: Tensor) -> Tensor:
    """Values (N, T) or states (N, T, C) at steps (N, …); before the first step that of the first."""
    flat = steps.clamp(min=0).reshape(len(series), -1)
    if series.ndim == 2:
        return torch.gather(series, 1, flat).view(steps.shape)
    found = torch.gather(series, 1, flat[..., None].expand(-1, -1, series.shape[-1]))
    return found.view(*steps.shape, series.shape[-1])


class QuantileHead(nn.Module):
    """States at origins, and what stands around them, to quantiles (N, K, H, Q) relative to the anchors, in scales."""

    def __init__(self, outlooks: Outlooks) -> None:
        super().__init__()
        self.outlooks, n_levels, hidden = outlooks, len(LEVELS), outlooks.hidden
        normal = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(LEVELS))
        self.bias = nn.Parameter(START * normal.repeat(outlooks.horizon, 1))
        self.step = nn.Parameter(torch.randn(outlooks.horizon, hidden) * 0.1)
        self.now = nn.Linear(outlooks.width, hidden)
        self.then = nn.Linear(outlooks.width, hidden, bias=False) if outlooks.n_phases else None
        self.past = nn.Linear(N_RAW, hidden, bias=False)
        self.past_as_it_is = nn.Linear(N_RAW, n_levels, bias=False)
        self.beside = nn.Linear(outlooks.n_beside, hidden, bias=False) if outlooks.n_beside else None
        self.beside_as_it_is = nn.Linear(outlooks.n_beside, n_levels, bias=False) if outlooks.n_beside else None
        self.leave = nn.Linear(hidden, n_levels, bias=False)
        nn.init.normal_(self.leave.weight, std=0.02)
        for linear in (self.past_as_it_is, self.beside_as_it_is):
            if linear is not None:
                nn.init.zeros_(linear.weight)

    def forward(self, now: Tensor, then: Tensor | None, raw: Tensor, beside: Tensor | None = None) -> Tensor:
        """States at the origins `now` (N, K, C) and of the season before `then` (N, K, P, C); `raw` as in `Around`.

        `beside` (N, K, H, B) are covariates. Quantiles are not sorted.
        """
        hidden = self.now(now).unsqueeze(2) + self.past(raw.asinh()) + self.step
        found = self.bias + self.past_as_it_is(raw.clamp(-CLIPPED, CLIPPED)).float()
        if self.then is not None and then is not None:
            phases = self.then(then)
            times = -(-self.outlooks.horizon // phases.shape[2])
            hidden = hidden + phases.repeat(1, 1, times, 1)[:, :, : self.outlooks.horizon]
        if self.beside is not None and self.beside_as_it_is is not None and beside is not None:
            hidden = hidden + self.beside(beside)
            found = found + self.beside_as_it_is(beside).float()
        return found + self.leave(nn.functional.silu(hidden)).float()


def pinball(quantiles: Tensor, outcomes: Tensor, there: Tensor) -> Tensor:
    """Mean pinball loss of quantiles (…, Q) of outcomes (…), over those that are `there` (…) bool."""
    levels = torch.tensor(LEVELS, device=quantiles.device)
    error = outcomes.unsqueeze(-1) - quantiles
    losses = torch.maximum(levels * error, (levels - 1) * error).mean(-1)
    return (losses * there).sum() / there.sum().clamp(min=1)
