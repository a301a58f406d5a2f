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
from headstart.evidence.words import count, decimals, interval, number, share, value, wilson

SIDE, LEFT, BOTTOM, TOP = 360, 52, 46, 10  # of the square plots, in view-box units
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


def _svg(body: str, attributes: str, title: str, desc: str = "") -> Markup:
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
    return _svg(shape, 'class="mark" viewBox="0 0 48 48"', title)


class Box(NamedTuple):
    """One stage in the strip."""

    kind: Literal["frozen", "trained", "head", "unused"]
    name: str


def strip(boxes: Sequence[Box]) -> Markup:
    """The backbone's stages and the head, side by side."""
    width = 100 / len(boxes)
    body = []
    for i, box in enumerate(boxes):
        y, height, radius = (2, 32, 10) if box.kind == "head" else (6, 24, 3)
        body.append(
            f'<rect x="{i * width + 0.4:.2f}%" y="{y}" width="{width - 0.8:.2f}%" height="{height}" rx="{radius}" '
            f'class="{box.kind}"><title>{escape(box.name)} ({box.kind})</title></rect>'
        )
    desc = ", ".join(f"{box.name}: {box.kind}" for box in boxes)
    return _svg("".join(body), 'class="strip" width="100%" height="36"', "Stages of the model, input first", desc)


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
    title = f"{who}: {value(score)}, 95 % interval {interval(score)}"
    return _svg(grid + marks, 'class="row" width="100%" height="28"', title)


def tick_row(axis: Axis) -> Markup:
    """The tick labels under interval rows."""
    names = axis.tick_names()
    text = "".join(
        f'<text x="{100 * axis.at(t):.2f}%" y="13" text-anchor="middle">{name}</text>'
        for t, name in zip(axis.ticks, names, strict=True)
    )
    return _svg(text, 'class="ticks" width="100%" height="18"', f"Axis from {names[0]} to {names[-1]}")


def bar(fraction: float, title: str, whisker: tuple[float, float] | None = None) -> Markup:
    """A horizontal bar, `fraction` of the full width; with the interval of the fraction where there is one."""
    body = f'<rect width="100%" height="12" class="rail"/><rect width="{100 * fraction:.2f}%" height="12" class="fill"/>'
    if whisker:
        low, high = (f"{100 * x:.2f}%" for x in whisker)
        body += f'<line x1="{low}" x2="{high}" y1="6" y2="6" class="halo"/>'
        body += f'<line x1="{low}" x2="{high}" y1="6" y2="6" class="whisker baseline"/>'
    return _svg(body, 'class="bar" width="100%" height="12"', title)


def _x(fraction: float) -> float:
    return round(LEFT + fraction * SIDE, 1)


def _y(fraction: float) -> float:
    return round(TOP + (1 - fraction) * SIDE, 1)


def _frame(axis: Axis, x_name: str, y_name: str, height: int = 0) -> str:
    """A square with the same axis on both sides and its diagonal."""
    parts = [f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" class="diagonal"/>']
    for tick, name in zip(axis.ticks, axis.tick_names(), strict=True):
        x, y = _x(axis.at(tick)), _y(axis.at(tick))
        parts.append(f'<path d="M{x} {_y(1)}V{_y(0)}M{_x(0)} {y}H{_x(1)}" class="grid"/>')
        parts.append(f'<text x="{x}" y="{_y(0) + 18 + height}" text-anchor="middle">{name}</text>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{name}</text>')
    parts.append(f'<text x="{_x(0.5)}" y="{_y(0) + 39 + height}" text-anchor="middle" class="name">{escape(x_name)}</text>')
    parts.append(
        f'<text transform="translate(12 {_y(0.5)}) rotate(-90)" text-anchor="middle" class="name">{escape(y_name)}</text>'
    )
    return "".join(parts)


def _square(height: int = 0) -> str:
    return f'class="square" viewBox="0 0 {LEFT + SIDE + 14} {TOP + SIDE + BOTTOM + height}"'


def calibration(bins: Sequence[Bin]) -> Markup:
    """Mean confidence against share of right answers, a dot a bin with its interval; counts as bars below."""
    room, most = 44, max((b.count for b in bins), default=1)
    body, said = [_frame(axis([0.0, 1.0]), "how sure the model was", "how often it was right", room)], []
    for b in bins:
        low, high = wilson(b.accuracy * b.count, b.count)
        x, height = _x(b.confidence), max(1.0, (room - 12) * b.count / most)
        body.append(f'<path d="M{x} {_y(low)}V{_y(high)}" class="whisker model"/>')
        body.append(f'<circle cx="{x}" cy="{_y(b.accuracy)}" r="5" class="fill"/>')
        body.append(f'<rect x="{x - 5:.1f}" y="{_y(0) + room - height:.1f}" width="10" height="{height:.1f}" class="count"/>')
        said.append(f"sure {share(b.confidence)}, right {share(b.accuracy)}, {count(b.count)} answers")
    return _svg("".join(body), _square(room), "How sure the model was, against how often it was right", "; ".join(said))


def scatter(truth: np.ndarray, predicted: np.ndarray, name: str) -> Markup:
    """Predicted against true numbers, evenly thinned to at most `MOST_POINTS`."""
    shown = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), MOST_POINTS)).astype(int))
    axis_ = axis([*truth.tolist(), *predicted.tolist()])
    dots = "".join(
        f'<circle cx="{_x(axis_.at(t))}" cy="{_y(axis_.at(p))}" r="3"/>'
        for t, p in zip(truth[shown].tolist(), predicted[shown].tolist(), strict=True)
    )
    digits = decimals(axis_.low, axis_.high)
    desc = f"{count(len(shown))} test examples, from {number(axis_.low, digits)} to {number(axis_.high, digits)}."
    body = _frame(axis_, f"true {name}", f"predicted {name}") + f'<g class="points">{dots}</g>'
    return _svg(body, _square(), f"Predicted against true {name}", desc)
