"""Histories: series cut into pieces, as forecasts are learnt from and made; batches of cached states, or of values.

A piece is a stretch of one series with the origins in it. Where a backbone is dense one piece has many: its states are
run once, and every forecast in it shares them. Elsewhere each window is a piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from headstart.backbones.quantile_head import CENTRE, LAST, SEASON, Outlooks, at, look_around
from headstart.backbones.series import SeriesBackbone
from headstart.data.outlook import FEWEST_OBSERVED, Windows
from headstart.data.panel import Panel
from headstart.data.stretches import Stretch
from headstart.engine.batching import stacked
from headstart.engine.maps import Maps
from headstart.modalities.base import Modality

PIECE = 512  # steps of a dense piece, besides what comes before its first origin
DRAWN = 48  # origins of a piece that teach in one epoch
SCALED_AWAY = 30.0  # scales: outcomes further from their anchor teach no more than these


def anchor_for(panel: Panel, until: int, horizon: int) -> str:
    """What forecasts are best relative to, as steps before `until` say: the season before, the last or a mean value."""
    if panel.season > 1:
        return SEASON
    errors = np.zeros(2)
    for values in panel.values[:, :until]:
        scaled = Stretch(values).scaled
        came = values[horizon:] - scaled.offset
        off = [np.abs(came - one[:-horizon]) for one in (scaled.last, scaled.centre)]
        there = np.isfinite(came) & (scaled.observed.cumsum()[:-horizon] >= FEWEST_OBSERVED)
        if there.any():
            found = np.array([one[there].mean() for one in off])
            errors += found / max(float(found.sum()), 1e-300)
    return CENTRE if errors[1] < errors[0] else LAST


@dataclass(frozen=True)
class Piece:
    """A stretch of one series, and the origins in it."""

    series: int
    start: int  # the step of the panel that it begins with
    origins: np.ndarray  # (K,) steps of the panel, rising; it ends with the last

    @property
    def within(self) -> np.ndarray:
        """(K,) the origins as steps of the piece."""
        return self.origins - self.start


def pieces_of(windows: Windows, backbone: SeriesBackbone) -> tuple[list[Piece], list[np.ndarray]]:
    """(pieces that hold all windows, the rows of `windows` that are each one's origins)."""
    pieces, rows = [], []
    for series in np.unique(windows.series):
        own = np.flatnonzero(windows.series == series)
        own = own[np.argsort(windows.origins[own], kind="stable")]
        for part in _parted(own, windows.origins[own] // PIECE) if backbone.dense else np.split(own, len(own)):
            origins = windows.origins[part]
            start = max(0, int(origins[0]) - backbone.context + 1)
            pieces.append(Piece(int(series), start, origins))
            rows.append(part)
    return pieces, rows


def _parted(rows: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, np.flatnonzero(np.diff(groups)) + 1)


def stretch_of(panel: Panel, piece: Piece) -> Stretch:
    """The values of a piece."""
    return Stretch(panel.values[piece.series, piece.start : int(piece.origins[-1]) + 1], panel.season)


def drawn(origins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some of the origins, each once, in order."""
    return np.sort(rng.choice(origins, min(DRAWN, len(origins)), replace=False))


class Ahead(NamedTuple):
    """What a head reads besides states, and what it is to say. (A named tuple: Lightning moves one to a device.)"""

    origins: Tensor  # (N, K) steps of the pieces
    phases: Tensor  # (N, K, P) steps of the season before
    raw: Tensor  # (N, K, H, R)
    beside: Tensor | None  # (N, K, H, B) covariates
    anchor: Tensor  # (N, K, H) float64, in the series' own unit
    scale: Tensor  # (N, K)


class Outcomes(NamedTuple):
    """What came, relative to the anchors, in scales."""

    values: Tensor  # (N, K, H)
    there: Tensor  # (N, K, H) bool


class Batch(NamedTuple):
    """N pieces, with K origins each."""

    inputs: dict[str, Any]  # "network": its keyword arguments, "ahead": Ahead
    maps: dict[int, Tensor] | None  # stage: its states (N, T, C), padded, where they are cached
    truth: Outcomes


@dataclass(frozen=True, kw_only=True)
class Covariates:
    """Covariates of a panel in standard units, as a head reads them."""

    known: np.ndarray  # (S, T + F, n_known) float32
    static: np.ndarray  # (S, n_static) float32

    def at(self, series: int, steps: np.ndarray, anchored: np.ndarray) -> np.ndarray:
        """(…, B) of the steps ahead (…), how they differ from those at the anchors (…), and those of the series."""
        last = self.known.shape[1] - 1
        now, then = (self.known[series, np.clip(where, 0, last)] for where in (steps, anchored))
        static = np.broadcast_to(self.static[series], (*steps.shape, self.static.shape[-1]))
        return np.concatenate([now, now - then, static], -1)


@dataclass(frozen=True, kw_only=True)
class Histories:
    """What a forecaster learns from. Rows index items, digests and pieces alike."""

    backbone: SeriesBackbone
    modality: Modality
    panel: Panel
    outlooks: Outlooks
    items: Sequence[Stretch]
    digests: Sequence[str]
    pieces: Sequence[Piece]
    train: np.ndarray  # rows that teach
    end: int  # the first step of the panel whose value does not teach
    covariates: Covariates | None = None
    views: tuple[Maps, ...] = field(default=(), repr=False)  # cached states of the frozen stages; empty: they run
    target: None = None
    seed: int = 0
    head: Mapping[str, Tensor] | None = None  # a head to start from
    towards: Mapping[str, Tensor] | None = None  # a pretrained head that training stays near
    checkpoint: Path | None = None
    draws: bool = True  # some origins of a piece, others in each epoch

    def batch(self, rows: Sequence[int] | np.ndarray, draw: Sequence[np.random.Generator] | None = None) -> Batch:
        """These pieces, with some of their origins that generators draw, or with all."""
        pieces = [self.pieces[row] for row in rows]
        chosen = [piece.within for piece in pieces]
        if draw is not None:
            chosen = [drawn(own, rng) for own, rng in zip(chosen, draw, strict=True)]
        opened = [self.items[row] for row in rows]
        maps = None
        if self.views:
            maps = {stage: stacked(some) for stage, some in self.views[0].rows(rows).items()}
        ahead, counted = self.ahead(pieces, opened, chosen)
        truth = self._outcomes(pieces, opened, ahead, counted)
        return Batch({"network": self.backbone.collate(opened), "ahead": ahead}, maps, truth)

    def ahead(
        self, pieces: Sequence[Piece], opened: Sequence[Stretch], chosen: Sequence[np.ndarray]
    ) -> tuple[Ahead, Tensor]:
        """(what a head reads around these origins of the pieces, which of them (N, K) are not padding)."""
        most, shifts = max(len(own) for own in chosen), self.shifts(opened)
        own = [np.pad(own, (0, most - len(own)), mode="edge") + by for own, by in zip(chosen, shifts, strict=True)]
        origins = torch.from_numpy(np.stack(own))
        counted = torch.arange(most) < torch.tensor([len(own) for own in chosen])[:, None]
        around = look_around(self._scaled(opened, shifts), origins, self.outlooks)
        beside = self._beside(pieces, shifts, origins, around.anchored)
        offset = torch.tensor([one.scaled.offset for one in opened], dtype=torch.float64)
        anchor = around.anchor.double() + offset[:, None, None]
        return Ahead(origins, around.phases, around.raw, beside, anchor, around.scale), counted

    def _scaled(self, opened: Sequence[Stretch], shifts: Sequence[int]) -> dict[str, Tensor]:
        """`last`, `centre` and `scale` (N, T) of stretches that begin after so many steps of padding."""
        longest = max(len(one) + shift for one, shift in zip(opened, shifts, strict=True))
        found = {}
        for name, padding in (("last", 0.0), ("centre", 0.0), ("scale", 1.0)):
            rows = np.full((len(opened), longest), padding, dtype=np.float32)
            for row, one, shift in zip(rows, opened, shifts, strict=True):
                row[shift : shift + len(one)] = getattr(one.scaled, name)
            found[name] = torch.from_numpy(rows)
        return found

    def shifts(self, opened: Sequence[Stretch]) -> list[int]:
        """How many steps of padding stand before each stretch: windows are as long as the context, and end there."""
        return [0 if self.backbone.dense else self.backbone.context - len(one) for one in opened]

    def _beside(
        self, pieces: Sequence[Piece], shifts: Sequence[int], origins: Tensor, anchored: Tensor
    ) -> Tensor | None:
        if self.covariates is None:
            return None
        each = []
        for piece, shift, own, before in zip(pieces, shifts, origins.numpy(), anchored.numpy(), strict=True):
            start = piece.start - shift
            steps = start + own[:, None] + np.arange(1, self.outlooks.horizon + 1)
            each.append(self.covariates.at(piece.series, steps, start + before))
        return torch.from_numpy(np.stack(each).astype(np.float32))

    def _outcomes(self, pieces: Sequence[Piece], opened: Sequence[Stretch], ahead: Ahead, counted: Tensor) -> Outcomes:
        origins, steps = ahead.origins.numpy(), np.arange(1, self.outlooks.horizon + 1)
        values = self.panel.values
        each = []
        for piece, shift, own in zip(pieces, self.shifts(opened), origins, strict=True):
            when = piece.start - shift + own[:, None] + steps
            found = values[piece.series, np.minimum(when, self.end - 1)]
            each.append(np.where(when < self.end, found, np.nan))
        outcomes = torch.from_numpy(np.stack(each))
        relative = ((outcomes - ahead.anchor) / ahead.scale[..., None]).float()
        there = torch.isfinite(relative) & counted[..., None]
        return Outcomes(torch.nan_to_num(relative).clamp(-SCALED_AWAY, SCALED_AWAY), there)


def read_states(states: Tensor, ahead: Ahead) -> tuple[Tensor, Tensor | None]:
    """(states at the origins (N, K, C), those of the season before (N, K, P, C)) of states (N, T, C)."""
    return at(states, ahead.origins), at(states, ahead.phases) if ahead.phases.shape[-1] else None


@dataclass(frozen=True, kw_only=True)
class Units:
    """Mean and spread of each covariate, in which a head reads it."""

    known: tuple[tuple[float, float], ...] = ()
    static: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, panel: Panel, outlooks: Outlooks, until: int) -> Units:
        """From what is known before step `until`."""
        return cls(
            known=tuple(_unit(panel.known[name][:, :until]) for name in outlooks.known),
            static=tuple(_unit(panel.static[name]) for name in outlooks.static),
        )

    def covariates(self, panel: Panel, outlooks: Outlooks) -> Covariates | None:
        """Those of a panel; what is missing is as the mean. None for a head that reads none."""
        if not outlooks.n_beside:
            return None
        known = [_standard(panel.known[n], unit) for n, unit in zip(outlooks.known, self.known, strict=True)]
        static = [_standard(panel.static[n], unit) for n, unit in zip(outlooks.static, self.static, strict=True)]
        return Covariates(
            known=np.stack(known, -1) if known else np.zeros((*panel.values.shape, 0), dtype=np.float32),
            static=np.stack(static, -1) if static else np.zeros((len(panel), 0), dtype=np.float32),
        )


def _unit(seen: np.ndarray) -> tuple[float, float]:
    there = seen[np.isfinite(seen)]
    return (float(there.mean()), float(there.std()) or 1.0) if len(there) else (0.0, 1.0)


def _standard(values: np.ndarray, unit: tuple[float, float]) -> np.ndarray:
    return np.nan_to_num((values - unit[0]) / unit[1]).astype(np.float32)
