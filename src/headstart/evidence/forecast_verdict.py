"""Whether transfer paid for forecasts, and whether the random walk is beaten at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headstart.data.audit_splits import FEW_GROUPS
from headstart.evidence import words
from headstart.evidence.base import Score, Scores
from headstart.evidence.blocks import BlockScales
from headstart.evidence.diebold_mariano import DieboldMariano, diebold_mariano
from headstart.evidence.intervals import compare
from headstart.evidence.verdict import gain_of
from headstart.evidence.weigh import MODEL, SCRATCH, Claim
from headstart.tasks.base import Metric
from headstart.tasks.forecasting import Forecasting, last, outcomes

LEVEL = 0.05  # of the test
OPENINGS = {True: "Transfer paid", False: "Transfer did not pay here", None: "It cannot be told whether transfer paid"}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What was forecast on test, and which of the systems the verdict speaks of."""

    task: Forecasting
    scales: BlockScales
    y: np.ndarray  # (N, H + 2)
    systems: Mapping[str, np.ndarray]  # name -> (N, H, Q): those that `weigh_systems` gets
    rival: str  # title of the classical forecaster that was best on validation
    adapted: str = MODEL  # the system that is the adapted network; another one where the run ships the rival
    scratch_epochs: int | None = None

    @property
    def rival_system(self) -> str:
        """The rival's name among the systems: MODEL where the run ships it."""
        return MODEL if self.ships_rival else self.rival

    @property
    def ships_rival(self) -> bool:
        """Whether validation preferred the classical forecaster, which the run ships."""
        return self.adapted != MODEL


class Against(NamedTuple):
    """The adapted network beside one system; more is better."""

    gain: Score
    test: DieboldMariano

    @property
    def better(self) -> bool:
        """Beyond the interval, and by the test."""
        return self.gain.low > 0 and self.test.p < LEVEL

    @property
    def worse(self) -> bool:
        """Beyond the interval, and by the test."""
        return self.gain.high < 0 and self.test.p < LEVEL

    @property
    def turned(self) -> Against:
        """The same with less being better, to say by how much it is worse."""
        return Against(Score(-self.gain.value, -self.gain.high, -self.gain.low), self.test)

    def said(self) -> str:
        """'0.02 (0.01 to 0.03), Diebold-Mariano p = 0.003'."""
        return f"{words.score(self.gain)}, Diebold-Mariano {p_value(self.test.p)}"


def p_value(p: float) -> str:
    """'p = 0.030', 'p < 0.001'; 'p not defined' where there was too little to test."""
    return f"p {words.UNDEFINED}" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def forecast_claim(contest: Contest) -> Claim:
    """What `weigh_systems` may claim of these forecasts; its scales must be those of the contest."""

    def claim(primary: Metric, scores: dict[str, Scores], differences: dict[str, Scores]) -> tuple[str, bool | None]:
        walk = contest.task.walk_title
        if contest.rival == walk and contest.ships_rival:
            walk = MODEL
        found = against(contest, primary, (contest.rival_system, walk, SCRATCH))
        own = scores[contest.adapted]
        paid = _paid(contest, found, found[walk])
        sentence = _sentence(contest, primary, own[primary.name], found, paid)
        parts = [sentence, _walk(contest, found[walk]), _direction(contest, own), _ships(contest)]
        return " ".join(part for part in parts if part), paid

    return claim


def against(contest: Contest, metric: Metric, names: tuple[str, ...]) -> dict[str, Against]:
    """The adapted network beside each of these systems that there is, paired on the same resamples."""
    y, scales, systems = contest.y, contest.scales, contest.systems
    rivals = {name: systems[name] for name in names if name in systems and name != contest.adapted}
    both = {contest.adapted: systems[contest.adapted], **rivals}
    differences = compare([metric], y, both, contest.adapted, scales.resamples(len(y)), scales.n_groups)[1]
    losses = {name: contest.task.window_losses(metric.name, y, one) for name, one in both.items()}
    undefined = Score(float("nan"), float("nan"), float("nan"))
    return {
        name: Against(
            gain_of(metric, differences[name].get(metric.name, undefined)),
            diebold_mariano(losses[contest.adapted], losses[name], scales.layout),
        )
        for name in rivals
    }


def _paid(contest: Contest, found: dict[str, Against], walk: Against) -> bool | None:
    """True where it beats the rival, scratch and the random walk; False where it loses to the rival."""
    if contest.scales.n_groups < FEW_GROUPS:
        return None
    rival = found[contest.rival_system]
    if rival.worse:
        return False
    beaten = [rival, walk, *([found[SCRATCH]] if SCRATCH in found else [])]
    return True if all(one.better for one in beaten) else None


def _sentence(contest: Contest, metric: Metric, own: Score, found: dict[str, Against], paid: bool | None) -> str:
    layout = contest.scales.layout
    n_series = layout.n_series
    said = (
        f"{metric.title} {words.score(own)} on {words.count(len(contest.y))} test windows of {n_series} series "
        f"from {words.count(layout.n_origins)} origin{'s' * (layout.n_origins != 1)}"
    )
    few = ""
    if contest.scales.n_groups < FEW_GROUPS:
        few = f", but these make {layout.n_units} {layout.unit} only, too few for an interval to be trusted"
    rival = f"{contest.rival} (best of the classical forecasters on validation)"
    beside = _beside(found[contest.rival_system], rival)
    scratch = ""
    if SCRATCH in found:
        epochs = contest.scratch_epochs
        trained = f" ({epochs} epoch{'s' * (epochs != 1)})" if epochs else ""
        scratch = f"; {_beside(found[SCRATCH], f'the same network from scratch{trained}')}"
    return f"{OPENINGS[paid]}: {said}{few}; {beside}{scratch}."


def _beside(one: Against, rival: str) -> str:
    """'better than ETS by 0.02 (0.01 to 0.03), Diebold-Mariano p = 0.003', or what the difference is."""
    if one.better:
        return f"better than {rival} by {one.said()}"
    if one.worse:
        return f"worse than {rival} by {one.turned.said()}"
    return f"the difference to {rival} is {one.said()}"


def _walk(contest: Contest, walk: Against) -> str:
    """Always: whether it is better than to repeat the last value, which is what a random walk allows."""
    few = contest.scales.n_groups < FEW_GROUPS
    which = "prices stay" if contest.task.returns else "the last value stays"
    if walk.gain.low <= 0 or walk.test.p >= LEVEL:
        said = f"it is worse by {walk.turned.said()}" if walk.worse and not few else f"the difference is {walk.said()}"
        return f"It does not beat the random walk ({which}): {said}."
    if few or np.isnan(walk.test.p):
        return (
            f"Whether it beats the random walk ({which}) cannot be told from so few: the difference is {walk.said()}."
        )
    return f"It beats the random walk ({which}) by {walk.said()}."


def _direction(contest: Contest, own: Scores) -> str:
    """For prices and returns: how often the sign is right, beside a coin."""
    found = own.get("direction")
    if found is None:
        return ""
    always, share = constant_direction(contest)
    better = "better" if found.low > share else "no better"
    coin = f"{better} than to say {always} each time, right in {words.share(share)}"
    if contest.scales.n_groups < FEW_GROUPS:
        coin = f"too little to compare with saying {always} each time, right in {words.share(share)}"
    interval = f"{words.share(found.low)} to {words.share(found.high)}"
    return f"The direction is right in {words.share(found.value)} ({interval}) of the steps: {coin}."


def constant_direction(contest: Contest) -> tuple[str, float]:
    """("up" or "down", the share of test steps in which it is right): what moved more often, known afterwards."""
    task, y = contest.task, contest.y
    change = outcomes(y) if task.returns else outcomes(y) - last(y)[:, None]
    moved = np.isfinite(change) & (change != 0)
    up = float((change[moved] > 0).mean()) if moved.any() else 0.5
    return ("up", up) if up >= 0.5 else ("down", 1 - up)


def _ships(contest: Contest) -> str:
    if not contest.ships_rival:
        return ""
    return f"The classical forecaster was better on validation, so this run ships it: {contest.rival}."
