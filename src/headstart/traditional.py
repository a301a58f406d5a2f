"""Traditional transfer, a table learnt with another's help: audit → encode → weigh the ways → evaluate → assemble."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from headstart import registry
from headstart.data.audit import class_counts
from headstart.data.dataset import Dataset
from headstart.data.describe import describe
from headstart.deploy import artifact
from headstart.deploy.card import model_card
from headstart.deploy.model import Model
from headstart.deploy.predictions import test_table, unlabelled_table
from headstart.errors import PlanError, did_you_mean, listed
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.record import DataSummary, Record, find_mistakes, library_versions
from headstart.evidence.weigh import MODEL, primary_first
from headstart.inductive import columns_of
from headstart.progress import Progress
from headstart.report.html import render
from headstart.sides import encode, look_at, opened
from headstart.tables.gap import look
from headstart.tables.mixture import Mixture, TableModel
from headstart.tables.planner import Planned, begin, ship
from headstart.weighing import SOURCE_ONLY, TARGET_ONLY, TITLES, Measurement, Shop, make_plan, measure, weigh
from headstart.wishes import AUTO, Wishes


def fit(
    target: Dataset,
    source: Dataset | None,
    wishes: Wishes,
    *,
    backbone: object,
    metric: str | None,
    seed: int,
    out: Path | None,
    progress: Progress,
) -> Model:
    """Learn a table's label, with the help of a source table if there is one; write the run folder `out` if named.

    `metric` is what the verdict speaks of; None is the task's own. HeadstartError says what does not fit.
    """
    check(wishes, backbone, source is not None)
    if source is not None:
        progress.say(f"target: {describe(target)}\nsource: {describe(source)}")
    tables = look_at(target, source, seed, progress)
    metrics = primary_first(tables.task.metrics(), metric)
    with progress.step("encode"):
        encoded = encode(tables, seed)
        for note in encoded.encoder.notes:
            progress.say(f"  {note}")
    strategy = None if wishes.strategy in (None, AUTO) else wishes.strategy
    with progress.step("begin"):
        ways = begin(encoded.domains, None if strategy is None else {strategy, TARGET_ONLY, SOURCE_ONLY})
    shop = Shop(
        tables=tables, encoded=encoded, ways=ways, strategy=strategy, metrics=metrics, seed=seed, progress=progress
    )
    with progress.step("weigh the ways"):
        planned = shop.choose(encoded.teach, None, encoded.groups)
    with progress.step("learn"):
        mixture = ship(encoded.domains, shop.chosen(planned), encoded.teach)
    with progress.step("evaluate"):
        measured = measure(shop, planned)
        evidence = weigh(shop, planned, measured, metric)
    with progress.step("report"):
        record = tell(shop, planned, mixture, measured, evidence, out)
        model = assemble(shop, mixture, measured, record)
    if out is not None:
        model.save(out)
    return model


def check(wishes: Wishes, backbone: object, has_source: bool) -> None:
    """PlanError for a wish that means nothing to a table."""
    asked = {
        "--backbone": backbone,
        "--freeze": wishes.freeze,
        "--budget": wishes.budget,
        "--learning-rate": wishes.learning_rate,
        "--class-weight": wishes.class_weight,
        "--plan": wishes.plan,
    }
    if odd := [name for name, value in asked.items() if value is not None]:
        raise PlanError(
            f"{listed(odd)} mean{'s' * (len(odd) == 1)} nothing to a plain table, which stands on no pretrained "
            "network. Leave it out; the same tables and the same --seed give the same model."
        )
    names = [AUTO, *registry.TABLES.names()]
    if wishes.strategy not in (None, *names):
        raise PlanError(
            f"{wishes.strategy!r} is not a way to learn a table: {listed(names, 20)}."
            f"{did_you_mean(str(wishes.strategy), names)}"
        )
    named = None if wishes.strategy in (None, AUTO) else registry.TABLES.get(str(wishes.strategy))
    if named is not None and named.needs_source and not has_source:
        raise PlanError(f"--strategy {wishes.strategy} learns from a source. Give it with --source, or leave it out.")


def tell(
    shop: Shop, planned: Planned, mixture: Mixture, measured: Measurement, evidence: Evidence, out: Path | None
) -> Record:
    """Everything that this fit has to say."""
    tables, task = shop.tables, shop.tables.task
    none = np.empty((0, shop.encoded.domains.n_outputs))
    test = TestResult(
        y=measured.y,
        scores=measured.systems.get(MODEL, none),
        naive=measured.systems.get(task.naive_title, none),
        classical=measured.systems.get(TITLES[TARGET_ONLY], none),
    )
    labels = measured.dataset.column("label") if len(measured.y) else []
    rows = opened(tables.target.dataset)
    target = [*(rows[i] for i in tables.teach), *opened(tables.unlabelled)]
    source = None if tables.source is None else opened(tables.source.dataset)
    return Record(
        data=summarise(shop),
        findings=tables.findings,
        task=task,
        plan=make_plan(shop, planned, mixture),
        provenance=None,
        evidence=evidence,
        test=test,
        mistakes=find_mistakes(task, test, registry.modality("tabular"), measured.dataset.inputs, labels),
        seconds=dict(shop.progress.seconds),
        command=command(shop, evidence.primary, out),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        tables=look(shop.encoded.encoder, target, source, shop.seed),
    )


def summarise(shop: Shop) -> DataSummary:
    """The target after the audit and the split, and the source's counts beside it."""
    tables, dataset = shop.tables, shop.tables.target.dataset
    source = tables.source.dataset if tables.source else None
    n = {"train": len(tables.teach), "val": 0, "test": len(tables.test)}
    counts = class_counts(dataset) if len(dataset) else {}
    if source is not None:
        n["source"] = len(source)
        for name, own in class_counts(source).items():
            counts.setdefault(name, {})["source"] = sum(own.values())
    notes = [*dataset.notes, *shop.encoded.encoder.notes]
    if len(tables.unlabelled):
        n_without = len(tables.unlabelled)
        notes.append(
            f"{n_without:,} rows of the target have no label: their columns are looked at, and they are predicted"
        )
    if source is not None:
        notes += [f"source: {source.source}", *(f"source: {note}" for note in source.notes)]
    return DataSummary(
        name=dataset.name,
        source=dataset.source,
        modality=dataset.modality,
        task=registry.plugin_name(tables.task),
        label_name=dataset.label_name,
        n=n,
        class_counts=counts,
        notes=tuple(notes),
    )


def command(shop: Shop, metric: str, out: Path | None) -> str:
    """The command line that makes the run again, in the folder where it was made; "" for data in memory."""
    target, source = shop.tables.target.dataset, shop.tables.source
    names = [target.source, *([source.dataset.source] if source else [])]
    if any(name.endswith(" in memory") for name in names):
        return ""
    words = ["headstart", "fit", target.source, *(["--source", names[1]] if source else [])]
    said = {"label": target.label_name, **{k: v for k, v in target.overruled.items() if k != "label"}}
    for name, value in said.items():
        words += [f"--{name}", value] if not (source and name == "modality") else []
    words += ["--strategy", shop.strategy] if shop.strategy else []
    return shlex.join([*words, "--metric", metric, "--seed", str(shop.seed)])


def assemble(shop: Shop, mixture: Mixture, measured: Measurement, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    tables, modality = shop.tables, registry.modality("tabular")
    files = {
        "metrics.json": artifact.to_bytes(record.to_json()),
        "predictions.parquet": test_table(tables.task, modality, measured.dataset, record.test),
        "report.html": render(record).encode(),
        "README.md": model_card(record).encode(),
    }
    if len(tables.unlabelled):
        scores = mixture.scores(tables.task, shop.encoded.unlabelled)
        files["unlabelled.parquet"] = unlabelled_table(tables.task, modality, tables.unlabelled, scores)
    return Model(
        task=tables.task,
        modality=modality,
        plan=record.plan,
        evidence=record.evidence,
        table=TableModel(shop.encoded.encoder, mixture),
        columns=columns_of(tables.target.dataset),
        seen=tables.seen,
        files=files,
    )
