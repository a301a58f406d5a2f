"""Forecasting: audit → cut in time → pretrain on a source, if there is one → adapt → evaluate → assemble.

The depth question is the usual one, with an answer before it: the network as it was pretrained, a head alone on frozen
stages, the upper stages too, everything; and the same network from random weights. Beside them stand the classical
forecasters, which ship where validation prefers one of them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import adapt_head, places, registry
from headstart.backbones import catalog
from headstart.data.audit_panel import audit_panel
from headstart.data.layouts import PanelReading
from headstart.data.outlook import Outlook, look_ahead
from headstart.data.panel import Panel
from headstart.deploy import artifact
from headstart.deploy.card import model_card
from headstart.deploy.forecasts import HISTORY, Seer, history_bytes, tested_table
from headstart.deploy.model import Model
from headstart.deploy.predictions import table_bytes
from headstart.errors import DataError, PlanError
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.forecast_verdict import Contest, forecast_claim
from headstart.evidence.forecasts import Shown, measure_forecasts
from headstart.evidence.plan import Plan
from headstart.evidence.record import DataSummary, Record, library_versions
from headstart.evidence.weigh import MODEL, primary_first, weigh_systems
from headstart.forecast_contest import BACKBONES, Found, beside, contest_of
from headstart.forecast_workshop import RECIPE, ForecastWorkshop
from headstart.inductive import as_planned
from headstart.panels import (
    Asked,
    day,
    describe,
    in_time,
    known_before,
    open_panel,
    pose,
    scales_of,
    splits_of,
    task_of,
)
from headstart.progress import Progress
from headstart.report.html import render
from headstart.series_pretraining import key_of, pretrain
from headstart.tasks.base import Metric
from headstart.wishes import Wishes
from headstart.workshop import load_backbones


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
        levels, panel = open_panel(data, asked)
        progress.say(describe(panel))
    with progress.step("audit"):
        findings = audit_panel(panel, levels)
        for line in (*(f"{finding.severity}: {finding.text}" for finding in findings), *panel.notes):
            progress.say(f"  {line}")
    outlook = look_ahead(panel, asked.horizon, asked.test_steps)
    named_season = panel.season if isinstance(data, Panel) else asked.reading.season
    panel = known_before(panel, levels, outlook.test_from, named_season)
    outlook = replace(outlook, panel=panel)
    if asked.source is not None:
        backbone = from_source(outlook, asked, named, seed, progress)
    networks: list[Any] = load_backbones(backbone, "series", progress)
    network = networks[0]
    outlook = replace(outlook, sparse=not network.dense)
    progress.say(f"  {in_time(outlook)}")
    adapt_head.check(wishes, RECIPE, network.n_stages, len(networks))
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


def from_source(outlook: Outlook, asked: Asked, backbone: Any, seed: int, progress: Progress) -> str:
    """The folder of a network that was pretrained on the source, as far as that lies before the first choice."""
    if backbone is not None:
        raise PlanError("--source pretrains a network, and --backbone names one: give one of them.")
    target = outlook.panel
    reading = PanelReading(as_=target.as_, season=target.season)
    with progress.step("read"):
        source = open_panel(asked.source, replace(asked, reading=reading))[1]
        progress.say(f"source: {describe(source)}")
    source = source.until(taught_steps(source, outlook, progress))
    folder = places.home() / BACKBONES / key_of(source, outlook.horizon, seed)
    if (folder / "config.json").is_file():
        progress.say(f"  the network that was pretrained on it is there already: {folder}")
    else:
        known = pretrain(source, outlook.horizon, out=folder, seed=seed, progress=progress)
        progress.say(f"  {known.verdict}")
    return str(folder)


def taught_steps(source: Panel, outlook: Outlook, progress: Progress) -> int:
    """How many steps of the source lie before the target's first choice. DataError where they cannot teach."""
    target, first = outlook.panel, day(outlook.panel, outlook.val_from)
    if not source.frequency or not target.frequency:
        if source.frequency or target.frequency:
            progress.say(f"  one has dates and the other has none: the source is taken to lie before {first}")
        return source.n_steps
    if source.frequency.split("-")[0] != target.frequency.split("-")[0]:
        raise DataError(
            f"The source has frequency {source.frequency}, the target {target.frequency}: a network that learnt one "
            "forecasts steps of another length. Give a source of the target's frequency."
        )
    n_steps = min(source.n_steps, int(np.searchsorted(source.times, target.times[outlook.val_from])))
    if not n_steps:
        raise DataError(
            f"The source begins on {day(source, 0)}, and only what lies before {first} may teach: from then on the "
            "target's forecasts are chosen by and tested. Give a source that begins earlier."
        )
    if n_steps < source.n_steps:
        progress.say(f"  of the source, only what lies before {first} teaches")
    return n_steps


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


def told(found: Found, contest: Contest, evidence: Evidence, asked: Asked) -> Record:
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
            naive=test.classical[posed.task.walk_title],
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
    outlooks, last = found.chosen.solved.trained.outlooks, found.shop.backbone.n_stages - 1
    return replace(
        plan,
        ships="classical" if found.ships_classical else "transfer",
        reads=(last if outlooks is None else outlooks.stage,),
    )


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
    source = (
        None if asked.source is None else asked.source.source if isinstance(asked.source, Panel) else str(asked.source)
    )
    if any(one.endswith(" in memory") for one in (panel.source, source or "")):
        return ""
    words = ["headstart", "fit", panel.source, "--horizon", str(asked.horizon)]
    words += ["--source", source] if source else []
    words += ["--test-steps", str(asked.test_steps)] if asked.test_steps is not None else []
    options: dict[str, Any] = {"--time": reading.time, "--series": reading.series, "--label": reading.target}
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
            **({} if ships else backbone_files(shop)),
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
