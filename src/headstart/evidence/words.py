"""How numbers are said to people: digits that fit, intervals, shares, seconds, what a difference allows to claim."""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Literal, NamedTuple

from headstart.evidence.base import Score

UNDEFINED = "not defined"


class Comparison(NamedTuple):
    """What a paired difference allows to say."""

    mark: Literal["better", "worse", "level", "undefined"]
    text: str


def decimals(*values: float) -> int:
    """How many decimals show these values side by side: three for fractions, fewer for large numbers."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    if largest == 0:
        return 3
    if largest < 0.005:
        return min(9, 1 - math.floor(math.log10(largest)))
    return 3 if largest < 1 else max(0, 2 - math.floor(math.log10(largest)))


def number(value: float, digits: int | None = None, signed: bool = False) -> str:
    """'0.912', '12,345', '−0.02': thousands separated, a real minus sign; `UNDEFINED` for NaN."""
    if not math.isfinite(value):
        return UNDEFINED
    digits = decimals(value) if digits is None else digits
    rounded = round(value, digits) + 0.0  # + 0.0 turns −0 into 0
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}".replace("-", "−")


def value(score: Score) -> str:
    """The score's value, with as many digits as its interval has."""
    return number(score.value, decimals(score.value, score.low, score.high))


def interval(score: Score) -> str:
    """'0.893 to 0.930'; '' where it is not defined."""
    if not (math.isfinite(score.low) and math.isfinite(score.high)):
        return ""
    digits = decimals(score.value, score.low, score.high)
    return f"{number(score.low, digits)} to {number(score.high, digits)}"


def score(score: Score) -> str:
    """'0.912 (0.893 to 0.930)'."""
    return f"{value(score)} ({interval(score)})" if interval(score) else value(score)


def comparison(difference: Score, better: str) -> Comparison:
    """What the paired difference, model minus baseline, says; never more than its interval does.

    `better` is "higher" or "lower"; the number is turned so that a plus favours the model. The 95 % interval stands in
    brackets.
    """
    if not all(map(math.isfinite, (difference.value, difference.low, difference.high))):
        return Comparison("undefined", f"difference {UNDEFINED}")
    gain = difference if better == "higher" else Score(-difference.value, -difference.high, -difference.low)
    if gain.low <= 0 <= gain.high:
        digits = decimals(*astuple(gain))
        said, low, high = (number(v, digits, signed=True) for v in astuple(gain))
        return Comparison("level", f"no clear difference: {said} ({low} to {high})")
    if gain.low > 0:
        return Comparison("better", f"model better by {score(gain)}")
    loss = Score(-gain.value, -gain.high, -gain.low)
    return Comparison("worse", f"model worse by {score(loss)}")


def share(fraction: float) -> str:
    """'97 %'; one decimal near the ends, where it matters, and never a rounded 0 % or 100 %."""
    if not math.isfinite(fraction):
        return UNDEFINED
    if fraction in (0.0, 1.0):
        return f"{100 * fraction:.0f}\u00a0%"
    if fraction < 0.0005 or fraction >= 0.9995:
        return "< 0.1\u00a0%" if fraction < 0.5 else "> 99.9\u00a0%"
    return f"{100 * fraction:.{1 if fraction < 0.0995 or fraction >= 0.9895 else 0}f}\u00a0%"


def seconds(duration: float) -> str:
    """'0.42 s', '12.3 s', '3 min 20 s', '2 h 05 min'."""
    if duration < 59.95:
        return f"{duration:.2f} s" if duration < 9.995 else f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(n: int) -> str:
    """'2,624'; millions in words: '4.7 million'."""
    return f"{n:,}" if n < 1_000_000 else f"{n / 1e6:,.1f} million" if n < 1_000_000_000 else f"{n / 1e9:,.1f} billion"


def wilson(hits: float, n: float) -> tuple[float, float]:
    """95 % interval of a share, hits of n (Wilson 1927, doi:10.2307/2276774); (0, 1) when n is 0."""
    if n == 0:
        return 0.0, 1.0
    z2 = 1.959964**2
    centre = (hits + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (hits * (n - hits) / n + z2 / 4)) / (n + z2)
    return max(0.0, centre - half), min(1.0, centre + half)
