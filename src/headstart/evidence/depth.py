"""The depth profile: what a linear probe knows at every stage, from one pass (Alain & Bengio, arXiv:1610.01644)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from headstart.engine.features import Features
from headstart.engine.freeze import side_by_side
from headstart.evidence.compare import Judge
from headstart.evidence.plan import DepthPoint
from headstart.strategies.base import Adapted, Part
from headstart.strategies.probe import Probe
from headstart.tasks.base import LinearTask

N_PAIRED = 3  # the best single stages that are also tried side by side
MOST_WIDTH = 4096  # of features side by side
MOST_VALUES = 2**28  # of features solved on at the same time: 1 GiB in float32, of which a solver makes some copies


@dataclass(frozen=True)
class Probed:
    """A solved probe, and what it says of validation."""

    strategy: Probe
    adapted: Adapted
    val_logits: np.ndarray  # (n_val, K)
    point: DepthPoint


@dataclass(frozen=True, kw_only=True)
class Probing:
    """What probes are solved on."""

    task: LinearTask
    features: Features
    y: np.ndarray
    train: np.ndarray  # rows
    val: np.ndarray
    names: tuple[str, ...]  # of the stages
    judge: Judge
    seed: int
    class_weight: str | None = None
    groups: np.ndarray | None = None  # (N,) of all examples, where some belong together
    variants: tuple[Features, ...] = ()  # of the training examples in other forms

    def width(self, stages: tuple[int, ...]) -> int:
        """How many columns these stages have together."""
        return sum(self.features.stage(stage, self.train[:1]).shape[1] for stage in stages)

    @property
    def crosswise(self) -> bool:
        """Whether labels are so few that all of them teach, and cross-validation stands for validation."""
        return np.array_equal(self.train, self.val)

    def solve(self, stages: tuple[int, ...]) -> Probed:
        """A probe on these stages side by side."""
        strategy = Probe(stages=stages, class_weight=self.class_weight, variants=len(self.variants))
        train, val = (Part(side_by_side(self.features, stages, rows), self.y[rows]) for rows in (self.train, self.val))
        each = np.arange(len(self.train))
        train = replace(train, variants=tuple(side_by_side(one, stages, each) for one in self.variants))
        if self.crosswise:
            together = None if self.groups is None else self.groups[self.train]
            adapted, logits = strategy.cross_adapt(self.task, replace(train, groups=together), self.seed)
        else:
            adapted = strategy.adapt(self.task, train, val, self.seed)
            logits = adapted.head.logits(val.features)
        name = " + ".join(self.names[stage] for stage in stages)
        score = self.judge.score(self.task.scores(logits))
        return Probed(
            strategy, adapted, logits, DepthPoint(stages=stages, name=name, score=score, val_loss=adapted.val_loss)
        )


def profile(probing: Probing, done: Callable[[int], None] = lambda n: None) -> list[Probed]:
    """A probe on every stage, from the input on; then the best few side by side, two and two."""
    found = []
    for one in _solved(probing, [(stage,) for stage in range(len(probing.names))]):
        found.append(one)
        done(1)
    if probing.crosswise:
        return [*found, probing.solve(upper_half(len(probing.names)))]
    ranked = sorted(found, key=lambda one: -probing.judge.gain(one.point.score.value))
    best = sorted(one.strategy.read(len(probing.names))[0] for one in ranked[:N_PAIRED])
    pairs = [pair for pair in itertools.combinations(best, 2) if probing.width(pair) <= MOST_WIDTH]
    return [*found, *_solved(probing, pairs)]


def _solved(probing: Probing, choices: Sequence[tuple[int, ...]]) -> Iterator[Probed]:
    """A probe on each of these stages, in their order; several at a time, on a core each.

    Their products are too small to share one among cores: that gains little, and is lost where a core is busy.
    """
    n_cores = os.cpu_count() or 1
    widest = max(map(probing.width, choices), default=1)
    n_workers = min(n_cores, max(1, MOST_VALUES // (len(probing.y) * widest)))
    with threadpool_limits(n_cores // n_workers, user_api="blas"), ThreadPoolExecutor(n_workers) as pool:
        yield from pool.map(probing.solve, choices)


def upper_half(n_stages: int) -> tuple[int, ...]:
    """The stages whose features are read side by side where labels are too few to choose one."""
    return tuple(range(n_stages - max(1, n_stages // 2), n_stages))


def best_probe(probed: Sequence[Probed], judge: Judge, task: LinearTask, crosswise: bool = False) -> Probed:
    """The single stage that is best on validation; several side by side only where they are better beyond doubt.

    Where labels are so few that cross-validation would choose at random, the upper half of the network is read.
    """
    if crosswise:
        return probed[-1]
    single = [one for one in probed if len(one.point.stages) == 1]
    several = [one for one in probed if len(one.point.stages) > 1]
    best = max(single, key=lambda one: judge.gain(one.point.score.value))
    for one in sorted(several, key=lambda one: -judge.gain(one.point.score.value)):
        gain, error = judge.gain_over(task.scores(one.val_logits), task.scores(best.val_logits))
        if gain > error:
            return one
    return best
