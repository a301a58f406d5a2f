"""The page of a clustering: the map, how many groups and how sure, each group, and what stands alone or twice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from headstart.evidence import words
from headstart.evidence.agreement import TITLES
from headstart.evidence.clusters import Clusters, Group
from headstart.evidence.stability import Count
from headstart.report import plots
from headstart.report.lines import MARKS, N_COLOURS
from headstart.report.page import fill, sentence

SIDE = 640  # of the map, in view-box units
MOST_NUMBERED = 40  # groups that carry their number on the map; marks repeat from the 31st on
MOST_IN_FULL = 60  # groups that are shown with their exemplars
STABLE, DISSOLVED = 0.75, 0.5  # Hennig's own limits
MARK_SCALE = 0.55


class Row(NamedTuple):
    """One group."""

    group: Group
    mark: Markup
    bar: Markup
    share: float
    word: str  # "stable", "unsure", "dissolves"


class Agreed(NamedTuple):
    """One grouping against the labels."""

    who: str
    cells: list[tuple[str, str]]  # value, interval
    said: str  # of the paired difference; empty for this grouping


def render_clusters(found: Clusters) -> str:
    """One self-contained HTML page."""
    return fill("clusters.html.j2", _view(found))


def _view(found: Clusters) -> dict[str, Any]:
    created = datetime.fromisoformat(found.created).astimezone(UTC)
    shown = found.groups[:MOST_IN_FULL]
    return {
        "found": found,
        "created": f"{created.day} {created:%B %Y, %H:%M} UTC",
        "chart": chart(found),
        "curve": curve(found.count) if len(found.count.points) > 1 else "",
        "best": found.count.best,
        "excess": words.score(found.count.best.excess),
        "rows": [_row(group, index, found.n) for index, group in enumerate(found.groups)],
        "shown": shown,
        "is_pictures": any(one.preview.image_uri for group in shown for one in group.exemplars),
        "n_stable": sum(group.stability.value >= STABLE for group in found.groups),
        "agreed": _agreed(found),
        "titles": list(TITLES.values()),
        "warnings": [finding for finding in found.findings if finding.severity == "warning"],
        "total_seconds": sum(found.seconds.values()),
    }


def _row(group: Group, index: int, n: int) -> Row:
    value = group.stability.value
    word = "stable" if value >= STABLE else "unsure" if value >= DISSOLVED else "dissolves"
    title = f"{group.name}: {words.score(group.stability)}, {word}"
    bar = plots.bar(value, title, (group.stability.low, group.stability.high))
    return Row(group, key_mark(index), bar, group.size / n, word)


def _agreed(found: Clusters) -> list[Agreed]:
    if found.measured is None:
        return []
    rows = []
    for who, scores in found.measured.scores.items():
        difference = found.measured.differences.get(who, {}).get("ari")
        said = (
            sentence(words.comparison(difference, "higher").text.replace("model", "these groups")) if difference else ""
        )
        rows.append(Agreed(who, [(words.value(s), words.interval(s)) for s in scores.values()], said))
    return rows


def key_mark(index: int) -> Markup:
    """The mark of a group, as on the map."""
    body = f'<g class="s{index % N_COLOURS} dot" transform="translate(8 8)">{MARKS[index % len(MARKS)]}</g>'
    return Markup(f'<svg class="keymark" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{body}</svg>')


def chart(found: Clusters) -> Markup:
    """The map: a mark an item, of its group's colour and shape; rings around outliers; numbers where groups are."""
    table = found.table
    x, y = (SIDE / 2 * (1 + sign * table[axis].to_numpy() * 0.96) for axis, sign in (("x", 1), ("y", -1)))
    labels = table["group"].map({group.name: index for index, group in enumerate(found.groups)}).fillna(-1).to_numpy()
    labels = labels.astype(int)
    shown = np.unique(np.linspace(0, len(x) - 1, min(len(x), plots.MOST_POINTS)).astype(int))
    body = ""
    for label in np.unique(labels[shown]):
        own = shown[labels[shown] == label]
        mark = '<circle r="4"/>' if label < 0 else MARKS[label % len(MARKS)]
        dots = "".join(f'<g transform="translate({x[i]:.0f} {y[i]:.0f}) scale({MARK_SCALE})">{mark}</g>' for i in own)
        body += f'<g class="s{max(label, 0) % N_COLOURS}"><g class="dot faded">{dots}</g></g>'
    lonely = [i for i in shown if table["outlier"].iloc[i]]
    body += "".join(f'<circle cx="{x[i]:.0f}" cy="{y[i]:.0f}" r="7" class="lonely"/>' for i in lonely)
    body += _numbers(found.groups, labels, x, y)
    desc = f"{words.count(len(shown))} of {words.count(found.n)} items in {len(found.groups)} groups."
    top, bottom = float(y.min()) - 12, float(y.max()) + 12
    return plots.svg(body, f'class="chart" viewBox="0 {top:.0f} {SIDE} {bottom - top:.0f}"', "Map of the items", desc)


def _numbers(groups: Sequence[Group], labels: np.ndarray, x: np.ndarray, y: np.ndarray) -> str:
    """The number of each of the largest groups, at the item that lies in its midst."""
    body = ""
    for label, group in enumerate(groups[:MOST_NUMBERED]):
        own = np.flatnonzero(labels == label)
        middle = np.median(x[own]), np.median(y[own])
        nearest = own[((x[own] - middle[0]) ** 2 + (y[own] - middle[1]) ** 2).argmin()]
        number = re.sub(r"^\D*0*", "", group.name)
        body += f'<text x="{x[nearest]:.0f}" y="{y[nearest] + 5:.0f}" class="number">{escape(number)}</text>'
    return body


def curve(count: Count) -> Markup:
    """Excess stability against the number of groups: a dot and its interval each; what cannot be told apart is shaded.

    Numbers are spaced by their logarithm.
    """
    width, height, left, top = 700, 260, 46, 30
    ks = [point.k for point in count.points]
    ends = [end for point in count.points for end in (point.excess.value, 0.0)]
    up = plots.axis([*ends, min(1.0, count.best.excess.high), max(-0.2, count.best.excess.low)])
    low, high = np.log(ks[0]), np.log(ks[-1])

    def across(k: float) -> float:
        return round(left + 20 + (width - left - 40) * float((np.log(k) - low) / max(high - low, 1e-9)), 1)

    def down(value: float) -> float:
        return round(top + height * (1 - up.at(value)), 1)

    body = '<text x="0" y="14" class="name">stability beyond chance ↑</text>'
    if count.found:
        start, end = across(count.low) - 9, across(count.high) + 9
        body += f'<rect x="{start}" y="{top}" width="{end - start:.1f}" height="{height}" class="band"/>'
    for tick, name in zip(up.ticks, up.tick_names(), strict=True):
        body += f'<path d="M{left} {down(tick)}H{width}" class="grid"/>'
        body += f'<text x="{left - 8}" y="{down(tick) + 4}" text-anchor="end">{name}</text>'
    after = -np.inf
    for point in count.points:
        x, best = across(point.k), point.k == count.k
        shape, mark = ("model", 'r="7" class="fill"') if best else ("baseline", 'r="4" class="hollow"')
        title = f"{point.k} groups: {words.score(point.excess)} beyond chance"
        line = f'<path d="M{x} {down(point.excess.low)}V{down(point.excess.high)}" class="whisker {shape} thin"/>'
        body += f'<g><title>{title}</title>{line}<circle cx="{x}" cy="{down(point.excess.value)}" {mark}/></g>'
        if x - after > 24:
            body += f'<text x="{x}" y="{top + height + 20}" text-anchor="middle">{point.k}</text>'
            after = x
    body += f'<text x="{width}" y="{top + height + 42}" text-anchor="end" class="name">groups →</text>'
    said = "; ".join(f"{point.k}: {words.score(point.excess)}" for point in count.points)
    return plots.svg(body, f'class="curves" viewBox="0 0 {width} {top + height + 48}"', "Stability beyond chance", said)
