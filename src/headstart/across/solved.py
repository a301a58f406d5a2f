"""Ways across that take no training: heads solved where frozen features of source and target meet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headstart import registry
from headstart.across.base import Crossing, Tried
from headstart.alignments.solve import Sides, mean_of, solve
from headstart.engine import freeze
from headstart.evidence.adaptation import SOURCE_ONLY
from headstart.evidence.calibration import fit_temperature
from headstart.evidence.label_free import Outlook
from headstart.evidence.planner import Solved
from headstart.strategies.base import Adapted
from headstart.strategies.probe import Probe, column_scales
from headstart.workshop import Workshop

TOGETHER = "together"  # the name of the mean of all solved ways
SMALLEST = 1e-6  # probability that still counts in a mean of logarithms


def alignments() -> list[str]:
    """Names of the alignments of frozen features; the one that changes nothing is source only."""
    return [name for name in registry.ALIGNMENTS.names() if name != "identity"]


def source_only(crossing: Crossing) -> Tried:
    """The probe that the source alone teaches, as if there were no target."""
    shop, stages, start = crossing.shop, crossing.stages, time.perf_counter()
    own = shop.solve(Probe(stages=stages))
    rows, val = shop.problem.rows["train"], shop.problem.rows["val"]
    train = freeze.side_by_side(shop.frozen, stages, rows)
    mean, scale = column_scales(train)
    judged_train, judged_target = crossing.judged
    target = crossing.domains.rows[judged_target]
    val_scores = shop.scores(own, val)

    def read(rows: np.ndarray) -> np.ndarray:
        return ((freeze.side_by_side(shop.frozen, stages, rows) - mean) / scale).astype(np.float32)

    outlook = Outlook(
        train=read(rows[judged_train]),
        y_train=shop.problem.y[rows[judged_train]],
        val=read(val),
        y_val=shop.problem.y[val],
        val_probabilities=val_scores,
        target=read(target),
        target_probabilities=shop.scores(own, target),
    )
    return Tried(
        title=SOURCE_ONLY,
        name="probe",
        settings=own.strategy.settings(),
        solved=own,
        outlook=outlook,
        val_scores=val_scores,
        cost=1.0,
        seconds=time.perf_counter() - start,
    )


def aligned(crossing: Crossing, name: str, settings: dict[str, Any]) -> Tried:
    """An alignment of frozen features with the head that is solved where source and target meet."""
    shop, stages, start = crossing.shop, crossing.stages, time.perf_counter()
    alignment = registry.ALIGNMENTS.get(name)(**settings)

    def read(rows: np.ndarray) -> np.ndarray:
        return freeze.side_by_side(shop.frozen, stages, rows)

    sides = Sides(
        train=shop.problem.part("train", read), val=shop.problem.part("val", read), target=read(crossing.domains.rows)
    )
    with shop.progress.step("align"):
        found = solve(alignment, shop.problem.linear, sides, crossing.seed, shop.class_weight)
    own = Solved(
        strategy=Probe(stages=stages, class_weight=shop.class_weight),
        cut=max(stages) + 1,
        adapted=Adapted(found.head, found.strength, found.val_loss),
        temperature=fit_temperature(shop.problem.linear, found.val_logits, sides.val.y),
        stages=stages,
    )
    val_scores = shop.problem.linear.scores(found.val_logits, own.temperature)
    judged_train, judged_target = crossing.judged
    outlook = replace(
        found.outlook,
        train=found.outlook.train[judged_train],
        y_train=found.outlook.y_train[judged_train],
        val_probabilities=val_scores,
        target=found.outlook.target[judged_target],
        target_probabilities=shop.scores(own, crossing.domains.rows[judged_target]),
    )
    return Tried(
        title=f"{alignment.title} on {named(shop, stages)}",
        name=name,
        settings={**alignment.settings(), "stages": list(stages)},
        solved=own,
        outlook=outlook,
        val_scores=val_scores,
        cost=1.0,
        seconds=time.perf_counter() - start,
    )


def together(tried: Sequence[Tried], crossing: Crossing) -> Tried:
    """All solved ways as one, under the mean of their heads."""
    shop, first, start = crossing.shop, tried[0], time.perf_counter()
    task, y = shop.problem.linear, first.outlook.y_val
    logits = [np.log(one.val_scores.clip(SMALLEST)) * one.solved.temperature for one in tried]
    val_logits = np.mean(logits, axis=0)
    temperature = fit_temperature(task, val_logits, y)
    val_scores = task.scores(val_logits, temperature)
    adapted = Adapted(
        mean_of([one.solved.adapted.head for one in tried]), None, float(task.losses(y, val_scores).mean())
    )
    own = replace(first.solved, adapted=adapted, temperature=temperature)
    judged = crossing.domains.rows[crossing.judged[1]]
    return Tried(
        title=f"mean of all {len(tried)} on {named(shop, first.solved.stages)}",
        name=TOGETHER,
        settings={"stages": list(first.solved.stages), "members": [one.name for one in tried]},
        solved=own,
        outlook=replace(first.outlook, val_probabilities=val_scores, target_probabilities=shop.scores(own, judged)),
        val_scores=val_scores,
        cost=first.cost,
        seconds=time.perf_counter() - start,
    )


def named(shop: Workshop, stages: Sequence[int]) -> str:
    """Stages by name: "layer 3 + layer 5"."""
    return " + ".join(shop.backbone.stages[stage].name for stage in stages)
