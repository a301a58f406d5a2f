"""Weigh a model against its baselines on the same test examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.errors import DataError, PlanError, did_you_mean, listed
from headstart.evidence.base import Evidence, Score, Scores, TestResult
from headstart.evidence.intervals import compare, resamples
from headstart.evidence.verdict import Measured, verdict
from headstart.tasks.base import Metric, Task, Weights

N_RESAMPLES = 1000
MODEL, SCRATCH, PRETRAINED = "model", "same network from scratch", "the decoder as it was pretrained"


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


Claim = Callable[[Metric, dict[str, Scores], dict[str, Scores]], tuple[str, bool | None]]
# (the metric to speak of, system -> scores, system -> model minus system) -> (what may be claimed, whether it paid)


def weigh_systems(scales: Scales, y: np.ndarray, systems: Mapping[str, np.ndarray], claim: Claim) -> Evidence:
    """Every score with its interval, paired differences to the model, and what `claim` makes of them.

    `systems` holds scores (N, K) by name, MODEL among them. A test split of one class defines no ROC AUC, for example:
    the claim then speaks of the next metric. PlanError when it was asked for; DataError when none is defined.
    """
    scores, differences = compare(scales.metrics, y, systems, MODEL, scales.resamples(len(y)), scales.n_groups)
    primary = primary_of(scales, scores[MODEL])
    sentence, paid = claim(primary, scores, differences)
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


def weigh(
    scales: Scales, test: TestResult, classical: str, transfer: str = "transfer", advice: str = Measured.advice
) -> Evidence:
    """An adapted model beside the majority guess, the classical model and the same network from scratch.

    `classical` is the title of the classical model; `transfer` that of the adapted one, where the classical ships;
    `advice` is given where the classical model is better and does not ship.
    Errors as in `weigh_systems`.
    """
    adapted = test.scores if test.transfer is None else test.transfer
    systems = {MODEL: test.scores, scales.naive: test.naive}
    systems |= {transfer: adapted} if test.ships_classical else {classical: test.classical}
    systems |= {SCRATCH: test.scratch} if test.scratch is not None else {}
    systems |= {PRETRAINED: test.pretrained} if test.pretrained is not None else {}

    def claim(primary: Metric, scores: dict[str, Scores], differences: dict[str, Scores]) -> tuple[str, bool | None]:
        gain = differences[transfer if test.ships_classical else classical][primary.name]
        measured = Measured(
            primary,
            scores[transfer if test.ships_classical else MODEL][primary.name],
            Score(-gain.value, -gain.high, -gain.low) if test.ships_classical else gain,
            classical,
            ships_rival=test.ships_classical,
            over_scratch=_over_scratch(scales, test, adapted, primary),
            scratch_epochs=test.scratch_epochs,
            advice=advice,
        )
        return verdict(measured, len(test.y), scales.n_groups)

    return weigh_systems(scales, test.y, systems, claim)


def _over_scratch(scales: Scales, test: TestResult, adapted: np.ndarray, primary: Metric) -> Score | None:
    """The adapted network minus the same one from scratch, paired; None where that was not trained."""
    if test.scratch is None:
        return None
    rivals = {MODEL: adapted, SCRATCH: test.scratch}
    weights = scales.resamples(len(test.y))
    return compare([primary], test.y, rivals, MODEL, weights, scales.n_groups)[1][SCRATCH].get(primary.name)


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
