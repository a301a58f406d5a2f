"""Plots over depth and over labels, as inline SVG like those in `plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import NamedTuple

from markupsafe import Markup, escape

from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.evidence.curves import Comparison, CurvePoint
from headstart.report.plots import Axis, axis, svg

DEPTH_HEIGHT, BAND = 240, 34  # of the depth plot in pixels; the band above it says what the sides of the cut are
LONGEST_TICK = 14  # characters of a stage's name under the plot; the whole name is in its title
MOST_TICKS = 16  # stage names that stand side by side
WIDTH, HEIGHT, LEFT, TOP, LABELS = 480, 320, 46, 30, 210  # of the curves, in view-box units
LINE = 15  # height of a line of text
MARKS = (  # shapes around (0, 0), one a system; with the dashes, shape says the same as colour
    '<circle r="5"/>',
    '<path d="M-5-5H5V5H-5z"/>',
    '<path d="M0-6L6 5H-6z"/>',
    '<path d="M-6 0L0-6 6 0 0 6z"/>',
    '<path d="M0 6L6-5H-6z"/>',
    '<path d="M-5-5L5 5M5-5L-5 5" class="open"/>',
)
DASHES = ("", "7 4", "2 4", "10 4 2 4", "4 2")
N_COLOURS = 5  # classes s0 … s4 in style.css


class Dot(NamedTuple):
    """One single stage's probe."""

    stage: int
    name: str
    score: Score
    chosen: bool


class Cut(NamedTuple):
    """The chosen cut and what its sides are called."""

    at: int
    below: str
    above: str


def depth(dots: Sequence[Dot], n_stages: int, cut: Cut | None, title: str) -> Markup:
    """Score against depth: a dot and its interval a stage, input left; the cut as a broken line."""
    n = max([n_stages, *(dot.stage + 1 for dot in dots)])
    up = axis([end for dot in dots for end in astuple(dot.score)])
    body = _grid(up) + (_cut(cut, n) if cut else "")
    every = 1 + (len(dots) - 1) // MOST_TICKS
    for i, dot in enumerate(dots):
        body += _dot(dot, up, n) + (_stage_name(dot, n) if i % every == 0 or dot.chosen else "")
    said = [f"{dot.name}: {words.score(dot.score)}{', chosen' if dot.chosen else ''}" for dot in dots]
    said += [f"cut before stage {cut.at}"] if cut else []
    longest = max((min(len(dot.name), LONGEST_TICK) for dot in dots), default=0)
    height = BAND + DEPTH_HEIGHT + 24 + round(5.2 * longest)
    return svg(body, f'class="depth" width="100%" height="{height}"', f"{title}, against depth", "; ".join(said))


def _across(position: float, n: int) -> str:
    """Where a stage, or a place between two, lies: room for the axis on the left."""
    return f"{8 + 91 * (position + 0.5) / n:.2f}%"


def _down(value: float, up: Axis) -> float:
    return round(BAND + DEPTH_HEIGHT * (1 - up.at(value)), 1)


def _grid(up: Axis) -> str:
    body = ""
    for tick, name in zip(up.ticks, up.tick_names(), strict=True):
        y = _down(tick, up)
        body += f'<line x1="0" x2="100%" y1="{y}" y2="{y}" class="grid"/><text x="0" y="{y - 4}">{name}</text>'
    return body


def _cut(cut: Cut, n: int) -> str:
    x = _across(cut.at - 0.5, n)
    bottom = BAND + DEPTH_HEIGHT
    body = f'<line x1="{x}" x2="{x}" y1="4" y2="{bottom}" class="diagonal"/><svg x="{x}" y="14" overflow="visible">'
    if cut.at:
        body += f'<text x="-7" text-anchor="end" class="name">← {escape(cut.below)}</text>'
    if cut.at < n:
        body += f'<text x="7" class="name">{escape(cut.above)} →</text>'
    return body + "</svg>"


def _dot(dot: Dot, up: Axis, n: int) -> str:
    if not math.isfinite(dot.score.value):
        return ""
    x, shape = _across(dot.stage, n), "model" if dot.chosen else "baseline"
    low, high = (end if math.isfinite(end) else dot.score.value for end in (dot.score.low, dot.score.high))
    mark = 'r="7" class="fill"' if dot.chosen else 'r="5" class="hollow"'
    return (
        f"<g><title>{escape(dot.name)}: {words.score(dot.score)}{', chosen' if dot.chosen else ''}</title>"
        f'<line x1="{x}" x2="{x}" y1="{_down(low, up)}" y2="{_down(high, up)}" class="whisker {shape}"/>'
        f'<circle cx="{x}" cy="{_down(dot.score.value, up)}" {mark}/></g>'
    )


def _stage_name(dot: Dot, n: int) -> str:
    name = dot.name if len(dot.name) <= LONGEST_TICK else dot.name[: LONGEST_TICK - 1] + "…"
    return (
        f'<svg x="{_across(dot.stage, n)}" y="{BAND + DEPTH_HEIGHT + 14}" overflow="visible">'
        f'<text x="3" text-anchor="end" transform="rotate(-50)" class="{"name" if dot.chosen else "tick"}">'
        f"{escape(name)}</text></svg>"
    )


class _Plane(NamedTuple):
    """Where labels and scores lie, in view-box units."""

    low: float  # log2 of the fewest labels
    high: float
    up: Axis

    def x(self, n_labels: float) -> float:
        """Position across; labels are spaced by their logarithm."""
        share = (math.log2(n_labels) - self.low) / (self.high - self.low)
        return round(LEFT + 16 + share * (WIDTH - 32), 1)

    def y(self, score: float) -> float:
        """Position down."""
        return round(TOP + (1 - self.up.at(score)) * HEIGHT, 1)


def curves(comparison: Comparison) -> Markup:
    """Score against the logarithm of labels: a line a system, ±1 standard deviation, names at the ends of the lines."""
    systems = {
        name: kept
        for name, points in comparison.systems().items()
        if (kept := [point for point in points if math.isfinite(point.mean)])
    }
    points = [point for own in systems.values() for point in own]
    budgets = sorted({point.n_labels for point in points}) or [1]
    low, high = math.log2(budgets[0]), math.log2(budgets[-1])
    room = 0.5 if low == high else 0.0
    ends = [point.mean + side * point.sd for point in points for side in (-1, 1)]
    plane = _Plane(low - room, high + room, axis(ends))
    body = _frame(plane, budgets, comparison.metric_title)
    for i, own in enumerate(systems.values()):
        body += _curve(plane, own, i, _aside(i, len(systems)))
    body += _names(plane, systems)
    desc = "; ".join(f"{name}: {_aloud(own)}" for name, own in systems.items())
    size = f'class="curves" viewBox="0 0 {LEFT + WIDTH + LABELS} {_bottom(len(systems))}"'
    return svg(body, size, f"{comparison.metric_title} against the number of labels", desc)


def _bottom(n_systems: int) -> float:
    """Height of the whole plot: many names at the ends of the lines need more of it."""
    return max(TOP + HEIGHT + 48, TOP + n_systems * (2 * LINE + 4))


def _aside(i: int, n_systems: int) -> float:
    """How far a system is moved across, so that bars do not hide each other."""
    return 3.0 * (i - (n_systems - 1) / 2)


def mean_and_sd(point: CurvePoint) -> tuple[str, str]:
    """('0.862', '± 0.011'); ('0.862', '') where there is a single seed."""
    digits = words.decimals(point.mean, point.sd)
    spread = f"± {words.number(point.sd, digits)}" if len(point.scores) > 1 and math.isfinite(point.sd) else ""
    return words.number(point.mean, digits), spread


def mean_sd(point: CurvePoint) -> str:
    """'0.862 ± 0.011'; only the mean where there is a single seed."""
    return " ".join(mean_and_sd(point)).strip()


def _aloud(points: Sequence[CurvePoint]) -> str:
    return ", ".join(f"{mean_sd(point)} with {words.count(point.n_labels)} labels" for point in points)


def _frame(plane: _Plane, budgets: Sequence[int], y_name: str) -> str:
    right, floor = LEFT + WIDTH, TOP + HEIGHT
    parts = [f'<text x="0" y="14" class="name">{escape(y_name)} ↑</text>']
    for tick, name in zip(plane.up.ticks, plane.up.tick_names(), strict=True):
        y = plane.y(tick)
        parts.append(f'<path d="M{LEFT} {y}H{right}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{name}</text>')
    for n in _legible(plane, budgets):
        parts.append(f'<path d="M{plane.x(n)} {floor}v5" class="grid"/>')
        parts.append(f'<text x="{plane.x(n)}" y="{floor + 20}" text-anchor="middle">{words.count(n)}</text>')
    parts.append(f'<text x="{right}" y="{floor + 42}" text-anchor="end" class="name">labels →</text>')
    return "".join(parts)


def _legible(plane: _Plane, budgets: Sequence[int]) -> list[int]:
    """Those budgets whose numbers do not run into each other: the most labels first, then downwards."""
    kept: list[int] = []
    for n in reversed(budgets):
        if not kept or plane.x(kept[-1]) - plane.x(n) >= 8 + 7 * len(words.count(kept[-1])):
            kept.append(n)
    return kept


def _curve(plane: _Plane, points: Sequence[CurvePoint], i: int, aside: float) -> str:
    """One system: its line, and a mark with its bar for every point."""
    places = [(round(plane.x(point.n_labels) + aside, 1), plane.y(point.mean)) for point in points]
    path = "L".join(f"{x} {y}" for x, y in places)
    body = f'<path d="M{path}" class="line" stroke-dasharray="{DASHES[i % len(DASHES)] or "none"}"/>'
    for point, (x, y) in zip(points, places, strict=True):
        top, floor = plane.y(point.mean + point.sd), plane.y(point.mean - point.sd)
        said = f"{point.system}, {words.count(point.n_labels)} labels: {mean_sd(point)}"
        bar = f'<path d="M{x} {top}V{floor}M{x - 3} {top}h6M{x - 3} {floor}h6" class="sd"/>' if point.sd > 0 else ""
        body += f"<g><title>{escape(said)}</title>{bar}{mark(x, y, i)}</g>"
    return f'<g class="s{i % N_COLOURS}">{body}</g>'


def mark(x: float, y: float, i: int) -> str:
    """The shape of system i."""
    return f'<g transform="translate({x} {y})" class="dot">{MARKS[i % len(MARKS)]}</g>'


def _names(plane: _Plane, systems: dict[str, list[CurvePoint]]) -> str:
    """Each system's name right of its last point, moved up or down until no two overlap, with a thin lead to it."""
    texts = {name: folded(name) for name in systems}
    wanted = [(plane.y(own[-1].mean), len(texts[name]) * LINE) for name, own in systems.items()]
    x, body = LEFT + WIDTH + 26, ""
    for i, ((name, own), middle) in enumerate(zip(systems.items(), apart(wanted, _bottom(len(systems))), strict=True)):
        start = plane.x(own[-1].n_labels) + _aside(i, len(systems)) + 8
        first = middle - LINE * (len(texts[name]) - 1) / 2 + 4
        lines = "".join(
            f'<tspan x="{x + 10}" y="{first + k * LINE:.1f}">{escape(line)}</tspan>'
            for k, line in enumerate(texts[name])
        )
        lead = f"M{start:.1f} {plane.y(own[-1].mean)}L{x - 9} {middle:.1f}"
        body += f'<g class="s{i % N_COLOURS}"><path d="{lead}" class="lead"/>'
        body += f'{mark(x, round(middle, 1), i)}<text class="name">{lines}</text></g>'
    return body


def folded(name: str, width: int = 22) -> list[str]:
    """A name in at most two lines of about `width` characters."""
    if len(name) <= width:
        return [name]
    space = name.rfind(" ", 0, width + 1)
    first, rest = (name[:space], name[space + 1 :]) if space > 0 else (name[:width], name[width:])
    return [first, rest if len(rest) <= width else rest[: width - 1] + "…"]


def apart(wanted: Sequence[tuple[float, float]], floor: float) -> list[float]:
    """Middles of (middle, height) boxes, moved down, then up again from the floor, until none overlap."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k][0])
    middles = [middle for middle, _ in wanted]
    edge = -math.inf
    for k in order:
        middles[k] = max(middles[k], edge + wanted[k][1] / 2)
        edge = middles[k] + wanted[k][1] / 2 + 4
    edge = floor
    for k in reversed(order):
        middles[k] = min(middles[k], edge - wanted[k][1] / 2)
        edge = middles[k] - wanted[k][1] / 2 - 4
    return middles
