"""What a detector finds and misses, as the template draws it: classes, curves, counts, mix-ups, the worst slips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.evidence.boxes import BoxEvidence, ClassBoxes
from headstart.evidence.slips import Kind, Slip
from headstart.report import plots
from headstart.report.lines import DASHES, LINE, N_COLOURS, apart, folded, mark
from headstart.report.outcomes import Confusion

WIDTH, HEIGHT, LEFT, TOP, LABELS = 420, 320, 46, 30, 190  # of the curves, in view-box units
MOST_LINES = 8  # more cannot be told apart
NOTHING = "nothing"
TITLES: dict[Kind, tuple[str, str]] = {
    "miss": ("Missed", "objects that no box found, the largest of each class first"),
    "false alarm": ("False alarms", "boxes where no such object is marked, the surest of each class first"),
    "wrong class": ("Wrong class", "boxes on an object of another class, the surest first"),
}


class Cell(NamedTuple):
    """A value and its interval, in words."""

    value: str
    interval: str


class Line(NamedTuple):
    """One class."""

    name: str
    n_objects: int
    n_shown: int
    threshold: str
    scores: list[Cell]  # AP, AP50, precision, recall, F1
    counts: list[Cell]  # mean error of the count, which way it leans
    leans: str  # "too many", "too few", "neither"


def view(boxes: BoxEvidence, slips: Sequence[Slip]) -> dict[str, Any]:
    """What the template needs to know."""
    names = (*(one.name for one in boxes.classes), NOTHING)
    drawn = sorted((one for one in boxes.classes if len(one.curve) > 1), key=lambda one: -one.n_objects)[:MOST_LINES]
    return {
        "n_pictures": boxes.n_pictures,
        "lines": [_line(one) for one in boxes.classes],
        "curves": recall_curves(drawn) if drawn else "",
        "undrawn": [one.name for one in boxes.classes if one not in drawn],
        "confusion": Confusion(names, np.array(boxes.confusion)),
        "example": _example(boxes),
        "calibration": plots.calibration(boxes.calibration, "boxes") if boxes.calibration else "",
        "calibration_example": _read_aloud(boxes),
        "slips": [(*TITLES[kind], own) for kind in TITLES if (own := [s for s in slips if s.place.kind == kind])],
    }


def _line(one: ClassBoxes) -> Line:
    bias = one.count_bias
    leans = "too many" if bias.low > 0 else "too few" if bias.high < 0 else "neither, as far as can be told"
    return Line(
        name=one.name,
        n_objects=one.n_objects,
        n_shown=one.n_shown,
        threshold=words.share(one.threshold),
        scores=[_cell(score) for score in (one.ap, one.ap50, one.precision, one.recall, one.f1)],
        counts=[_cell(one.count_error), _cell(bias, signed=True)],
        leans=leans,
    )


def _cell(score: Score | None, signed: bool = False) -> Cell:
    if score is None:
        return Cell("–", "")
    digits = 2 if max(abs(score.value), abs(score.low), abs(score.high)) < 10 else 1
    ends = " to ".join(words.number(end, digits, signed) for end in (score.low, score.high))
    return Cell(words.number(score.value, digits, signed), ends)


def _example(boxes: BoxEvidence) -> str:
    """The row of the most frequent class, read aloud; "" where nothing is marked."""
    row = max(range(len(boxes.classes)), key=lambda k: boxes.classes[k].n_objects)
    one, counts = boxes.classes[row], boxes.confusion[row]
    if not sum(counts):
        return ""
    return (
        f"For example, of {words.count(sum(counts))} objects of class {one.name}, {words.count(counts[row])} were "
        f"found as such, {words.count(sum(counts[:-1]) - counts[row])} were taken for another class and "
        f"{words.count(counts[-1])} were missed; {words.count(boxes.confusion[-1][row])} boxes of this class lie where "
        f"none is marked."
    )


def _read_aloud(boxes: BoxEvidence) -> str:
    """The surest bin of calibration in a sentence."""
    if not boxes.calibration:
        return ""
    top = boxes.calibration[-1]
    boxes_were = "box was" if top.count == 1 else "boxes were"
    return (
        f"For example, {words.count(top.count)} {boxes_were} given with a confidence of about "
        f"{words.share(top.confidence)}; {words.share(top.accuracy)} of them were right."
    )


def recall_curves(classes: Sequence[ClassBoxes]) -> Markup:
    """Precision against recall, a line a class with its name at the end; a mark at the threshold of each."""
    body = _frame()
    for i, one in enumerate(classes):
        path = "L".join(f"{_x(recall)} {_y(precision)}" for recall, precision in one.curve)
        dash = DASHES[i % len(DASHES)] or "none"
        said = f"{one.name}: {_aloud(one)}"
        body += f'<g class="s{i % N_COLOURS}"><title>{escape(said)}</title>'
        body += f'<path d="M{path}" class="line" stroke-dasharray="{dash}"/>{_here(one, i)}</g>'
    body += _names(classes)
    desc = "; ".join(f"{one.name}: {_aloud(one)}" for one in classes)
    size = f'class="curves" viewBox="0 0 {LEFT + WIDTH + LABELS} {_bottom(len(classes))}"'
    return plots.svg(body, size, "Precision against recall, a line a class", desc)


def _x(recall: float) -> float:
    return round(LEFT + recall * WIDTH, 1)


def _y(precision: float) -> float:
    return round(TOP + (1 - precision) * HEIGHT, 1)


def _bottom(n: int) -> float:
    return max(TOP + HEIGHT + 48, TOP + n * (2 * LINE + 4))


def _frame() -> str:
    right, floor = LEFT + WIDTH, TOP + HEIGHT
    axis = plots.axis([0.0, 1.0])
    parts = ['<text x="0" y="14" class="name">precision: share of boxes that are right ↑</text>']
    for tick, name in zip(axis.ticks, axis.tick_names(), strict=True):
        x, y = _x(tick), _y(tick)
        parts.append(f'<path d="M{LEFT} {y}H{right}M{x} {TOP}V{floor}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{name}</text>')
        parts.append(f'<text x="{x}" y="{floor + 20}" text-anchor="middle">{name}</text>')
    said = "recall: share of objects that are found →"
    parts.append(f'<text x="{right}" y="{floor + 42}" text-anchor="end" class="name">{said}</text>')
    return "".join(parts)


def _here(one: ClassBoxes, i: int) -> str:
    """The mark where the class's threshold puts it."""
    if one.precision is None or one.recall is None:
        return ""
    return mark(_x(one.recall.value), _y(one.precision.value), i)


def _aloud(one: ClassBoxes) -> str:
    said = f"average precision {words.value(one.ap50)} at an overlap of 0.5" if one.ap50 else "no object"
    if one.precision is None or one.recall is None:
        return said
    return f"{said}; at its threshold precision {words.value(one.precision)} at a recall of {words.value(one.recall)}"


def _names(classes: Sequence[ClassBoxes]) -> str:
    """Each class's name right of the end of its line, moved until no two overlap, with a thin lead to it."""
    texts = [folded(one.name) for one in classes]
    ends = [(_x(one.curve[-1][0]), _y(one.curve[-1][1])) for one in classes]
    wanted = [(y, len(text) * LINE) for (_, y), text in zip(ends, texts, strict=True)]
    at, body = LEFT + WIDTH + 24, ""
    for i, (text, (x, y), middle) in enumerate(zip(texts, ends, apart(wanted, _bottom(len(texts))), strict=True)):
        first = middle - LINE * (len(text) - 1) / 2 + 4
        lines = "".join(
            f'<tspan x="{at + 10}" y="{first + k * LINE:.1f}">{escape(line)}</tspan>' for k, line in enumerate(text)
        )
        body += f'<g class="s{i % N_COLOURS}"><path d="M{x} {y}L{at - 9} {middle:.1f}" class="lead"/>'
        body += f'{mark(at, round(middle, 1), i)}<text class="name">{lines}</text></g>'
    return body
