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
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from headstart.evidence.base import Score
from headstart.evidence.compare import Judge
from headstart.strategies.base import Strategy, Trained
from headstart.strategies.full import Full
from headstart.strategies.lora import Lora
from headstart.strategies.partial import Partial

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
    n_train: int
    n_val: int

    def passes(self, strategy: Trained, n_train: int, cached: frozenset[int] = frozenset()) -> float:
        """What training costs: epochs above the cut, and the cut's own pass unless it is `cached`."""
        cut = strategy.cut(len(self.shares))
        above, below = sum(self.shares[cut:]), sum(self.shares[:cut])
        each = n_train * (1 + strategy.backward_cost) + self.n_val
        own = 0.0 if cut in cached else below * (n_train * strategy.views + self.n_val)
        return (strategy.epochs * above * each + own) / (self.n_train + self.n_val)

    @property
    def budget(self) -> float:
        """The default budget in passes."""
        return max(PASSES, EXAMPLES / (self.n_train + self.n_val))


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way that was run, and what validation says of it."""

    strategy: Strategy
    scores: np.ndarray  # (n_val, K) calibrated
    score: Score
    cost: float  # passes
    seconds: float
    n_train: int
    round: int
    outcome: str = ""


Trial = Callable[[Trained, int], Tried]  # (strategy, how many examples) -> what validation says


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


def search(
    ways: Sequence[Trained],
    work: Work,
    budget: float,
    judge: Judge,
    trial: Trial,
    say: Callable[[str], None],
    augments: bool = False,
) -> list[Tried]:
    """Everything that was run, in order; those with `n_train == work.n_train` learnt from all examples.

    Where examples can be augmented and the budget is not spent, the best way is tried once more on random views.
    """
    first = min(work.n_train, max(FIRST_EXAMPLES, int(work.n_train * FIRST_SHARE)))
    affordable = [way for way in ways if work.passes(way, work.n_train) <= budget]
    tried: list[Tried] = []
    spent = 0.0
    if len(affordable) > 1 and first < work.n_train:
        for way in sorted(affordable, key=lambda one: work.passes(one, work.n_train)):
            short = replace(way, epochs=1)
            cost = work.passes(short, first)
            if spent + cost > FIRST_ROUND_SHARE * budget and tried:
                break
            tried.append(replace(trial(short, first), round=1, cost=cost))
            spent += cost
            say(_line(tried[-1], judge))
    full = {short_key(way): way for way in affordable}
    if tried:
        ranked = ranking(tried, judge)
        queue = [full[short_key(one.strategy)] for one in ranked]
    else:
        queue = sorted(affordable, key=lambda one: work.passes(one, work.n_train))
    cached: set[int] = set()
    for way in queue:
        cost = work.passes(way, work.n_train, frozenset(cached))
        if spent + cost > budget and any(one.n_train == work.n_train for one in tried):
            continue
        way = _shortened(way, work, budget - spent, frozenset(cached))
        cost = work.passes(way, work.n_train, frozenset(cached))
        tried.append(replace(trial(way, work.n_train), round=2 if first < work.n_train else 1, cost=cost))
        cached.add(way.cut(len(work.shares)))
        spent += cost
        say(_line(tried[-1], judge))
    whole = [one for one in tried if one.n_train == work.n_train]
    if augments and whole:
        best = max(whole, key=lambda one: judge.gain(one.score.value))
        way = augmented(cast(Trained, best.strategy), len(work.shares))
        cost = work.passes(way, work.n_train)
        if spent + cost <= budget < math.inf:
            tried.append(replace(trial(way, work.n_train), round=best.round + 1, cost=cost))
            say(_line(tried[-1], judge))
    return tried


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
    if one.n_train < n_train:
        return "short run"
    gain, error = judge.gain_over(chosen.scores, one.scores)
    if abs(gain) <= error:
        return "no better within one standard error, and dearer" if one.cost >= chosen.cost else "not told apart"
    return "worse" if gain > 0 else "better, but the best is not beyond one standard error"


def _shortened(way: Trained, work: Work, left: float, cached: frozenset[int]) -> Trained:
    """With as many epochs as the budget that is left allows, at least one."""
    while way.epochs > 1 and work.passes(way, work.n_train, cached) > left:
        way = replace(way, epochs=way.epochs - 1)
    return way


def _line(one: Tried, judge: Judge) -> str:
    value = "undefined" if math.isnan(one.score.value) else f"{one.score.value:.3f}"
    cut = one.strategy.settings().get("freeze", 0) or 0
    views = ", random views" if on_views(one.strategy) else ""
    what = f"{one.strategy.title}{views}, {cut} stages frozen, {one.n_train:,} examples"
    return f"  {what}: {judge.metric.title} {value} on validation"
