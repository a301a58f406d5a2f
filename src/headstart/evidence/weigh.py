"""Weigh a model against its baselines on the same test examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.errors import DataError, PlanError, did_you_mean, listed
from headstart.evidence.base import Evidence, Score, Scores, TestResult
from headstart.evidence.intervals import compare, resamples
from headstart.evidence.verdict import Measured, verdict
from headstart.tasks.base import Metric, Task, Weights

N_RESAMPLES = 1000
MODEL, SCRATCH = "model", "same network from scratch"


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


def defined_on(metrics: tuple[Metric, ...], task: Task, y: np.ndarray, y_train: np.ndarray) -> Metric:
    """The first metric that these labels define: a validation split of one class has no ROC AUC, for example."""
    if len(y):
        guess = task.naive(y_train, len(y))
        for metric in metrics:
            if not np.isnan(metric.compute(y, guess, np.ones((1, len(y))))[0]):
                return metric
    return metrics[0]


def weigh(scales: Scales, test: TestResult, classical: str, transfer: str = "transfer") -> Evidence:
    """Every score with its interval, beside the baselines, and the verdict.

    `classical` is the title of the classical model; `transfer` that of the adapted one, where the classical ships.
    A test split of one class defines no ROC AUC, for example: the verdict then speaks of the next metric.
    PlanError when it was asked for; DataError when none is defined.
    """
    weights = scales.resamples(len(test.y))
    adapted = test.scores if test.transfer is None else test.transfer
    systems = {MODEL: test.scores, scales.naive: test.naive}
    systems |= {transfer: adapted} if test.ships_classical else {classical: test.classical}
    systems |= {SCRATCH: test.scratch} if test.scratch is not None else {}
    scores, differences = compare(scales.metrics, test.y, systems, MODEL, weights, scales.n_groups)
    primary = primary_of(scales, scores[MODEL])
    shown = transfer if test.ships_classical else MODEL
    gain = differences[transfer][primary.name] if test.ships_classical else differences[classical][primary.name]
    gain = Score(-gain.value, -gain.high, -gain.low) if test.ships_classical else gain
    beside = None
    if test.scratch is not None:
        rivals = {MODEL: adapted, SCRATCH: test.scratch}
        beside = compare([primary], test.y, rivals, MODEL, weights, scales.n_groups)[1][SCRATCH].get(primary.name)
    measured = Measured(
        primary,
        scores[shown][primary.name],
        gain,
        classical,
        ships_rival=test.ships_classical,
        over_scratch=beside,
        scratch_epochs=test.scratch_epochs,
    )
    sentence, paid = verdict(measured, len(test.y), scales.n_groups)
    return Evidence(
        primary=primary.name,
        titles={m.name: m.title for m in scales.metrics},
        better={m.name: m.better for m in scales.metrics},
        metrics=scores[MODEL],
        baselines={name: found for name, found in scores.items() if name != MODEL},
        differences=differences,
        verdict=sentence,
        paid=paid,
        n_resamples=N_RESAMPLES,
    )


def primary_of(scales: Scales, scores: Scores) -> Metric:
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
