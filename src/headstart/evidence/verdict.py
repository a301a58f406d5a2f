"""Whether transfer paid, in one sentence that claims no more than the interval says."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.data.audit_splits import FEW_GROUPS
from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.tasks.base import Metric


@dataclass(frozen=True)
class Measured:
    """The model on one metric, beside the classical model."""

    metric: Metric
    score: Score
    difference: Score  # model minus rival, paired, in the metric's own unit
    rival: str


def verdict(measured: Measured, n_test: int, n_groups: int | None = None) -> tuple[str, bool | None]:
    """(sentence, paid): paid is True or False when the paired difference to the rival excludes zero, else None.

    It is None, too, when the test examples belong to fewer than ten groups: an interval over so few is too narrow.
    """
    metric, difference, rival = measured.metric, measured.difference, measured.rival
    said = f"{metric.title} {words.score(measured.score)} on {n_test:,} test examples"
    if measured.score.low == measured.score.high:
        said += " (which show no variation: that is few examples, not certainty)"
    gain = difference if metric.better == "higher" else Score(-difference.value, -difference.high, -difference.low)
    if n_groups is not None and n_groups < FEW_GROUPS:
        return (
            f"It cannot be told whether transfer paid: {said}, but these come from {n_groups} "
            f"group{'s' * (n_groups != 1)} only, too few for an interval to be trusted; the difference to {rival} is "
            f"{words.score(gain)}.",
            None,
        )
    if gain.low > 0:
        return f"Transfer paid: {said}, better than {rival} by {words.score(gain)}.", True
    if gain.high < 0:
        loss = Score(-gain.value, -gain.high, -gain.low)
        return (
            f"Transfer did not pay here: {said}, worse than {rival} by {words.score(loss)}. "
            "Use the classical model, or another backbone.",
            False,
        )
    if gain.low == gain.high:
        return f"It cannot be told whether transfer paid: {said}; {rival} does just as well on every one.", None
    return (
        f"It cannot be told whether transfer paid: {said}; the difference to {rival} is {words.score(gain)}, "
        "which includes zero.",
        None,
    )
