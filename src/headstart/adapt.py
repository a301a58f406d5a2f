"""freeze → profile the depth → try strategies → choose: from a posed problem and a backbone to an adapted model."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import places, registry
from headstart.backbones.base import Backbone
from headstart.engine import freeze
from headstart.errors import PlanError
from headstart.evidence import depth, planner
from headstart.evidence.depth import Probed
from headstart.evidence.plan import Candidate, DepthPoint, Plan
from headstart.evidence.planner import Search, Solved, Tried
from headstart.strategies.base import Strategy, Trained
from headstart.strategies.probe import Probe
from headstart.strategies.scratch import Scratch
from headstart.wishes import AUTO, Wishes, seconds_of
from headstart.workshop import Workshop

SCRATCH_SHARE = 0.6  # of the search's budget, that the comparison from scratch may cost
MOST_SCRATCH_EPOCHS = 12


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What the search found."""

    solved: Any  # a Solved, or a trained detector
    val_scores: np.ndarray  # (n_val, …) calibrated
    depth: tuple[DepthPoint, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    budget: float = 0.0
    reason: str = ""


def choose(shop: Workshop, wishes: Wishes) -> Chosen:
    """The best way to adapt this backbone, on validation, within the budget and the user's wishes."""
    wishes.check(shop.backbone.n_stages, has_target=shop.problem.target is not None)
    if wishes.plan is not None:
        return _again(shop, wishes.plan)
    points = tuple(one.point for one in shop.probed)
    budget = passes(shop, wishes.budget)
    tried = [*_best_probe(shop, wishes), *_search(shop, wishes, budget)]
    final = [one for one in tried if one.n_train == shop.work.n_train]
    if not final:
        raise PlanError("The budget is too small to train anything. Give more with --budget, or use --strategy probe.")
    chosen = planner.choose(final, shop.judge)
    return Chosen(
        solved=chosen.solved,
        val_scores=chosen.scores,
        depth=points,
        candidates=tuple(candidate(shop, one, chosen) for one in tried),
        budget=budget,
        reason=reason_for(shop, chosen, final),
    )


def _best_probe(shop: Workshop, wishes: Wishes) -> list[Tried]:
    """The best probe of the depth profile, or the one at the depth that was asked for; none where none is wanted."""
    if wishes.strategy not in (None, AUTO, "probe"):
        return []
    if wishes.freeze is not None:
        return [shop.tried_probe(one) for one in shop.probed if one.point.stages == (wishes.freeze - 1,)]
    best = depth.best_probe(shop.probed, shop.judge, shop.problem.linear, shop.problem.crosswise)
    return [shop.tried_probe(_taught_more(shop, best, wishes))]


def _taught_more(shop: Workshop, best: Probed, wishes: Wishes) -> Probed:
    """The best probe, taught by other forms of each example too where that is better on validation.

    It costs as many passes as there are forms, and nothing in prediction.
    """
    n = shop.modality.n_variants
    if not n or wishes.strategy == "probe" or shop.backbone.dear or n + 1 > passes(shop, wishes.budget):
        return best
    more = shop.with_variants(best)
    values = [shop.judge.score(shop.problem.linear.scores(one.val_logits)).value for one in (best, more)]
    better = shop.judge.gain(values[1]) > shop.judge.gain(values[0])
    shop.progress.say(
        f"  taught by {n} other forms of each of the {shop.modality.noun[1]} too: {shop.metric.title} {values[1]:.3f} "
        f"on validation, {values[0]:.3f} without{'' if better else ': they are left out'}"
    )
    return more if better else best


def _search(shop: Workshop, wishes: Wishes, budget: float) -> list[Tried]:
    """Ways to train, tried within the budget; one that the user named has no limit unless they gave it one."""
    ways = ways_of(shop, wishes)
    if not ways:
        return []
    limited = wishes.strategy in (None, AUTO) or wishes.budget is not None
    search = Search(
        work=shop.work,
        judge=shop.judge,
        trial=shop.train,
        budget=budget if limited else float("inf"),
        say=shop.progress.say,
    )
    with shop.progress.step("try strategies"):
        return search.run(ways, shop.modality.augments)


def from_scratch(shop: Workshop, chosen: Chosen, wishes: Wishes) -> Solved | None:
    """The same network trained from random weights, for a share of the budget; None where it is not wanted."""
    if not wishes.scratch or (shop.backbone.dear and wishes.plan is None and not wishes.overruled):
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
        return shop.train(Scratch(**settings)).solved


def passes(shop: Workshop, budget: str | float | None) -> float:
    """A budget as frozen passes: the time of a pass over some examples tells how many fit in it."""
    seconds = seconds_of(budget)
    return shop.work.budget if seconds is None else max(0.0, seconds / _seconds_a_pass(shop))


def _seconds_a_pass(shop: Workshop) -> float:
    """Measured once for a backbone on this machine, and kept: a fit that goes on plans with the same figure."""
    file = places.trials() / f"pace-{shop.backbone.fingerprint[:16]}.json"
    try:
        pace = float(json.loads(file.read_text()))
    except (OSError, ValueError):
        rows = shop.problem.rows["train"]
        some = [shop.items[row] for row in rows[:: max(1, len(rows) // 64)][:64]]

        def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
            return [backbone.pooled(inputs)[-1].numpy(force=True)]

        start = time.perf_counter()
        n = sum(len(rows) for rows, _ in freeze.run(shop.backbone, shop.modality, some, look))
        pace = (time.perf_counter() - start) / n
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(pace))
    return pace * (shop.work.n_train + shop.work.n_val)


def ways_of(shop: Workshop, wishes: Wishes) -> list[Trained]:
    """The trained strategies that may be tried."""
    measured = wishes.strategy in (None, AUTO) and wishes.freeze is None
    if wishes.strategy == "probe" or (measured and (shop.problem.crosswise or shop.backbone.dear)):
        return []  # so few labels or groups cannot tell trained networks apart; dear ones are trained on demand
    n_stages, n_train = shop.backbone.n_stages, shop.work.n_train
    ways = planner.options(n_stages, n_train, shop.class_weight, _has_peft() and shop.backbone.is_of_matrices)
    if wishes.strategy not in (None, AUTO):
        ways += planner.aligning(n_stages, n_train, shop.class_weight, shop.backbone.modality == "image")
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
        lowest = 0 if way.needs_target else 1
        if "freeze" in way.settings() and lowest <= (wishes.freeze or 0) < n_stages:
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
            solved = shop.train(strategy).solved
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
        more = ", taught by other forms too" if strategy.variants else ""
        return "linear probe on " + " + ".join(names[stage] for stage in strategy.read(len(names))) + more
    views = ", on random views" if planner.on_views(strategy) else ""
    if strategy.settings().get("decoder"):
        return f"{strategy.title} on the decoder{views}"
    if cut in (0, len(names)):
        return f"{strategy.title}{views}"
    own_title = strategy.needs_target or registry.plugin_name(strategy) == "lora"
    what = strategy.title if own_title else "trained"
    return f"{what} above {names[cut - 1]}{views}"


def candidate(shop: Workshop, one: Tried, chosen: Tried) -> Candidate:
    """A way that was tried, as the plan tells of it."""
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


def reason_for(shop: Workshop, chosen: Tried, final: Sequence[Tried]) -> str:
    """Why this one, in one sentence."""
    names = [stage.name for stage in shop.backbone.stages]
    title = title_of(chosen.strategy, names)
    if len(final) == 1 and shop.problem.crosswise:
        few = "labels" if shop.problem.all_groups is None else "groups"
        return f"{title}: so few {few} cannot tell trained networks apart"
    if len(final) == 1 and shop.backbone.dear:
        return f"{title}: clips are filled up with silence, where training costs too much to be tried unasked"
    if len(final) == 1:
        return f"{title}: the only way that was asked for or that the budget allowed"
    best = max(final, key=lambda one: shop.judge.gain(one.score.value))
    if best is chosen:
        return f"{title}: the best on validation of {len(final)} ways that learnt from all examples"
    return (
        f"{title}: on validation no worse than {title_of(best.strategy, names)} beyond one standard error, and cheaper"
    )
