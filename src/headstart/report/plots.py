"""Plots as inline SVG: small functions from numbers to markup, coloured by the page's own style.

Wide plots place their marks in per cent of the width, so that they stretch while their strokes and dots do not;
square ones have a fixed view box. Shape always says the same as colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from headstart.evidence.base import Score
from headstart.evidence.calibration import Bin
from headstart.evidence.words import count, interval, number, share, value, wilson

SIDE, TOP = 360, 28  # of the square plots, in view-box units
MOST_POINTS = 1500  # in a scatter plot: more would only make the file large


@dataclass(frozen=True)
class Axis:
    """A range of values and the ticks on it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, x: float) -> float:
        """Where a value lies, as a fraction from 0 to 1; values outside land on the edge."""
        return min(1.0, max(0.0, (x - self.low) / (self.high - self.low)))

    def tick_names(self) -> list[str]:
        """Every tick with as many decimals as the finest needs."""
        step = self.ticks[1] - self.ticks[0]
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        places += round(step * 10**places, 6) % 1 > 0  # 0.25 needs two
        return [number(tick, places) for tick in self.ticks]


def axis(values: Sequence[float], most_ticks: int = 6) -> Axis:
    """Round limits that hold all finite values; 0 to 1 when there are none."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    rough = (high - low) / (most_ticks - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(i * step, 12) for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def svg(body: str, attributes: str, title: str, desc: str = "") -> Markup:
    """A picture with its words: `title` and `desc` are escaped here, `body` and `attributes` by the caller."""
    described = f"<desc>{escape(desc)}</desc>" if desc else ""
    return Markup(f'<svg role="img" {attributes}><title>{escape(title)}</title>{described}{body}</svg>')


def verdict_mark(paid: bool | None) -> Markup:
    """A plain mark: a tick, a cross, or a question mark in a broken ring."""
    title = {True: "Transfer paid", False: "Transfer lost", None: "Cannot be told"}[paid]
    shape = {
        True: '<circle cx="24" cy="24" r="22" class="fill"/><path d="M14 25l7 7 14-15" class="cut"/>',
        False: '<circle cx="24" cy="24" r="21" class="ring"/><path d="M16 16l16 16M32 16l-16 16" class="pen"/>',
        None: '<circle cx="24" cy="24" r="21" class="ring broken"/>'
        '<path d="M18 19q0-6 6-6t6 6q0 4-4 6t-2 5M24 34v2" class="pen"/>',
    }[paid]
    return svg(shape, 'class="mark" viewBox="0 0 48 48"', title)


class Box(NamedTuple):
    """One stage in the strip."""

    kind: Literal["frozen", "read", "adapted", "trained", "head", "unused"]
    name: str


SAID = {"read": "frozen, read by the head", "adapted": "frozen, with trained low-rank adapters"}  # else the kind


def strip(boxes: Sequence[Box]) -> Markup:
    """The backbone's stages and the head, side by side; a dot in a stage that the head reads, a bar for an adapter."""
    width = 100 / len(boxes)
    body = []
    for i, box in enumerate(boxes):
        y, height, radius = (2, 32, 10) if box.kind == "head" else (6, 24, 3)
        at, wide, said = f"{i * width + 0.4:.2f}%", f"{width - 0.8:.2f}%", SAID.get(box.kind, box.kind)
        shape = "frozen" if box.kind in SAID else box.kind
        body.append(
            f'<rect x="{at}" y="{y}" width="{wide}" height="{height}" rx="{radius}" class="{shape}">'
            f"<title>{escape(box.name)} ({said})</title></rect>"
        )
        if box.kind == "adapted":
            body.append(f'<rect x="{at}" y="23" width="{wide}" height="7" rx="3" class="adapter"/>')
        elif box.kind == "read":
            body.append(f'<circle cx="{(i + 0.5) * width:.2f}%" cy="18" r="5" class="fill"/>')
    desc = ", ".join(f"{box.name}: {SAID.get(box.kind, box.kind)}" for box in boxes)
    return svg("".join(body), 'class="strip" width="100%" height="36"', "Stages of the model, input first", desc)


def interval_row(score: Score, axis: Axis, who: str, shape: Literal["model", "baseline"]) -> Markup:
    """One dot with its interval; a filled dot for the model, a hollow diamond for a baseline."""
    grid = "".join(
        f'<line x1="{100 * axis.at(t):.2f}%" x2="{100 * axis.at(t):.2f}%" y1="0" y2="100%" class="grid"/>'
        for t in axis.ticks
    )
    marks = ""
    if math.isfinite(score.value):
        low, high = (s if math.isfinite(s) else score.value for s in (score.low, score.high))
        at = f"{100 * axis.at(score.value):.2f}%"
        dot = (
            f'<circle cx="{at}" cy="50%" r="6" class="fill"/>'
            if shape == "model"
            else f'<svg x="{at}" y="50%" overflow="visible"><path d="M-6 0L0-6 6 0 0 6z" class="hollow"/></svg>'
        )
        line = f'x1="{100 * axis.at(low):.2f}%" x2="{100 * axis.at(high):.2f}%" y1="50%" y2="50%"'
        marks = f'<line {line} class="whisker {shape}"/>{dot}'
    title = f"{who}: {value(score)}" + (f", 95 % interval {interval(score)}" if interval(score) else "")
    return svg(grid + marks, 'class="row" width="100%" height="28"', title)


def tick_row(axis: Axis) -> Markup:
    """The tick labels under interval rows."""
    names = axis.tick_names()
    text = "".join(
        f'<text x="{100 * axis.at(t):.2f}%" y="13" text-anchor="middle">{name}</text>'
        for t, name in zip(axis.ticks, names, strict=True)
    )
    return svg(text, 'class="ticks" width="100%" height="18"', f"Axis from {names[0]} to {names[-1]}")


def bar(fraction: float, title: str, whisker: tuple[float, float] | None = None) -> Markup:
    """A horizontal bar, `fraction` of the full width; with the interval of the fraction where there is one."""
    fill = "pale" if whisker else "fill"
    body = '<rect width="100%" height="12" class="rail"/>'
    body += f'<rect width="{100 * fraction:.2f}%" height="12" class="{fill}"/>'
    if whisker:
        low, high = (f"{100 * x:.2f}%" for x in whisker)
        body += f'<line x1="{low}" x2="{high}" y1="6" y2="6" class="whisker baseline"/>'
    return svg(body, 'class="bar" width="100%" height="12"', title)


@dataclass(frozen=True)
class _Square:
    """A square plot with the same axis on both sides and its diagonal; coordinates in view-box units."""

    axis: Axis
    x_name: str
    y_name: str
    room: float = 0  # below the square, above the tick labels

    @property
    def left(self) -> float:
        """Where the square begins: as far right as the longest tick label needs."""
        return 14 + 7 * max(map(len, self.axis.tick_names()))

    def x(self, value: float) -> float:
        """Position of a value across."""
        return round(self.left + self.axis.at(value) * SIDE, 1)

    def y(self, value: float) -> float:
        """Position of a value up."""
        return round(TOP + (1 - self.axis.at(value)) * SIDE, 1)

    def drawn(self, marks: str, title: str, desc: str) -> Markup:
        """The whole plot, with the marks on top."""
        left, right, low = self.left, self.left + SIDE, TOP + SIDE
        parts = [f'<text x="0" y="14" class="name">{escape(self.y_name)} ↑</text>']
        names = self.axis.tick_names()
        every = 1 + (8 * len("".join(names)) > SIDE)  # long numbers stand side by side only every second tick
        for i, (tick, name) in enumerate(zip(self.axis.ticks, names, strict=True)):
            x, y = self.x(tick), self.y(tick)
            parts.append(f'<path d="M{x} {TOP}V{low}M{left} {y}H{right}" class="grid"/>')
            if i % every == 0:
                parts.append(f'<text x="{x}" y="{low + 18 + self.room}" text-anchor="middle">{name}</text>')
            parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{name}</text>')
        parts.append(f'<path d="M{left} {low}L{right} {TOP}" class="diagonal"/>')
        below = low + 40 + self.room
        parts.append(f'<text x="{right}" y="{below}" text-anchor="end" class="name">{escape(self.x_name)} →</text>')
        size = f'class="square" viewBox="0 0 {right + 18} {below + 8}"'
        return svg("".join(parts) + marks, size, title, desc)


def calibration(bins: Sequence[Bin]) -> Markup:
    """Mean confidence against share of right answers, a dot a bin with its interval; counts as bars below."""
    square = _Square(axis([0.0, 1.0]), "how sure the model was", "how often it was right", room=44)
    most = max((b.count for b in bins), default=1)
    marks, said = [], []
    for b in bins:
        low, high = b.interval or wilson(b.accuracy * b.count, b.count)
        x, height = square.x(b.confidence), max(1.0, 32 * b.count / most)
        marks.append(f'<path d="M{x} {square.y(low)}V{square.y(high)}" class="whisker model"/>')
        marks.append(f'<circle cx="{x}" cy="{square.y(b.accuracy)}" r="5" class="fill"/>')
        y = TOP + SIDE + square.room - height
        marks.append(f'<rect x="{x - 5:.1f}" y="{y:.1f}" width="10" height="{height:.1f}" class="count"/>')
        said.append(f"sure {share(b.confidence)}, right {share(b.accuracy)}, {count(b.count)} answers")
    return square.drawn("".join(marks), "How sure the model was, against how often it was right", "; ".join(said))


def scatter(truth: np.ndarray, predicted: np.ndarray, name: str) -> Markup:
    """Predicted against true numbers, evenly thinned to at most `MOST_POINTS`."""
    shown = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), MOST_POINTS)).astype(int))
    square = _Square(axis([*truth.tolist(), *predicted.tolist()], most_ticks=8), f"true {name}", f"predicted {name}")
    dots = "".join(
        f'<circle cx="{square.x(t)}" cy="{square.y(p)}" r="3"/>'
        for t, p in zip(truth[shown].tolist(), predicted[shown].tolist(), strict=True)
    )
    names = square.axis.tick_names()
    desc = f"{count(len(shown))} test examples on an axis from {names[0]} to {names[-1]}."
    return square.drawn(f'<g class="points">{dots}</g>', f"Predicted against true {name}", desc)
