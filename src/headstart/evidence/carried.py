"""Whether a source table helped, in a sentence or two that claim no more than the intervals say."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.data.audit_splits import FEW_GROUPS
from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.evidence.verdict import gain_of
from headstart.tasks.base import Metric

LITTLE = 0.5  # of the say: a source with less was not trusted


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A model of the target, beside what each side gives alone; differences are paired, on the same rows."""

    metric: Metric
    n_labels: int  # of the target, to learn from
    n_test: int  # rows measured on; 0 where nothing was measured
    crosswise: bool  # whether cross-validation stands in for a test split
    has_source: bool
    say: float = 0.0  # weight of the ways that look at the source
    score: Score | None = None
    over_target: Score | None = None  # model minus target only
    over_source: Score | None = None  # model minus source only
    source_over_target: Score | None = None  # source only minus target only
    n_groups: int | None = None
    estimate: Score | None = None  # without labels: of the source's rows, weighted to look like the target's


def verdict(of: Carried) -> tuple[str, bool | None]:
    """(sentences, paid): paid is True or False when the paired difference to target-only excludes zero, else None."""
    if of.score is None:
        return _unmeasured(of), None
    said = f"{of.metric.title} {words.score(of.score)} {_measured_on(of)}"
    if not of.has_source:
        return f"Nothing was transferred, as there is no source (--source): {said}.", None
    if of.over_target is None:
        return (
            f"It cannot be told whether transfer paid: the target has no labels to learn from. {said}.{_source(of)}",
            None,
        )
    gain = gain_of(of.metric, of.over_target)
    if of.n_groups is not None and of.n_groups < FEW_GROUPS:
        few = f"{of.n_groups} group{'s' * (of.n_groups != 1)} only, too few for an interval to be trusted"
        return f"It cannot be told whether transfer paid: {said}, but these come from {few}; {_level(gain)}.", None
    if gain.low > 0:
        return f"Transfer paid: {said}, better than target-only by {words.score(gain)}.", True
    if gain.high < 0:
        loss = Score(-gain.value, -gain.high, -gain.low)
        return f"Transfer did not pay here: {said}, worse than target-only by {words.score(loss)}.{_warning(of)}", False
    return f"It cannot be told whether transfer paid: {said}; {_level(gain)}.{_trust(of)}{_warning(of)}", None


def _measured_on(of: Carried) -> str:
    if of.crosswise:
        return (
            f"by cross-validation over the {of.n_test:,} labelled rows of the target, which stands in for a test "
            "as they are too few to hold some back"
        )
    return f"on {of.n_test:,} test rows"


def _unmeasured(of: Carried) -> str:
    few = (
        f"the target's {of.n_labels:,} labels are too few, or too much alike, to measure by"
        if of.n_labels
        else "the target has no labels"
    )
    said = f"It cannot be told whether transfer paid: {few}, so that nothing was measured on it."
    if of.estimate is None:
        return said
    return (
        f"{said} The source's own rows, weighted to look like the target's, give {of.metric.title} "
        f"{words.score(of.estimate)}: an estimate, not a measurement, and right only if the same row means the same on "
        "both sides."
    )


def _level(gain: Score) -> str:
    if gain.low == gain.high:
        return "target-only does just as well on every one"
    return f"the difference to target-only is {words.score(gain)}, which includes zero"


def _source(of: Carried) -> str:
    if of.over_source is None:
        return ""
    gain = gain_of(of.metric, of.over_source)
    if gain.low == gain.high:
        return " The source's model as it is does just as well."
    sides = "above" if gain.low > 0 else "below" if gain.high < 0 else "not told apart from"
    return f" That is {sides} the source's model as it is (difference {words.score(gain)})."


def _trust(of: Carried) -> str:
    return f" The source was given {words.share(of.say)} of the say." if of.say < LITTLE else ""


def _warning(of: Carried) -> str:
    """Where the source's own model is clearly worse than none at all."""
    if of.source_over_target is None or gain_of(of.metric, of.source_over_target).high >= 0:
        return ""
    gain = gain_of(of.metric, of.source_over_target)
    loss = words.score(Score(-gain.value, -gain.high, -gain.low))
    return (
        f" The source's model alone is worse than target-only by {loss}: check that its label and its columns mean the "
        "same, or leave --source out."
    )
