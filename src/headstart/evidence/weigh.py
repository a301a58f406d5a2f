"""Weigh a model against its baselines on the same test examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.errors import DataError, PlanError, did_you_mean, listed
from headstart.evidence.base import Evidence, Scores, TestResult
from headstart.evidence.intervals import compare, resamples
from headstart.evidence.verdict import Measured, verdict
from headstart.tasks.base import Metric, Weights

N_RESAMPLES = 1000


def primary_first(metrics: tuple[Metric, ...], name: str | None) -> tuple[Metric, ...]:
    """The metrics with the one called `name` in front; PlanError when there is none."""
    known = [metric.name for metric in metrics]
    if name is not None and name not in known:
        raise PlanError(f"{name!r} is not a metric of this task: {listed(known, 20)}.{did_you_mean(name, known)}")
    return tuple(sorted(metrics, key=lambda metric: metric.name != name)) if name else metrics


@dataclass(frozen=True, kw_only=True)
class Scales:
    """What a model is weighed on: the metrics, and which examples belong together."""

    metrics: tuple[Metric, ...]
    naive: str = "majority guess"  # title of the guess that looks at no input
    asked_for: str | None = None  # the metric that the verdict must speak of; None is the first that is defined
    groups: Sequence[str] | None = None  # (N,): whole groups are resampled
    seed: int = 0

    @property
    def n_groups(self) -> int | None:
        """How many groups stand in test, None where examples are independent."""
        return None if self.groups is None else len(set(self.groups))

    def resamples(self, n: int) -> Weights:
        """(B, n): groups are drawn whole; a single group cannot be, so that its examples are drawn instead."""
        return resamples(n, N_RESAMPLES, self.seed, self.groups if (self.n_groups or 0) > 1 else None)


def weigh(scales: Scales, test: TestResult, rival: str) -> Evidence:
    """Every score with its interval, beside the baselines, and the verdict; `rival` is the classical model's title.

    A test split of one class defines no ROC AUC, for example: the verdict then speaks of the next metric.
    PlanError when it was asked for; DataError when none is defined.
    """
    weights = scales.resamples(len(test.y))
    systems = {"model": test.scores, scales.naive: test.naive, rival: test.classical}
    scores, differences = compare(scales.metrics, test.y, systems, "model", weights, scales.n_groups)
    primary = _primary(scales, scores["model"])
    sentence, paid = verdict(
        Measured(primary, scores["model"][primary.name], differences[rival][primary.name], rival),
        len(test.y),
        scales.n_groups,
    )
    return Evidence(
        primary=primary.name,
        titles={m.name: m.title for m in scales.metrics},
        better={m.name: m.better for m in scales.metrics},
        metrics=scores["model"],
        baselines={name: scores[name] for name in (scales.naive, rival)},
        differences=differences,
        verdict=sentence,
        paid=paid,
        n_resamples=N_RESAMPLES,
    )


def _primary(scales: Scales, scores: Scores) -> Metric:
    """The metric asked for, or the first that the test split defines."""
    defined = [metric for metric in scales.metrics if metric.name in scores]
    if scales.asked_for and scales.asked_for not in scores:
        raise PlanError(
            f"{scales.asked_for!r} is not defined on this test split, which may hold one class only. "
            f"Choose another --metric ({listed(metric.name for metric in defined)}), or give more data to test on."
        )
    if not defined:
        raise DataError("No metric is defined on this test split. Give more examples to test on.")
    return defined[0]
