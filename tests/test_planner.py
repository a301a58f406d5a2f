"""The planner by itself: work counted by hand, and searches over trials that only pretend to train."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.evidence import planner
from headstart.evidence.compare import Judge
from headstart.evidence.intervals import resamples
from headstart.evidence.planner import Search, Solved, Tried, Work, choose, epochs_for, options, outcome, ranking
from headstart.strategies.base import Adapted, Trained
from headstart.strategies.full import Full
from headstart.strategies.lora import Lora
from headstart.strategies.partial import Partial
from headstart.strategies.probe import Probe
from headstart.strategies.scratch import Scratch
from headstart.tasks.base import LinearHead
from headstart.tasks.classification import Classification

N_VAL = 100
Y = np.arange(N_VAL) % 2
ACCURACY = next(one for one in Classification(class_names=("a", "b"), positive="b").metrics() if one.name == "accuracy")
JUDGE = Judge(metric=ACCURACY, y=Y, weights=resamples(N_VAL, 500, 0))
WORK = Work(shares=(0.1, 0.2, 0.3, 0.4), n_train=100, n_val=20)


def wrong_on(rows: Any) -> np.ndarray:
    """(N_VAL, 2) scores that are right but on these rows."""
    right = np.ones(N_VAL, dtype=bool)
    right[list(rows)] = False
    p = np.where((Y == 1) == right, 0.9, 0.1)
    return np.stack([1 - p, p], axis=1)


def tried(scores: np.ndarray, cost: float, strategy: Any = None, n_train: int = 1000) -> Tried:
    way = strategy or Probe()
    head = LinearHead(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
    return Tried(
        strategy=way,
        solved=Solved(strategy=way, cut=1, adapted=Adapted(head, None, 0.0), temperature=1.0, stages=(0,)),
        scores=scores,
        score=JUDGE.score(scores),
        cost=cost,
        seconds=0.0,
        n_train=n_train,
        round=1,
    )


# --- work ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "n_train", "cached", "passes"),
    [
        # 3 epochs x 0.7 above x (100 x (1 + 2) + 20 val) + 0.3 below x 120, in passes over 120
        (Partial(freeze=2, epochs=3), 100, (), (3 * 0.7 * 320 + 0.3 * 120) / 120),
        (Partial(freeze=2, epochs=3), 100, (2,), 3 * 0.7 * 320 / 120),
        (Partial(freeze=2, epochs=3), 100, (1, 3), (3 * 0.7 * 320 + 0.3 * 120) / 120),
        # on 40 examples only: validation is run whole
        (Partial(freeze=2, epochs=3), 40, (), (3 * 0.7 * 140 + 0.3 * 60) / 120),
        # three views of each example of train are cached, one of validation
        (Partial(freeze=2, epochs=3, views=3), 100, (), (3 * 0.7 * 320 + 0.3 * 320) / 120),
        (Full(epochs=2), 100, (), 2 * 320 / 120),
        (Scratch(epochs=2), 100, (), 2 * 320 / 120),
        # adapters save no time on these networks
        (Lora(freeze=1, epochs=2), 100, (), (2 * 0.9 * 320 + 0.1 * 120) / 120),
    ],
)
def test_passes_are_counted_as_by_hand(strategy: Trained, n_train: int, cached: tuple[int], passes: float) -> None:
    assert WORK.passes(strategy, n_train, cached=frozenset(cached)) == pytest.approx(passes)


def test_one_epoch_without_a_way_back_is_a_pass() -> None:
    free = type("Free", (Full,), {"backward_cost": 0.0})
    assert WORK.passes(free(epochs=1), 100) == pytest.approx(1.0)


@pytest.mark.parametrize(("n_train", "n_val", "budget"), [(80, 20, 100.0), (800, 200, 10.0), (80_000, 20_000, 10.0)])
def test_the_budget_is_ten_passes_or_ten_thousand_examples(n_train: int, n_val: int, budget: float) -> None:
    assert Work(shares=(1.0,), n_train=n_train, n_val=n_val).budget == pytest.approx(budget)


@pytest.mark.parametrize(
    ("n_train", "epochs"), [(0, 8), (1, 8), (72, 8), (800, 8), (1000, 6), (1600, 4), (3200, 2), (100_000, 2)]
)
def test_fewer_examples_are_seen_more_often(n_train: int, epochs: int) -> None:
    """About 400 steps of 16 examples: 6400 / n_train, from 2 to 8."""
    assert epochs_for(n_train) == epochs


def test_epochs_follow_the_size_of_a_batch() -> None:
    assert epochs_for(1600, batch_size=32) == 8
    assert epochs_for(1600, batch_size=8) == 2


@pytest.mark.parametrize("n_stages", range(1, 26))
@pytest.mark.parametrize("lora", [True, False])
def test_options_have_distinct_cuts_within_range(n_stages: int, lora: bool) -> None:
    ways = options(n_stages, 1000, "balanced", lora)
    partial = [way for way in ways if isinstance(way, Partial)]
    cuts = [way.cut(n_stages) for way in partial]
    assert cuts == sorted(set(cuts), reverse=True)
    assert all(1 <= cut <= n_stages - 1 for cut in cuts)
    assert bool(cuts) == (n_stages > 1)
    assert len(cuts) == 3 or n_stages < 4
    assert [way.cut(n_stages) for way in ways if isinstance(way, Full)] == [0]
    adapters = [way.cut(n_stages) for way in ways if isinstance(way, Lora)]
    assert adapters == ([cuts[-1]] if lora and cuts else [])
    assert len(ways) == len(partial) + 1 + len(adapters)
    assert all((way.epochs, way.class_weight) == (6, "balanced") for way in ways)


def test_options_of_a_network_of_eight_stages() -> None:
    assert options(8, 10_000) == [
        Partial(freeze=6, epochs=2),
        Partial(freeze=4, epochs=2),
        Partial(freeze=2, epochs=2),
        Full(epochs=2),
        Lora(freeze=2, epochs=2),
    ]


# --- choosing --------------------------------------------------------------------------------------------------------


def test_the_cheapest_within_one_standard_error_is_chosen() -> None:
    """Three more mistakes of a hundred, and another two mended: 0.01 apart, with an error of sqrt(5) / 100."""
    best, near = tried(wrong_on([0, 1, 2]), 5.0), tried(wrong_on([0, 3, 4, 5]), 1.0)
    loss, error = JUDGE.gain_over(best.scores, near.scores)
    assert loss == pytest.approx(0.01)
    assert error == pytest.approx(np.sqrt(5) / 100, rel=0.1)
    assert choose([best, near], JUDGE) is near
    assert choose([near, best], JUDGE) is near


def test_the_best_is_chosen_when_the_cheaper_is_worse_beyond_one_standard_error() -> None:
    """Eight more mistakes and none mended: 0.08 apart, with an error of 0.027."""
    best, far = tried(wrong_on([0]), 5.0), tried(wrong_on(range(9)), 1.0)
    loss, error = JUDGE.gain_over(best.scores, far.scores)
    assert loss > 2 * error
    assert choose([far, best], JUDGE) is best


def test_the_difference_is_paired() -> None:
    """The same distance that is noise where the mistakes are others, is none where they are the same ones."""
    best = tried(wrong_on(range(20)), 5.0)
    nested = tried(wrong_on(range(24)), 1.0)  # four more
    crossed = tried(wrong_on(range(18, 42)), 1.0)  # four more, and of the twenty only two are the same
    gaps = [JUDGE.gain_over(best.scores, one.scores)[0] for one in (nested, crossed)]
    assert gaps == pytest.approx([0.04, 0.04])
    assert choose([best, nested], JUDGE) is best
    assert choose([best, crossed], JUDGE) is crossed


def test_the_cheapest_of_several_that_are_as_good() -> None:
    same = [tried(wrong_on([0]), cost) for cost in (3.0, 1.0, 2.0)]
    assert choose(same, JUDGE) is same[1]


def test_where_less_is_better() -> None:
    loss = next(one for one in Classification(class_names=("a", "b"), positive="b").metrics() if one.name == "log_loss")
    judge = Judge(metric=loss, y=Y, weights=JUDGE.weights)
    good, bad = (
        replace(tried(wrong_on(rows), cost), score=judge.score(wrong_on(rows)))
        for rows, cost in (([0], 2.0), (range(30), 1.0))
    )
    assert good.score.value < bad.score.value
    assert choose([bad, good], judge) is good
    assert ranking([bad, good], judge) == [good, bad]


def test_the_ranking_starts_with_the_cheap_one_that_is_near_the_best() -> None:
    best, near = tried(wrong_on([0, 1, 2]), 5.0), tried(wrong_on([0, 3, 4, 5]), 1.0)
    third, last = tried(wrong_on(range(12)), 0.5), tried(wrong_on(range(30)), 0.1)
    assert ranking([last, best, third, near], JUDGE) == [near, best, third, last]
    assert ranking([third, best], JUDGE) == [best, third]
    assert ranking([last], JUDGE) == [last]


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (tried(wrong_on(range(12)), 9.0, n_train=400), "short run"),
        (tried(wrong_on([1, 2]), 9.0), "no better within one standard error, and dearer"),
        (tried(wrong_on([1]), 5.0), "no better within one standard error, and dearer"),
        (tried(wrong_on([1]), 1.0), "not told apart"),
        (tried(wrong_on(range(20)), 9.0), "worse"),
        (tried(wrong_on(range(20)), 1.0), "worse"),
    ],
)
def test_what_became_of_each(one: Tried, words: str) -> None:
    chosen = tried(wrong_on([0]), 5.0)
    assert outcome(one, chosen, JUDGE, 1000) == words
    assert outcome(chosen, chosen, JUDGE, 1000) == "chosen"


def test_a_way_that_is_better_is_not_called_worse_nor_unaffordable() -> None:
    """Within one standard error of the best, the chosen one may yet be beaten beyond it by a third."""
    chosen = tried(wrong_on(range(20)), 1.0)
    best = tried(wrong_on(range(20, 36)), 5.0)  # sixteen others: 0.04 better, with an error of 0.06
    third = tried(wrong_on(range(3, 20)), 4.0)  # three mended: 0.03 better, with an error of 0.017
    assert choose([chosen, best, third], JUDGE) is chosen
    gain, error = JUDGE.gain_over(third.scores, chosen.scores)
    assert gain > error
    assert outcome(third, chosen, JUDGE, 1000) == "better, but the best is not beyond one standard error"


# --- the search ------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Runs trials without training: how many mistakes each way makes, and what was asked for."""

    mistakes: Callable[[Trained, int], int]
    calls: list[tuple[Trained, int]] = field(default_factory=list)
    clock: Callable[[], float] = lambda: 0.0
    cached: list[bool] = field(default_factory=list)

    def __call__(self, strategy: Trained, n_train: int, cache: bool) -> Tried:
        self.calls.append((strategy, n_train))
        self.cached.append(cache)
        scores = wrong_on(range(self.mistakes(strategy, n_train)))
        return replace(tried(scores, 0.0, strategy, n_train), seconds=self.clock())


def silent(line: str) -> None:
    pass


def search(
    ways: list[Trained],
    work: Work,
    budget: float,
    trial: Callable[[Trained, int, bool], Tried],
    say: Callable[[str], None] = silent,
    augments: bool = False,
) -> list[Tried]:
    return Search(work=work, judge=JUDGE, trial=trial, budget=budget, say=say).run(ways, augments)


def spent(calls: list[tuple[Trained, int]], work: Work) -> float:
    """What these trainings cost, counted anew: activations at a cut are kept after a training in full."""
    total, cached = 0.0, set()
    for way, n_train in calls:
        in_full, cache = n_train == work.n_train, work.caches(way, work.n_train)
        total += work.passes(way, n_train, cache, frozenset(cached) if in_full else frozenset())
        if in_full and cache:
            cached.add(way.cut(len(work.shares)))
    return total


def test_a_short_round_on_a_part_and_then_all_examples() -> None:
    """Of 2,000 examples the first round sees a quarter for one epoch; the better ones go on first."""
    work = Work(shares=(0.125,) * 8, n_train=2000, n_val=N_VAL)
    ways = options(8, 2000)
    bench = Bench(lambda way, n: {6: 20, 4: 8, 2: 14, 0: 30}[way.cut(8)] + isinstance(way, Lora))
    found = search(ways, work, 100.0, bench)
    short, full = bench.calls[:5], bench.calls[5:]
    assert {n for _, n in short} == {500}
    assert {way.epochs for way, _ in short} == {1}
    assert [way.cut(8) for way, _ in short] == [6, 4, 2, 2, 0]  # the cheapest is tried first
    assert isinstance(short[3][0], Lora)
    assert [way for way, _ in full] == [ways[1], ways[2], ways[4], ways[0], ways[3]]
    assert {n for _, n in full} == {2000}
    assert [one.round for one in found] == [1] * 5 + [2] * 5
    assert sum(one.cost for one in found) == pytest.approx(spent(bench.calls, work))
    assert [(one.strategy, one.n_train) for one in found] == bench.calls


@pytest.mark.parametrize(("n_train", "first"), [(401, 400), (1000, 400), (1600, 400), (4000, 1000)])
def test_the_first_round_sees_a_quarter_but_no_fewer_than_400(n_train: int, first: int) -> None:
    work = Work(shares=(0.25,) * 4, n_train=n_train, n_val=N_VAL)
    bench = Bench(lambda way, n: 10)
    search(options(4, n_train), work, 1000.0, bench)
    assert {n for _, n in bench.calls} == {first, n_train}


def test_few_examples_or_one_way_need_no_first_round() -> None:
    for n_train, ways in ((400, options(4, 400)), (4000, [Full(epochs=2)])):
        work = Work(shares=(0.25,) * 4, n_train=n_train, n_val=N_VAL)
        bench = Bench(lambda way, n: 10)
        search(ways, work, 1000.0, bench)
        assert sorted(map(repr, (way for way, _ in bench.calls))) == sorted(map(repr, ways))
        assert {n for _, n in bench.calls} == {n_train}


def test_a_way_that_the_budget_never_allows_is_not_begun() -> None:
    work = Work(shares=(0.25,) * 4, n_train=4000, n_val=N_VAL)
    ways = options(4, 4000)
    affordable = [way for way in ways if work.passes(way, 4000) <= 4.0]
    assert 0 < len(affordable) < len(ways)
    bench = Bench(lambda way, n: 10)
    search(ways, work, 4.0, bench)
    assert {(type(way), way.cut(4)) for way, _ in bench.calls} <= {(type(way), way.cut(4)) for way in affordable}
    assert search(ways, work, 0.1, Bench(lambda way, n: 10)) == []


def test_a_cache_pays_where_it_saves_more_than_it_moves() -> None:
    early, late = Partial(freeze=1, epochs=4), Partial(freeze=2, epochs=4)
    work = Work(shares=(0.1, 0.5, 0.4), moves=(0.1, 0.01, 0.0), n_train=1000, n_val=0)
    assert work.passes(early, 1000, cache=False) == pytest.approx(4 * (0.1 + 0.9 * 3))
    assert work.passes(early, 1000) == pytest.approx(0.1 + 0.1 + 4 * (0.1 + 0.9 * 3))  # made, written, read 4 times
    assert work.passes(late, 1000) == pytest.approx(0.6 + 0.01 + 4 * (0.01 + 0.4 * 3))
    assert not work.caches(early, 1000)
    assert work.caches(late, 1000)
    assert not work.caches(replace(late, epochs=1), 1000)
    assert not work.caches(replace(late, views=4), 1000)  # as many views as epochs
    assert not work.caches(Full(epochs=4), 1000)


def test_the_first_round_keeps_what_the_second_will_read() -> None:
    work = Work(shares=(0.1, 0.5, 0.4), moves=(0.1, 0.01, 0.0), n_train=1000, n_val=N_VAL)
    bench = Bench(lambda way, n: 10)
    search([Partial(freeze=2, epochs=4), Partial(freeze=1, epochs=4), Full(epochs=4)], work, 100.0, bench)
    cached = {(way.cut(3), n): cache for (way, n), cache in zip(bench.calls, bench.cached, strict=True)}
    assert cached == {(cut, n): cut == 2 for cut in (0, 1, 2) for n in (400, 1000)}


def test_a_training_is_shortened_to_what_is_left() -> None:
    """The first round has taken a part: the one training in full gets the epochs that are left, and costs those."""
    work = Work(shares=(0.0, 1.0), n_train=1000, n_val=N_VAL)
    ways = [Full(epochs=8), Partial(freeze=1, epochs=8)]  # alike in cost: 8 x (3000 + 100) / 1100 = 22.5
    bench = Bench(lambda way, n: 10)
    found = search(ways, work, 23.0, bench)
    full = [one for one in found if one.n_train == 1000]
    assert len(full) == 1
    assert full[0].strategy.settings()["epochs"] == 7
    assert full[0].cost == pytest.approx(7 * 3100 / 1100)
    assert sum(one.cost for one in found) == pytest.approx(spent(bench.calls, work))
    assert spent(bench.calls, work) <= 23.0


def test_a_way_too_dear_in_full_may_be_run_shorter() -> None:
    """Solar cells: half of the network for six epochs was a hair above the budget, and was never tried."""
    work = Work(shares=(0.25, 0.75), n_train=1000, n_val=500)
    ways = [Partial(freeze=1, epochs=6)]
    assert work.passes(ways[0], 1000) > 10.0
    bench = Bench(lambda way, n: 10)
    (found,) = search(ways, work, 10.0, bench)
    assert found.strategy.settings()["epochs"] == 5
    assert found.cost <= 10.0


def test_what_a_cache_saves_is_not_taken_off_the_epochs() -> None:
    """Adapters above a cut whose activations are kept already cost less, and are trained in full."""
    work = Work(shares=(0.9, 0.1), n_train=300, n_val=N_VAL)
    ways = [Partial(freeze=1, epochs=2), Lora(freeze=1, epochs=2)]
    own = [work.passes(way, 300) for way in ways]
    budget = own[0] + own[1] - 0.5  # the second activations pass, of 0.9, does not fit, but none is needed
    bench = Bench(lambda way, n: 10)
    found = search(ways, work, budget, bench)
    assert [way.epochs for way, _ in bench.calls] == [2, 2]
    assert sum(one.cost for one in found) == pytest.approx(own[0] + own[1] - 0.9)
    assert own[0] + own[1] - 0.9 <= budget


@settings(max_examples=150, deadline=None)
@given(
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12),
    n_train=st.integers(20, 20_000),
    n_val=st.integers(5, 5000),
    budget=st.floats(0.05, 200.0),
    mistakes=st.lists(st.integers(0, N_VAL), min_size=8, max_size=8),
    lora=st.booleans(),
)
def test_no_search_spends_more_than_its_budget(
    shares: list[float], n_train: int, n_val: int, budget: float, mistakes: list[int], lora: bool
) -> None:
    """But for the one training in full without which there would be nothing, and that is of one epoch then."""
    work = Work(shares=tuple(share / sum(shares) for share in shares), n_train=n_train, n_val=n_val)
    ways = options(len(shares), n_train, lora=lora)
    bench = Bench(lambda way, n: mistakes[(way.cut(len(shares)) + (n == n_train)) % 8])
    found = search(ways, work, budget, bench)
    shortest = [replace(way, epochs=min(way.epochs, planner.FEWEST_EPOCHS)) for way in ways]
    affordable = [way for way in shortest if work.passes(way, n_train) <= budget]
    full = [way for way, n in bench.calls if n == n_train]
    assert bool(full) == bool(affordable)
    total = spent(bench.calls, work)
    assert sum(one.cost for one in found) == pytest.approx(total)
    assert total <= budget * (1 + 1e-9) or (len(full) == 1 and full[0].epochs == 1)
    short = [(way, n) for way, n in bench.calls if n < n_train]
    assert len(short) <= 1 or spent(short, work) <= 0.5 * budget * (1 + 1e-9)
    assert bench.calls == short + [(way, n) for way, n in bench.calls if n == n_train]


def test_no_clock_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same trials in the same order, however long each took; and the planner never looks at a clock."""
    work = Work(shares=(0.125,) * 8, n_train=2000, n_val=N_VAL)
    seconds = iter(np.random.default_rng(0).exponential(100.0, 100).tolist())

    def refuse() -> float:
        raise AssertionError("the planner looked at a clock")

    for name in ("time", "monotonic", "perf_counter", "process_time"):
        monkeypatch.setattr(time, name, refuse)
    runs = []
    for clock in (lambda: 0.0, lambda: next(seconds)):
        bench = Bench(lambda way, n: (way.cut(8) * 5 + n) % 17, clock=clock)
        found = search(options(8, 2000), work, 12.0, bench)
        runs.append((bench.calls, [one.cost for one in found], choose(found, JUDGE).strategy))
    assert runs[0] == runs[1]
    assert not hasattr(planner, "time")


def test_each_trial_is_told() -> None:
    lines: list[str] = []
    work = Work(shares=(0.25,) * 4, n_train=300, n_val=N_VAL)
    search([Partial(freeze=3, epochs=2)], work, 100.0, Bench(lambda way, n: 10), lines.append)
    assert lines == ["  partly frozen, 3 stages frozen, 300 examples: accuracy 0.900 on validation"]


def test_the_best_way_is_tried_on_views_where_the_budget_allows() -> None:
    ways = [Partial(freeze=2, epochs=1), Full(epochs=1)]
    plain, on_views = ({}, {"augments": True})
    for more in (plain, on_views):
        seen: list[Trained] = []

        def trial(way: Trained, n_train: int, cache: bool, seen: list[Trained] = seen) -> Tried:
            seen.append(way)
            return tried(wrong_on(range(10 if isinstance(way, Full) else 30)), 0.0, way, n_train)

        search(ways, WORK, 50.0, trial, **more)
        assert [planner.on_views(way) for way in seen] == [False, False, *([True] if more else [])]
    assert seen[-1] == Full(epochs=1, augment=True)
    assert planner.augmented(Partial(freeze=2), 4).views == planner.N_VIEWS
