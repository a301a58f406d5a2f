"""Fan charts and errors by step ahead, as inline SVG like those in `plots`: history, outcome, median and bands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from markupsafe import Markup, escape

from headstart.evidence import words
from headstart.evidence.forecasts import Fan
from headstart.report.lines import DASHES, LINE, apart, folded, mark
from headstart.report.plots import Axis, axis, svg

WIDTH, HEIGHT, TOP, FOOT = 640, 230, 14, 34  # of the plane in view-box units, and the room around it
STEP_WIDTH, STEP_HEIGHT, NAMES = 400, 190, 210
MOST_DATES = 7
FEWEST_DATES = 3
Points = Sequence[float | None]


def fan(one: Fan) -> Markup:
    """One forecast: what was seen, the bands and median of what was foretold, what came, and the rival's median."""
    n, steps = len(one.history), len(one.times)
    values = [
        *one.history,
        *one.outcome,
        *one.median,
        *one.rival,
        *(v for band in one.bands.values() for v in (*band[0], *band[1])),
    ]
    up = axis([v for v in values if v is not None], most_ticks=5)
    left = 14 + 7 * max(map(len, up.tick_names()))
    total = n + steps

    def x(step: float) -> float:
        return round(left + (step + 0.5) / total * (WIDTH - left), 1)

    def y(value: float) -> float:
        return round(TOP + (1 - up.at(value)) * HEIGHT, 1)

    ahead = range(n, total)
    body = _frame(up, left, y) + _dates([*one.history_times, *one.times], x, left)
    for name in sorted(one.bands, key=int, reverse=True):
        low, high = one.bands[name]
        body += f'<path d="{_area([x(s) for s in ahead], [y(v) for v in low], [y(v) for v in high])}" class="b{name}"/>'
    body += f'<path d="M{x(n - 0.5)} {TOP}V{TOP + HEIGHT}" class="diagonal"/>'
    for points, first, kind in (
        (one.history, 0, "seen"),
        (one.rival, n, "rival"),
        (one.median, n, "median"),
        (one.outcome, n, "came"),
    ):
        body += _line(points, first, kind, x, y)
    return svg(
        body, f'class="fan" viewBox="0 0 {WIDTH + 8} {TOP + HEIGHT + FOOT}"', f"Forecast of {one.name}", _aloud(one)
    )


STYLE = """svg { --paper: #fdfcf9; --ink: #1c1b19; --soft: #5c5952; --line: #dcd8cf; --accent: #0a5a83; --s1: #b3430a;
  background: var(--paper); } @media (prefers-color-scheme: dark) { svg { --paper: #15171a; --ink: #e9e6e0;
  --soft: #a7a39b; --line: #383b40; --accent: #74bbea; --s1: #f0935a; } }
text { font: 12px system-ui, "Segoe UI", Roboto, Arial, sans-serif; fill: var(--soft); }
path { fill: none; stroke-linejoin: round; stroke-linecap: round; } .grid { stroke: var(--line); }
.diagonal { stroke: var(--soft); stroke-width: 1.25; stroke-dasharray: 5 4; }
.b95 { fill: var(--accent); fill-opacity: .16; } .b80 { fill: var(--accent); fill-opacity: .26; }
.seen, .came { stroke: var(--ink); stroke-width: 1.6; } .median { stroke: var(--accent); stroke-width: 2.4; }
.rival { stroke: var(--s1); stroke-width: 1.8; stroke-dasharray: 6 4; }"""


def standalone(one: Fan) -> str:
    """A fan as the content of an SVG file, with its own style."""
    drawn = str(fan(one)).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return drawn.replace("</title>", f"</title><style>{STYLE}</style>", 1)


def key(rival: str, ships_network: bool = True) -> list[tuple[str, str]]:
    """(class, words) of what a fan shows."""
    median = "median of the forecast" if ships_network else "median of the adapted network"
    shown = [("seen", "seen before, and what came"), ("median", median), ("b80", "80 % band"), ("b95", "95 % band")]
    return [*shown, ("rival", f"median of {rival}")] if rival else shown


def by_step(systems: Mapping[str, Points]) -> Markup:
    """Mean absolute error against steps ahead, a line a system."""
    steps = max(map(len, systems.values()))
    up = axis([0.0, *(v for points in systems.values() for v in points if v is not None)], most_ticks=5)
    left = 14 + 7 * max(map(len, up.tick_names()))

    def x(step: float) -> float:
        return round(left + 12 + step / max(1, steps - 1) * (STEP_WIDTH - 24), 1)

    def y(value: float) -> float:
        return round(TOP + 14 + (1 - up.at(value)) * STEP_HEIGHT, 1)

    right, floor = left + STEP_WIDTH, TOP + 14 + STEP_HEIGHT
    body = '<text x="0" y="12" class="name">mean error, in units of the scale ↑</text>'
    for tick, name in zip(up.ticks, up.tick_names(), strict=True):
        body += f'<path d="M{left} {y(tick)}H{right}" class="grid"/>'
        body += f'<text x="{left - 8}" y="{y(tick) + 4}" text-anchor="end">{name}</text>'
    for step in _spread(steps, MOST_DATES):
        body += f'<text x="{x(step)}" y="{floor + 18}" text-anchor="middle">{step + 1}</text>'
    body += f'<text x="{right}" y="{floor + 38}" text-anchor="end" class="name">steps ahead →</text>'
    for i, points in enumerate(systems.values()):
        dashes = DASHES[i] or "none"
        line = _path(points, 0, x, y, f'class="line" stroke-dasharray="{dashes}"')
        body += f'<g class="s{i}">{line}</g>'
    body += _names(systems, right, y)
    said = "; ".join(
        f"{name}: {words.number(p[0] or 0.0)} at step 1, {words.number(p[-1] or 0.0)} at step {len(p)}"
        for name, p in systems.items()
    )
    size = f'class="curves steps" viewBox="0 0 {right + NAMES} {floor + 44}"'
    return svg(body, size, "Error by step ahead", said)


def day(text: str) -> str:
    """'2014-03-01' as '1 March 2014'; anything else as it is."""
    when = _when(text)
    if when is None:
        return text
    clock = f", {when:%H:%M}" if len(text) > len("2014-03-01") else ""
    return f"{when.day} {when:%B %Y}{clock}"


def _when(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text[:26]) if len(text) >= len("2014-03-01") else None
    except ValueError:
        return None


def _frame(up: Axis, left: float, y: Callable[[float], float]) -> str:
    """Ticks of the values and their lines."""
    body = ""
    for tick, name in zip(up.ticks, up.tick_names(), strict=True):
        body += f'<path d="M{left} {y(tick)}H{WIDTH}" class="grid"/>'
        body += f'<text x="{left - 8}" y="{y(tick) + 4}" text-anchor="end">{name}</text>'
    return body


def _dates(times: Sequence[str], x: Callable[[float], float], left: float) -> str:
    """Ticks of the times."""
    body = ""
    for step, name in ticks_of(times):
        place = min(max(x(step), left + 3.4 * len(name)), WIDTH - 3.4 * len(name))
        body += f'<path d="M{x(step)} {TOP + HEIGHT}v5" class="grid"/>'
        body += f'<text x="{place:.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{escape(name)}</text>'
    return body


def ticks_of(times: Sequence[str]) -> list[tuple[int, str]]:
    """(step, name) of a few steps: where a year, month or day begins, whichever gives some; else evenly spread."""
    when = [_when(one) for one in times]
    known = [one for one in when if one is not None]
    if len(known) < len(times) or not known:
        return _round_steps(times)
    years = known[0].year != known[-1].year
    for parts, form in ((1, "{0:%Y}"), (2, "{0:%b} {0.year}"), (3, "{0.day} {0:%b}" + " {0.year}" * years)):
        starts = [i for i in range(1, len(known)) if known[i].timetuple()[:parts] != known[i - 1].timetuple()[:parts]]
        if len(starts) >= FEWEST_DATES:
            kept = [starts[i] for i in _spread(len(starts), MOST_DATES - years * (parts > 2))]
            return [(i, form.format(known[i])) for i in kept]
    form = "{0.day} {0:%b} {0:%H:%M}" if len(times[0]) > len("2014-03-01") else "{0.day} {0:%b} {0.year}"
    return [(i, form.format(known[i])) for i in _spread(len(known), MOST_DATES - 2)]


def _round_steps(times: Sequence[str]) -> list[tuple[int, str]]:
    """(place, number) of steps that are round numbers; evenly spread where there are none, or words."""
    numbers = [int(one) for one in times if one.lstrip("-").isdigit()]
    if len(numbers) == len(times) and len(times) > 1:
        wanted = set(axis([float(one) for one in numbers], most_ticks=MOST_DATES).ticks)
        found = [(place, times[place]) for place, one in enumerate(numbers) if one in wanted]
        if len(found) >= FEWEST_DATES:
            return found
    return [(place, times[place]) for place in _spread(len(times), MOST_DATES)]


def _spread(n: int, most: int) -> list[int]:
    """At most so many of n places, evenly spread from the first on."""
    every = max(1, math.ceil(n / most))
    return list(range(0, n, every))


def _area(xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
    """A closed band; of a single step as wide as the step."""
    if len(xs) == 1:
        xs, low, high = [xs[0] - 3, xs[0] + 3], [*low, *low], [*high, *high]
    there = "L".join(f"{x} {y}" for x, y in zip(xs, high, strict=True))
    back = "L".join(f"{x} {y}" for x, y in zip(reversed(xs), reversed(low), strict=True))
    return f"M{there}L{back}z"


def _line(points: Points, first: int, kind: str, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    return _path(points, first, x, y, f'class="{kind}"') if any(v is not None for v in points) else ""


def _path(points: Points, first: int, x: Callable[[float], float], y: Callable[[float], float], attributes: str) -> str:
    """A line that is broken where a value is missing; a value alone is a dot, which round ends make of a line."""
    parts, before = [], False
    for step, value in enumerate(points):
        if value is not None:
            alone = not before and (step + 1 == len(points) or points[step + 1] is None)
            parts.append(f"{'L' if before else 'M'}{x(first + step)} {y(value)}{'h0' if alone else ''}")
        before = value is not None
    return f'<path d="{"".join(parts)}" {attributes.strip()}/>'


def _names(systems: Mapping[str, Points], right: float, y: Callable[[float], float]) -> str:
    """Each system's name right of the end of its line."""
    ends = [y(next((v for v in reversed(points) if v is not None), 0.0)) for points in systems.values()]
    texts = [folded(name) for name in systems]
    wanted = [(end, len(text) * LINE) for end, text in zip(ends, texts, strict=True)]
    body = ""
    for i, (text, end, middle) in enumerate(zip(texts, ends, apart(wanted, TOP + STEP_HEIGHT + 24), strict=True)):
        start = middle - LINE * (len(text) - 1) / 2 + 4
        spans = "".join(
            f'<tspan x="{right + 34}" y="{start + k * LINE:.1f}">{escape(line)}</tspan>' for k, line in enumerate(text)
        )
        lead = f'<path d="M{right - 8} {end}L{right + 14} {middle:.1f}" class="lead"/>'
        body += f'<g class="s{i}">{lead}{mark(right + 22, round(middle, 1), i)}<text class="name">{spans}</text></g>'
    return body


def _aloud(one: Fan) -> str:
    """The picture in words."""
    first, final = words.number(one.median[0]), words.number(one.median[-1])
    said = f"{len(one.times)} steps from {one.times[0]} to {one.times[-1]}; median {first} at first, {final} at the end"
    for name in sorted(one.bands, key=int):
        low, high = one.bands[name]
        said += f"; {name} % band at the end {words.number(low[-1])} to {words.number(high[-1])}"
    came = [v for v in one.outcome if v is not None]
    return said + (f"; what came ended at {words.number(came[-1])}" if came else "")
