"""freeze → profile the depth → try strategies → choose: from a posed problem and a backbone to an adapted model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import places, registry
from headstart.backbones.base import Backbone
from headstart.engine import freeze
from headstart.engine.features import Activations, Features
from headstart.engine.trials import Trials, key_of
from headstart.errors import PlanError, did_you_mean, listed
from headstart.evidence import depth, planner
from headstart.evidence.calibration import fit_temperature
from headstart.evidence.compare import Judge
from headstart.evidence.depth import Probed, Probing
from headstart.evidence.plan import Candidate, DepthPoint, Plan
from headstart.evidence.planner import Tried, Work
from headstart.modalities.base import Modality
from headstart.problem import Problem
from headstart.progress import Progress
from headstart.strategies.base import Adapted, Strategy, Trained
from headstart.strategies.probe import Probe
from headstart.strategies.scratch import Scratch
from headstart.tasks.base import Metric

if TYPE_CHECKING:
    from headstart.engine.train import Lesson

AUTO = "auto"
BALANCED = frozenset({"balanced_accuracy", "macro_f1"})  # metrics under which every class counts the same
SCRATCH_SHARE = 0.6  # of the search's budget, that the comparison from scratch may cost
MOST_SCRATCH_EPOCHS = 12


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user said of how to learn; all else is measured."""

    strategy: str | None = None  # its name; None is chosen, and so is "auto", but then an adapted network ships
    freeze: int | None = None  # stages to freeze; None is chosen
    budget: str | float | None = None  # "2m", "90s", or seconds; None is a few frozen passes
    learning_rate: float | str | None = None  # of the last stage, or "find"
    class_weight: str | None = None  # "balanced", "none"; None is balanced where the metric counts classes alike
    scratch: bool = True  # whether the same network is trained from random weights for comparison
    plan: Plan | None = None  # to be done again, exactly

    @property
    def overruled(self) -> bool:
        """Whether the user chose the strategy, so that the classical model may not take its place."""
        return self.strategy is not None or self.freeze is not None

    def weighs(self, metric: Metric) -> str | None:
        """The class weights to use when models are chosen by this metric. PlanError for an unknown wish."""
        if self.class_weight not in (None, "balanced", "none"):
            raise PlanError(f"class weights {self.class_weight!r} are not known. Give 'balanced' or 'none'.")
        if self.class_weight is None:
            return "balanced" if metric.name in BALANCED else None
        return None if self.class_weight == "none" else self.class_weight


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A calibrated head, and the strategy and cut that it belongs to."""

    strategy: Strategy
    cut: int
    adapted: Adapted
    temperature: float
    stages: tuple[int, ...]  # whose pooled features the head reads


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What the search found."""

    solved: Solved
    val_scores: np.ndarray  # (n_val, K) calibrated
    depth: tuple[DepthPoint, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    budget: float = 0.0
    reason: str = ""


@dataclass(kw_only=True)
class Workshop:
    """A problem and a backbone, with everything that strategies share; computed when first asked for."""

    problem: Problem
    backbone: Backbone
    metric: Metric
    weights: np.ndarray  # (B, n_val) resamples of validation
    n_units: int | None
    seed: int
    progress: Progress
    class_weight: str | None = None
    trials: Trials = field(default_factory=lambda: Trials(places.trials()))

    @property
    def modality(self) -> Modality:
        """What comes in."""
        return self.problem.modality

    @cached_property
    def frozen(self) -> Features:
        """Pooled features of all examples at every stage."""
        with self.progress.step("frozen pass"):
            return freeze.features(self.backbone, self.modality, self.items, self.problem.digests, self.progress)

    @cached_property
    def items(self) -> list[Any]:
        """All N stored items."""
        return self.problem.dataset.inputs

    @cached_property
    def judge(self) -> Judge:
        """Chooses on validation."""
        y = self.problem.y[self.problem.rows["val"]]
        return Judge(metric=self.metric, y=y, weights=self.weights, n_units=self.n_units)

    @cached_property
    def work(self) -> Work:
        """Counts what training costs."""
        train, val = self.problem.rows["train"], self.problem.rows["val"]
        sample = [self.modality.open(self.items[row], self.backbone.detail) for row in train[:4]]
        shares = tuple(self.backbone.stage_shares(sample))
        return Work(shares=shares, n_train=len(train), n_val=len(val))

    @cached_property
    def probed(self) -> list[Probed]:
        """A probe at every stage, and of the best side by side."""
        frozen = self.frozen
        with self.progress.step("depth profile"):
            return depth.profile(self._probing(frozen))

    @cached_property
    def last_probe(self) -> Adapted:
        """The solved head on the last stage: what training starts from."""
        return self._probing(self.frozen).solve((self.backbone.n_stages - 1,)).adapted

    def _probing(self, frozen: Features) -> Probing:
        return Probing(
            task=self.problem.task,
            features=frozen,
            y=self.problem.y,
            train=self.problem.rows["train"],
            val=self.problem.rows["val"],
            names=tuple(stage.name for stage in self.backbone.stages),
            judge=self.judge,
            seed=self.seed,
            class_weight=self.class_weight,
        )

    def solve(self, strategy: Probe) -> Solved:
        """A probe as it was asked for: learnt on train; strength and temperature chosen on validation."""
        probed = self._probing(self.frozen).solve(strategy.read(self.backbone.n_stages))
        return self._solved(replace(strategy, class_weight=self.class_weight), probed.adapted, probed.val_logits)

    def train(self, strategy: Trained, n_train: int | None = None) -> tuple[Solved, Tried]:
        """Run a strategy on `n_train` examples (default: all), or read what an interrupted fit has run already."""
        from headstart.engine.train import train

        lesson = self.lesson(strategy, n_train)
        key = key_of(strategy, lesson, self.problem.digests)
        learnt = self.trials.get(key)
        if learnt is None:
            learnt = train(strategy, replace(lesson, checkpoint=self.trials.checkpoint(key)))
            self.trials.put(key, learnt)
        solved = self._solved(strategy, learnt.adapted, learnt.val_logits)
        scores = self.problem.task.scores(learnt.val_logits, solved.temperature)
        score = self.judge.score(scores)
        tried = Tried(
            strategy=strategy,
            scores=scores,
            score=score,
            cost=0.0,
            seconds=learnt.seconds,
            n_train=len(lesson.train),
            round=1,
        )
        return solved, tried

    def lesson(self, strategy: Trained, n_train: int | None = None) -> Lesson:
        """What a strategy learns from: some of each class, in a seeded draw, when not all examples are asked for."""
        from headstart.engine.train import Lesson

        rows, val = self.problem.rows["train"], self.problem.rows["val"]
        if n_train is not None and n_train < len(rows):
            rows = rows[some_of_each(self.problem.y[rows], n_train, self.seed)]
        pretrained = not strategy.from_scratch
        return Lesson(
            backbone=self.backbone,
            modality=self.modality,
            task=self.problem.task,
            items=self.items,
            y=self.problem.y,
            train=rows,
            val=val,
            seed=self.seed,
            head=self.last_probe.head if pretrained else None,
            pooled=self.frozen.stage(self.backbone.n_stages - 1, rows) if pretrained else None,
            views=self._views(strategy, strategy.cut(self.backbone.n_stages), rows, val),
        )

    def _views(self, strategy: Trained, cut: int, train: np.ndarray, val: np.ndarray) -> tuple[Activations, ...]:
        """Activations at the cut, aligned with all items; none where nothing is frozen or the disk is too small."""
        if cut == 0:
            return ()
        rows = np.concatenate([train, val])
        items = [self.items[row] for row in rows]
        if not freeze.fits_on_disk(self.backbone, self.modality, items, cut):
            self.progress.say(f"  the disk has no room for the activations at stage {cut}: its stages run each time")
            return ()
        digests = [self.problem.digests[row] for row in rows]
        found = []
        for view in range(strategy.views):
            kept = freeze.activations(self.backbone, self.modality, items, digests, cut, self.progress, view)
            shard_of, row_of = (np.full(len(self.items), -1) for _ in range(2))
            shard_of[rows], row_of[rows] = kept.shard_of, kept.row_of
            found.append(Activations(kept.shards, shard_of, row_of))
        return tuple(found)

    def _solved(self, strategy: Strategy, adapted: Adapted, val_logits: np.ndarray) -> Solved:
        n_stages = self.backbone.n_stages
        stages = strategy.read(n_stages) if isinstance(strategy, Probe) else (n_stages - 1,)
        temperature = fit_temperature(self.problem.task, val_logits, self.judge.y)
        return Solved(
            strategy=strategy, cut=strategy.cut(n_stages), adapted=adapted, temperature=temperature, stages=stages
        )

    def scores(self, solved: Solved, rows: np.ndarray) -> np.ndarray:
        """Calibrated scores (n, K) of the examples at `rows`."""
        if solved.adapted.changes is None:
            features = freeze.side_by_side(self.frozen, solved.stages, rows)
        else:
            network = self.backbone.adapted(solved.adapted.changes)
            items, digests = [self.items[row] for row in rows], [self.problem.digests[row] for row in rows]
            features = freeze.embed(network, self.modality, items, digests, solved.stages, self.progress.bar)
        return self.problem.task.scores(solved.adapted.head.logits(features), solved.temperature)


def choose(shop: Workshop, wishes: Wishes) -> Chosen:
    """The best way to adapt this backbone, on validation, within the budget and the user's wishes."""
    check(shop.backbone.n_stages, wishes)
    if wishes.plan is not None:
        return _again(shop, wishes.plan)
    judge, task = shop.judge, shop.problem.task
    probes = shop.probed if wishes.strategy in (None, AUTO, "probe") else []
    points = tuple(one.point for one in shop.probed)
    if wishes.freeze is not None and probes:
        probes = [one for one in probes if one.point.stages == (wishes.freeze - 1,)]
    tried: list[Tried] = []
    made: dict[int, Solved] = {}
    if probes:
        crosswise = shop.problem.crosswise and wishes.freeze is None
        best = depth.best_probe(probes, judge, task, crosswise)
        solved = shop._solved(best.strategy, best.adapted, best.val_logits)
        scores = task.scores(best.val_logits, solved.temperature)
        tried.append(
            Tried(
                strategy=best.strategy,
                scores=scores,
                score=judge.score(scores),
                cost=1.0,
                seconds=shop.progress.seconds.get("frozen pass", 0.0) + shop.progress.seconds.get("depth profile", 0.0),
                n_train=shop.work.n_train,
                round=0,
            )
        )
        made[id(tried[0].scores)] = solved
    budget = _passes(shop, wishes.budget)
    ways = _ways(shop, wishes)
    if ways:

        def trial(strategy: Trained, n_train: int) -> Tried:
            solved, one = shop.train(strategy, n_train)
            made[id(one.scores)] = solved
            return one

        frozen = shop.frozen  # not part of the time that training takes
        assert frozen is not None
        with shop.progress.step("try strategies"):
            limit = budget if wishes.strategy in (None, AUTO) or wishes.budget is not None else float("inf")
            say, augments = shop.progress.say, shop.modality.augments
            tried += planner.search(ways, shop.work, limit, judge, trial, say, augments)
    final = [one for one in tried if one.n_train == shop.work.n_train]
    if not final:
        raise PlanError("The budget is too small to train anything. Give more with --budget, or use --strategy probe.")
    chosen = planner.choose(final, judge)
    return Chosen(
        solved=made[id(chosen.scores)],
        val_scores=chosen.scores,
        depth=points,
        candidates=tuple(_candidate(shop, one, chosen) for one in tried),
        budget=budget,
        reason=_reason(shop, chosen, final),
    )


def from_scratch(shop: Workshop, chosen: Chosen, wishes: Wishes) -> Solved | None:
    """The same network trained from random weights, for a share of the budget; None where it is not wanted."""
    if not wishes.scratch:
        return None
    settings = dict(wishes.plan.scratch) if wishes.plan is not None else {}
    if wishes.plan is not None and not settings:
        return None
    if not settings:
        one = Scratch(epochs=1, class_weight=shop.class_weight)
        each = shop.work.passes(one, shop.work.n_train)
        epochs = int(np.clip(SCRATCH_SHARE * (chosen.budget or shop.work.budget) / each, 1, MOST_SCRATCH_EPOCHS))
        settings = replace(one, epochs=epochs).settings()
    with shop.progress.step("from scratch"):
        return shop.train(Scratch(**settings))[0]


def check(n_stages: int, wishes: Wishes) -> None:
    """PlanError for a wish that this backbone cannot fulfil; to be asked before a long pass."""
    names = [AUTO, *(name for name in registry.STRATEGIES.names() if name != "scratch")]
    if wishes.strategy not in (None, *names):
        raise PlanError(
            f"{wishes.strategy!r} is not a strategy: {listed(names)}.{did_you_mean(str(wishes.strategy), names)}"
        )
    if wishes.strategy == "full" and wishes.freeze:
        raise PlanError(f"'full' freezes nothing, but freeze={wishes.freeze}. Use --strategy partial.")
    if wishes.strategy in (None, AUTO) and wishes.freeze is not None and not 0 <= wishes.freeze <= n_stages:
        raise PlanError(
            f"freeze={wishes.freeze}, but this backbone has {n_stages} stages. Pass a value from 0 to {n_stages}."
        )
    if wishes.strategy == "probe":
        Probe(freeze=wishes.freeze).cut(n_stages)
    if wishes.strategy in ("partial", "lora") and wishes.freeze is not None:
        registry.STRATEGIES.get(wishes.strategy)(freeze=wishes.freeze).cut(n_stages)
    if wishes.plan is not None and wishes.plan.n_stages != n_stages:
        raise PlanError(
            f"The plan is for a backbone of {wishes.plan.n_stages} stages, but this one has {n_stages}. "
            "Use the plan's own backbone, or fit without --plan."
        )
    if isinstance(wishes.learning_rate, str) and wishes.learning_rate != "find":
        raise PlanError(f"learning_rate={wishes.learning_rate!r}. Give a number such as 1e-4, or 'find'.")
    seconds_of(wishes.budget)


def seconds_of(budget: str | float | None) -> float | None:
    """ "90", "90s", "2m" or "1h" as seconds; PlanError for anything else."""
    if budget is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(budget))
    if not found or float(found[1]) <= 0:
        raise PlanError(f"The budget {budget!r} is not a time. Give seconds, or '90s', '2m', '1h'.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _passes(shop: Workshop, budget: str | float | None) -> float:
    """A budget as frozen passes: the time of a pass over some examples tells how many fit in it."""
    seconds = seconds_of(budget)
    return shop.work.budget if seconds is None else max(0.0, seconds / _seconds_a_pass(shop))


def _seconds_a_pass(shop: Workshop) -> float:
    """Measured once for a backbone on this machine, and kept: a fit that goes on plans with the same figure."""
    import time

    file = places.trials() / f"pace-{shop.backbone.fingerprint[:16]}.json"
    try:
        pace = float(json.loads(file.read_text()))
    except (OSError, ValueError):
        rows = shop.problem.rows["train"]
        some = [shop.items[row] for row in rows[:: max(1, len(rows) // 64)][:64]]

        def look(inputs: dict[str, Any]) -> list[np.ndarray]:
            return [shop.backbone.pooled(inputs)[-1].numpy(force=True)]

        start = time.perf_counter()
        n = sum(len(rows) for rows, _ in freeze.run(shop.backbone, shop.modality, some, look))
        pace = (time.perf_counter() - start) / n
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(pace))
    return pace * (shop.work.n_train + shop.work.n_val)


def _ways(shop: Workshop, wishes: Wishes) -> list[Trained]:
    """The trained strategies that may be tried."""
    measured = wishes.strategy in (None, AUTO) and wishes.freeze is None
    if wishes.strategy == "probe" or (shop.problem.crosswise and measured):
        return []  # so few labels cannot tell trained networks apart
    n_stages, n_train = shop.backbone.n_stages, shop.work.n_train
    ways = planner.options(n_stages, n_train, shop.class_weight, _has_peft())
    if wishes.strategy not in (None, AUTO):
        own = [way for way in ways if registry.plugin_name(way) == wishes.strategy]
        ways = own or [registry.STRATEGIES.get(wishes.strategy)(**planner.common(n_train, shop.class_weight))]
    if wishes.freeze is not None:
        ways = _frozen_at(ways, wishes, n_stages)
    if isinstance(wishes.learning_rate, int | float):
        ways = [replace(way, learning_rate=float(wishes.learning_rate)) for way in ways]
    elif wishes.learning_rate == "find":
        ways = [replace(way, learning_rate=_found_rate(shop, way)) for way in ways]
    return ways


def _frozen_at(ways: Sequence[Trained], wishes: Wishes, n_stages: int) -> list[Trained]:
    """The ways with the cut that the user chose."""
    kept: list[Trained] = []
    for way in ways:
        if "freeze" in way.settings() and 0 < (wishes.freeze or 0) < n_stages:
            way = replace(way, freeze=wishes.freeze)  # type: ignore[call-arg]
        if way.cut(n_stages) == wishes.freeze and way not in kept:
            kept.append(way)
    return kept


def _found_rate(shop: Workshop, way: Trained) -> float:
    from headstart.engine.learning_rate import find_rate

    rate = find_rate(way, shop.lesson(way))
    shop.progress.say(f"  learning rate of {way.title}: {rate:.1e} found")
    return rate


def _has_peft() -> bool:
    from importlib.util import find_spec

    return find_spec("peft") is not None


def _again(shop: Workshop, plan: Plan) -> Chosen:
    """What a plan says, done again."""
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in plan.settings.items()}
    strategy = registry.STRATEGIES.get(plan.strategy)(**settings)
    if isinstance(strategy, Probe):
        solved = shop.solve(strategy)
    else:
        with shop.progress.step("try strategies"):
            solved, _ = shop.train(strategy)
    return Chosen(
        solved=solved,
        val_scores=shop.scores(solved, shop.problem.rows["val"]),
        depth=plan.depth,
        candidates=plan.candidates,
        budget=plan.budget_passes,
        reason=plan.reason,
    )


def title_of(strategy: Strategy, names: Sequence[str]) -> str:
    """A strategy and its cut, for people: "all above layer 3 trained"."""
    cut = strategy.cut(len(names))
    if isinstance(strategy, Probe):
        return "linear probe on " + " + ".join(names[stage] for stage in strategy.read(len(names)))
    views = ", on random views" if planner.on_views(strategy) else ""
    if cut == 0:
        return f"{strategy.title}{views}"
    what = "low-rank adapters" if registry.plugin_name(strategy) == "lora" else "trained"
    return f"{what} above {names[cut - 1]}{views}"


def _candidate(shop: Workshop, one: Tried, chosen: Tried) -> Candidate:
    names = [stage.name for stage in shop.backbone.stages]
    return Candidate(
        backbone=shop.backbone.provenance.name,
        strategy=registry.plugin_name(one.strategy),
        settings=one.strategy.settings(),
        title=title_of(one.strategy, names),
        cut=one.strategy.cut(len(names)),
        n_train=one.n_train,
        round=one.round,
        cost_passes=round(one.cost, 2),
        seconds=round(one.seconds, 2),
        score=None if np.isnan(one.score.value) else one.score,
        outcome=planner.outcome(one, chosen, shop.judge, shop.work.n_train),
    )


def _reason(shop: Workshop, chosen: Tried, final: Sequence[Tried]) -> str:
    """Why this one, in one sentence."""
    names = [stage.name for stage in shop.backbone.stages]
    title = title_of(chosen.strategy, names)
    if len(final) == 1:
        return f"{title}: the only way that was asked for or that the budget allowed"
    best = max(final, key=lambda one: shop.judge.gain(one.score.value))
    if best is chosen:
        return f"{title}: the best on validation of {len(final)} ways that learnt from all examples"
    return (
        f"{title}: on validation no worse than {title_of(best.strategy, names)} beyond one standard error, and cheaper"
    )


def some_of_each(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Sorted positions of about n examples, each class with its share and at least one; any n for other labels."""
    order = np.random.default_rng(seed).permutation(len(y))
    if y.dtype.kind != "i":
        return np.sort(order[:n])
    kept = []
    for label in np.unique(y):
        own = order[y[order] == label]
        kept.append(own[: max(1, round(n * len(own) / len(y)))])
    return np.sort(np.concatenate(kept))
