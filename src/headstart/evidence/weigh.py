"""Weigh a model against its baselines on the same test examples."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.errors import DataError, PlanError, did_you_mean, listed
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.intervals import compare, resamples
from headstart.evidence.verdict import verdict
from headstart.tasks.base import Metric

MAJORITY = "majority guess"
N_RESAMPLES = 1000


def primary_first(metrics: tuple[Metric, ...], name: str | None) -> tuple[Metric, ...]:
    """The metrics with the one called `name` in front; PlanError when there is none."""
    known = [metric.name for metric in metrics]
    if name is not None and name not in known:
        raise PlanError(f"{name!r} is not a metric of this task: {listed(known, 20)}.{did_you_mean(name, known)}")
    return tuple(sorted(metrics, key=lambda metric: metric.name != name)) if name else metrics


def weigh(metrics: Sequence[Metric], test: TestResult, rival: str, groups: Sequence[str] | None, seed: int) -> Evidence:
    """Every score with its interval, beside the baselines, and the verdict on the first metric that is defined.

    `rival` is the title of the classical model. With `groups` (N,) whole groups are resampled. A test split of one
    class defines no ROC AUC, for example; DataError when it defines nothing at all.
    """
    weights = resamples(len(test.y), N_RESAMPLES, seed, groups)
    systems = {"model": test.scores, MAJORITY: test.naive, rival: test.classical}
    scores, differences = compare(metrics, test.y, systems, "model", weights)
    defined = [m for m in metrics if m.name in scores["model"] and m.name in differences[rival]]
    if not defined:
        raise DataError("No metric is defined on this test split. Give more examples to test on.")
    primary = defined[0]
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
