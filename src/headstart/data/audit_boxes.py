"""Look at boxes before anything is trained: what lies outside its picture, is no box, is doubled, tiny or too rare.

The checks are those of audit.py, to which they belong. What is mended is mended in a given test split too: a box
outside the picture, or less than a pixel wide, cannot be scored, and of two equal boxes one can never be found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.data.audit_state import FEW_IN_CLASS, FEW_IN_TRAIN, IMBALANCE, LEAST_IN_CLASS, State, classes_of
from headstart.data.boxes import Annotation, Box, is_scaled
from headstart.errors import DataError, listed

if TYPE_CHECKING:
    import pandas as pd

LEAST_SIDE = 1  # pixels, below which a box shows nothing
ROUNDING = 0.5  # pixels over the edge that are no mistake
TINY, LONG_SIDE = 32, 640  # pixels: COCO's small objects, in a picture scaled to that side
TINY_SHARE = 0.05  # of the boxes, at which it is told
NEARLY_SAME = 0.9  # overlap of two boxes of a class that are likely one object
_DIFFERENCES = {  # between the size of a picture and the one that is stated
    "scaled": "as of a larger or smaller copy: their boxes were scaled to the file",
    "turned": "with width and height exchanged, as EXIF orientation does it: their boxes were taken as drawn on the "
    "upright picture. Look whether they fit; if not, save the pictures upright and draw the boxes again",
    "other": "of another shape: their boxes were taken as they are and may not fit. Look at these pictures",
}
Check = Callable[[State], State]


def checks_of_boxes() -> list[Check]:
    """What is looked at in each picture by itself, in order."""
    return [_stated_sizes, _outside, _degenerate, _doubled, _two_classes, _nearly_doubled]


def checks_of_objects() -> list[Check]:
    """What is looked at in all that is left, in order."""
    return [_rare_classes, _nothing_to_learn, _negatives, _few_objects, _uneven, _tiny_objects]


def _stated_sizes(state: State) -> State:
    """Pictures whose annotations state another size; smaller and larger copies were scaled when they were read."""
    if not state.dataset.has("stated"):
        return state
    stated = state.dataset.column("stated")
    labels = state.rows["label"]
    pairs = [(stated[row], label.size) for row, label in labels.items()]
    kinds = state.rows.assign(kind=[_difference(*pair) for pair in pairs])["kind"]
    for kind, ending in _DIFFERENCES.items():
        about = kinds == kind
        if about.any():
            said, found = pairs[int(about.to_numpy().argmax())]
            shown = f"{said[0]} × {said[1]} stated, {found[0]} × {found[1]} as it opens"
            text = f"{state.count(about.sum())} of another size than stated ({shown}), {ending}."
            state = state.found("picture size", "warning", text, about)
    return state


def _difference(stated: list[int] | None, size: tuple[int, int]) -> str:
    """ "scaled", "turned" or "other"; "" where the sizes agree, to a pixel, or none is stated."""
    if not stated or max(abs(stated[0] - size[0]), abs(stated[1] - size[1])) <= 1:
        return ""
    if (stated[1], stated[0]) == size:
        return "turned"
    return "scaled" if is_scaled((stated[0], stated[1]), size) else "other"


def _outside(state: State) -> State:
    """Boxes over the edge end there; boxes beyond it leave."""
    state = _mended(state, "outside", "Left out {boxes} wholly outside the picture, in {pictures}.", _inside)
    clipped = _each(state, lambda drawn: [_clipped(box, drawn.size) for box in drawn.boxes])
    over = _counts(state, lambda drawn: sum(_over(box, drawn.size) > ROUNDING for box in drawn.boxes))
    if over.any():
        text = f"Cut {_boxes(over.sum())} at the edge of the picture, in {state.count((over > 0).sum())}."
        state = state.found("outside", "warning", text, over > 0)
    return state if clipped.equals(state.rows["label"]) else state.with_labels(clipped)


def _inside(drawn: Annotation) -> list[Box]:
    width, height = drawn.size or (0, 0)
    return [
        box
        for box in drawn.boxes
        if box.x < width and box.y < height and (box.x + box.width > 0 or box.width <= 0)
        and (box.y + box.height > 0 or box.height <= 0)
    ]  # fmt: skip


def _over(box: Box, size: tuple[int, int] | None) -> float:
    """How far a box reaches over an edge, in pixels."""
    width, height = size or (0, 0)
    return max(-box.x, -box.y, box.x + box.width - width, box.y + box.height - height)


def _clipped(box: Box, size: tuple[int, int] | None) -> Box:
    if _over(box, size) <= 0:
        return box
    width, height = size or (0, 0)
    left, top = max(box.x, 0.0), max(box.y, 0.0)
    right, bottom = min(box.x + box.width, float(width)), min(box.y + box.height, float(height))
    return box._replace(x=left, y=top, width=right - left, height=bottom - top)


def _degenerate(state: State) -> State:
    """Boxes that hold no pixel leave."""
    text = "Left out {boxes} less than a pixel wide or high, in {pictures}."
    return _mended(
        state,
        "degenerate box",
        text,
        lambda drawn: [box for box in drawn.boxes if min(box.width, box.height) >= LEAST_SIDE],
    )


def _doubled(state: State) -> State:
    """Of equal boxes of a class in a picture the first stays."""
    text = "Left out {boxes} for repeating another of the same class exactly, in {pictures}."
    return _mended(
        state,
        "duplicate box",
        text,
        lambda drawn: list({(box.name, *_rounded(box)): box for box in reversed(drawn.boxes)}.values())[::-1],
    )


def _rounded(box: Box) -> tuple[float, ...]:
    return tuple(round(edge, 2) for edge in box[1:5])


def _two_classes(state: State) -> State:
    """Equal boxes of different classes: nobody knows whether one is wrong."""
    twice = _counts(state, lambda drawn: len(drawn.boxes) - len({_rounded(box) for box in drawn.boxes}))
    if not twice.any():
        return state
    text = f"{_boxes(twice.sum())} with the very edges of a box of another class, kept: correct one of the two classes."
    return state.found("two classes", "warning", text, twice > 0)


def _nearly_doubled(state: State) -> State:
    """Two boxes of a class around what looks like one object."""
    pairs = _counts(state, _near_pairs)
    if not pairs.any():
        return state
    text = (
        f"Boxes of one class that overlap by more than {100 * NEARLY_SAME:.0f} %, kept: "
        f"{_number(pairs.sum(), 'pair')}, each likely one object that was drawn twice."
    )
    return state.found("near-duplicate box", "warning", text, pairs > 0)


def _near_pairs(drawn: Annotation) -> int:
    edges: dict[str, list[tuple[float, ...]]] = {}
    for box in drawn.boxes:
        edges.setdefault(box.name, []).append((box.x, box.y, box.x + box.width, box.y + box.height))
    return sum(int(np.triu(_overlaps(np.asarray(own)) > NEARLY_SAME, 1).sum()) for own in edges.values())


def _overlaps(boxes: np.ndarray) -> np.ndarray:
    """Intersection over union (n, n) of boxes (n, 4): left, top, right, bottom."""
    sides = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return shared / (areas[:, None] + areas[None, :] - shared)


def _rare_classes(state: State) -> State:
    """Without given splits, a class in one or two pictures cannot be in train, val and test: its boxes are ignored."""
    if state.given:
        return state
    rare = [name for name, n in _pictures_of(state).items() if sum(n.values()) < LEAST_IN_CLASS]
    if not rare:
        return state
    gone = frozenset(rare)
    hit = _counts(state, lambda drawn: not gone.isdisjoint(drawn.counted)) > 0
    labels = _each(state, lambda d: [b._replace(ignored=b.ignored or b.name in gone) for b in d.boxes])
    text = (
        f"Neither learnt nor counted, for standing in fewer than {LEAST_IN_CLASS} images, too few for train, val and "
        f"test: {listed(rare)}. Their boxes are ignored in {state.count(hit.sum())}."
    )
    return state.found("rare class", "warning", text, hit).with_labels(labels)


def _nothing_to_learn(state: State) -> State:
    """One class is enough, but one object there must be in what is learnt from."""
    learnt = ~state.rows["split"].isin(("val", "test"))
    labels = state.rows["label"][learnt] if learnt.any() else state.rows["label"]
    if any(next(drawn.counted, None) for drawn in labels):
        return state
    before = " ".join(finding.text for finding in state.findings if finding.severity == "warning")
    where = " in train" if state.given else ""
    raise DataError(
        f"None of the {state.count(len(labels))}{where} holds a box to learn from. Give images with boxes, of each "
        f"class at least {LEAST_IN_CLASS}. {before}".strip()
    )


def _negatives(state: State) -> State:
    """Pictures without boxes teach what is no object."""
    empty = _counts(state, lambda drawn: not drawn.boxes) > 0
    if not empty.any():
        return state
    n, of = int(empty.sum()), f"{state.count(empty.sum())} of {len(empty):,} without a box"
    if 2 * n <= len(empty):
        return state.found("no boxes", "info", f"{of}: kept, as pictures that show no object.", empty)
    text = f"{of}: kept, as pictures that show no object. If nobody has looked for objects in them, leave them out."
    return state.found("no boxes", "warning", text, empty)


def _few_objects(state: State) -> State:
    """Classes that stay, but cannot be learnt or measured well."""
    least, where = (FEW_IN_TRAIN, " in train") if state.given else (FEW_IN_CLASS, "")
    objects, pictures = _learnt(state.classes), _learnt(_pictures_of(state))
    small = [
        f"{name} ({_number(objects[name], 'object')} in {state.count(n)})"
        for name, n in pictures.items()
        if 0 < n < least
    ]
    if not small:
        return state
    text = f"In fewer than {least} images{where}, so that their predictions are unsure: {listed(small)}."
    return state.found("rare class", "warning", text)


def _learnt(classes: dict[str, dict[str, int]]) -> dict[str, int]:
    return {name: sum(n.values()) - n.get("val", 0) - n.get("test", 0) for name, n in classes.items()}


def _uneven(state: State) -> State:
    """One class far more frequent than another."""
    sizes = {name: sum(n.values()) for name, n in state.classes.items()}
    largest, smallest = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    if sizes[largest] <= IMBALANCE * sizes[smallest]:
        return state
    total = sum(sizes.values())
    shares = [f"{name!r} holds {100 * sizes[name] / total:.1f} %" for name in (largest, smallest)]
    text = f"The classes are uneven: of the objects {' and '.join(shares)}. Look at the scores of each class."
    return state.found("imbalance", "info", text)


def _tiny_objects(state: State) -> State:
    """Objects that a network of the usual resolution hardly sees."""
    tiny = _counts(state, lambda drawn: sum(_is_tiny(box, drawn.size) for box in drawn.boxes if not box.ignored))
    share = tiny.sum() / sum(sum(n.values()) for n in state.classes.values())
    if share < TINY_SHARE:
        return state
    text = (
        f"{100 * share:.1f} % of the objects ({tiny.sum():,}) are smaller than {TINY} × {TINY} pixels in a picture of "
        f"{LONG_SIDE} pixels: hard to find."
    )
    return state.found("tiny objects", "info", text, tiny > 0)


def _is_tiny(box: Box, size: tuple[int, int] | None) -> bool:
    return box.width * box.height * (LONG_SIDE / max(size or (LONG_SIDE,))) ** 2 < TINY**2


def _mended(state: State, kind: str, text: str, kept: Callable[[Annotation], list[Box]]) -> State:
    """With the boxes of each picture that `kept` gives, and a warning where some are gone."""
    labels = _each(state, kept)
    gone = _counts(state, lambda drawn: len(drawn.boxes)) - labels.map(lambda drawn: len(drawn.boxes)).astype(int)
    if not gone.any():
        return state
    pictures = state.count((gone > 0).sum())
    in_test = int(gone[state.rows["split"] == "test"].sum()) if state.given else 0
    text = text.format(boxes=_boxes(gone.sum()), pictures=pictures) + (
        f" Of these {in_test:,} in test." * bool(in_test)
    )
    return state.found(kind, "warning", text, gone > 0).with_labels(labels)


def _each(state: State, boxes: Callable[[Annotation], list[Box]]) -> pd.Series:
    """The labels with other boxes."""
    return state.rows["label"].map(lambda drawn: replace(drawn, boxes=tuple(boxes(drawn)))).astype(object)


def _counts(state: State, count: Callable[[Annotation], int]) -> pd.Series:
    """A whole number a picture."""
    return state.rows["label"].map(lambda drawn: int(count(drawn))).astype(int)


def _pictures_of(state: State) -> dict[str, dict[str, int]]:
    """Class name -> split -> pictures that hold it."""
    return classes_of((sorted(set(drawn.counted)) for drawn in state.rows["label"]), state.rows["split"].tolist())


def _boxes(n: int) -> str:
    return _number(n, "box", "boxes")


def _number(n: int, noun: str, plural: str = "") -> str:
    """'1 object', '3 objects'."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
