"""Forecasting: audit → cut in time → pretrain on a source, if there is one → adapt → evaluate → assemble.

The depth question is the usual one, with an answer before it: the network as it was pretrained, a head alone on frozen
stages, the upper stages too, everything; and the same network from random weights. Beside them stand the classical
forecasters, which ship where validation prefers one of them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import adapt, adapt_head, places, registry
from headstart.adapt import Chosen
from headstart.backbones import catalog
from headstart.data.audit_panel import audit_panel
from headstart.data.layouts import PanelReading
from headstart.data.outlook import Outlook, Windows, look_ahead
from headstart.data.panel import Panel
from headstart.data.read_panel import read_panel
from headstart.deploy import artifact
from headstart.deploy.card import model_card
from headstart.deploy.forecasts import HISTORY, Seer, history_bytes, tested_table
from headstart.deploy.model import Model
from headstart.deploy.predictions import table_bytes
from headstart.errors import PlanError
from headstart.evidence.bands import Bands, Seen
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.blocks import BlockScales, layout
from headstart.evidence.forecast_verdict import Contest, forecast_claim
from headstart.evidence.forecasts import Shown, measure_forecasts
from headstart.evidence.plan import Plan
from headstart.evidence.record import DataSummary, Record, library_versions
from headstart.evidence.weigh import MODEL, SCRATCH, primary_first, weigh_systems
from headstart.forecast_workshop import RECIPE, ForecastWorkshop, pose
from headstart.forecasters import run
from headstart.head_workshop import SolvedHead
from headstart.inductive import as_planned
from headstart.progress import Progress
from headstart.report.html import render
from headstart.series_pretraining import key_of, pretrain
from headstart.tasks.base import Metric
from headstart.tasks.forecasting import Forecasting, outcomes
from headstart.wishes import Wishes
from headstart.workshop import load_backbones

BACKBONES = "backbones"  # folder in the cache: networks that were pretrained on a source of the user's


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user says of forecasts, besides how to learn."""

    horizon: int
    source: Any = None  # a panel to pretrain on
    test_steps: int | None = None  # how many of the latest steps are the test
    reading: PanelReading = PanelReading()


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """What every system says of the windows of one split, (N, H, Q) each."""

    windows: Windows
    y: np.ndarray  # (N, H + 2)
    network: np.ndarray
    classical: dict[str, np.ndarray]  # by title
    scratch: np.ndarray | None

    @property
    def systems(self) -> dict[str, np.ndarray]:
        """All by name, the network's under ""."""
        own = {"": self.network, **self.classical}
        return own if self.scratch is None else own | {SCRATCH: self.scratch}

    def with_systems(self, systems: dict[str, np.ndarray]) -> Forecasts:
        """The same windows with other forecasts of the same systems."""
        rest = {name: one for name, one in systems.items() if name not in ("", SCRATCH)}
        return replace(self, network=systems[""], classical=rest, scratch=systems.get(SCRATCH))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search found, and what stands beside it."""

    shop: ForecastWorkshop
    chosen: Chosen
    scratch: SolvedHead | None
    val: Forecasts
    test: Forecasts  # bands corrected
    bands: dict[str, Bands]  # by system
    best: str  # title of the classical forecaster that is best on validation
    ships_classical: bool
    fallbacks: dict[str, dict[str, int]]

    @property
    def shipped(self) -> str:
        """The system that the run ships."""
        return self.best if self.ships_classical else ""


def fit(
    data: Any,
    wishes: Wishes,
    asked: Asked,
    *,
    backbone: str | Sequence[str] | None,
    metric: str | None,
    seed: int,
    out: Path | None,
    progress: Progress,
) -> Model:
    """Adapt a network to a panel, `asked.horizon` steps ahead; write the run folder `out` if one is named."""
    named = backbone
    seed, primary, backbone = as_planned(wishes.plan, seed, metric, backbone)
    with progress.step("read"):
        panel = read_panel(data, asked.reading, asked.horizon)
        progress.say(describe(panel))
    with progress.step("audit"):
        findings = audit_panel(panel)
        for line in (*(f"{finding.severity}: {finding.text}" for finding in findings), *panel.notes):
            progress.say(f"  {line}")
    outlook = look_ahead(panel, asked.horizon, asked.test_steps)
    progress.say(f"  {in_time(outlook)}")
    if asked.source is not None:
        backbone = from_source(outlook, asked, named, seed, progress)
    (network,) = load_backbones(backbone, "series", progress)[:1]
    adapt_head.check(wishes, RECIPE, network.n_stages, 1 if isinstance(backbone, str | None) else len(backbone))
    task = task_of(panel.until(outlook.test_from), asked.horizon)
    metrics = primary_first(task.metrics(), primary)
    posed = pose(outlook, findings, task, network)
    shop = open_shop(posed, network, metrics, wishes, seed, progress)
    if wishes.plan is not None and wishes.plan.reads:
        shop.read = wishes.plan.reads[0]
    chosen = adapt_head.choose(shop, wishes)
    scratch = adapt_head.from_scratch(shop, chosen, wishes)
    found = beside(shop, chosen, scratch, wishes)
    with progress.step("evaluate"):
        contest = contest_of(found, metrics, metric)
        evidence = weigh_systems(contest.scales, contest.y, contest.systems, forecast_claim(contest))
    with progress.step("report"):
        record = told(found, contest, evidence, asked)
        model = assemble(found, record, asked)
    if out is not None:
        model.save(out)
    shop.trials.forget()
    return model


def describe(panel: Panel) -> str:
    """One line on what was read."""
    n = int(np.isfinite(panel.values).sum())
    many = f"{len(panel)} series" if len(panel) > 1 else "one series"
    span = f"{_day(panel, 0)} to {_day(panel, panel.n_steps - 1)}" if panel.frequency else f"{panel.n_steps:,} steps"
    as_ = "" if panel.as_ == "levels" else f", as {panel.as_}"
    frequency = f", frequency {panel.frequency}" if panel.frequency else ""
    return f"{panel.source}: {many}, {n:,} values{as_}, {span}{frequency}, season {panel.season}"


def in_time(outlook: Outlook) -> str:
    """Where the parts end."""
    panel = outlook.panel
    return (
        f"in time: learn before {_day(panel, outlook.val_from)}, choose until {_day(panel, outlook.test_from - 1)}, "
        f"test from {_day(panel, outlook.test_from)} on ({len(outlook.windows('test')):,} forecasts of "
        f"{outlook.horizon} steps)"
    )


def _day(panel: Panel, step: int) -> str:
    return str(panel.times[step]).split("T00:00")[0] if panel.frequency else f"step {panel.times[step]}"


def from_source(outlook: Outlook, asked: Asked, backbone: Any, seed: int, progress: Progress) -> str:
    """The folder of a network that was pretrained on the source, as far as that lies before the first choice."""
    if backbone is not None:
        raise PlanError("--source pretrains a network, and --backbone names one: give one of them.")
    target = outlook.panel
    reading = PanelReading(as_=target.as_, season=target.season, frequency=target.frequency or None)
    with progress.step("read"):
        source = read_panel(asked.source, reading)
        progress.say(f"source: {describe(source)}")
    n_steps = source.n_steps
    if source.frequency and target.frequency:
        n_steps = min(n_steps, int(np.searchsorted(source.times, target.times[outlook.val_from])))
    if n_steps < source.n_steps:
        progress.say(f"  of the source, only what lies before {_day(target, outlook.val_from)} teaches")
    source = source.until(n_steps)
    folder = places.home() / BACKBONES / key_of(source, outlook.horizon, seed)
    if (folder / "config.json").is_file():
        progress.say(f"  the network that was pretrained on it is there already: {folder}")
    else:
        known = pretrain(source, outlook.horizon, out=folder, seed=seed, progress=progress)
        progress.say(f"  {known.verdict}")
    return str(folder)


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


def open_shop(
    posed: Any, network: Any, metrics: tuple[Metric, ...], wishes: Wishes, seed: int, progress: Progress
) -> ForecastWorkshop:
    """The panel and a backbone as a workshop."""
    scales = scales_of(posed.outlook, posed.val, metrics, None, seed)
    return ForecastWorkshop(
        problem=posed,
        backbone=network,
        metric=metrics[0],
        weights=scales.resamples(len(posed.val)),
        n_units=scales.n_groups,
        seed=seed,
        progress=progress,
        way="float32",
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


def beside(shop: ForecastWorkshop, chosen: Chosen, scratch: SolvedHead | None, wishes: Wishes) -> Found:
    """The classical forecasters, and which system ships; then what all say of the test: asked once."""
    outlook, progress = shop.posed.outlook, shop.progress
    names = run.names_for(outlook.panel.season)
    val_windows, test_windows = shop.posed.val, outlook.windows("test")
    with progress.step("classical forecasters"), progress.bar(2 * len(names) * len(outlook.panel), "fits") as tick:
        in_val = classical(outlook, val_windows, outlook.val_from, names, tick)
        in_test = classical(outlook, test_windows, outlook.test_from, names, tick)

    def all_of(windows: Windows, network: np.ndarray, rivals: run.Classical) -> Forecasts:
        proper = {title: shop.posed.task.proper(one) for title, one in rivals.forecasts.items()}
        own = None if scratch is None else shop.scores_of(scratch.trained, windows)
        return Forecasts(windows=windows, y=outlook.truth(windows), network=network, classical=proper, scratch=own)

    val = all_of(val_windows, chosen.val_scores, in_val)
    values = {title: shop.judge.score(one).value for title, one in val.classical.items()}
    best = max(values, key=lambda title: shop.judge.gain(values[title]))
    for title, value in values.items():
        progress.say(f"  {title}: {shop.metric.title} {value:.3f} on validation{', the best' * (title == best)}")
    gain, _ = shop.judge.gain_over(val.classical[best], val.network)
    ships = wishes.plan.ships == "classical" if wishes.plan is not None else not wishes.overruled and gain > 0
    raw = all_of(test_windows, shop.scores_of(chosen.solved.trained, test_windows), in_test)
    bands = {name: Bands.fit(seen(val, one)) for name, one in val.systems.items()}
    at_test = raw.windows.series, raw.windows.origins
    corrected = {name: bands[name].corrected(one, *at_test, seen(raw, one)) for name, one in raw.systems.items()}
    return Found(
        shop=shop,
        chosen=chosen,
        scratch=scratch,
        val=val,
        test=raw.with_systems(corrected),
        bands=bands,
        best=best,
        ships_classical=bool(ships),
        fallbacks=in_test.fallbacks,
    )


def classical(outlook: Outlook, windows: Windows, until: int, names: Sequence[str], tick: Any) -> run.Classical:
    """What the classical forecasters say of windows, fitted to what came before step `until`."""
    asked = run.Windows(
        values=outlook.panel.values,
        series=windows.series,
        origins=windows.origins,
        horizon=outlook.horizon,
        season=outlook.panel.season,
        until=until,
    )
    return run.run_all(asked, names, tick)


def seen(split: Forecasts, forecasts: np.ndarray) -> Seen:
    """One system's forecasts of a split, and what came of them."""
    return Seen(
        forecasts=forecasts,
        outcomes=outcomes(split.y),
        series=split.windows.series,
        origins=split.windows.origins,
    )


def title_of(found: Found) -> str:
    """The adapted network, for people, where it is not what ships."""
    shop = found.shop
    names = [stage.name for stage in shop.backbone.stages]
    return f"{short_name(shop)}, {adapt.title_of(found.chosen.solved.strategy, names)}"


def short_name(shop: ForecastWorkshop) -> str:
    """The backbone's name; of a network that was pretrained on a source, that it was."""
    name = str(shop.backbone.provenance.name)
    return "the pretrained network" if f"{places.home() / BACKBONES}" in name else name


def contest_of(found: Found, metrics: tuple[Metric, ...], asked_for: str | None) -> Contest:
    """All systems on the test; the one that ships is the model."""
    shop, test = found.shop, found.test
    adapted = title_of(found) if found.ships_classical else MODEL
    systems = {MODEL: test.classical[found.best] if found.ships_classical else test.network}
    systems |= {adapted: test.network} if found.ships_classical else {}
    systems |= {title: one for title, one in test.classical.items() if not (found.ships_classical and title == found.best)}
    systems |= {SCRATCH: test.scratch} if test.scratch is not None else {}
    return Contest(
        task=shop.posed.task,
        scales=scales_of(shop.posed.outlook, test.windows, metrics, asked_for, shop.seed),
        y=test.y,
        systems=systems,
        rival=found.best,
        adapted=adapted,
        scratch_epochs=None if found.scratch is None else found.scratch.strategy.settings()["epochs"],
    )


def told(
    found: Found, contest: Contest, evidence: Evidence, asked: Asked
) -> Record:
    """Everything that this fit has to say."""
    shop, posed = found.shop, found.shop.posed
    outlook, test = posed.outlook, found.test
    metric = next(one for one in contest.scales.metrics if one.name == evidence.primary)
    shown = Shown(
        panel=outlook.panel,
        series=test.windows.series,
        origins=test.windows.origins,
        splits=splits_of(outlook),
        fallbacks=found.fallbacks,
    )
    ships = found.ships_classical
    return Record(
        data=summarise(outlook),
        findings=posed.findings,
        task=posed.task,
        plan=plan_of(found),
        provenance=shop.backbone.provenance,
        evidence=evidence,
        test=TestResult(
            y=test.y,
            scores=contest.systems[MODEL],
            naive=test.classical[posed.task.naive_title] if posed.task.naive_title in test.classical else test.network,
            classical=test.classical[found.best],
            transfer=test.network if ships else None,
            scratch=test.scratch,
            scratch_epochs=contest.scratch_epochs,
            ships_classical=ships,
        ),
        mistakes=(),
        seconds=dict(shop.progress.seconds),
        command=command(found, asked, evidence.primary),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        forecasts=measure_forecasts(contest, metric, shown),
    )


def plan_of(found: Found) -> Plan:
    """What was decided, and why."""
    plan = adapt_head.plan_of(found.shop, found.chosen, found.scratch, found.best)
    return replace(plan, ships="classical" if found.ships_classical else "transfer")


def splits_of(outlook: Outlook) -> dict[str, str]:
    """Where in time the parts begin, for people."""
    panel = outlook.panel
    return {
        "learnt from": _day(panel, 0),
        "chosen on": _day(panel, outlook.val_from),
        "tested on": _day(panel, outlook.test_from),
        "until": _day(panel, panel.n_steps - 1),
    }


def summarise(outlook: Outlook) -> DataSummary:
    """What was read, and how many forecasts each split holds."""
    panel = outlook.panel
    return DataSummary(
        name=panel.name,
        source=panel.source,
        modality="series",
        task="forecasting",
        label_name=panel.target_name,
        n={name: len(outlook.windows(name)) for name in ("train", "val", "test")},
        class_counts={},
        notes=panel.notes,
    )


def command(found: Found, asked: Asked, metric: str) -> str:
    """The command line that makes the run again; "" for data in memory."""
    panel, reading = found.shop.posed.outlook.panel, asked.reading
    source = None if asked.source is None else asked.source.source if isinstance(asked.source, Panel) else str(asked.source)
    if any(one.endswith(" in memory") for one in (panel.source, source or "")):
        return ""
    words = ["headstart", "fit", panel.source, "--horizon", str(asked.horizon)]
    words += ["--source", source] if source else []
    words += ["--test-steps", str(asked.test_steps)] if asked.test_steps is not None else []
    options = {"--time": reading.time, "--series": reading.series, "--label": reading.target}
    options |= {"--frequency": reading.frequency, "--season": reading.season}
    for option, value in options.items():
        words += [option, str(value)] if value is not None else []
    words += [part for name in reading.known for part in ("--known", name)]
    words += [part for name in reading.static for part in ("--static", name)]
    words += ["--as", reading.as_] if reading.as_ != "levels" else []
    words += [] if source else ["--backbone", found.shop.backbone.provenance.name]
    return shlex.join([*words, "--metric", metric, "--seed", str(found.shop.seed)])


def assemble(found: Found, record: Record, asked: Asked) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    shop, posed = found.shop, found.shop.posed
    panel, ships = posed.outlook.panel, found.ships_classical
    names = {registry.FORECASTERS.get(name).title: name for name in registry.FORECASTERS.names()}
    seer = Seer(
        bands=found.bands[found.shipped],
        network=None if ships else found.chosen.solved.trained,
        classical=names[found.best] if ships else None,
        reading=replace(asked.reading, frequency=panel.frequency or None, season=panel.season, as_=panel.as_),
        panel=panel,
    )
    table = tested_table(panel, found.test.windows, found.test.y, record.test.scores)
    return Model(
        task=posed.task,
        modality=posed.modality,
        seer=seer,
        plan=record.plan,
        provenance=shop.backbone.provenance,
        fingerprint=shop.backbone.fingerprint,
        evidence=record.evidence,
        columns=dict(panel.columns),
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "predictions.parquet": table_bytes(table),
            HISTORY: history_bytes(panel),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
            **backbone_files(shop),
        },
        _pretrained=shop.backbone,
    )


def backbone_files(shop: ForecastWorkshop) -> dict[str, bytes]:
    """A network that was pretrained on the user's own source goes along with the run: it is small, and has no home."""
    folder = Path(shop.backbone.provenance.name)
    if folder.parent != places.home() / BACKBONES:
        return {}
    located = catalog.locate(str(folder), shop.progress)
    return {f"{catalog.BUNDLED}/{name}": content for name, content in catalog.copied(located).items()}
