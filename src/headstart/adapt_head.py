"""frozen outputs → the head alone → the last stages too → everything → choose: for heads that cannot be solved.

The head is trained first, on what is cached of the frozen stages; what trains stages of the backbone starts from it
(LP-FT, Kumar et al. 2022, arXiv:2202.10054). So few epochs are enough to tell whether unfreezing pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headstart import adapt, registry
from headstart.adapt import Chosen
from headstart.errors import PlanError, listed
from headstart.evidence import planner
from headstart.evidence.plan import Candidate, Plan
from headstart.evidence.planner import Tried
from headstart.head_workshop import HeadWorkshop, Recipe, SolvedHead
from headstart.strategies.base import Trained
from headstart.strategies.frozen import Frozen
from headstart.strategies.scratch import Scratch
from headstart.wishes import AUTO, Wishes

ZERO_SHOT = "zero_shot"


def check(wishes: Wishes, recipe: Recipe, n_stages: int, n_backbones: int) -> None:
    """PlanError for a wish that cannot be fulfilled where such a head is learnt."""
    what = recipe.what
    if n_backbones > 1:
        raise PlanError(
            f"{what.capitalize()} are learnt on one backbone: name one with --backbone, and compare the runs."
        )
    ways = (*recipe.ways, *recipe.on_demand)
    if wishes.strategy not in (None, AUTO, *ways):
        raise PlanError(
            f"{wishes.strategy!r} is no way to learn {what}, whose head is trained and not solved: {listed(ways)}, or "
            "none to let validation choose."
        )
    if wishes.class_weight == "balanced":
        raise PlanError(f"Class weights are for labels; {what} are learnt without. Leave --class-weight out.")
    if wishes.learning_rate == "find":
        raise PlanError(f"A learning rate for {what} is not searched for. Give a number, or leave it out.")
    wishes.check(n_stages)


def choose(shop: HeadWorkshop, wishes: Wishes) -> Chosen:
    """The best way on validation: the head alone first, and then what else the budget allows."""
    if wishes.plan is not None:
        return _again(shop, wishes.plan)
    asked_for = None if wishes.budget is None else adapt.passes(shop, wishes.budget)
    depth = () if wishes.strategy == ZERO_SHOT else shop.profile(asked_for)
    asked = ways_of(shop, wishes)
    budget = default_budget(shop) if asked_for is None else asked_for
    with shop.progress.step("try strategies"):
        as_it_is = untrained(shop, wishes)
        tried = [*as_it_is, *(search(shop, asked, budget) if asked else [])]
    final = [*as_it_is, *(one for one in tried if any(type(one.strategy) is type(way) for way in asked))] or tried
    chosen, may_ship = planner.choose(final, shop.judge), {id(one) for one in final}
    return Chosen(
        solved=chosen.solved,
        val_scores=chosen.scores,
        depth=depth,
        candidates=tuple(_told(adapt.candidate(shop, one, chosen), id(one) in may_ship) for one in tried),
        budget=budget,
        reason=adapt.reason_for(shop, chosen, final),
    )


def untrained(shop: HeadWorkshop, wishes: Wishes) -> list[Tried]:
    """What the backbone does as it was pretrained, where it does this task and nothing else was asked for."""
    if wishes.strategy not in (None, AUTO, ZERO_SHOT) or wishes.freeze is not None:
        return []
    found = shop.untrained()
    if wishes.strategy == ZERO_SHOT and not found:
        raise PlanError(
            f"{shop.backbone.provenance.name} was not pretrained to give such {shop.recipe.what}, so that nothing can "
            "be done with it untrained. Leave --strategy out, or name another backbone."
        )
    for one in found:
        shop.progress.say(f"  as it was pretrained: {shop.metric.title} {one.score.value:.3f} on validation")
    return found


def _told(one: Candidate, could_ship: bool) -> Candidate:
    """A candidate; of one that was better and is not what was asked for, that is why it does not ship."""
    if could_ship or not one.outcome.startswith("better"):
        return one
    return replace(one, outcome="better, but another way was asked for")


def default_budget(shop: HeadWorkshop) -> float:
    """In passes over train and validation."""
    return max(shop.recipe.passes, shop.recipe.items / (shop.work.n_train + shop.work.n_val))


def ways_of(shop: HeadWorkshop, wishes: Wishes) -> list[Trained]:
    """What may ship: the head alone trained, the last stages too, everything; or what the user asked for."""
    n_stages = shop.backbone.n_stages
    ways = [shop.at_cut(freeze) for freeze in shop.cuts]
    if wishes.strategy not in (None, AUTO):
        ways = [way for way in (*ways, *shop.on_demand) if registry.plugin_name(way) == wishes.strategy]
    if wishes.freeze is not None:
        ways = [shop.at_cut(wishes.freeze)]
    if wishes.freeze is not None and wishes.strategy not in (None, AUTO, registry.plugin_name(ways[0])):
        raise PlanError(
            f"{wishes.strategy} cannot freeze {wishes.freeze} of {n_stages} stages: 'full' freezes none, 'frozen' all, "
            f"'partial' 1 to {n_stages - 1}. Leave --strategy out to freeze as many as you say."
        )
    if isinstance(wishes.learning_rate, int | float):
        ways = [replace(way, learning_rate=float(wishes.learning_rate)) for way in ways]
    return ways


def search(shop: HeadWorkshop, asked: Sequence[Trained], budget: float) -> list[Tried]:
    """The head alone, and each way that was asked for, for as many epochs as its share of the budget allows."""
    recipe = shop.recipe
    more = [way for way in asked if not isinstance(way, Frozen)]
    alone = next((way for way in asked if isinstance(way, Frozen)), shop.at_cut(shop.backbone.n_stages))
    first = within(shop, alone, budget * (recipe.first_share if more else 1))
    if first is None or first.epochs < recipe.enough:  # a head that has not learnt is nothing to start from
        first = within(shop, alone, budget, recipe.enough) or replace(alone, epochs=shop.fewest_epochs(alone))
    tried = [run(shop, first)]
    for number, way in enumerate(more):
        left = budget - sum(one.cost for one in tried)
        fitted = within(shop, way, left / (len(more) - number))
        if fitted is None and len(asked) == 1:  # it was named: it runs whatever it costs
            fitted = replace(way, epochs=shop.fewest_epochs(way))
        if fitted is not None:
            tried.append(run(shop, fitted))
    return tried


def within(shop: HeadWorkshop, way: Trained, budget: float, most: int | None = None) -> Trained | None:
    """The way for as many epochs as the budget allows, up to `most`; None where it allows too few."""
    for epochs in range(most or shop.most_epochs(way), shop.fewest_epochs(way) - 1, -1):
        fitted = replace(way, epochs=epochs)
        if cost(shop, fitted) <= budget:
            return fitted
    return None


def cost(shop: HeadWorkshop, way: Trained) -> float:
    """In passes."""
    work = shop.work_of(way)
    return work.passes(way, work.n_train, work.caches(way, work.n_train))


def run(shop: HeadWorkshop, way: Trained) -> Tried:
    """Train in full, and say what validation says."""
    names = [stage.name for stage in shop.backbone.stages]
    said = f"{adapt.title_of(way, names)}, {way.epochs} epochs"
    shop.progress.say(f"  {said}: about {cost(shop, way):.0f} passes over the {shop.modality.noun[1]}")
    tried = replace(shop.train(way), cost=cost(shop, way), round=1)
    shop.progress.say(f"  {said}: {shop.metric.title} {tried.score.value:.3f} on validation")
    return tried


def _again(shop: HeadWorkshop, plan: Plan) -> Chosen:
    """What a plan says, done again."""
    with shop.progress.step("try strategies"):
        if plan.first:
            shop.train(Frozen(**plan.first))
        tried = shop.train(registry.STRATEGIES.get(plan.strategy)(**plan.settings))
    return as_planned(tried, plan)


def as_planned(tried: Tried, plan: Plan) -> Chosen:
    """What was done again, with what the plan knows of how it was chosen."""
    return Chosen(
        solved=tried.solved,
        val_scores=tried.scores,
        depth=plan.depth,
        candidates=plan.candidates,
        budget=plan.budget_passes,
        reason=plan.reason,
    )


def plan_of(shop: HeadWorkshop, chosen: Chosen, scratch: SolvedHead | None, classical: str) -> Plan:
    """What was decided, and why; `classical` is what stands beside the network."""
    network = shop.backbone
    solved: SolvedHead = chosen.solved
    return Plan(
        backbone=network.provenance.name,
        backbone_sha256=network.provenance.sha256,
        strategy=registry.plugin_name(solved.strategy),
        cut=solved.cut,
        n_stages=network.n_stages,
        stage_names=tuple(stage.name for stage in network.stages),
        strength=None,
        temperature=1.0,
        val_loss=None,
        classical=classical,
        seed=shop.seed,
        reason=chosen.reason,
        settings=solved.strategy.settings(),
        metric=shop.metric.name,
        metric_title=shop.metric.title,
        budget_passes=round(chosen.budget, 2),
        depth=chosen.depth,
        candidates=chosen.candidates,
        scratch=scratch.strategy.settings() if scratch is not None else {},
        way=shop.runner.way,
        first=solved.first.settings() if solved.first is not None else {},
        reads=shop.reads,
        crosswise=False,
    )


def from_scratch(shop: HeadWorkshop, chosen: Chosen, wishes: Wishes) -> SolvedHead | None:
    """The same network and head from random weights, in the time of the chosen way; None where it is not wanted."""
    if not wishes.scratch or (wishes.plan is not None and not wishes.plan.scratch):
        return None
    if wishes.plan is not None:
        one: Trained = Scratch(**wishes.plan.scratch)
    else:
        spent = sum(
            cost(shop, way) for way in (chosen.solved.strategy, chosen.solved.first) if isinstance(way, Trained)
        )
        plain = shop.with_random_weights()
        one = within(shop, plain, shop.recipe.scratch_share * spent) or replace(plain, epochs=shop.fewest_epochs(plain))
    with shop.progress.step("from scratch"):
        return shop.train(one).solved
