"""frozen maps → the head alone → the last stages too → everything → choose: from a problem of boxes to a detector.

The head is trained first, on cached maps; what trains stages of the backbone starts from it (LP-FT, Kumar et al. 2022,
arXiv:2202.10054). So few epochs are enough to tell whether unfreezing pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from headstart import adapt, registry
from headstart.adapt import Chosen
from headstart.box_workshop import BoxWorkshop, SolvedBoxes
from headstart.errors import PlanError, listed
from headstart.evidence import planner
from headstart.evidence.plan import Plan
from headstart.evidence.planner import Tried
from headstart.strategies.base import Trained
from headstart.strategies.frozen import Frozen
from headstart.strategies.full import Full
from headstart.strategies.partial import Partial
from headstart.strategies.scratch import Scratch
from headstart.wishes import AUTO, Wishes

WAYS = ("frozen", "partial", "full")
PASSES, PICTURES = 55.0, 15_000  # the default budget: frozen passes, or pictures run if that is more
FIRST_SHARE = 0.5  # of the budget, that training the head alone may take where more is to follow
SCRATCH_SHARE = 0.6  # of what the chosen way cost; by the clock it is somewhat more than that took (docs/log.md)
FEWEST_EPOCHS, MOST_EPOCHS = 2, 40
ENOUGH_EPOCHS = 20  # for a head to have learnt something that other ways can start from
N_VIEWS = 4  # cached views of each picture below a cut, the plain one among them
ON_PYRAMID: dict[str, Any] = {"learning_rate": 4e-4, "head_rate": 10.0, "weight_decay": 0.05, "batch_size": 16}
AFTERWARDS: dict[str, Any] = {**ON_PYRAMID, "head_rate": 2.5}  # of a head that is trained already
READY_MADE: dict[str, Any] = {"learning_rate": 1e-4, "head_rate": 2.0, "weight_decay": 1e-4, "batch_size": 8}
FROM_SCRATCH: dict[str, Any] = {"learning_rate": 1e-3, "head_rate": 2.0, "weight_decay": 0.05, "batch_size": 16}


def check(wishes: Wishes, n_stages: int, n_backbones: int) -> None:
    """PlanError for a wish that cannot be fulfilled where boxes are learnt."""
    if n_backbones > 1:
        raise PlanError("Boxes are learnt on one backbone: name one with --backbone, and compare the runs.")
    if wishes.strategy not in (None, AUTO, *WAYS):
        raise PlanError(
            f"{wishes.strategy!r} is no way to learn boxes, whose head is trained on maps: {listed(WAYS)}, or none to "
            "let validation choose."
        )
    if wishes.class_weight == "balanced":
        raise PlanError("Class weights are for labels; boxes are learnt without. Leave --class-weight out.")
    if wishes.learning_rate == "find":
        raise PlanError("A learning rate for boxes is not searched for. Give a number, or leave --learning-rate out.")
    wishes.check(n_stages)


def choose(shop: BoxWorkshop, wishes: Wishes) -> Chosen:
    """The best way on validation: the head alone first, and then what else the budget allows."""
    if wishes.plan is not None:
        return _again(shop, wishes.plan)
    asked = ways_of(shop, wishes)
    budget = adapt.passes(shop, wishes.budget) if wishes.budget is not None else default_budget(shop)
    with shop.progress.step("try strategies"):
        tried = search(shop, asked, budget)
    final = [one for one in tried if any(type(one.strategy) is type(way) for way in asked)] or tried
    chosen = planner.choose(final, shop.judge)
    return Chosen(
        solved=chosen.solved,
        val_scores=chosen.scores,
        candidates=tuple(adapt.candidate(shop, one, chosen) for one in tried),
        budget=budget,
        reason=adapt.reason_for(shop, chosen, final),
    )


def default_budget(shop: BoxWorkshop) -> float:
    """In passes over train and validation."""
    return max(PASSES, PICTURES / (shop.work.n_train + shop.work.n_val))


def ways_of(shop: BoxWorkshop, wishes: Wishes) -> list[Trained]:
    """What may ship: the head alone trained, the last stages too, everything; or what the user asked for."""
    n_stages = shop.backbone.n_stages
    ways = [at_cut(shop, freeze) for freeze in (n_stages, last_stages(shop), 0)]
    if wishes.strategy not in (None, AUTO):
        ways = [way for way in ways if registry.plugin_name(way) == wishes.strategy]
    if wishes.freeze is not None:
        ways = [at_cut(shop, wishes.freeze)]
    if wishes.freeze is not None and wishes.strategy not in (None, AUTO, registry.plugin_name(ways[0])):
        raise PlanError(
            f"{wishes.strategy} cannot freeze {wishes.freeze} of {n_stages} stages: 'full' freezes none, 'frozen' all, "
            f"'partial' 1 to {n_stages - 1}. Leave --strategy out to freeze as many as you say."
        )
    if isinstance(wishes.learning_rate, int | float):
        ways = [replace(way, learning_rate=float(wishes.learning_rate)) for way in ways]
    return ways


def last_stages(shop: BoxWorkshop) -> int:
    """Where the last stages begin: above the finest map of a pyramid; the decoder of a ready-made detector."""
    if shop.levels is not None:
        return shop.levels.stages[0] + 1
    names = [stage.name for stage in shop.backbone.stages]
    return next((i for i, name in enumerate(names) if name.startswith("decoder")), (len(names) + 1) // 2)


def at_cut(shop: BoxWorkshop, freeze: int) -> Trained:
    """The way that freezes so many stages."""
    ready_made = shop.levels is None
    if freeze == shop.backbone.n_stages:
        return Frozen(views=N_VIEWS, **(READY_MADE if ready_made else ON_PYRAMID))
    settings = READY_MADE if ready_made else AFTERWARDS
    return Partial(freeze=freeze, views=N_VIEWS, **settings) if freeze else Full(augment=True, **settings)


def search(shop: BoxWorkshop, asked: Sequence[Trained], budget: float) -> list[Tried]:
    """The head alone, and each way that was asked for, for as many epochs as its share of the budget allows."""
    more = [way for way in asked if not isinstance(way, Frozen)]
    alone = next((way for way in asked if isinstance(way, Frozen)), at_cut(shop, shop.backbone.n_stages))
    first = within(shop, alone, budget * (FIRST_SHARE if more else 1))
    if first is None or first.epochs < ENOUGH_EPOCHS:  # a head that has not learnt is nothing to start from
        first = within(shop, alone, budget, ENOUGH_EPOCHS) or replace(alone, epochs=FEWEST_EPOCHS)
    tried = [run(shop, first)]
    for number, way in enumerate(more):
        left = budget - sum(one.cost for one in tried)
        fitted = within(shop, way, left / (len(more) - number))
        if fitted is None and len(asked) == 1:  # it was named: it runs whatever it costs
            fitted = replace(way, epochs=FEWEST_EPOCHS)
        if fitted is not None:
            tried.append(run(shop, fitted))
    return tried


def within(shop: BoxWorkshop, way: Trained, budget: float, most: int | None = None) -> Trained | None:
    """The way for as many epochs as the budget allows, up to `most`; None where it allows too few."""
    for epochs in range(most or MOST_EPOCHS, FEWEST_EPOCHS - 1, -1):
        fitted = replace(way, epochs=epochs)
        if cost(shop, fitted) <= budget:
            return fitted
    return None


def cost(shop: BoxWorkshop, way: Trained) -> float:
    """In passes."""
    return shop.work.passes(way, shop.work.n_train, shop.work.caches(way, shop.work.n_train))


def run(shop: BoxWorkshop, way: Trained) -> Tried:
    """Train in full, and say what validation says."""
    names = [stage.name for stage in shop.backbone.stages]
    said = f"{adapt.title_of(way, names)}, {way.epochs} epochs"
    shop.progress.say(f"  {said}: about {cost(shop, way):.0f} passes over the pictures")
    tried = replace(shop.train(way), cost=cost(shop, way), round=1)
    shop.progress.say(f"  {said}: {shop.metric.title} {tried.score.value:.3f} on validation")
    return tried


def _again(shop: BoxWorkshop, plan: Plan) -> Chosen:
    """What a plan says, done again."""
    shop.upside_down = plan.upside_down
    with shop.progress.step("try strategies"):
        if plan.first:
            shop.train(Frozen(**plan.first))
        tried = shop.train(registry.STRATEGIES.get(plan.strategy)(**plan.settings))
    return Chosen(
        solved=tried.solved,
        val_scores=tried.scores,
        candidates=plan.candidates,
        budget=plan.budget_passes,
        reason=plan.reason,
    )


def from_scratch(shop: BoxWorkshop, chosen: Chosen, wishes: Wishes) -> SolvedBoxes | None:
    """The same network and head from random weights, in the time of the chosen way; None where it is not wanted."""
    if not wishes.scratch or (wishes.plan is not None and not wishes.plan.scratch):
        return None
    if wishes.plan is not None:
        one: Trained = Scratch(**wishes.plan.scratch)
    else:
        spent = sum(cost(shop, way) for way in (chosen.solved.strategy, chosen.solved.first) if way is not None)
        plain = Scratch(augment=True, **FROM_SCRATCH)
        one = within(shop, plain, SCRATCH_SHARE * spent) or replace(plain, epochs=FEWEST_EPOCHS)
    with shop.progress.step("from scratch"):
        return shop.train(one).solved
