"""Whether transfer paid, in one sentence that claims no more than the interval says."""

from __future__ import annotations

from headstart.evidence.base import Score
from headstart.tasks.base import Metric


def verdict(metric: Metric, score: Score, difference: Score, rival: str, n_test: int) -> tuple[str, bool | None]:
    """(sentence, paid): paid is True or False when the paired difference to `rival` excludes zero, else None.

    `difference` is model minus rival in the metric's own unit.
    """
    measured = f"{metric.title} {_with_interval(score)} on {n_test:,} test examples"
    gain = difference if metric.better == "higher" else Score(-difference.value, -difference.high, -difference.low)
    if gain.low > 0:
        return f"Transfer paid: {measured}, better than {rival} by {_with_interval(gain)}.", True
    if gain.high < 0:
        loss = Score(-gain.value, -gain.high, -gain.low)
        return (
            f"Transfer did not pay here: {measured}, worse than {rival} by {_with_interval(loss)}. "
            "Use the classical model, or train more of the network.",
            False,
        )
    return (
        f"It cannot be told whether transfer paid: {measured}; the difference to {rival} is "
        f"{_with_interval(gain, sign=True)}, which includes zero.",
        None,
    )


def _with_interval(score: Score, sign: bool = False) -> str:
    spec = "+.3g" if sign else ".3g"
    digits = f"{'+' if sign else ''}.3f" if max(abs(score.value), abs(score.low), abs(score.high)) < 10 else spec
    return f"{score.value:{digits}} ({score.low:{digits}} to {score.high:{digits}})"
