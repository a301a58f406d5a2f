"""A user's series made ready to forecast: opened, mended, cut in time, and in the pieces that a backbone takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headstart import registry
from headstart.backbones.series import SeriesBackbone
from headstart.data.audit import Finding
from headstart.data.filled import interpolated, shared_holidays
from headstart.data.layouts import PanelReading
from headstart.data.outlook import FEWEST_OBSERVED, Outlook, Windows
from headstart.data.panel import Panel
from headstart.data.read_panel import MADE, check_reading, read_panel
from headstart.data.returns import looks_like_prices
from headstart.data.seasons import with_season
from headstart.data.stretches import Stretch
from headstart.engine.histories import Piece, pieces_of, stretch_of
from headstart.evidence.blocks import BlockScales, layout
from headstart.evidence.forecasts import times_said
from headstart.modalities.base import Modality
from headstart.tasks.base import Metric
from headstart.tasks.forecasting import Forecasting

MOST_WINDOWS = 400  # that teach, where each takes a pass of its own


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user says of forecasts, besides how to learn."""

    horizon: int
    source: Any = None  # a panel to pretrain on
    test_steps: int | None = None  # how many of the latest steps are the test
    reading: PanelReading = field(default_factory=PanelReading)


def open_panel(data: Any, asked: Asked) -> tuple[Panel | None, Panel]:
    """(levels as they were given, what is made of them to be forecast); None where it was made already.

    Values that were filled in on a straight line on holidays know tomorrow's, and are taken for missing.
    """
    check_reading(asked.reading)
    levels = read_panel(data, replace(asked.reading, as_="levels"), asked.horizon)
    if levels.as_ != "levels":
        return None, levels
    filled = shared_holidays(levels, interpolated(levels))
    mended = levels
    if filled.any():
        note = f"{int(filled.sum()):,} values filled in on a line on holidays are taken for missing"
        mended = replace(levels, values=np.where(filled, np.nan, levels.values), notes=(*levels.notes, note))
    if asked.reading.as_ == "levels":
        return levels, mended
    made = with_season(MADE[asked.reading.as_](mended), asked.reading.season)
    return levels, replace(made, notes=tuple(dict.fromkeys(made.notes)))


def known_before(panel: Panel, levels: Panel | None, test_from: int, season: int | None) -> Panel:
    """The panel with the season and the look of prices that steps before the test show, and the series that have any.

    A `season` that is named stays.
    """
    before = panel.until(test_from)
    there = np.isfinite(before.values).sum(1) >= FEWEST_OBSERVED
    if there.any() and not there.all():
        note = f"{int((~there).sum()):,} series have fewer than {FEWEST_OBSERVED} values before the test: left out"
        panel, before = (
            replace(one, notes=(*panel.notes, note)).select(np.flatnonzero(there)) for one in (panel, before)
        )
    if levels is not None:
        panel = replace(panel, prices=looks_like_prices(levels.until(test_from)))
    if season is None and (seen := with_season(replace(before, notes=()), None)).season != panel.season:
        notes = (*panel.notes, f"before the test: {seen.notes[0]}")
        panel = replace(panel, season=seen.season, notes=notes)
    return panel


def describe(panel: Panel) -> str:
    """One line on what was read."""
    n = int(np.isfinite(panel.values).sum())
    many = f"{len(panel)} series" if len(panel) > 1 else "one series"
    span = f"{day(panel, 0)} to {day(panel, panel.n_steps - 1)}" if panel.frequency else f"{panel.n_steps:,} steps"
    as_ = "" if panel.as_ == "levels" else f", as {panel.as_}"
    frequency = f", frequency {panel.frequency}" if panel.frequency else ""
    return f"{panel.source}: {many}, {n:,} values{as_}, {span}{frequency}, season {panel.season}"


def in_time(outlook: Outlook) -> str:
    """Where the parts end."""
    panel = outlook.panel
    return (
        f"in time: learn before {day(panel, outlook.val_from)}, choose until {day(panel, outlook.test_from - 1)}, "
        f"test from {day(panel, outlook.test_from)} on ({len(outlook.windows('test')):,} forecasts of "
        f"{outlook.horizon} steps)"
    )


def day(panel: Panel, step: int) -> str:
    """When a step is, for people."""
    return times_said(panel.times[step : step + 1])[0] if panel.frequency else f"step {panel.times[step]}"


def splits_of(outlook: Outlook) -> dict[str, str]:
    """Where in time the parts begin, for people."""
    panel = outlook.panel
    return {
        "learnt from": day(panel, 0),
        "chosen on": day(panel, outlook.val_from),
        "tested on": day(panel, outlook.test_from),
        "until": day(panel, panel.n_steps - 1),
    }


def task_of(panel: Panel, horizon: int) -> Forecasting:
    """What is forecast, and by what it is measured."""
    returns = panel.as_ == "returns"
    return Forecasting(
        horizon=horizon,
        season=panel.season,
        directions=returns or (panel.prices and panel.as_ == "levels"),
        returns=returns,
        non_negative=bool((panel.values[np.isfinite(panel.values)] >= 0).all()),
    )


def scales_of(
    outlook: Outlook, windows: Windows, metrics: tuple[Metric, ...], asked_for: str | None, seed: int
) -> BlockScales:
    """What systems are weighed on: blocks of origins, or series."""
    return BlockScales(
        metrics=metrics,
        asked_for=asked_for,
        seed=seed,
        layout=layout(windows.series, windows.origins, outlook.horizon),
    )


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A panel cut in time, as one backbone takes it. Rows index items, digests and pieces alike."""

    outlook: Outlook
    findings: tuple[Finding, ...]
    task: Forecasting
    modality: Modality
    items: list[Stretch]
    digests: list[str]
    pieces: list[Piece]
    rows: dict[str, np.ndarray]  # "train", "val": pieces
    val: Windows

    crosswise: bool = False
    target: None = None
    all_groups: None = None


def pose(outlook: Outlook, findings: tuple[Finding, ...], task: Forecasting, backbone: SeriesBackbone) -> Posed:
    """The pieces that teach and choose."""
    modality = registry.modality("series")
    learnt, val = outlook.windows("train"), outlook.windows("val")
    if not backbone.dense and len(learnt) > MOST_WINDOWS:
        learnt = learnt.select(np.linspace(0, len(learnt) - 1, MOST_WINDOWS).round().astype(int))
    taught, chosen = pieces_of(learnt, backbone)[0], pieces_of(val, backbone)[0]
    pieces = [*taught, *chosen]
    items = [stretch_of(outlook.panel, piece) for piece in pieces]
    return Posed(
        outlook=outlook,
        findings=findings,
        task=task,
        modality=modality,
        items=items,
        digests=[modality.examine(item).digest for item in items],
        pieces=pieces,
        rows={"train": np.arange(len(taught)), "val": np.arange(len(taught), len(pieces))},
        val=val,
    )
