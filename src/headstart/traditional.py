"""Traditional transfer, a table learnt with another's help: audit → encode → weigh the ways → evaluate → assemble."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from headstart import registry
from headstart.data.audit import class_counts
from headstart.data.dataset import Dataset
from headstart.data.read import describe
from headstart.deploy import artifact
from headstart.deploy.card import model_card
from headstart.deploy.model import Model
from headstart.deploy.predictions import test_table, unlabelled_table
from headstart.errors import PlanError, did_you_mean, listed
from headstart.evidence.base import Evidence, Score, TestResult
from headstart.evidence.carried import Carried, verdict
from headstart.evidence.intervals import PERCENTILES, compare, score
from headstart.evidence.plan import Candidate, Plan
from headstart.evidence.record import DataSummary, Record, find_mistakes, library_versions
from headstart.evidence.weigh import MODEL, N_RESAMPLES, Scales, primary_first, primary_of
from headstart.inductive import columns_of
from headstart.progress import Progress
from headstart.report.html import render
from headstart.sides import LEAST, Encoded, Tables, encode, look_at, opened
from headstart.strategies.base import Part
from headstart.tables.folds import folds, strata_of
from headstart.tables.gap import look
from headstart.tables.mixture import Mixture, TableModel
from headstart.tables.planner import N_FOLDS, REPEATS, Planned, Way, as_it_is, begin, plan, ship
from headstart.tasks.base import Metric
from headstart.wishes import AUTO, Wishes

TARGET_ONLY, SOURCE_ONLY = "target_only", "source_only"
TITLES = {TARGET_ONLY: "target only", SOURCE_ONLY: "source only, as it is"}
N_OUTER = 5  # folds of the cross-validation that stands in for a test


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What choosing, learning and measuring share."""

    tables: Tables
    encoded: Encoded
    ways: Sequence[Way]
    strategy: str | None  # the one way that the user asked for
    metrics: tuple[Metric, ...]
    seed: int
    progress: Progress

    def choose(self, target: Part, repeats: int, groups: np.ndarray | None) -> Planned:
        """Weigh the ways on labelled target rows."""
        return plan(self.encoded.domains, self.ways, target, repeats, groups)

    def chosen(self, planned: Planned) -> Planned:
        """All ways, or the one that was asked for."""
        return planned if self.strategy is None else planned.only([self.strategy])

    def systems(self, planned: Planned, target: Part, X: np.ndarray) -> dict[str, np.ndarray]:
        """Scores (n, K) of rows: by the model, the majority guess, the target alone and the source alone."""
        domains, task = self.encoded.domains, self.tables.task
        y = target.y if len(target.y) else domains.given.y
        found = {
            MODEL: ship(domains, self.chosen(planned), target).scores(task, X),
            task.naive_title: task.naive(y, len(X)),
        }
        if domains.source is not None and len(target.y):
            found[TITLES[TARGET_ONLY]] = ship(domains, planned.only([TARGET_ONLY]), target).scores(task, X)
        if domains.source is not None:
            found[TITLES[SOURCE_ONLY]] = as_it_is(self.ways, SOURCE_ONLY, domains).scores(task, X)
        return found


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What every system says of rows that it did not learn from; no rows where nothing can be measured."""

    y: np.ndarray
    systems: Mapping[str, np.ndarray]
    dataset: Dataset  # those rows
    crosswise: bool


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
    with progress.step("begin"):
        ways = begin(encoded.domains)
    strategy = None if wishes.strategy in (None, AUTO) else wishes.strategy
    shop = Shop(
        tables=tables, encoded=encoded, ways=ways, strategy=strategy, metrics=metrics, seed=seed, progress=progress
    )
    with progress.step("weigh the ways"):
        planned = shop.choose(encoded.teach, REPEATS, encoded.groups)
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
            f"{listed(odd)} mean{'s' * (len(odd) == 1)} nothing to a plain table, which stands on no pretrained network. "
            "Leave it out; the same tables and the same --seed give the same model."
        )
    names = [AUTO, *registry.TABLES.names()]
    if wishes.strategy not in (None, *names):
        raise PlanError(
            f"{wishes.strategy!r} is not a way to learn a table: {listed(names, 20)}."
            f"{did_you_mean(str(wishes.strategy), names)}"
        )
    if wishes.strategy in registry.TABLES.names() and not has_source:
        if registry.TABLES.get(str(wishes.strategy)).needs_source:
            raise PlanError(f"--strategy {wishes.strategy} learns from a source. Give it with --source, or leave it out.")


def measure(shop: Shop, planned: Planned) -> Measurement:
    """On the test rows; where there are none, on each fold of the labelled rows by what the others teach."""
    tables, encoded = shop.tables, shop.encoded
    if len(encoded.test.y):
        systems = shop.systems(planned, encoded.teach, encoded.test.features)
        tested = tables.target.dataset.select(tables.test)
        return Measurement(y=encoded.test.y, systems=systems, dataset=tested, crosswise=False)
    teach = encoded.teach
    if len(teach.y) < LEAST or len(np.unique(teach.y)) < 2:
        return Measurement(y=teach.y[:0], systems={}, dataset=tables.target.dataset.select([]), crosswise=False)
    strata = strata_of(teach.y, is_number=not tables.task.score_names)
    found: dict[str, np.ndarray] = {}
    for held in folds(strata, N_OUTER, shop.seed + 1000, encoded.groups):
        kept = np.setdiff1d(np.arange(len(teach.y)), held)
        part = Part(teach.features[kept], teach.y[kept])
        inner = shop.choose(part, 1, None if encoded.groups is None else encoded.groups[kept])
        for name, scores in shop.systems(inner, part, teach.features[held]).items():
            found.setdefault(name, np.empty((len(teach.y), scores.shape[1])))[held] = scores
    tested = tables.target.dataset.select(tables.teach)
    return Measurement(y=teach.y, systems=found, dataset=tested, crosswise=True)


def weigh(shop: Shop, planned: Planned, measured: Measurement, asked_for: str | None) -> Evidence:
    """Every score with its interval, beside either side alone, and the verdict."""
    domains = shop.encoded.domains
    scales = Scales(
        metrics=shop.metrics,
        naive=shop.tables.task.naive_title,
        asked_for=asked_for,
        groups=measured.dataset.groups if len(measured.y) else None,
        seed=shop.seed,
    )
    scores, differences, primary, between = {}, {}, shop.metrics[0], None
    if len(measured.y):
        weights = scales.resamples(len(measured.y))
        scores, differences = compare(shop.metrics, measured.y, measured.systems, MODEL, weights, scales.n_groups)
        primary = primary_of(scales, scores[MODEL])
        if TITLES[TARGET_ONLY] in measured.systems:
            sides = {TITLES[name]: measured.systems[TITLES[name]] for name in (SOURCE_ONLY, TARGET_ONLY)}
            _, found = compare([primary], measured.y, sides, TITLES[SOURCE_ONLY], weights, scales.n_groups)
            between = found[TITLES[TARGET_ONLY]].get(primary.name)
    over = {name: differences.get(TITLES[name], {}).get(primary.name) for name in (TARGET_ONLY, SOURCE_ONLY)}
    sentence, paid = verdict(
        Carried(
            metric=primary,
            n_labels=len(shop.encoded.teach.y),
            n_test=len(measured.y),
            crosswise=measured.crosswise,
            has_source=domains.source is not None,
            say=1 - shop.chosen(planned).of(TARGET_ONLY),
            score=scores[MODEL][primary.name] if scores else None,
            over_target=over[TARGET_ONLY],
            over_source=over[SOURCE_ONLY],
            source_over_target=between,
            n_groups=scales.n_groups,
            estimate=None if scores else estimate(shop.chosen(planned), primary, domains.source, shop.seed),
        )
    )
    return Evidence(
        primary=primary.name,
        titles={one.name: one.title for one in shop.metrics},
        better={one.name: one.better for one in shop.metrics},
        metrics=scores.get(MODEL, {}),
        baselines={name: found for name, found in scores.items() if name != MODEL},
        differences=differences,
        verdict=sentence,
        paid=paid,
        n_resamples=N_RESAMPLES,
    )


def estimate(planned: Planned, metric: Metric, source: Part | None, seed: int) -> Score | None:
    """The metric on held-out source rows, weighted to look like the target's; None where labels chose."""
    if planned.row_weights is None or source is None:
        return None
    weights = Scales(metrics=(metric,), seed=seed).resamples(len(source.y)) * planned.row_weights
    scores = planned.scores()
    value = metric.compute(source.y, scores, planned.row_weights[None])[0]
    low, high = np.nanpercentile(metric.compute(source.y, scores, weights), PERCENTILES)
    return Score(float(value), float(low), float(high))


def candidates(shop: Shop, planned: Planned) -> tuple[Candidate, ...]:
    """Each way with its cross-validated score on the target's labels and its weight, the heaviest first."""
    source, teach = shop.encoded.domains.source, shop.encoded.teach
    y = source.y if planned.row_weights is not None and source is not None else teach.y
    metric = shop.metrics[0]
    weights = Scales(metrics=(metric,), seed=shop.seed).resamples(len(y))
    weights = weights if planned.row_weights is None else weights * planned.row_weights
    shipped = shop.chosen(planned)
    found = []
    for name in planned.names:
        said = planned.only([name]).scores()
        value = score([metric], y, said, weights).get(metric.name) if planned.row_weights is None else None
        if planned.row_weights is not None:
            value = estimate(planned.only([name]), metric, source, shop.seed)
        weight = shipped.of(name)
        found.append(
            Candidate(
                backbone="",
                strategy=name,
                settings={"weight": round(weight, 4)},
                title=registry.TABLES.get(name).title,
                cut=0,
                n_train=len(teach.y) if name == TARGET_ONLY else len(teach.y) + len(y if source is None else source.y),
                round=0,
                cost_passes=0.0,
                seconds=0.0,
                score=value,
                outcome=f"{weight:.0%} of the say" if weight >= 0.005 else "hardly any say",
            )
        )
    return tuple(found)


def make_plan(shop: Shop, planned: Planned, mixture: Mixture) -> Plan:
    """What was decided, and why."""
    shipped, labels = shop.chosen(planned), len(shop.encoded.teach.y)
    ranked = shipped.names
    titles = [f"{registry.TABLES.get(name).title} {shipped.of(name):.0%}" for name in ranked if shipped.of(name) >= 0.05]
    how = f"{REPEATS} times {N_FOLDS}-fold cross-validation on {labels:,} target labels"
    if planned.row_weights is not None:
        how = "cross-validation on the source's rows, weighted to look like the target's, as the target has no labels"
    reason = f"the mean of {len(mixture.parts)} models, weighed by {how}: {listed(titles, 12)}"
    losses = [w * float(one.losses.mean()) for w, one in zip(shipped.weights, shipped.tried, strict=True)]
    return Plan(
        backbone="",
        backbone_sha256="",
        strategy=ranked[0],
        cut=0,
        n_stages=0,
        stage_names=(),
        strength=None,
        temperature=1.0,
        val_loss=sum(losses),
        classical=TITLES[TARGET_ONLY],
        seed=shop.seed,
        reason=reason if shop.strategy is None else f"as asked for: {titles[0].rpartition(' ')[0]}",
        settings={"weights": {name: round(shipped.of(name), 4) for name in ranked}},
        metric=shop.metrics[0].name,
        metric_title=shop.metrics[0].title,
        candidates=candidates(shop, planned),
    )


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
        for name, found in class_counts(source).items():
            counts.setdefault(name, {})["source"] = sum(found.values())
    notes = [*dataset.notes, *shop.encoded.encoder.notes]
    if len(tables.unlabelled):
        notes.append(f"{len(tables.unlabelled):,} rows of the target have no label: their columns are looked at, and they are predicted")
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
