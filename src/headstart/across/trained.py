"""Ways across that train stages with the target beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from headstart import adapt, registry
from headstart.across.base import Crossing, Tried
from headstart.evidence import planner
from headstart.evidence.label_free import Outlook
from headstart.strategies.base import Trained
from headstart.workshop import Workshop


def affordable(crossing: Crossing) -> Iterator[Tried]:
    """Trainings with the target beside, the most promising first, while the budget that was given lasts.

    Without a budget there are none: solved ways take seconds, each of these takes minutes.
    """
    shop = crossing.shop
    if crossing.wishes.budget is None:
        return
    left = adapt.passes(shop, crossing.wishes.budget)
    suited = [way for way in trainings(shop) if way.suits(shop.backbone.network)]
    costs = [shop.work.passes(way, shop.work.n_train, shop.work.caches(way, shop.work.n_train)) for way in suited]
    if suited and min(costs) > left:
        shop.progress.say(
            f"  the budget pays for {left:.1f} frozen passes, but the cheapest way that trains takes {min(costs):.1f}: "
            "none is tried; give more with --budget"
        )
    for way, cost in zip(suited, costs, strict=True):
        if cost <= left:
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
        target_probabilities=shop.problem.linear.scores(logits, tried.solved.temperature),
    )
    names = [stage.name for stage in shop.backbone.stages]
    return Tried(
        title=adapt.title_of(way, names),
        name=registry.plugin_name(way),
        settings=way.settings(),
        solved=tried.solved,
        outlook=outlook,
        val_scores=tried.scores,
        cost=shop.work.passes(way, shop.work.n_train, shop.work.caches(way, shop.work.n_train)),
        seconds=tried.seconds,
    )
