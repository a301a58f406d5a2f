"""What two backbones give with so many labels: probes of the best depth on the same draws and test examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from headstart.backbones.base import Backbone
from headstart.errors import PlanError
from headstart.evidence.continued import Downstream, Gain, over_draws
from headstart.evidence.depth import best_probe
from headstart.evidence.weigh import Scales
from headstart.problem import Problem, some_of_each
from headstart.progress import Progress
from headstart.study import FEWEST, draw
from headstart.tasks.base import Metric
from headstart.wishes import Wishes
from headstart.workshop import open_workshop


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried: so many labels, drawn so many times."""

    labels: tuple[int, ...] = (50, 200)
    draws: int = 5
    most_test: int = 2000  # examples that are measured on
    seed: int = 0

    @property
    def n_pool(self) -> int:
        """How many examples the draws need at most."""
        return self.draws * max(self.labels)

    def __post_init__(self) -> None:
        if self.draws < 1 or not self.labels or min(self.labels) < FEWEST:
            raise PlanError(
                f"labels={list(self.labels)} in {self.draws} draws cannot be measured: give at least one draw, and "
                f"at least {FEWEST} labels."
            )


def measure(problem: Problem, before: Backbone, after: Backbone, trial: Trial, progress: Progress) -> Downstream:
    """Probes on both backbones for every number of labels; the depth is chosen without looking at the test."""
    small = trimmed(problem, trial)
    metric = small.task.metrics()[0]
    n_pool, n_test = (len(small.rows[name]) for name in ("train", "test"))
    scales = Scales(metrics=(metric,), groups=small.groups("test"), seed=trial.seed)
    weights = np.concatenate([np.ones((1, n_test)), scales.resamples(n_test)])
    gains = []
    for n_labels in sorted({min(n, n_pool) for n in trial.labels}):
        values = np.array(
            [
                [
                    _values(draw(small, n_labels, seed), network, metric, weights, seed, progress)
                    for seed in _seeds(trial)
                ]
                for network in (before, after)
            ]
        )  # (2, draws, 1 + B)
        gain = (values[1] - values[0]) * (1 if metric.better == "higher" else -1)
        found = over_draws(gain[:, 0].tolist(), gain[:, 1:].mean(axis=0))
        old, new = (tuple(map(float, one[:, 0])) for one in values)
        gains.append(Gain(n_labels=n_labels, before=old, after=new, difference=found))
        progress.say(f"  {n_labels:,} labels: {metric.title} {np.mean(old):.3f} before, {np.mean(new):.3f} after")
    return Downstream(
        data=problem.dataset.name,
        metric=metric.name,
        metric_title=metric.title,
        better=metric.better,
        n_test=n_test,
        gains=tuple(gains),
    )


def trimmed(problem: Problem, trial: Trial) -> Problem:
    """The problem with no more examples than are needed: a pool to draw labels from, as `train`, and the test."""
    pool = np.union1d(problem.rows["train"], problem.rows["val"])
    if len(pool) > trial.n_pool:
        pool = pool[some_of_each(problem.y[pool], trial.n_pool, trial.seed)]
    test = problem.rows["test"]
    if len(test) > trial.most_test:
        test = np.sort(np.random.default_rng(trial.seed).permutation(test)[: trial.most_test])
    rows = np.concatenate([pool, test])
    return replace(
        problem,
        dataset=problem.dataset.select(rows),
        digests=[problem.digests[row] for row in rows],
        y=problem.y[rows],
        rows={
            "train": np.arange(len(pool)),
            "val": np.arange(0),
            "test": np.arange(len(pool), len(rows)),
        },
    )


def _seeds(trial: Trial) -> Sequence[int]:
    return range(trial.seed, trial.seed + trial.draws)


def _values(
    problem: Problem, network: Backbone, metric: Metric, weights: np.ndarray, seed: int, progress: Progress
) -> np.ndarray:
    """(1 + B,) the metric on test of the probe that validation chooses, plain and on each resample."""
    shop = open_workshop(problem, network, (metric,), Wishes(), seed, progress)
    best = best_probe(shop.probed, shop.judge, problem.linear, problem.crosswise)
    rows = problem.rows["test"]
    return metric.compute(problem.y[rows], shop.scores(shop.tried_probe(best).solved, rows), weights)
