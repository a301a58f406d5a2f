"""The way from a source to an unlabelled target, as the template draws it: the gap, the ways, the votes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from headstart.evidence import words
from headstart.evidence.adaptation import Adaptation, Way
from headstart.evidence.base import Score
from headstart.evidence.gap import Clouds
from headstart.evidence.record import Record
from headstart.report.plots import svg

SIDE, ROOM = 320, 8  # of a picture of both clouds, in view-box units
MOST_DOTS = 400  # of each domain: more would only make the file large


class Cell(NamedTuple):
    """What one label-free scorer says of one way."""

    gain: str
    interval: str
    vote: bool


class Row(NamedTuple):
    """One way across."""

    title: str
    chosen: bool
    source_score: str
    votes: str  # "3 of 6"
    cells: list[Cell]  # one a scorer; empty for source only
    estimate: str
    estimate_interval: str
    measured: str
    measured_interval: str
    seconds: str


def view(record: Record) -> dict[str, Any]:
    """What the template needs; `domains` is None where there is no target."""
    found = record.adaptation
    if found is None:
        return {"domains": None}
    return {
        "domains": found,
        "ways": [_row(found, way) for way in found.ways],
        "trained": any("stages" not in way.settings for way in found.ways),
        "gap": words.score(found.gap),
        "gap_after": words.score(found.gap_after) if found.gap_after else "",
        "gap_words": gap_words(found.gap.value),
        "clouds": [(title, plot(title, one), _explained(one)) for title, one in record.clouds],
        "estimate": words.score(found.chosen.estimate),
        "off": _off(found),
    }


def gap_words(value: float) -> str:
    """A proxy A-distance in words."""
    error = (1 - value / 2) / 2
    return f"a linear classifier mistakes the domain of {words.share(error)} of the examples"


def _row(found: Adaptation, way: Way) -> Row:
    cells = []
    for scorer in found.scorers if way.gains else ():
        gain = way.gains.get(scorer)
        said = (words.number(gain.value, 3, signed=True), _interval(gain)) if gain else ("–", "")
        cells.append(Cell(*said, scorer in way.votes))
    return Row(
        title=way.title,
        chosen=way.chosen,
        source_score=words.value(way.source_score),
        votes=f"{len(way.votes)} of {len(found.scorers)}" if way.gains else "–",
        cells=cells,
        estimate=words.value(way.estimate),
        estimate_interval=words.interval(way.estimate),
        measured=words.value(way.measured) if way.measured else "",
        measured_interval=words.interval(way.measured) if way.measured else "",
        seconds=words.seconds(way.seconds),
    )


def _interval(gain: Score) -> str:
    return f"{words.number(gain.low, 3)} to {words.number(gain.high, 3)}"


def _off(found: Adaptation) -> str:
    """How far the estimate is off what was measured; "" where nothing was, or where that is no accuracy."""
    way = found.chosen
    if way.measured is None or found.metric_title.lower() != "accuracy":
        return ""
    return words.number(way.estimate.value - way.measured.value, 3, signed=True)


def _explained(one: Clouds) -> str:
    return words.share(float(np.sum(one.explained)))


def plot(title: str, one: Clouds) -> Markup:
    """Both domains on the first two principal components: source as dots, target as crosses."""
    both = np.concatenate([one.source, one.target])
    low, high = np.percentile(both, [0.5, 99.5], axis=0)
    span = np.where(high > low, high - low, 1.0)

    def marks(points: np.ndarray, shape: str) -> str:
        shown = points[:: max(1, -(-len(points) // MOST_DOTS))]
        places = ROOM + np.clip((shown - low) / span, 0, 1) * (SIDE - 2 * ROOM)
        return "".join(shape.format(x=round(float(x), 1), y=round(float(SIDE - y), 1)) for x, y in places)

    source = marks(one.source, '<circle cx="{x}" cy="{y}" r="3"/>')
    target = marks(one.target, '<path d="M{x} {y}m-3-3l6 6m0-6l-6 6"/>')
    body = f'<rect width="{SIDE}" height="{SIDE}" class="rail"/>'
    body += f'<g class="points">{source}</g><g class="crosses">{target}</g>'
    desc = f"{len(one.source)} source and {len(one.target)} target examples on two principal components"
    return svg(body, f'class="square" viewBox="0 0 {SIDE} {SIDE}"', str(escape(title)), desc)
