"""The worst slips of a detector: what it missed, saw where nothing is, or took for something else; as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from headstart.engine.detector import Sure
from headstart.evidence import words
from headstart.evidence.boxes import Pairs, pair, shown
from headstart.modalities.base import Modality
from headstart.modalities.drawing import Mark, draw_marks
from headstart.tasks.base import Task
from headstart.tasks.boxes import Detections, Objects, areas, overlaps
from headstart.tasks.coco import in_pixels

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Kind = Literal["miss", "false alarm", "wrong class"]
KINDS: tuple[Kind, ...] = ("miss", "false alarm", "wrong class")

MOST = 6  # of each kind
MOST_OF_PICTURE = 2  # of each kind, in one picture
SIDE = 240  # pixels of a crop's longer side
WHOLE_SIDE = 112  # pixels of the whole picture's longer side
CONTEXT = 0.75  # of a box's longer side, seen on each of its sides
LEAST_SEEN = 0.12  # of the picture's longer side: a crop shows no less
NEAR = 0.2  # overlap from which a box that is no hit may have meant an object
TRUE, FOUND, HERE = "#0072B2", "#E69F00", "#D55E00"  # blue, orange, vermilion: told apart by all eyes


@dataclass(frozen=True, kw_only=True)
class Place:
    """One slip: which box of which test picture."""

    kind: Kind
    row: int
    box: tuple[float, float, float, float]  # in pixels of the picture
    truth: str = ""  # class name; "" for a false alarm
    found: str = ""  # class name; "" for a miss
    confidence: float | None = None  # None for a miss
    note: str = ""  # what may have been meant, in words


@dataclass(frozen=True, kw_only=True)
class Slip:
    """A slip as the report shows it."""

    place: Place
    name: str  # of the picture
    crop: str  # JPEG as a `data:` URI
    whole: str


def worst_slips(task: Task, y: np.ndarray, found: np.ndarray, sure: Sequence[Sure]) -> tuple[Place, ...]:
    """Up to `MOST` of each kind, of y (N,) Objects and calibrated Detections (N,) at their thresholds.

    The largest missed objects and the surest wrong boxes first, one class after the other.
    """
    names = task.score_names
    places: list[tuple[float, Place]] = []
    for row, (truth, one) in enumerate(zip(y, shown(found, sure), strict=True)):
        places += _of_picture(names, row, truth, replace(one, boxes=in_pixels(one, truth.size)))
    return tuple(place for kind in KINDS for place in _fairly([one for one in places if one[1].kind == kind]))


def picture_slips(
    task: Task, y: np.ndarray, found: np.ndarray, sure: Sequence[Sure], modality: Modality, items: Sequence[Any]
) -> tuple[Slip, ...]:
    """The worst slips with their pictures; `items` are the test rows as stored."""
    visible = shown(found, sure)
    slips = []
    for place in worst_slips(task, y, found, sure):
        item = items[place.row]
        picture: Any = modality.open(item)
        crop, whole = pictured(picture, place, y[place.row], visible[place.row])
        slips.append(Slip(place=place, name=modality.describe(item), crop=_uri(crop), whole=_uri(whole)))
    return tuple(slips)


def pictured(picture: Picture, place: Place, truth: Objects, visible: Detections) -> tuple[Picture, Picture]:
    """(the place with what is around it, the whole picture small with the place in it), boxes drawn.

    True objects are blue and solid, what was found is orange and broken, a missed object has a double line.
    """
    from PIL.Image import Resampling

    window = window_of(place.box, picture.size)
    scale = SIDE / max(window[2] - window[0], window[3] - window[1])
    size = tuple(max(1, round((window[i + 2] - window[i]) * scale)) for i in (0, 1))
    crop = picture.crop(window).resize((size[0], size[1]), Resampling.BICUBIC)
    marks = _marks(place, truth, replace(visible, boxes=in_pixels(visible, truth.size)))
    moved = [replace(mark, box=_moved(mark.box, window, scale)) for mark in marks if _meets(mark.box, window)]
    whole = picture.copy()
    whole.thumbnail((WHOLE_SIDE, WHOLE_SIDE))
    small = _moved(place.box, (0, 0), whole.width / picture.width)
    return draw_marks(crop, moved), draw_marks(whole, [Mark(box=small, colour=HERE)])


def window_of(box: tuple[float, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square around the box with context, in whole pixels, moved into the picture and cut where it is larger."""
    left, top, right, bottom = box
    side = max((1 + 2 * CONTEXT) * max(right - left, bottom - top), LEAST_SEEN * max(size), 8.0)
    edges = []
    for middle, most in (((left + right) / 2, size[0]), ((top + bottom) / 2, size[1])):
        wide = min(round(side), most)
        start = min(max(round(middle - side / 2), 0), most - wide)
        edges.append((start, start + wide))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _of_picture(names: Sequence[str], row: int, truth: Objects, found: Detections) -> list[tuple[float, Place]]:
    """(how bad, slip) of all in one picture."""
    pairs = pair(truth, found)
    shared = overlaps(found.boxes.astype(float), truth.boxes.astype(float)) * ~truth.ignored
    true = [names[k] for k in truth.classes]
    said = [names[k] for k in found.classes]
    missed = [
        Place(
            kind="miss", row=row, box=_box(truth.boxes[i]), truth=true[i], note=_nearest_box(shared[:, i], pairs, said)
        )
        for i in pairs.missed
    ]
    wrong = [
        Place(
            kind="wrong class",
            row=row,
            box=_box(found.boxes[box]),
            truth=true[i],
            found=said[box],
            confidence=float(found.confidence[box]),
        )
        for i, box in pairs.wrong
    ]
    false = [
        Place(
            kind="false alarm",
            row=row,
            box=_box(found.boxes[box]),
            found=said[box],
            confidence=float(found.confidence[box]),
            note=_nearest_object(shared[box], pairs, true),
        )
        for box in pairs.false
    ]
    shares = areas(truth.boxes)[pairs.missed] / (truth.size[0] * truth.size[1])
    return [*zip(shares.tolist(), missed, strict=True), *((one.confidence or 0.0, one) for one in wrong + false)]


def _nearest_box(shared: np.ndarray, pairs: Pairs, said: Sequence[str]) -> str:
    """Which box may have meant a missed object, of the overlaps (D,) with all: "a box of RBC overlaps it by 38 % …"."""
    near = max(pairs.false, key=lambda box: shared[box], default=None)
    if near is None or shared[near] < NEAR:
        return ""
    return f"a box of {said[near]} overlaps it by {words.share(float(shared[near]))}, too little to count"


def _nearest_object(shared: np.ndarray, pairs: Pairs, true: Sequence[str]) -> str:
    """Which object a false alarm may have meant, of its overlaps (n,) with all."""
    if not len(shared) or shared.max() < NEAR:
        return ""
    near = int(shared.argmax())
    why = "too little to count" if near in pairs.missed else "which another box found"
    return f"it overlaps {true[near]} by {words.share(float(shared[near]))}, {why}"


def _fairly(places: Iterable[tuple[float, Place]]) -> list[Place]:
    """The worst of each class, then the second worst of each …; few of one picture."""
    queues: dict[str, list[Place]] = {}
    for _, place in sorted(places, key=lambda one: -one[0]):
        queues.setdefault(place.truth or place.found, []).append(place)
    chosen: list[Place] = []
    while len(chosen) < MOST and any(queues.values()):
        for queue in queues.values():
            while queue:
                place = queue.pop(0)
                if sum(one.row == place.row for one in chosen) < MOST_OF_PICTURE:
                    chosen.append(place)
                    break
    return chosen[:MOST]


def _marks(place: Place, truth: Objects, visible: Detections) -> list[Mark]:
    """The place on top and with words, then all else without."""
    own = {
        "miss": Mark(box=place.box, colour=TRUE, text=f"missed: {place.truth}", line="double"),
        "false alarm": Mark(box=place.box, colour=FOUND, text=_said(place), line="dashed"),
        "wrong class": Mark(box=place.box, colour=FOUND, text=f"{_said(place)}, is {place.truth}", line="dashed"),
    }[place.kind]
    objects = [Mark(box=box, colour=TRUE, faint=True) for box in map(_box, truth.boxes[~truth.ignored])]
    others = [Mark(box=box, colour=FOUND, line="dashed", faint=True) for box in map(_box, visible.boxes)]
    return [own, *(mark for mark in others + objects if mark.box != place.box)]


def _said(place: Place) -> str:
    return f"{place.found} {100 * (place.confidence or 0):.0f} %"


def _box(box: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in box)
    return left, top, right, bottom


def _moved(box: tuple[float, ...], start: Sequence[float], scale: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (scale * (value - start[i % 2]) for i, value in enumerate(box))
    return left, top, right, bottom


def _meets(box: tuple[float, ...], window: tuple[int, ...]) -> bool:
    return box[0] < window[2] and box[2] > window[0] and box[1] < window[3] and box[3] > window[1]


def _uri(picture: Picture) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80, subsampling=0)  # thin lines keep their colours
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
