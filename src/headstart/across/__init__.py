"""Ways across two domains, chosen without labels: frozen features aligned, or training with the target beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec

import numpy as np

from headstart import registry
from headstart.across.base import Crossing, Tried
from headstart.across.solved import TOGETHER, aligned, alignments, source_only, together
from headstart.across.trained import affordable, named_trainings, trained
from headstart.domains import Domains
from headstart.errors import DataError, MissingExtraError, PlanError, did_you_mean, listed
from headstart.evidence import label_free
from headstart.evidence.adaptation import SOURCE_ONLY
from headstart.evidence.label_free import Choice
from headstart.wishes import AUTO, Wishes
from headstart.workshop import Workshop

__all__ = ["TOGETHER", "Crossed", "Crossing", "Tried", "check", "cross"]


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

    @cached_property
    def consensus(self) -> np.ndarray | None:
        """Mean probabilities (t, K) of all ways on the target examples that are judged; None where two cannot agree."""
        if len(self.tried) < label_free.FEWEST:
            return None
        return np.mean([one.outlook.target_probabilities for one in self.tried], axis=0)

    @property
    def reason(self) -> str:
        """Why this way ships, in one sentence."""
        if self.crossing.wishes.plan is not None:
            return self.crossing.wishes.plan.reason
        return f"{self.chosen.title}: asked for" if self.asked_for else self.choice.reason.rstrip(".")

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
    """PlanError for a wish that cannot be fulfilled; alignments are strategies here.

    MissingExtraError where they need libraries that are not there.
    """
    known = [AUTO, TOGETHER, *alignments(), *(name for name in registry.STRATEGIES.names() if name != "scratch")]
    if wishes.strategy not in (None, *known):
        raise PlanError(
            f"{wishes.strategy!r} is not a way to adapt to a target: {listed(known, 30)}."
            f"{did_you_mean(str(wishes.strategy), known)}"
        )
    for library in ("ot", "skada"):  # said now, and not after the frozen pass
        if wishes.strategy in (None, AUTO, TOGETHER, *alignments()) and find_spec(library) is None:
            raise MissingExtraError(library, "align")
    plain = replace(wishes, strategy=None) if wishes.strategy in (TOGETHER, *alignments()) else wishes
    plain.check(n_stages, has_target=True)


def ways_across(crossing: Crossing) -> Iterator[Tried]:
    """Every way that is tried, source only first: solved ones, and what the budget allows of those that train."""
    named = crossing.named
    solved = [source_only(crossing), *_aligned(crossing)]
    yield from solved
    if named in (None, AUTO, TOGETHER) and len(solved) > 2:
        yield together(solved, crossing)
    if named in (None, AUTO):
        yield from affordable(crossing)
    elif named not in ("probe", TOGETHER, *alignments()):
        for way in named_trainings(crossing, str(named)):
            with crossing.shop.progress.step("try strategies"):
                yield trained(crossing, way)


def _aligned(crossing: Crossing) -> Iterator[Tried]:
    """The alignments that are wanted; one that comes to nothing is left out, unless it was named."""
    plan, named = crossing.wishes.plan, crossing.named
    for name in alignments():
        if named not in (None, AUTO, TOGETHER, name):
            continue
        settings = dict(plan.settings) if plan is not None and named == name else {}
        settings.pop("stages", None)
        try:
            yield aligned(crossing, name, settings)
        except DataError as error:  # domains may be so far apart that a way comes to nothing
            if named == name:
                raise
            crossing.shop.progress.say(f"  {registry.ALIGNMENTS.get(name).title} is left out: {error}")


def _chosen(crossing: Crossing, tried: list[Tried], choice: Choice) -> Tried:
    """The way that ships: the one that was named, else what the label-free scores agree on, else source only."""
    if crossing.named in (None, AUTO):
        return next(one for one in tried if one.title == choice.name)
    return tried[0] if crossing.named == "probe" else tried[-1]
