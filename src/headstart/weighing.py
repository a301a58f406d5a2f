"""What the ways to learn a table have shown: how much say each has, and what came of it on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart import registry
from headstart.data.dataset import Dataset
from headstart.errors import listed
from headstart.evidence.base import Evidence, Score, Scores
from headstart.evidence.carried import Carried, verdict
from headstart.evidence.intervals import PERCENTILES, compare, score
from headstart.evidence.plan import Candidate, Plan
from headstart.evidence.weigh import MODEL, N_RESAMPLES, Scales, primary_of
from headstart.progress import Progress
from headstart.sides import LEAST, Encoded, Tables
from headstart.strategies.base import Part
from headstart.tables.folds import folds, strata_of
from headstart.tables.mixture import Mixture
from headstart.tables.planner import N_FOLDS, Planned, Way, as_it_is, plan, repeats_for, ship
from headstart.tasks.base import Metric

TARGET_ONLY, SOURCE_ONLY = "target_only", "source_only"
TITLES = {TARGET_ONLY: "target only", SOURCE_ONLY: "source only, as it is"}
SAID = 0.05  # of the say: ways with less are not named in the plan's sentence
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

    def choose(self, target: Part, repeats: int | None, groups: np.ndarray | None) -> Planned:
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
    naive = tables.task.naive(teach.y, len(teach.y))  # one guess for all: that of each fold would tell the folds apart
    found[tables.task.naive_title] = naive
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
    scores: dict[str, Scores] = {}
    differences: dict[str, Scores] = {}
    primary, between = shop.metrics[0], None
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
    shares = {registry.TABLES.get(name).title: shipped.of(name) for name in ranked}
    how = f"{repeats_for(labels)} times {N_FOLDS}-fold cross-validation on {labels:,} target labels"
    if planned.row_weights is not None:
        how = "cross-validation on the source's rows, weighted to look like the target's, as the target has no labels"
    said = listed((f"{title} {share:.0%}" for title, share in shares.items() if share >= SAID), 12)
    reason = f"the mean of {len(mixture.parts)} models, weighed by {how}: {said}"
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
        reason=reason if shop.strategy is None else f"as asked for: {next(iter(shares))}",
        settings={"weights": {name: round(shipped.of(name), 4) for name in ranked}},
        metric=shop.metrics[0].name,
        metric_title=shop.metrics[0].title,
        candidates=candidates(shop, planned),
    )
