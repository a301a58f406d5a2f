"""Object detection, inductive transfer where labels are boxes: audit → split → frozen maps → train → evaluate → save.

The depth question is the usual one: the head alone on frozen maps, the last stages too, or everything; and the same
network from random weights for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import adapt, registry
from headstart.adapt import Chosen
from headstart.box_workshop import BoxWorkshop, SolvedBoxes, canvas_of
from headstart.data.dataset import Dataset
from headstart.deploy import artifact, examples
from headstart.deploy.card import model_card
from headstart.deploy.detections import tested_table
from headstart.deploy.model import Model
from headstart.deploy.predictions import table_bytes
from headstart.errors import PlanError, listed
from headstart.evidence import planner
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.boxes import measure_boxes
from headstart.evidence.plan import Plan
from headstart.evidence.planner import Tried
from headstart.evidence.record import Record, library_versions
from headstart.evidence.sliding import Sliding, fit_sliding
from headstart.evidence.slips import picture_slips
from headstart.evidence.weigh import Scales, primary_first, weigh
from headstart.inductive import columns_of, command, summarise
from headstart.problem import Problem, pose
from headstart.progress import Progress
from headstart.report.html import render
from headstart.strategies.base import Trained
from headstart.strategies.frozen import Frozen
from headstart.strategies.full import Full
from headstart.strategies.partial import Partial
from headstart.strategies.scratch import Scratch
from headstart.wishes import AUTO, Wishes
from headstart.workshop import load_backbones, open_workshop

WAYS = ("frozen", "partial", "full")
PASSES, PICTURES = 150.0, 30_000  # the default budget: frozen passes, or pictures run if that is more
FEWEST_EPOCHS, MOST_EPOCHS = 2, 60
N_VIEWS = 4  # cached views of each picture below a cut, the plain one among them
ON_PYRAMID: dict[str, Any] = {"learning_rate": 4e-4, "head_rate": 10.0, "weight_decay": 0.05, "batch_size": 16}
READY_MADE: dict[str, Any] = {"learning_rate": 1e-4, "head_rate": 2.0, "weight_decay": 1e-4, "batch_size": 8}


@dataclass(frozen=True, kw_only=True)
class Systems:
    """Everything that is to be measured on the test split."""

    chosen: Chosen
    scratch: SolvedBoxes | None
    classical: Sliding


def fit(
    dataset: Dataset,
    wishes: Wishes,
    *,
    backbone: str | Sequence[str] | None,
    metric: str | None,
    seed: int,
    out: Path | None,
    progress: Progress,
) -> Model:
    """Adapt a backbone to pictures whose objects are boxed; write the run folder `out` if one is named."""
    again = wishes.plan
    primary = metric
    if again is not None:
        seed, primary = again.seed, metric or again.metric
        backbone = again.backbone if backbone is None else backbone
    networks = load_backbones(backbone, dataset.modality, progress)
    check(wishes, networks[0].n_stages, len(networks))
    problem = pose(dataset, seed, progress, crosswise=False)
    metrics = primary_first(problem.task.metrics(), primary)
    shop = open_shop(problem, networks[0], metrics, wishes, seed, progress)
    with progress.step("classical baseline"):
        train, val = problem.rows["train"], problem.rows["val"]
        own, others = ([problem.dataset.inputs[row] for row in rows] for rows in (train, val))
        n_classes = len(problem.task.score_names)
        classical = fit_sliding(problem.modality, own, problem.y[train], n_classes, seed, others, problem.y[val])
    chosen = choose(shop, wishes)
    systems = Systems(chosen=chosen, scratch=from_scratch(shop, chosen, wishes), classical=classical)
    with progress.step("evaluate"):
        test = test_once(shop, systems)
        scales = Scales(
            metrics=metrics,
            naive=problem.task.naive_title,
            asked_for=metric,
            groups=problem.groups("test"),
            seed=seed,
        )
        evidence = weigh(scales, test, classical.title)
    with progress.step("report"):
        record = tell(shop, systems, evidence, test, scales, out)
        model = assemble(shop, systems, record)
    if out is not None:
        model.save(out)
    shop.trials.forget()
    return model


def check(wishes: Wishes, n_stages: int, n_backbones: int) -> None:
    """PlanError for a wish that cannot be fulfilled where boxes are learnt."""
    if n_backbones > 1:
        raise PlanError("Boxes are learnt on one backbone: name one with --backbone, and compare the runs.")
    if wishes.strategy not in (None, AUTO, *WAYS):
        raise PlanError(
            f"{wishes.strategy!r} is no way to learn boxes, whose head is trained on maps: {listed(WAYS)}, or none to "
            "let validation choose."
        )
    if wishes.class_weight == "balanced":
        raise PlanError("Class weights are for labels; boxes are learnt without. Leave --class-weight out.")
    wishes.check(n_stages)


def open_shop(
    problem: Problem, network: Any, metrics: tuple[Any, ...], wishes: Wishes, seed: int, progress: Progress
) -> BoxWorkshop:
    """The problem and the backbone at the canvas that the boxes ask for."""
    if wishes.plan is not None and wishes.plan.canvas is not None:
        canvas = wishes.plan.canvas
    else:
        canvas = network.canvas if network.reads else canvas_of(problem)
    progress.say(f"  every picture is looked at as {canvas[1]} × {canvas[0]} pixels")
    return open_workshop(problem, network.at(canvas), metrics, wishes, seed, progress, BoxWorkshop)


def choose(shop: BoxWorkshop, wishes: Wishes) -> Chosen:
    """The best way on validation: each is trained in full, as long as its share of the budget allows."""
    if wishes.plan is not None:
        return _again(shop, wishes.plan)
    ways = ways_of(shop, wishes)
    budget = adapt.passes(shop, wishes.budget) if wishes.budget is not None else default_budget(shop)
    tried: list[Tried] = []
    with shop.progress.step("try strategies"):
        for number, way in enumerate(ways):
            share = (budget - sum(one.cost for one in tried)) / (len(ways) - number)
            fitted = within(shop, way, share)
            if fitted is None and (tried or len(ways) > number + 1):
                continue
            tried.append(run(shop, fitted or replace(way, epochs=FEWEST_EPOCHS)))
    chosen = planner.choose(tried, shop.judge)
    return Chosen(
        solved=chosen.solved,
        val_scores=chosen.scores,
        candidates=tuple(adapt.candidate(shop, one, chosen) for one in tried),
        budget=budget,
        reason=adapt.reason_for(shop, chosen, tried),
    )


def default_budget(shop: BoxWorkshop) -> float:
    """In passes over train and validation."""
    return max(PASSES, PICTURES / (shop.work.n_train + shop.work.n_val))


def ways_of(shop: BoxWorkshop, wishes: Wishes) -> list[Trained]:
    """Ways to train: the head alone, the last stages too, everything; or what the user asked for."""
    n_stages, settings = shop.backbone.n_stages, settings_of(shop)
    middle = (n_stages + 1) // 2 if shop.levels is None else shop.levels.stages[0] + 1  # above the finest map
    ways: list[Trained] = [
        Frozen(views=N_VIEWS, **settings),
        Partial(freeze=middle, views=N_VIEWS, **settings),
        Full(augment=True, **settings),
    ]
    if wishes.strategy not in (None, AUTO):
        ways = [way for way in ways if registry.plugin_name(way) == wishes.strategy]
    if wishes.freeze is not None:
        ways = [_frozen_at(wishes.freeze, n_stages, wishes.strategy, settings)]
    if isinstance(wishes.learning_rate, int | float):
        ways = [replace(way, learning_rate=float(wishes.learning_rate)) for way in ways]
    return ways


def settings_of(shop: BoxWorkshop) -> dict[str, Any]:
    """Of every training: a new head learns faster than one that is pretrained."""
    return READY_MADE if shop.levels is None else ON_PYRAMID


def _frozen_at(freeze: int, n_stages: int, strategy: str | None, settings: dict[str, Any]) -> Trained:
    """The way that freezes so many stages. PlanError where the named strategy freezes others."""
    if freeze == n_stages and strategy in (None, AUTO, "frozen"):
        return Frozen(views=N_VIEWS, **settings)
    if freeze == 0 and strategy in (None, AUTO, "full"):
        return Full(augment=True, **settings)
    if 0 < freeze < n_stages and strategy in (None, AUTO, "partial"):
        return Partial(freeze=freeze, views=N_VIEWS, **settings)
    raise PlanError(
        f"{strategy} cannot freeze {freeze} of {n_stages} stages: 'full' freezes none, 'frozen' all, 'partial' 1 to "
        f"{n_stages - 1}. Leave --strategy out to freeze as many as you say."
    )


def within(shop: BoxWorkshop, way: Trained, budget: float) -> Trained | None:
    """The way for as many epochs as the budget allows; None where it allows too few."""
    for epochs in range(MOST_EPOCHS, FEWEST_EPOCHS - 1, -1):
        fitted = replace(way, epochs=epochs)
        if cost(shop, fitted) <= budget:
            return fitted
    return None


def cost(shop: BoxWorkshop, way: Trained) -> float:
    """In passes."""
    return shop.work.passes(way, shop.work.n_train, shop.work.caches(way, shop.work.n_train))


def run(shop: BoxWorkshop, way: Trained) -> Tried:
    """Train in full, and say what validation says."""
    tried = replace(shop.train(way), cost=cost(shop, way), round=1)
    names = [stage.name for stage in shop.backbone.stages]
    said = f"{adapt.title_of(way, names)}, {way.epochs} epochs"
    shop.progress.say(f"  {said}: {shop.metric.title} {tried.score.value:.3f} on validation")
    return tried


def _again(shop: BoxWorkshop, plan: Plan) -> Chosen:
    """What a plan says, done again."""
    shop.upside_down = plan.upside_down
    with shop.progress.step("try strategies"):
        tried = shop.train(registry.STRATEGIES.get(plan.strategy)(**plan.settings))
    return Chosen(
        solved=tried.solved,
        val_scores=tried.scores,
        candidates=plan.candidates,
        budget=plan.budget_passes,
        reason=plan.reason,
    )


def from_scratch(shop: BoxWorkshop, chosen: Chosen, wishes: Wishes) -> SolvedBoxes | None:
    """The same network and head from random weights, at the cost of the chosen way; None where it is not wanted."""
    if not wishes.scratch or (wishes.plan is not None and not wishes.plan.scratch):
        return None
    if wishes.plan is not None:
        one: Trained = Scratch(**wishes.plan.scratch)
    else:
        plain = Scratch(augment=True, batch_size=16, learning_rate=1e-3, head_rate=2.0, weight_decay=0.05)
        one = within(shop, plain, cost(shop, chosen.solved.strategy)) or replace(plain, epochs=FEWEST_EPOCHS)
    with shop.progress.step("from scratch"):
        return shop.train(one).solved


def test_once(shop: BoxWorkshop, systems: Systems) -> TestResult:
    """What every system says of the test split: called once, after every choice is made."""
    problem = shop.problem
    rows = problem.rows["test"]
    items, sizes = [shop.items[row] for row in rows], [problem.y[row].size for row in rows]
    scratch = systems.scratch
    return TestResult(
        y=problem.y[rows],
        scores=shop.scores(systems.chosen.solved, rows),
        naive=problem.task.naive(problem.y[problem.rows["train"]], len(rows)),
        classical=systems.classical.found(problem.modality, items, sizes),
        scratch=None if scratch is None else shop.scores(scratch, rows),
        scratch_epochs=None if scratch is None else scratch.strategy.settings()["epochs"],
    )


def make_plan(shop: BoxWorkshop, systems: Systems) -> Plan:
    """What was decided, and why."""
    network, chosen = shop.backbone, systems.chosen
    solved: SolvedBoxes = chosen.solved
    settings = solved.strategy.settings()
    moves = settings.get("augment") or settings.get("views", 1) > 1
    return Plan(
        backbone=network.provenance.name,
        backbone_sha256=network.provenance.sha256,
        strategy=registry.plugin_name(solved.strategy),
        cut=solved.cut,
        n_stages=network.n_stages,
        stage_names=tuple(stage.name for stage in network.stages),
        strength=None,
        temperature=1.0,
        val_loss=None,
        classical=systems.classical.title,
        seed=shop.seed,
        reason=chosen.reason,
        settings=settings,
        metric=shop.metric.name,
        metric_title=shop.metric.title,
        budget_passes=round(chosen.budget, 2),
        candidates=chosen.candidates,
        scratch=systems.scratch.strategy.settings() if systems.scratch is not None else {},
        way=shop.runner.way,
        canvas=shop.canvas,
        upside_down=bool(moves and shop.upside_down),
        crosswise=False,
    )


def tell(
    shop: BoxWorkshop, systems: Systems, evidence: Evidence, test: TestResult, scales: Scales, out: Path | None
) -> Record:
    """Everything that this fit has to say."""
    problem, sure = shop.problem, systems.chosen.solved.detector.confidence
    tested = problem.dataset.select(problem.rows["test"])
    return Record(
        data=summarise(problem),
        findings=problem.findings,
        task=problem.task,
        plan=make_plan(shop, systems),
        provenance=shop.backbone.provenance,
        evidence=evidence,
        test=test,
        mistakes=(),
        boxes=measure_boxes(shop.task, test.y, test.scores, sure, scales.resamples(len(test.y)), scales.n_groups),
        slips=picture_slips(shop.task, test.y, test.scores, sure, problem.modality, tested.inputs),
        seconds=dict(shop.progress.seconds),
        command=command(problem.dataset, evidence.primary, out),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
    )


def assemble(shop: BoxWorkshop, systems: Systems, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    problem, solved = shop.problem, systems.chosen.solved
    tested = problem.dataset.select(problem.rows["test"])
    return Model(
        task=problem.task,
        modality=problem.modality,
        detector=solved.detector,
        plan=record.plan,
        provenance=shop.backbone.provenance,
        fingerprint=shop.backbone.fingerprint,
        evidence=record.evidence,
        columns=columns_of(problem.dataset),
        seen=problem.seen,
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "predictions.parquet": table_bytes(tested_table(solved.detector, shop.task, tested, record.test.scores)),
            examples.FILE: examples.draw(problem, lambda rows: np.zeros((len(rows), 1)), shop.seed).to_bytes(),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
        },
        _pretrained=shop.backbone,
    )
