"""Measure without shipping: rank backbones before anything is trained, and compare ways to learn over label budgets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from headstart import adapt, inductive, registry
from headstart.data.threads import in_threads
from headstart.errors import DataError, PlanError, did_you_mean, listed
from headstart.evidence import planner
from headstart.evidence.curves import Comparison, CurvePoint, labels_saved
from headstart.evidence.depth import best_probe
from headstart.evidence.plan import DepthPoint
from headstart.evidence.transferability import Transferability, score_features
from headstart.evidence.weigh import primary_first
from headstart.problem import FEW_VAL, Problem, labelled, pose, some_of_each
from headstart.progress import Progress
from headstart.strategies.scratch import Scratch
from headstart.tasks.base import Metric
from headstart.wishes import AUTO, Wishes
from headstart.workshop import Workshop, load_backbone, load_backbones, open_workshop

CLASSICAL, SCRATCH, ALL = "classical", "scratch", "all"
FEWEST = 8  # labels that a comparison can learn from


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One backbone before anything is trained."""

    backbone: str
    licence: str
    n_parameters: int
    best: DepthPoint  # the probe that is best on validation
    depth: tuple[DepthPoint, ...]
    stages: tuple[Transferability, ...]  # scores of every stage
    pass_s: float  # of the frozen pass, 0 when all was cached
    ways: tuple[tuple[str, float], ...]  # what `fit` would try, and its cost in passes

    @property
    def at_best(self) -> Transferability:
        """The transferability scores of the best stage."""
        return self.stages[self.best.stages[-1]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Candidate backbones, the most promising first."""

    data: str
    metric: str
    metric_title: str
    n_train: int
    n_val: int
    ranked: tuple[Ranked, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def rank(
    data: Any,
    backbones: Sequence[str] | None = None,
    *,
    metric: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Ranking:
    """Rank backbones for `data` by their best probe on validation, with the transferability scores; trains nothing.

    The test split is not looked at. Arguments as those of `headstart.fit`.
    """
    progress = progress or Progress()
    dataset = labelled(data, progress)
    networks = load_backbones(backbones, dataset.modality, progress)
    problem = pose(dataset, seed, progress)
    metrics = primary_first(problem.linear.metrics(), metric)
    shops = [open_workshop(problem, network, metrics, Wishes(), seed, progress) for network in networks]
    ranked = sorted((_ranked(shop) for shop in shops), key=lambda one: -shops[0].judge.gain(one.best.score.value))
    return Ranking(
        data=dataset.name,
        metric=shops[0].metric.name,
        metric_title=shops[0].metric.title,
        n_train=shops[0].work.n_train,
        n_val=shops[0].work.n_val,
        ranked=tuple(ranked),
    )


def _ranked(shop: Workshop) -> Ranked:
    problem, network = shop.problem, shop.backbone
    rows, names = problem.rows["train"], [stage.name for stage in network.stages]
    before = shop.progress.seconds.get("frozen pass", 0.0)
    best = best_probe(shop.probed, shop.judge, problem.linear, problem.crosswise)
    with shop.progress.step("transferability"):
        stages = tuple(_scored(shop, stage, rows, name) for stage, name in enumerate(names))
    ways = planner.options(network.n_stages, shop.work.n_train, lora=network.is_of_matrices)
    return Ranked(
        backbone=network.provenance.name,
        licence=network.provenance.licence,
        n_parameters=network.provenance.n_parameters,
        best=best.point,
        depth=tuple(one.point for one in shop.probed),
        stages=stages,
        pass_s=shop.progress.seconds["frozen pass"] - before,
        ways=tuple((adapt.title_of(way, names), round(shop.work.passes(way, shop.work.n_train), 2)) for way in ways),
    )


def _scored(shop: Workshop, stage: int, rows: np.ndarray, name: str) -> Transferability:
    """All scores of one stage; those of the source classifier on the last stage only, which it stands on."""
    features, probabilities = shop.frozen.stage(stage, rows), None
    source = shop.backbone.source_head
    if source is not None and stage == shop.backbone.n_stages - 1:
        weight, bias = (tensor.detach().double().numpy() for tensor in source)
        logits = features.astype(np.float64) @ weight.T + bias
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exp / exp.sum(axis=1, keepdims=True)
    try:
        return score_features(
            features, shop.problem.y[rows], source_probabilities=probabilities, stage=stage, name=name, seed=shop.seed
        )
    except DataError:  # a stage whose features are all alike
        return Transferability(
            stage=stage, name=name, logme=None, h_score=None, transrate=None, probe_cv=None, leep=None, nce=None
        )


def compare(
    data: Any,
    strategies: Sequence[str] = ("auto", "scratch", "classical"),
    *,
    labels: Sequence[int | str] = (16, 64, 256, ALL),
    seeds: int = 3,
    backbone: str | None = None,
    metric: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Learning curves: what each way to learn scores on the same test examples with so many labels, over seeds.

    `strategies` are names of strategies, "auto" (what `fit` would choose) or "classical"; `labels` count train and
    validation together, "all" is what there is. Each seed draws other labelled examples; the test split stays.
    """
    progress = progress or Progress()
    names = _known(strategies)
    dataset = labelled(data, progress)
    network = load_backbone(backbone, registry.modality(dataset.modality), progress)
    problem = pose(dataset, 0, progress)
    metrics = primary_first(problem.linear.metrics(), metric)
    budgets = _budgets(labels, len(problem.rows["train"]) + len(problem.rows["val"]))
    points = []
    for name in names:
        for n in budgets:
            scores, seconds = [], []
            for seed in range(seeds):
                drawn = draw(problem, n, seed, _crosswise(name))
                shop = open_workshop(drawn, network, metrics, Wishes(), seed, progress)
                start = time.perf_counter()
                scores.append(_score(shop, name, metrics[0]))
                seconds.append(time.perf_counter() - start)
            point = CurvePoint(system=name, n_labels=n, scores=tuple(scores), seconds=float(np.mean(seconds)))
            points.append(point)
            progress.say(f"  {name}, {n:,} labels: {point.mean:.3f} ± {point.sd:.3f} {metrics[0].title}")
    return Comparison(
        data=dataset.name,
        backbone=network.provenance.name,
        metric=metrics[0].name,
        metric_title=metrics[0].title,
        better=metrics[0].better,
        n_test=len(problem.rows["test"]),
        points=tuple(points),
        saved=labels_saved(points, metrics[0].better, names[0]),
    )


def draw(problem: Problem, n: int, seed: int, crosswise: bool = True) -> Problem:
    """The problem with n labelled examples, of each class its share: four fifths to learn from, one fifth to choose.

    With `crosswise`, or where every class needs all that it has, all of them teach where that fifth would be too small.
    """
    rows = np.union1d(problem.rows["train"], problem.rows["val"])
    if n < len(rows):
        rows = rows[some_of_each(problem.y[rows], n, seed)]
    to_learn = some_of_each(problem.y[rows], round(0.8 * len(rows)), seed + 1)
    val = np.setdiff1d(np.arange(len(rows)), to_learn)
    if (crosswise and round(0.2 * len(rows)) < FEW_VAL) or not len(val):
        return replace(problem, rows={**problem.rows, "train": rows, "val": rows})
    return replace(problem, rows={**problem.rows, "train": rows[to_learn], "val": rows[val]})


def _crosswise(name: str) -> bool:
    """Whether cross-validation may choose; networks that are trained need examples to stop by."""
    return name in (AUTO, CLASSICAL) or (name != SCRATCH and Wishes(strategy=name).crosswise)


def _score(shop: Workshop, name: str, metric: Metric) -> float:
    """The metric on test of one way to learn."""
    problem = shop.problem
    rows = problem.rows["test"]
    if name == CLASSICAL:
        items = in_threads(problem.modality.classical_item, problem.dataset.inputs)
        classical = inductive.solve_classical(problem, items, shop.seed)
        scores = classical.scores(problem.linear, [items[row] for row in rows])
    elif name == SCRATCH:
        scores = shop.scores(shop.train(Scratch(epochs=planner.epochs_for(shop.work.n_train))).solved, rows)
    else:
        chosen = adapt.choose(shop, Wishes(strategy=None if name == AUTO else name))
        scores = shop.scores(chosen.solved, rows)
    shop.trials.forget()
    return float(metric.compute(problem.y[rows], scores, np.ones((1, len(rows))))[0])


def _known(strategies: Sequence[str]) -> list[str]:
    known = [AUTO, CLASSICAL, *registry.STRATEGIES.names()]
    for name in strategies:
        if name not in known:
            raise PlanError(f"{name!r} is not a way to learn: {listed(known, 20)}.{did_you_mean(name, known)}")
    return list(dict.fromkeys(strategies))


def _budgets(labels: Sequence[int | str], n: int) -> list[int]:
    """Numbers of labels, ascending and distinct; PlanError for what is no number, or too few."""
    found = set()
    for one in labels:
        if str(one) != ALL and not str(one).isdigit():
            raise PlanError(f"{one!r} is not a number of labels. Give numbers and 'all', such as 16,64,256,all.")
        count = n if str(one) == ALL else min(int(one), n)
        if count < FEWEST:
            raise PlanError(f"{count} labels are too few to learn from; give at least {FEWEST}.")
        found.add(count)
    return sorted(found)
