"""Whether transfer paid, in one sentence that claims no more than the interval says."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.data.audit_splits import FEW_GROUPS
from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.tasks.base import Metric


@dataclass(frozen=True)
class Measured:
    """The adapted model on one metric, beside the classical model and the same network from scratch."""

    metric: Metric
    score: Score
    difference: Score  # adapted minus rival, paired, in the metric's own unit
    rival: str
    ships_rival: bool = False  # validation preferred the rival, which the run ships
    over_scratch: Score | None = None  # adapted minus the same network from scratch, paired
    scratch_epochs: int | None = None  # how long that one was trained
    advice: str = "Use the classical model, or another backbone."  # where the rival is better


def verdict(measured: Measured, n_test: int, n_groups: int | None = None) -> tuple[str, bool | None]:
    """(sentence, paid): paid is True or False when the paired difference to the rival excludes zero, else None.

    It is None, too, when the test examples belong to fewer than ten groups: an interval over so few is too narrow.
    A transfer that is better than the classical model but not than the same network from scratch has not paid either.
    """
    metric, rival = measured.metric, measured.rival
    said = f"{metric.title} {words.score(measured.score)} on {n_test:,} test examples"
    if measured.score.low == measured.score.high:
        said += " (which show no variation: that is few examples, not certainty)"
    gain = gain_of(metric, measured.difference)
    beside = _beside_scratch(measured)
    if n_groups is not None and n_groups < FEW_GROUPS:
        return (
            f"It cannot be told whether transfer paid: {said}, but these come from {n_groups} "
            f"group{'s' * (n_groups != 1)} only, too few for an interval to be trusted; the difference to {rival} is "
            f"{words.score(gain)}{beside}.{_ships(measured)}",
            None,
        )
    if gain.low > 0 and _no_better_than_scratch(measured):
        return (
            f"It cannot be told whether transfer paid: {said}, better than {rival} by {words.score(gain)}{beside}."
            f"{_ships(measured)}",
            None,
        )
    if gain.low > 0:
        return f"Transfer paid: {said}, better than {rival} by {words.score(gain)}{beside}.{_ships(measured)}", True
    if gain.high < 0:
        loss = Score(-gain.value, -gain.high, -gain.low)
        advice = _ships(measured) or f" {measured.advice}"
        return (
            f"Transfer did not pay here: {said}, worse than {rival} by {words.score(loss)}{beside}.{advice}",
            False,
        )
    if gain.low == gain.high:
        return (
            f"It cannot be told whether transfer paid: {said}; {rival} does just as well on every one{beside}."
            f"{_ships(measured)}",
            None,
        )
    return (
        f"It cannot be told whether transfer paid: {said}; the difference to {rival} is {words.score(gain)}, "
        f"which includes zero{beside}.{_ships(measured)}",
        None,
    )


def gain_of(metric: Metric, difference: Score) -> Score:
    """A difference turned so that more is better."""
    return difference if metric.better == "higher" else Score(-difference.value, -difference.high, -difference.low)


def _no_better_than_scratch(measured: Measured) -> bool:
    return measured.over_scratch is not None and gain_of(measured.metric, measured.over_scratch).low <= 0


def _beside_scratch(measured: Measured) -> str:
    """What the same network from random weights says, in half a sentence; "" where it was not trained."""
    if measured.over_scratch is None:
        return ""
    gain, epochs = gain_of(measured.metric, measured.over_scratch), measured.scratch_epochs
    rival = "the same network from scratch" + (f" ({epochs} epoch{'s' * (epochs != 1)})" if epochs else "")
    if gain.low > 0:
        return f"; better than {rival} by {words.score(gain)}"
    return f"; the difference to {rival} is {words.score(gain)}"


def _ships(measured: Measured) -> str:
    if not measured.ships_rival:
        return ""
    return f" The classical model was better on validation, so this run ships it: {measured.rival}."
