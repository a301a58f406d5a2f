"""The planner: which stages to train, and how, by short cached runs on validation (successive halving).

Karnin et al. 2013 and Jamieson & Talwalkar 2016 (arXiv:1502.07943) give every way a little, and the better ones more.
Here the first round learns from a part of the examples for one epoch, the last one from all. Among those that
validation cannot tell apart (within one standard error of the paired difference), the cheapest is chosen (Breiman et
al. 1984).

Cost is counted, not timed: a pass is one run of the frozen network over train and validation. So the same data make
the same plan on every machine, and a fit that was killed makes it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from headstart.evidence.base import Score
from headstart.evidence.compare import Judge
from headstart.strategies.base import Adapted, Strategy, Trained
from headstart.strategies.batch_norm import BatchNorm
from headstart.strategies.cdan import Cdan
from headstart.strategies.dann import Dann
from headstart.strategies.deep_coral import DeepCoral
from headstart.strategies.full import Full
from headstart.strategies.lora import Lora
from headstart.strategies.mcc import Mcc
from headstart.strategies.partial import Partial
from headstart.strategies.self_training import SelfTraining

PASSES, EXAMPLES = 10.0, 10_000  # the default budget: so many passes, or so many examples if that is more
FIRST_EXAMPLES, FIRST_SHARE = 400, 0.25  # what the first round learns from: a quarter, but no fewer than 400
STEPS = 400  # that a training in full takes, about
FEWEST_EPOCHS, MOST_EPOCHS = 2, 8
N_VIEWS = 4  # cached views of each example below a cut, the plain one among them
FIRST_ROUND_SHARE = 0.5  # of the budget


@dataclass(frozen=True, kw_only=True)
class Work:
    """How much work training is, for one backbone and one data set."""

    shares: tuple[float, ...]  # of a forward pass, per stage
    moves: tuple[float, ...] = ()  # what it costs to write or read one example's output of each stage, as such shares
    n_train: int
    n_val: int
    n_target: int = 0  # unlabelled examples of the target domain
    head: float = 0.0  # share of a forward pass that the head takes; a linear one takes none

    def passes(
        self, strategy: Trained, n_train: int, cache: bool = True, cached: frozenset[int] = frozenset()
    ) -> float:
        """What training costs: epochs above the cut, and below it once with a `cache` (unless it is `cached`).

        Without a cache the stages below the cut run in every epoch. A strategy that needs a target sees as many of its
        examples in an epoch as it learns from.
        """
        domains, n_target = (2, self.n_target) if strategy.needs_target else (1, 0)
        cut = strategy.cut(len(self.shares))
        above, below = sum(self.shares[cut:]), sum(self.shares[:cut])
        each, moved = domains * n_train + self.n_val, self._move(cut)
        trained = strategy.epochs * above * (domains * n_train * (1 + strategy.backward_cost) + self.n_val)
        trained += strategy.epochs * self.head * n_train * (1 + strategy.backward_cost)
        if not cache or cut == 0:
            frozen = strategy.epochs * below * each
        else:
            own = 0.0 if cut in cached else (below + moved) * ((n_train + n_target) * strategy.views + self.n_val)
            frozen = own + strategy.epochs * moved * each
        return (trained + frozen) / (self.n_train + self.n_val)

    def caches(self, strategy: Trained, n_train: int) -> bool:
        """Whether activations at the cut cost less to make, write and read than to compute anew in every epoch.

        They do not for the first stages of a convolutional network, which compute little and hand on much, nor where
        there are as many views of each example as epochs.
        """
        if strategy.cut(len(self.shares)) == 0:
            return False
        return self.passes(strategy, n_train, cache=True) < self.passes(strategy, n_train, cache=False)

    def _move(self, cut: int) -> float:
        return self.moves[cut - 1] if cut and self.moves else 0.0

    @property
    def budget(self) -> float:
        """The default budget in passes."""
        return max(PASSES, EXAMPLES / (self.n_train + self.n_val))


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A calibrated head, and the strategy and cut that it belongs to."""

    strategy: Strategy
    cut: int
    adapted: Adapted
    temperature: float
    stages: tuple[int, ...]  # whose pooled features the head reads


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way that was run, what came of it, and what validation says of it."""

    strategy: Strategy
    solved: Any  # a Solved, or a trained detector
    scores: np.ndarray  # (n_val, …) calibrated
    score: Score
    seconds: float
    n_train: int
    cost: float = 0.0  # passes
    round: int = 0  # 0 is what was solved, not trained


Trial = Callable[[Trained, int, bool], Tried]  # (strategy, how many examples, cached or not) -> what validation says


def epochs_for(n_train: int, batch_size: int = 16) -> int:
    """Epochs of a training in full: more for fewer examples."""
    return int(np.clip(round(STEPS * batch_size / max(1, n_train)), FEWEST_EPOCHS, MOST_EPOCHS))


def common(n_train: int, class_weight: str | None = None) -> dict[str, Any]:
    """Settings that every way to train shares."""
    return {"epochs": epochs_for(n_train), "class_weight": class_weight}


def options(n_stages: int, n_train: int, class_weight: str | None = None, lora: bool = True) -> list[Trained]:
    """Ways to train: frozen to three quarters, to one half and to one quarter; everything; adapters."""
    shared = common(n_train, class_weight)
    cuts = sorted({round(n_stages * share) for share in (0.25, 0.5, 0.75)} & set(range(1, n_stages)), reverse=True)
    found: list[Trained] = [Partial(freeze=cut, **shared) for cut in cuts]
    found.append(Full(**shared))
    if lora and cuts:
        found.append(Lora(freeze=cuts[-1], **shared))
    return found


def aligning(n_stages: int, n_train: int, class_weight: str | None = None, pictures: bool = False) -> list[Trained]:
    """Ways to train on a labelled source and an unlabelled target, above the middle cut; the most promising first.

    The order is that of one pair of domains, looked at with its labels (docs/log.md).

    The losses that compare whole batches like large ones, but 32 texts of 512 tokens of each domain took MiniLM 12 GB:
    texts get the memory of a training on the source alone.
    """
    shared: dict[str, Any] = {"freeze": (n_stages + 1) // 2, **common(n_train, class_weight)}
    shared["batch_size"] = 32 if pictures else 8  # of each domain
    trained: list[Trained] = [kind(**shared) for kind in (Mcc, SelfTraining, DeepCoral, Dann, Cdan)]
    return [*trained, BatchNorm(class_weight=class_weight)]


@dataclass(kw_only=True)
class Search:
    """Successive halving over ways to train; `run` once. Costs and the budget are passes."""

    work: Work
    judge: Judge
    trial: Trial
    budget: float
    say: Callable[[str], None]
    first_examples: int = FIRST_EXAMPLES
    tried: list[Tried] = field(default_factory=list)
    spent: float = 0.0
    cached: set[int] = field(default_factory=set)  # cuts at which all examples are cached

    def run(self, ways: Sequence[Trained], augments: bool = False) -> list[Tried]:
        """Everything that was run, in order; those with `n_train == work.n_train` learnt from all examples.

        A way that the budget does not allow in full may be run for fewer epochs, down to FEWEST_EPOCHS. Where examples
        can be augmented and the budget is not spent, the best way is tried once more on random views.
        """
        shortest = ((way, replace(way, epochs=min(way.epochs, FEWEST_EPOCHS))) for way in ways)
        queue = sorted((way for way, short in shortest if self._cost(short) <= self.budget), key=self._cost)
        if len(queue) > 1 and self._first < self.work.n_train:
            queue = self._short_round(queue)
        self._long_round(queue)
        if augments and self._whole and self.budget < math.inf:
            self._on_random_views()
        return self.tried

    @property
    def _first(self) -> int:
        """How many examples the first round learns from."""
        return min(self.work.n_train, max(self.first_examples, int(self.work.n_train * FIRST_SHARE)))

    @property
    def _whole(self) -> list[Tried]:
        return [one for one in self.tried if one.n_train == self.work.n_train]

    def _cost(self, way: Trained) -> float:
        return self.work.passes(way, self.work.n_train, self._caches(way), frozenset(self.cached))

    def _caches(self, way: Trained) -> bool:
        return self.work.caches(way, self.work.n_train)

    def _short_round(self, ways: Sequence[Trained]) -> list[Trained]:
        """Every way for one epoch of a part of the examples, the cheapest first; the ways, the best first."""
        for way in ways:
            short = replace(way, epochs=1)
            cache = self._caches(way)  # what the long round will need is kept now
            cost = self.work.passes(short, self._first, cache)
            if self.tried and self.spent + cost > FIRST_ROUND_SHARE * self.budget:
                break
            self._run(short, self._first, cache, cost, 1)
        full = {short_key(way): way for way in ways}
        return [full[short_key(one.strategy)] for one in ranking(self.tried, self.judge)]

    def _long_round(self, queue: Sequence[Trained]) -> None:
        """All examples, for as many epochs as the budget still allows; the first way for one, whatever it costs."""
        number = 2 if self._first < self.work.n_train else 1
        for way in queue:
            fewest = min(way.epochs, FEWEST_EPOCHS) if self._whole else 1
            while way.epochs > fewest and self.spent + self._cost(way) > self.budget:
                way = replace(way, epochs=way.epochs - 1)
            if self._whole and self.spent + self._cost(way) > self.budget:
                continue
            cache = self._caches(way)
            self._run(way, self.work.n_train, cache, self._cost(way), number)
            if cache:
                self.cached.add(way.cut(len(self.work.shares)))

    def _on_random_views(self) -> None:
        best = max(self._whole, key=lambda one: self.judge.gain(one.score.value))
        way = augmented(cast(Trained, best.strategy), len(self.work.shares))
        cache = self._caches(way)
        cost = self.work.passes(way, self.work.n_train, cache)  # random views at a cut are not cached yet
        if self.spent + cost <= self.budget:
            self._run(way, self.work.n_train, cache, cost, best.round + 1)

    def _run(self, way: Trained, n_train: int, cache: bool, cost: float, number: int) -> None:
        self.tried.append(replace(self.trial(way, n_train, cache), round=number, cost=cost))
        self.spent += cost
        self.say(_line(self.tried[-1], self.judge))


def augmented(way: Trained, n_stages: int) -> Trained:
    """The same way on random views: new ones every epoch where nothing is frozen, else a few that are cached."""
    return replace(way, augment=True) if way.cut(n_stages) == 0 else replace(way, views=N_VIEWS)


def ranking(tried: Sequence[Tried], judge: Judge) -> list[Tried]:
    """The one to go on with first: the cheapest within one standard error of the best, then the best, then the rest."""
    best = max(tried, key=lambda one: judge.gain(one.score.value))
    near = choose(tried, judge)
    rest = sorted((o for o in tried if o is not best and o is not near), key=lambda o: -judge.gain(o.score.value))
    return [near, *([best] if best is not near else []), *rest]


def choose(tried: Sequence[Tried], judge: Judge) -> Tried:
    """The cheapest within one standard error of the best, the difference taken on the same examples."""
    best = max(tried, key=lambda one: judge.gain(one.score.value))
    for one in sorted(tried, key=lambda one: one.cost):
        loss, error = judge.gain_over(best.scores, one.scores)
        if one is best or loss <= error:
            return one
    return best


def on_views(strategy: Strategy) -> bool:
    """Whether it learns from random views of the examples."""
    settings = strategy.settings()
    return bool(settings.get("augment")) or settings.get("views", 1) > 1


def short_key(way: Strategy) -> str:
    """What stays the same between rounds."""
    settings = {name: value for name, value in way.settings().items() if name != "epochs"}
    return f"{type(way).__name__} {sorted(settings.items())}"


def outcome(one: Tried, chosen: Tried, judge: Judge, n_train: int) -> str:
    """What became of a way, for people."""
    if one is chosen:
        return "chosen"
    if one.round and one.n_train < n_train:  # what is not trained at all is none
        return "short run"
    gain, error = judge.gain_over(chosen.scores, one.scores)
    if abs(gain) <= error:
        return "no better within one standard error, and dearer" if one.cost >= chosen.cost else "not told apart"
    return "worse" if gain > 0 else "better, but the best is not beyond one standard error"


def _line(one: Tried, judge: Judge) -> str:
    value = "undefined" if math.isnan(one.score.value) else f"{one.score.value:.3f}"
    cut = one.strategy.settings().get("freeze", 0) or 0
    views = ", random views" if on_views(one.strategy) else ""
    what = f"{one.strategy.title}{views}, {cut} stages frozen, {one.n_train:,} examples"
    return f"  {what}: {judge.metric.title} {value} on validation"
