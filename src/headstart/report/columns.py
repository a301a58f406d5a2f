"""Two tables side by side, and the ways that were weighed: what the template draws of a run on plain tables."""

from __future__ import annotations

from typing import Any, NamedTuple

from markupsafe import Markup

from headstart.evidence import words
from headstart.evidence.plan import Plan
from headstart.evidence.sides import ColumnSides, Sides
from headstart.report import plots

MOST_COLUMNS = 60
FAR = 2.0  # standard deviations: the longest bar of a shift


class Line(NamedTuple):
    """One column of the tables."""

    name: str
    kind: str  # or why it is left out
    there: tuple[tuple[Markup, str], ...]  # a bar and a share a side: how much of it is there
    shift: Markup | str
    said: str  # the shift as a number


class WayLine(NamedTuple):
    """One way that was weighed."""

    title: str
    score: str
    say: Markup
    share: str


def view(sides: Sides, plan: Plan) -> dict[str, Any]:
    """What the template needs to know."""
    ranked = sorted(sides.columns, key=lambda one: (bool(one.left_out), -(one.shift or 0.0), one.name))
    return {
        "ways": [
            _way(one.title, words.score(one.score) if one.score else "–", one.settings["weight"])
            for one in plan.candidates
        ],
        "columns": [_line(one) for one in ranked[:MOST_COLUMNS]],
        "n_more": max(0, len(ranked) - MOST_COLUMNS),
        "two": bool(sides.n_source),
        "gap": _gap(sides),
    }


def _way(title: str, score: str, weight: float) -> WayLine:
    return WayLine(title, score, plots.bar(weight, f"{title}: {words.share(weight)} of the say"), words.share(weight))


def _line(one: ColumnSides) -> Line:
    names = ("target", "source")[: len(one.missing)]
    there = tuple(
        (plots.bar(1 - gone, f"{one.name}: {words.share(1 - gone)} there in the {name}"), words.share(1 - gone))
        for name, gone in zip(names, one.missing, strict=True)
    )
    if one.shift is None:
        return Line(one.name, one.left_out or one.kind, there, "", "–")
    bar = plots.bar(min(one.shift / FAR, 1.0), f"{one.name}: shift {words.number(one.shift, 2)}")
    return Line(one.name, one.left_out or one.kind, there, bar, words.number(one.shift, 2))


def _gap(sides: Sides) -> str:
    """How well the sides can be told apart, in a sentence; "" where that was not asked."""
    if sides.apart is None:
        return ""
    value = sides.apart.value
    if sides.apart.low <= 0.5:
        how = "they cannot be told apart"
    else:
        how = "they differ a little" if value < 0.7 else "they differ clearly" if value < 0.9 else "they are far apart"
    return (
        f"Shown a row and not its side, a classifier tells target from source with ROC AUC {words.score(sides.apart)} "
        f"(0.5 would be a coin): {how}."
    )
