"""Weigh a model against its baselines on the same test examples."""

from __future__ import annotations

import numpy as np

from headstart.errors import DataError, PlanError, did_you_mean, listed
from headstart.evidence.base import Evidence, Scores, TestResult
from headstart.evidence.intervals import compare, resamples
from headstart.evidence.verdict import verdict
from headstart.tasks.base import Metric, Task

MAJORITY = "majority guess"
N_RESAMPLES = 1000


def weigh(
    task: Task, test: TestResult, rival: str, metric: str | None, groups: list[str] | None, seed: int
) -> Evidence:
    """Every score with its interval, beside the baselines, and the verdict on `metric` (default: the task's first).

    `rival` is the title of the classical model. With `groups` (N,) whole groups are resampled.
    """
    metrics = primary_first(task.metrics(), metric)
    weights = resamples(len(test.y), N_RESAMPLES, seed, None if groups is None else np.asarray(groups))
    systems = {"model": test.scores, MAJORITY: test.naive, rival: test.classical}
    scores, differences = compare(metrics, test.y, systems, "model", weights)
    primary = _first_defined(metrics, metric, scores["model"])
    sentence, paid = verdict(
        primary, scores["model"][primary.name], differences[rival][primary.name], rival, len(test.y)
    )
    return Evidence(
        primary=primary.name,
        titles={m.name: m.title for m in metrics},
        better={m.name: m.better for m in metrics},
        metrics=scores["model"],
        baselines={name: scores[name] for name in (MAJORITY, rival)},
        differences=differences,
        verdict=sentence,
        paid=paid,
        n_resamples=N_RESAMPLES,
    )


def _first_defined(metrics: tuple[Metric, ...], asked_for: str | None, scores: Scores) -> Metric:
    """The first metric that this test split defines (it may hold one class only); the one asked for or none."""
    for metric in metrics[: 1 if asked_for else None]:
        if metric.name in scores:
            return metric
    raise DataError(
        f"{metrics[0].title} is not defined on this test split, which holds one class only or too few examples. "
        "Choose another --metric, or give more data to test on."
    )


def primary_first(metrics: tuple[Metric, ...], name: str | None) -> tuple[Metric, ...]:
    """The metrics with the one called `name` in front; PlanError when there is none."""
    known = [metric.name for metric in metrics]
    if name is not None and name not in known:
        raise PlanError(f"{name!r} is not a metric of this task: {listed(known, 20)}.{did_you_mean(name, known)}")
    return tuple(sorted(metrics, key=lambda metric: metric.name != name)) if name else metrics
