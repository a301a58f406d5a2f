"""What the user said of how to learn; all else is measured."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from headstart import registry
from headstart.errors import PlanError, did_you_mean, listed
from headstart.evidence.plan import Plan
from headstart.hosted.wishes import HostedWishes
from headstart.tasks.base import Metric

AUTO = "auto"
BALANCED = frozenset({"balanced_accuracy", "macro_f1"})  # metrics under which every class counts the same


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
    hosted: HostedWishes = field(default_factory=HostedWishes)  # where the backbone is run by others

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

    @property
    def crosswise(self) -> bool:
        """Whether cross-validation may choose where labels are few: not where a trained network was asked for."""
        if self.plan is not None:
            return self.plan.crosswise
        return self.freeze is None if self.strategy in (None, AUTO) else self.strategy == "probe"

    def check(self, n_stages: int, has_target: bool = False) -> None:
        """PlanError for a wish that this backbone, or the lack of a target, cannot fulfil; to be asked first."""
        names = [AUTO, *(name for name in registry.STRATEGIES.names() if name != "scratch")]
        if self.strategy in registry.ALIGNMENTS.names() and not has_target:
            raise PlanError(
                f"{self.strategy!r} carries over from one domain to another: name an unlabelled target with --to (or, "
                "for a plain table, another table with --source)."
            )
        if self.strategy not in (None, *names):
            raise PlanError(
                f"{self.strategy!r} is not a strategy: {listed(names)}.{did_you_mean(str(self.strategy), names)}"
            )
        unnamed = self.strategy is None or self.strategy == AUTO
        named: Any = None if unnamed else registry.STRATEGIES.get(str(self.strategy))
        if named is not None and named.needs_target and not has_target:
            raise PlanError(f"{self.strategy} needs an unlabelled target: name it with --to.")
        if self.strategy == "full" and self.freeze:
            raise PlanError(f"'full' freezes nothing, but freeze={self.freeze}. Use --strategy partial.")
        if unnamed and self.freeze is not None and not 0 <= self.freeze <= n_stages:
            raise PlanError(
                f"freeze={self.freeze}, but this backbone has {n_stages} stages. Pass a value from 0 to {n_stages}."
            )
        if self.freeze is not None and "freeze" in getattr(named, "__dataclass_fields__", ()):
            named(freeze=self.freeze).cut(n_stages)
        if self.plan is not None and self.plan.n_stages != n_stages:
            raise PlanError(
                f"The plan is for a backbone of {self.plan.n_stages} stages, but this one has {n_stages}. "
                "Use the plan's own backbone, or fit without --plan."
            )
        if isinstance(self.learning_rate, str) and self.learning_rate != "find":
            raise PlanError(f"learning_rate={self.learning_rate!r}. Give a number such as 1e-4, or 'find'.")
        seconds_of(self.budget)


def seconds_of(budget: str | float | None) -> float | None:
    """ "90", "90s", "2m" or "1h" as seconds; PlanError for anything else."""
    if budget is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(budget))
    if not found or float(found[1]) <= 0:
        raise PlanError(f"The budget {budget!r} is not a time. Give seconds, or '90s', '2m', '1h'.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
