"""Ways across two domains, chosen without labels: frozen features aligned, or training with the target beside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from headstart import adapt, registry
from headstart.alignments.base import Alignment
from headstart.alignments.solve import Sides, solve
from headstart.domains import Domains
from headstart.engine import freeze
from headstart.errors import DataError, PlanError, did_you_mean, listed
from headstart.evidence import depth, label_free, planner
from headstart.evidence.adaptation import SOURCE_ONLY
from headstart.evidence.calibration import fit_temperature
from headstart.evidence.label_free import Choice, Outlook
from headstart.evidence.planner import Solved
from headstart.strategies.base import Adapted, Strategy, Trained
from headstart.strategies.probe import Probe, column_scales
from headstart.wishes import AUTO, Wishes
from headstart.workshop import Workshop

MOST_JUDGED = 1000  # examples of train and of the target that the label-free scorers look at


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way across that was run."""

    title: str
    strategy: Strategy | Alignment
    settings: dict[str, Any]
    solved: Solved
    outlook: Outlook  # on the examples that are judged
    val_scores: np.ndarray  # (n_val, K) calibrated
    cost: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """The workshop of both domains, and what is shared by all ways across."""

    shop: Workshop
    domains: Domains
    wishes: Wishes
    seed: int

    @property
    def named(self) -> str | None:
        """The way that the user or the plan named; None or AUTO where it is to be found."""
        return self.wishes.plan.strategy if self.wishes.plan is not None else self.wishes.strategy

    @property
    def judged(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions in train and in the target that every way is judged on: the same, so that gains are paired."""
        sizes = (len(self.shop.problem.rows["train"]), len(self.domains.rows))
        rng = np.random.default_rng(self.seed)
        first, second = (np.sort(rng.permutation(size)[:MOST_JUDGED]) for size in sizes)
        return first, second

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that solved heads read: the user's, the plan's, or those that the source's validation prefers."""
        plan, freeze_at = self.wishes.plan, self.wishes.freeze
        if plan is not None and "stages" in plan.settings:
            return tuple(plan.settings["stages"])
        if freeze_at is not None and self.shop.probed and 0 < freeze_at <= self.shop.backbone.n_stages:
            return (freeze_at - 1,)
        best = depth.best_probe(self.shop.probed, self.shop.judge, self.shop.problem.task)
        return best.strategy.read(self.shop.backbone.n_stages)


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """Every way that was tried, and the one that was chosen without a target label."""

    crossing: Crossing
    tried: list[Tried]  # source only first
    choice: Choice  # of the label-free scorers
    chosen: Tried  # what they chose, or what was named

    @property
    def shop(self) -> Workshop:
        """The workshop of both domains."""
        return self.crossing.shop

    @property
    def domains(self) -> Domains:
        """The source and the target."""
        return self.crossing.domains

    @property
    def source_only(self) -> Tried:
        """The way that changes nothing."""
        return self.tried[0]

    @property
    def adapts(self) -> bool:
        """Whether another way than source only was chosen."""
        return self.chosen is not self.source_only

    @property
    def asked_for(self) -> bool:
        """Whether the user named the way."""
        return self.crossing.wishes.plan is None and self.crossing.named not in (None, AUTO)

    @property
    def consensus(self) -> np.ndarray | None:
        """Mean probabilities (t, K) of all ways on the target examples that are judged; None where two cannot agree."""
        if len(self.tried) < label_free.FEWEST:
            return None
        return np.mean([one.outlook.target_probabilities for one in self.tried], axis=0)

    @property
    def trusted(self) -> bool:
        """Whether more than one scorer finds the chosen way better than source only."""
        return self.adapts and sum(votes.get(self.chosen.title, False) for votes in self.choice.votes.values()) > 1


def cross(crossing: Crossing) -> Crossed:
    """Try the ways, and choose."""
    tried = list(ways_across(crossing))
    with crossing.shop.progress.step("choose without labels"):
        outlooks = {one.title: one.outlook for one in tried}
        choice = label_free.choose(outlooks, SOURCE_ONLY, crossing.seed)
    return Crossed(crossing=crossing, tried=tried, choice=choice, chosen=_chosen(crossing, tried, choice))


def check(wishes: Wishes, n_stages: int) -> None:
    """PlanError for a wish that cannot be fulfilled; alignments are strategies here."""
    known = [AUTO, *alignments(), *(name for name in registry.STRATEGIES.names() if name != "scratch")]
    if wishes.strategy not in (None, *known):
        raise PlanError(
            f"{wishes.strategy!r} is not a way to adapt to a target: {listed(known, 30)}."
            f"{did_you_mean(str(wishes.strategy), known)}"
        )
    plain = replace(wishes, strategy=None) if wishes.strategy in alignments() else wishes
    plain.check(n_stages, has_target=True)


def alignments() -> list[str]:
    """Names of the alignments of frozen features; the one that changes nothing is source only."""
    return [name for name in registry.ALIGNMENTS.names() if name != "identity"]


def ways_across(crossing: Crossing) -> Iterator[Tried]:
    """Every way that is tried, source only first: solved ones, and what the budget allows of those that train."""
    shop, wishes, named = crossing.shop, crossing.wishes, crossing.named
    yield source_only(crossing)
    for name in alignments():
        if named in (None, AUTO, name):
            settings = dict(wishes.plan.settings) if wishes.plan is not None else {}
            settings.pop("stages", None)
            try:
                yield aligned(crossing, name, settings)
            except DataError as error:  # domains may be so far apart that a way comes to nothing
                if named == name:
                    raise
                shop.progress.say(f"  {registry.ALIGNMENTS.get(name).title} is left out: {error}")
    if named in (None, AUTO):
        yield from affordable(crossing)
    elif named not in ("probe", *alignments()):
        for way in named_trainings(crossing, str(named)):
            with shop.progress.step("try strategies"):
                yield trained(crossing, way)


def source_only(crossing: Crossing) -> Tried:
    """The probe that the source alone teaches, as if there were no target."""
    shop, stages, start = crossing.shop, crossing.stages, time.perf_counter()
    own = shop.solve(Probe(stages=stages))
    rows, val = shop.problem.rows["train"], shop.problem.rows["val"]
    train = freeze.side_by_side(shop.frozen, stages, rows)
    mean, scale = column_scales(train)
    judged_train, judged_target = crossing.judged
    target = crossing.domains.rows[judged_target]
    val_scores = shop.scores(own, val)

    def read(rows: np.ndarray) -> np.ndarray:
        return ((freeze.side_by_side(shop.frozen, stages, rows) - mean) / scale).astype(np.float32)

    outlook = Outlook(
        train=read(rows[judged_train]),
        y_train=shop.problem.y[rows[judged_train]],
        val=read(val),
        y_val=shop.problem.y[val],
        val_probabilities=val_scores,
        target=read(target),
        target_probabilities=shop.scores(own, target),
    )
    return Tried(
        title=SOURCE_ONLY,
        strategy=own.strategy,
        settings=own.strategy.settings(),
        solved=own,
        outlook=outlook,
        val_scores=val_scores,
        cost=1.0,
        seconds=time.perf_counter() - start,
    )


def aligned(crossing: Crossing, name: str, settings: dict[str, Any]) -> Tried:
    """An alignment of frozen features with the head that is solved where source and target meet."""
    shop, stages, start = crossing.shop, crossing.stages, time.perf_counter()
    alignment = registry.ALIGNMENTS.get(name)(**settings)

    def read(rows: np.ndarray) -> np.ndarray:
        return freeze.side_by_side(shop.frozen, stages, rows)

    sides = Sides(
        train=shop.problem.part("train", read), val=shop.problem.part("val", read), target=read(crossing.domains.rows)
    )
    with shop.progress.step("align"):
        found = solve(alignment, shop.problem.task, sides, crossing.seed, shop.class_weight)
    own = Solved(
        strategy=Probe(stages=stages, class_weight=shop.class_weight),
        cut=max(stages) + 1,
        adapted=Adapted(found.head, found.strength, found.val_loss),
        temperature=fit_temperature(shop.problem.task, found.val_logits, sides.val.y),
        stages=stages,
    )
    val_scores = shop.problem.task.scores(found.val_logits, own.temperature)
    judged_train, judged_target = crossing.judged
    outlook = replace(
        found.outlook,
        train=found.outlook.train[judged_train],
        y_train=found.outlook.y_train[judged_train],
        val_probabilities=val_scores,
        target=found.outlook.target[judged_target],
        target_probabilities=shop.scores(own, crossing.domains.rows[judged_target]),
    )
    return Tried(
        title=f"{alignment.title} on {' + '.join(shop.backbone.stages[stage].name for stage in stages)}",
        strategy=alignment,
        settings={**alignment.settings(), "stages": list(stages)},
        solved=own,
        outlook=outlook,
        val_scores=val_scores,
        cost=1.0,
        seconds=time.perf_counter() - start,
    )


def affordable(crossing: Crossing) -> Iterator[Tried]:
    """Trainings with the target beside, the most promising first, while the budget that was given lasts.

    Without a budget there are none: solved ways take seconds, each of these takes minutes.
    """
    shop = crossing.shop
    if crossing.wishes.budget is None:
        return
    left = adapt.passes(shop, crossing.wishes.budget)
    for way in trainings(shop):
        cost = shop.work.passes(way, shop.work.n_train, shop.work.caches(way, shop.work.n_train))
        if way.suits(shop.backbone.network) and cost <= left:
            left -= cost
            with shop.progress.step("try strategies"):
                yield trained(crossing, way)


def trainings(shop: Workshop) -> list[Trained]:
    """The strategies that learn from a target as well, the most promising first."""
    pictures = shop.backbone.modality == "image"
    return planner.aligning(shop.backbone.n_stages, shop.work.n_train, shop.class_weight, pictures)


def named_trainings(crossing: Crossing, name: str) -> list[Trained]:
    """The training that the user or the plan named, with their settings."""
    shop, wishes = crossing.shop, crossing.wishes
    if wishes.plan is not None:
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in wishes.plan.settings.items()}
        return [registry.STRATEGIES.get(name)(**settings)]
    own = [way for way in trainings(shop) if registry.plugin_name(way) == name]
    if not own:
        return adapt.ways_of(shop, wishes)[:1]
    if wishes.freeze is not None:
        own = [replace(cast(Any, way), freeze=wishes.freeze) for way in own]
    return own


def trained(crossing: Crossing, way: Trained) -> Tried:
    """A strategy that trains stages, run; and what the adapted network says of the examples that are judged."""
    shop, target = crossing.shop, crossing.domains.rows
    if not way.suits(shop.backbone.network):
        raise PlanError(
            f"{way.title} does not suit {shop.backbone.provenance.name}: it has no batch norm to re-estimate. "
            "Leave --strategy out, or choose another."
        )
    tried = shop.train(way)
    rows, val = shop.problem.rows["train"], shop.problem.rows["val"]
    judged_train, judged_target = crossing.judged
    seen = target[judged_target]
    features = shop.embedded(tried.solved, seen)
    logits = tried.solved.adapted.head.logits(features)
    outlook = Outlook(
        train=shop.embedded(tried.solved, rows[judged_train], source=True),
        y_train=shop.problem.y[rows[judged_train]],
        val=shop.embedded(tried.solved, val, source=True),
        y_val=shop.problem.y[val],
        val_probabilities=tried.scores,
        target=features,
        target_probabilities=shop.problem.task.scores(logits, tried.solved.temperature),
    )
    names = [stage.name for stage in shop.backbone.stages]
    return Tried(
        title=adapt.title_of(way, names)
        if not way.needs_target
        else f"{way.title} above {names[way.cut(len(names)) - 1]}",
        strategy=way,
        settings=way.settings(),
        solved=tried.solved,
        outlook=outlook,
        val_scores=tried.scores,
        cost=shop.work.passes(way, shop.work.n_train, shop.work.caches(way, shop.work.n_train)),
        seconds=tried.seconds,
    )


def _chosen(crossing: Crossing, tried: list[Tried], choice: Choice) -> Tried:
    """The way that ships: the one that was named, else what the label-free scores agree on, else source only."""
    if crossing.named in (None, AUTO):
        return next(one for one in tried if one.title == choice.name)
    return tried[0] if crossing.named == "probe" else tried[-1]
