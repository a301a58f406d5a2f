"""Draw boxes on pictures, in colours that all eyes can tell apart (Okabe & Ito 2008, jfly.uni-koeln.de/color)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from headstart.tasks.boxes import Detections

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#5A3D8A")
HALOS = {"#000000": (0, 0, 0, 110), "#ffffff": (255, 255, 255, 150)}  # around lines of the colour that has this ink
LEAST_TEXT, LEAST_LINE = 11, 2  # pixels
TEXT_SHARE, LINE_SHARE = 1 / 48, 1 / 320  # of the longer side
PAD = 0.25  # around a label's text, of its height

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom; the last pixels are in it


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One box, in pixels of the picture."""

    box: tuple[float, float, float, float]
    colour: str  # "#RRGGBB"
    text: str = ""
    line: Literal["solid", "dashed", "double"] = "solid"
    faint: bool = False  # a line of one pixel, beside others that matter more


def draw(picture: Picture, found: Detections, class_names: Sequence[str]) -> Picture:
    """A copy with what was found in it: a colour a class, its name and how sure; the surest on top.

    An RGB picture of the size that the detections speak of.
    """
    each = zip(found.boxes.tolist(), found.classes.tolist(), found.confidence.tolist(), strict=True)
    marks = [
        Mark(box=tuple(box), colour=PALETTE[k % len(PALETTE)], text=f"{class_names[k]} {100 * confidence:.0f} %")
        for box, k, confidence in each
    ]
    return draw_marks(picture, marks)


def draw_marks(picture: Picture, marks: Sequence[Mark]) -> Picture:
    """A copy with the marks on it, the first on top; lines and text as large as the picture asks for.

    Nothing lies outside: a box is cut at the edge, a label is moved, shortened, or left out where it has no room.
    """
    from PIL import ImageDraw

    drawn = picture.convert("RGB")  # a copy, in RGB too
    pen: Any = ImageDraw.Draw(drawn, "RGBA")
    width = max(LEAST_LINE, round(max(drawn.size) * LINE_SHARE))
    for mark in reversed(marks):
        _outline(pen, _within(mark.box, drawn.size), mark, width)
    taken: list[Rectangle] = []
    for mark in marks:
        taken += _label(pen, mark, drawn.size, taken)
    return drawn


def _within(box: Sequence[float], size: tuple[int, int]) -> Rectangle:
    """Whole pixels, cut at the edge of the picture."""
    left, top, right, bottom = (round(value) for value in box)
    left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
    return left, top, min(max(right - 1, left), size[0] - 1), min(max(bottom - 1, top), size[1] - 1)


def _outline(pen: Any, box: Rectangle, mark: Mark, width: int) -> None:
    """The four sides, on a line of the opposite lightness that is wider by a pixel on both sides."""
    halo, size = HALOS[_ink(mark.colour)], pen.im.size
    if mark.line == "dashed":
        pieces = list(_dashes(box, 1 if mark.faint else width))
        for piece in [] if mark.faint else pieces:
            pen.rectangle(_grown(piece, 1, size), fill=halo)
        for piece in pieces:
            pen.rectangle(piece, fill=mark.colour)
        return
    if mark.faint:
        pen.rectangle(box, outline=mark.colour, width=1)
        return
    pen.rectangle(_grown(box, 1, size), outline=halo, width=width + 2)
    pen.rectangle(box, outline=mark.colour, width=width)
    if mark.line == "double":
        pen.rectangle(_grown(box, -2 * width, size), outline=mark.colour, width=width)


def _grown(box: Rectangle, by: int, size: tuple[int, int]) -> Rectangle:
    """The box with its sides moved outwards, or inwards where it is large enough."""
    left, top, right, bottom = box
    by = max(by, -((min(right - left, bottom - top)) // 2))
    return max(left - by, 0), max(top - by, 0), min(right + by, size[0] - 1), min(bottom + by, size[1] - 1)


def _dashes(box: Rectangle, width: int) -> Iterator[Rectangle]:
    """Pieces of the sides with gaps between them, the corners whole."""
    left, top, right, bottom = box
    for start, end in _pieces(left, right, width):
        yield start, top, end, min(top + width - 1, bottom)
        yield start, max(bottom - width + 1, top), end, bottom
    for start, end in _pieces(top, bottom, width):
        yield left, start, min(left + width - 1, right), end
        yield max(right - width + 1, left), start, right, end


def _pieces(start: int, end: int, width: int) -> Iterator[tuple[int, int]]:
    """An odd number of equal pieces, of which every second is drawn; the first and last among them."""
    n = max(1, (end - start) // (4 * width)) // 2 * 2 + 1
    edges = np.linspace(start, end, n + 1).round().astype(int).tolist()
    yield from list(pairwise(edges))[::2]


def _label(pen: Any, mark: Mark, size: tuple[int, int], taken: Sequence[Rectangle]) -> list[Rectangle]:
    """Write the text where it hides the least of other labels; where it stands, or [] where it has no room."""
    height = max(LEAST_TEXT, round(max(size) * TEXT_SHARE))
    font, pad = _font(height), round(PAD * height)
    text = _shortened(mark.text, font, size[0] - 2 * pad)
    tall = height + 2 * pad
    if not text or tall > size[1]:
        return []
    wide = int(np.ceil(font.getlength(text))) + 2 * pad
    left, top, _, bottom = _within(mark.box, size)
    left = min(left, size[0] - wide)
    tops = [min(max(y, 0), size[1] - tall) for y in (top - tall, bottom + 1, top)]
    places = [(left, y, left + wide - 1, y + tall - 1) for y in tops]
    place = min(places, key=lambda one: sum(_shared(one, other) for other in taken))
    pen.rectangle(place, fill=mark.colour)
    pen.text((left + pad, place[1] + tall / 2), text, font=font, fill=_ink(mark.colour), anchor="lm")
    return [place]


def _shared(a: Rectangle, b: Rectangle) -> int:
    """Pixels that both cover."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1) * max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)


def _shortened(text: str, font: Any, room: int) -> str:
    """As much of the text as fits, with a sign that something is left out; "" where that is nothing."""
    if font.getlength(text) <= room:
        return text
    fits = [n for n in range(1, len(text)) if font.getlength(text[:n] + "…") <= room]
    return text[: fits[-1]] + "…" if fits else ""


def _ink(colour: str) -> str:
    """Black or white, whichever has more contrast to the colour (relative luminance, WCAG 2)."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "#ffffff"


@cache
def _font(height: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(height)
