"""Object detection, inductive transfer where labels are boxes: audit → split → frozen maps → train → evaluate → save.

The depth question is the usual one: the head alone on frozen maps, the last stages too, or everything; and the same
network from random weights for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart import adapt, adapt_head
from headstart.adapt import Chosen
from headstart.box_workshop import RECIPE, BoxWorkshop, calibrated, canvas_of
from headstart.data.dataset import Dataset
from headstart.deploy import artifact, examples
from headstart.deploy.card import model_card
from headstart.deploy.detections import tested_table
from headstart.deploy.model import Model
from headstart.deploy.predictions import table_bytes
from headstart.engine.detector import Detector
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.boxes import measure_boxes
from headstart.evidence.plan import Plan
from headstart.evidence.record import Record
from headstart.evidence.sliding import Sliding, fit_sliding
from headstart.evidence.slips import picture_slips
from headstart.evidence.sureness import sureness
from headstart.evidence.weigh import Scales, primary_first, weigh
from headstart.head_workshop import SolvedHead
from headstart.inductive import as_planned, columns_of, scales_of, tell
from headstart.problem import Problem, pose
from headstart.progress import Progress
from headstart.report.html import render
from headstart.wishes import Wishes
from headstart.workshop import load_backbones, open_workshop

ADVICE = "Give more pictures, a longer --budget or another --backbone."


@dataclass(frozen=True, kw_only=True)
class Systems:
    """Everything that is to be measured on the test split."""

    chosen: Chosen
    scratch: SolvedHead | None
    classical: Sliding
    shipped: Detector  # the chosen network's, or the classical one


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
    """Adapt a backbone to pictures whose objects are one_each; write the run folder `out` if one is named."""
    seed, primary, backbone = as_planned(wishes.plan, seed, metric, backbone)
    networks = load_backbones(backbone, dataset.modality, progress)
    adapt_head.check(wishes, RECIPE, networks[0].n_stages, len(networks))
    problem = pose(dataset, seed, progress, crosswise=False).in_fixed_order()
    metrics = primary_first(problem.task.metrics(), primary)
    shop = open_shop(problem, networks[0], metrics, wishes, seed, progress)
    with progress.step("classical baseline"):
        train, val = problem.rows["train"], problem.rows["val"]
        own, others = ([problem.dataset.inputs[row] for row in rows] for rows in (train, val))
        n_classes = len(problem.task.score_names)
        classical = fit_sliding(problem.modality, own, problem.y[train], n_classes, seed, others, problem.y[val])
    chosen = adapt_head.choose(shop, wishes)
    systems = Systems(
        chosen=chosen,
        scratch=adapt_head.from_scratch(shop, chosen, wishes),
        classical=classical,
        shipped=what_ships(shop, chosen, classical, wishes),
    )
    with progress.step("evaluate"):
        test = test_once(shop, systems)
        scales = scales_of(problem, metrics, metric, seed)
        evidence = weigh(scales, test, classical.title, transfer_title(shop, chosen), ADVICE)
    with progress.step("report"):
        record = told(shop, systems, evidence, test, scales, out)
        model = assemble(shop, systems, record)
    if out is not None:
        model.save(out)
    shop.trials.forget()
    return model


def open_shop(
    problem: Problem, network: Any, metrics: tuple[Any, ...], wishes: Wishes, seed: int, progress: Progress
) -> BoxWorkshop:
    """The problem and the backbone at the canvas that the boxes ask for."""
    if wishes.plan is not None and wishes.plan.canvas is not None:
        canvas = wishes.plan.canvas
    else:
        canvas = network.canvas if network.reads else canvas_of(problem)
    progress.say(f"  every picture is looked at as {canvas[1]} × {canvas[0]} pixels")
    shop: BoxWorkshop = open_workshop(problem, network.at(canvas), metrics, wishes, seed, progress, BoxWorkshop)
    if wishes.plan is not None:
        shop.upside_down = wishes.plan.upside_down
    return shop


def what_ships(shop: BoxWorkshop, chosen: Chosen, classical: Sliding, wishes: Wishes) -> Detector:
    """The chosen network; the classical detector where it is better on validation, unless the user said otherwise."""
    val = shop.problem.rows["val"]
    network: Detector = chosen.solved.trained
    if wishes.overruled or (wishes.plan is not None and wishes.plan.ships != "classical"):
        return network
    found = classical.found(shop.modality, *pictures(shop, val))
    confidence = sureness(shop.task, shop.problem.y[val], found)
    rival = Detector(
        class_names=shop.class_names,
        canvas=shop.canvas,
        levels=None,
        head={},
        confidence=confidence,
        classical=classical,
    )
    gain, _ = shop.judge.gain_over(calibrated(rival, found), chosen.val_scores)
    return rival if gain > 0 or wishes.plan is not None else network


def pictures(shop: BoxWorkshop, rows: np.ndarray) -> tuple[list[Any], list[tuple[int, int]]]:
    """(stored items, widths and heights) of the pictures at `rows`."""
    return [shop.items[row] for row in rows], [shop.problem.y[row].size for row in rows]


def transfer_title(shop: BoxWorkshop, chosen: Chosen) -> str:
    """The adapted network for people, where the run ships the classical detector."""
    names = [stage.name for stage in shop.backbone.stages]
    return f"{shop.backbone.provenance.name}, {adapt.title_of(chosen.solved.strategy, names)}"


def test_once(shop: BoxWorkshop, systems: Systems) -> TestResult:
    """What every system says of the test split: called once, after every choice is made."""
    problem, scratch = shop.problem, systems.scratch
    rows = problem.rows["test"]
    transfer = shop.scores(systems.chosen.solved, rows)
    ships_classical = systems.shipped.classical is not None
    classical = systems.classical.found(problem.modality, *pictures(shop, rows))
    classical = calibrated(systems.shipped, classical) if ships_classical else classical
    return TestResult(
        y=problem.y[rows],
        scores=classical if ships_classical else transfer,
        naive=problem.task.naive(problem.y[problem.rows["train"]], len(rows)),
        classical=classical,
        transfer=transfer,
        scratch=None if scratch is None else shop.scores(scratch, rows),
        scratch_epochs=None if scratch is None else scratch.strategy.settings()["epochs"],
        ships_classical=ships_classical,
    )


def make_plan(shop: BoxWorkshop, systems: Systems) -> Plan:
    """What was decided, and why."""
    settings = systems.chosen.solved.strategy.settings()
    moves = settings.get("augment") or settings.get("views", 1) > 1
    return replace(
        adapt_head.plan_of(shop, systems.chosen, systems.scratch, systems.classical.title),
        ships="classical" if systems.shipped.classical is not None else "transfer",
        canvas=shop.canvas,
        upside_down=bool(moves and shop.upside_down),
    )


def told(
    shop: BoxWorkshop, systems: Systems, evidence: Evidence, test: TestResult, scales: Scales, out: Path | None
) -> Record:
    """Everything that this fit has to say."""
    problem, sure = shop.problem, systems.shipped.confidence
    tested = problem.dataset.select(problem.rows["test"])
    return replace(
        tell(shop, make_plan(shop, systems), evidence, test, out),
        boxes=measure_boxes(shop.task, test.y, test.scores, sure, scales.resamples(len(test.y)), scales.n_groups),
        slips=picture_slips(shop.task, test.y, test.scores, sure, problem.modality, tested.inputs),
    )


def assemble(shop: BoxWorkshop, systems: Systems, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    problem = shop.problem
    tested = problem.dataset.select(problem.rows["test"])
    return Model(
        task=problem.task,
        modality=problem.modality,
        detector=systems.shipped,
        plan=record.plan,
        provenance=shop.backbone.provenance,
        fingerprint=shop.backbone.fingerprint,
        evidence=record.evidence,
        columns=columns_of(problem.dataset),
        seen=problem.seen,
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "predictions.parquet": table_bytes(tested_table(systems.shipped, shop.task, tested, record.test.scores)),
            examples.FILE: examples.draw(problem, lambda rows: np.zeros((len(rows), 0)), shop.seed).to_bytes(),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
        },
        _pretrained=shop.backbone,
    )
