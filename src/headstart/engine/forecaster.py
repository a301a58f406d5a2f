"""A forecaster: the stages of a backbone, a head that reads them, and the forecasts that it makes of series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.changes import Changes
from headstart.backbones.quantile_head import Outlooks, QuantileHead, pinball
from headstart.backbones.resume import Resumable
from headstart.backbones.series import SeriesBackbone
from headstart.data.outlook import Windows
from headstart.data.panel import Panel
from headstart.engine.freeze import Bar
from headstart.engine.histories import Ahead, Covariates, Histories, Outcomes, Piece, Units, pieces_of, stretch_of
from headstart.engine.maps import whole_maps

NEARNESS = 0.1  # weight of the squared distance from a pretrained head (L2-SP, Li et al. 2018, arXiv:1802.01483)
AT_ONCE = 16  # pieces that are forecast together


class OnStates(nn.Module):
    """A head that forecasts on the stages of a backbone above a cut."""

    def __init__(
        self, upper: Resumable | None, outlooks: Outlooks, towards: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.upper, self.outlooks = upper, outlooks  # no `upper`: states come from a backbone that others run
        self.head = QuantileHead(outlooks)
        self.towards = towards  # a pretrained head that training stays near

    def forward(self, inputs: Mapping[str, Any], maps: Mapping[int, Tensor] | None = None) -> Tensor:
        """Quantiles (N, K, H, Q) relative to the anchors, in scales."""
        assert self.upper is not None, "a head that only predicts is given what stages hand on"
        stage = self.outlooks.stage
        output = self.upper.whole(inputs["network"], (stage,), maps)[stage]
        return self.read(self.upper.backbone[0], output, inputs["network"], inputs["ahead"])

    def read(self, backbone: Any, output: Tensor, network: Mapping[str, Tensor], ahead: Ahead) -> Tensor:
        """The same of the stage's output."""
        last = torch.full((len(output), 1), network["observed"].shape[1] - 1, device=output.device)
        now = backbone.states(output, network, ahead.origins if backbone.dense else last)
        then = None
        if ahead.phases.shape[-1]:
            flat = backbone.states(output, network, ahead.phases.flatten(1))
            then = flat.view(*ahead.phases.shape, flat.shape[-1])
        return torch.as_tensor(self.head(now, then, ahead.raw, ahead.beside))

    def loss(self, quantiles: Tensor, truth: Outcomes) -> Tensor:
        """Mean pinball loss, in scales; and how far the head has gone from the pretrained one, where there is one."""
        found = pinball(quantiles.float(), truth.values, truth.there)
        if self.towards is None:
            return found
        moved = ((now, self.towards[name]) for name, now in self.head.named_parameters() if name in self.towards)
        gone = [(now - then.to(now)).square().sum() for now, then in moved]
        return found + NEARNESS * torch.stack(gone).sum()


@dataclass(frozen=True, kw_only=True)
class Forecaster:
    """What a run keeps of a forecaster on a backbone: how it is built, and what was learnt."""

    outlooks: Outlooks | None  # None: the backbone's own way to forecast is used
    head: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    changes: Changes | None = None  # what training changed in the backbone
    units: Units = field(default_factory=Units)  # of the covariates

    def to_json(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON values."""
        return {"outlooks": self.outlooks.to_json() if self.outlooks else None, "units": asdict(self.units)}

    @classmethod
    def restore(cls, saved: Mapping[str, Any], head: Mapping[str, Tensor], changes: Changes | None) -> Forecaster:
        """The inverse of `to_json`, with the tensors."""
        units = {name: tuple((mean, spread) for mean, spread in own) for name, own in saved["units"].items()}
        outlooks = Outlooks.from_json(saved["outlooks"]) if saved["outlooks"] else None
        return cls(outlooks=outlooks, head=head, changes=changes, units=Units(**units))

    def forecasts(self, backbone: SeriesBackbone, panel: Panel, windows: Windows, horizon: int, bar: Bar) -> np.ndarray:
        """Quantiles (N, H, Q) of the windows, in the series' own unit. `backbone` holds the changes already."""
        if self.outlooks is None:
            return _each(panel, windows, backbone, bar, lambda part: _own(backbone, panel, part, horizon))
        network = OnStates(None, self.outlooks)
        network.head.load_state_dict(dict(self.head))
        network.eval().requires_grad_(False)
        seer = _Seer(backbone, panel, self.outlooks, network, self.units.covariates(panel, self.outlooks))
        found = _each(panel, windows, backbone, bar, seer)
        return found[:, :horizon]


@dataclass(frozen=True)
class _Seer:
    """Forecasts of pieces by a head."""

    backbone: SeriesBackbone
    panel: Panel
    outlooks: Outlooks
    network: OnStates
    covariates: Covariates | None

    @torch.inference_mode()
    def __call__(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """(K_i, H, Q) of each piece."""
        histories = Histories(
            backbone=self.backbone,
            modality=None,  # type: ignore[arg-type]
            panel=self.panel,
            outlooks=self.outlooks,
            items=(),
            digests=(),
            pieces=pieces,
            train=np.arange(0),
            end=self.panel.n_steps,
            covariates=self.covariates,
        )
        opened = [stretch_of(self.panel, piece) for piece in pieces]
        inputs = self.backbone.collate(opened)
        ahead, _ = histories.ahead(pieces, opened, [piece.within for piece in pieces])
        output = whole_maps(self.backbone, inputs, (self.outlooks.stage,))[self.outlooks.stage].float()
        relative = self.network.read(self.backbone, output, inputs, ahead).double()
        found = ahead.anchor[..., None] + relative * ahead.scale[..., None, None]
        values = np.sort(found.numpy(force=True), axis=-1)
        return [own[: len(piece.origins)] for own, piece in zip(values, pieces, strict=True)]


def _own(backbone: SeriesBackbone, panel: Panel, pieces: Sequence[Piece], horizon: int) -> list[np.ndarray]:
    """(1, H, Q) of each piece, a window, as the backbone was pretrained to forecast."""
    inputs = backbone.collate([stretch_of(panel, piece) for piece in pieces])
    last = inputs["observed"].shape[1] - 1
    with torch.inference_mode():
        found = backbone.own_forecast(inputs, torch.full((len(pieces), 1), last), horizon)
    values = np.sort(found.double().numpy(force=True), axis=-1)
    return [own[: len(piece.origins)] for own, piece in zip(values, pieces, strict=True)]


Forecast = Callable[[Sequence[Piece]], list[np.ndarray]]


def _each(panel: Panel, windows: Windows, backbone: SeriesBackbone, bar: Bar, forecast: Forecast) -> np.ndarray:
    """Forecasts (N, H, Q) of the windows, some pieces at once; pieces of like length are together."""
    pieces, rows = pieces_of(windows, backbone)
    order = sorted(range(len(pieces)), key=lambda i: int(pieces[i].origins[-1]) - pieces[i].start)
    found: np.ndarray | None = None
    with bar(len(windows), "forecasts") as advance:
        for first in range(0, len(order), AT_ONCE):
            part = order[first : first + AT_ONCE]
            for number, own in zip(part, forecast([pieces[i] for i in part]), strict=True):
                if found is None:
                    found = np.empty((len(windows), *own.shape[1:]))
                found[rows[number]] = own
                advance(len(own))
    assert found is not None, "there is a window to forecast"
    return found
