"""Whether transfer paid, in one sentence that claims no more than the interval says."""

from __future__ import annotations

from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.tasks.base import Metric


def verdict(metric: Metric, score: Score, difference: Score, rival: str, n_test: int) -> tuple[str, bool | None]:
    """(sentence, paid): paid is True or False when the paired difference to `rival` excludes zero, else None.

    `difference` is model minus rival in the metric's own unit.
    """
    measured = f"{metric.title} {words.score(score)} on {n_test:,} test examples"
    gain = difference if metric.better == "higher" else Score(-difference.value, -difference.high, -difference.low)
    if gain.low > 0:
        return f"Transfer paid: {measured}, better than {rival} by {words.score(gain)}.", True
    if gain.high < 0:
        loss = Score(-gain.value, -gain.high, -gain.low)
        return (
            f"Transfer did not pay here: {measured}, worse than {rival} by {words.score(loss)}. "
            "Use the classical model, or another backbone.",
            False,
        )
    return (
        f"It cannot be told whether transfer paid: {measured}; the difference to {rival} is {words.score(gain)}, "
        "which includes zero.",
        None,
    )
