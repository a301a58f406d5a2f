"""A way across two domains, and what all ways across share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from headstart.domains import Domains
from headstart.evidence import depth
from headstart.evidence.label_free import Outlook
from headstart.evidence.planner import Solved
from headstart.wishes import Wishes
from headstart.workshop import Workshop

MOST_JUDGED = 1000  # examples of train and of the target that the label-free scorers look at


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way across that was run."""

    title: str
    name: str  # of the plug-in: "coral", "dann"; "probe" for source only
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

    @cached_property
    def judged(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions in train and in the target that every way is judged on: the same, so that gains are paired."""
        sizes = (len(self.shop.problem.rows["train"]), len(self.domains.rows))
        rng = np.random.default_rng(self.seed)
        first, second = (np.sort(rng.permutation(size)[:MOST_JUDGED]) for size in sizes)
        return first, second

    @cached_property
    def stages(self) -> tuple[int, ...]:
        """The stages that solved heads read: the user's, the plan's, or those that the source's validation prefers."""
        plan, freeze_at = self.wishes.plan, self.wishes.freeze
        if plan is not None and "stages" in plan.settings:
            return tuple(plan.settings["stages"])
        if freeze_at is not None and self.shop.probed and 0 < freeze_at <= self.shop.backbone.n_stages:
            return (freeze_at - 1,)
        best = depth.best_probe(self.shop.probed, self.shop.judge, self.shop.problem.linear)
        return best.strategy.read(self.shop.backbone.n_stages)
