"""Boxes per class: brute force counts the same, calibration recovers a known distortion, drawings stay inside."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, logit

from headstart.engine.detector import Detector, Sure
from headstart.evidence.base import Score
from headstart.evidence.boxes import BoxEvidence, confusion, measure_boxes, pair, shown
from headstart.evidence.intervals import resamples
from headstart.evidence.slips import CONTEXT, SIDE, WHOLE_SIDE, pictured, window_of, worst_slips
from headstart.evidence.sureness import USUAL, Judged, best_thresholds, calibration, sureness, threshold
from headstart.modalities.drawing import PALETTE, Mark, draw, draw_marks
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Detections, Objects, none_found, overlaps
from headstart.tasks.detection import Detection, matched
from tests.scenes import NAMES, SIZE, SURE, TASK, scenes


def measured(seed: int, groups: list[str] | None = None) -> tuple[np.ndarray, np.ndarray, BoxEvidence]:
    y, found = scenes(seed)
    n_units = None if groups is None else len(set(groups))
    return y, found, measure_boxes(TASK, y, found, SURE, resamples(len(y), 200, 0, groups), n_units)


@pytest.mark.parametrize("seed", range(4))
def test_right_pairs_are_those_of_pycocotools(seed):
    y, found = scenes(seed)
    visible = shown(found, SURE)
    pairs = [pair(truth, one) for truth, one in zip(y, visible, strict=True)]
    for k in range(3):
        judged = Judged.of(matched(y, found, 3).hits(k, "all"))
        reaches = judged.confidence >= SURE[k].threshold
        right = [sum(one.classes[box] == k for _, box in p.right) for one, p in zip(visible, pairs, strict=True)]
        assert right == np.bincount(judged.picture[reaches & judged.hit], minlength=len(y)).tolist()
        counted = [
            sum(one.classes[box] == k for _, box in p.right + p.wrong) + sum(one.classes[box] == k for box in p.false)
            for one, p in zip(visible, pairs, strict=True)
        ]
        assert counted == np.bincount(judged.picture[reaches], minlength=len(y)).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_confusion_adds_up(seed):
    y, _, evidence = measured(seed)
    counts = np.array(evidence.confusion)
    n_objects = np.array([sum(int((one.classes[~one.ignored] == k).sum()) for one in y) for k in range(3)])
    np.testing.assert_array_equal(counts[:3].sum(axis=1), n_objects)
    assert [one.n_objects for one in evidence.classes] == n_objects.tolist()
    assert [one.n_shown for one in evidence.classes] == counts[:, :3].sum(axis=0).tolist()
    assert counts[3, 3] == 0
    for k, one in enumerate(evidence.classes):
        assert one.recall is not None
        assert one.precision is not None
        assert one.recall.value == pytest.approx(counts[k, k] / n_objects[k])
        assert one.precision.value == pytest.approx(counts[k, k] / one.n_shown)
        said = 2 * counts[k, k] / (n_objects[k] + one.n_shown)
        assert one.f1 is not None
        assert one.f1.value == pytest.approx(said)


def test_every_box_that_hits_is_near_and_no_object_is_hit_twice():
    y, found = scenes(11)
    for truth, one in zip(y, found, strict=True):
        pairs = pair(truth, one)
        shared = overlaps(one.boxes, truth.boxes)
        hit = pairs.right + pairs.wrong
        assert all(shared[box, i] >= 0.5 for i, box in hit)
        assert all(one.classes[box] == truth.classes[i] for i, box in pairs.right)
        assert all(one.classes[box] != truth.classes[i] for i, box in pairs.wrong)
        assert sorted([i for i, _ in hit] + pairs.missed) == np.flatnonzero(~truth.ignored).tolist()
        boxes = [box for _, box in hit] + pairs.false
        assert len(boxes) == len(set(boxes))


def test_counts_are_off_by_what_one_counts():
    y, found = scenes(3, ignored=0.0)
    evidence = measure_boxes(TASK, y, found, SURE, resamples(len(y), 100, 0), None)
    for k, one in enumerate(evidence.classes):
        off = [
            int(((f.classes == k) & (f.confidence >= SURE[k].threshold)).sum()) - int((t.classes == k).sum())
            for t, f in zip(y, found, strict=True)
        ]
        assert one.count_error.value == pytest.approx(np.mean(np.abs(off)))
        assert one.count_bias.value == pytest.approx(np.mean(off))


@pytest.mark.parametrize("groups", [None, [f"patient {i // 3}" for i in range(30)]])
def test_each_interval_contains_its_value(groups):
    _, _, evidence = measured(2, groups)
    scores = [score for one in evidence.classes for score in vars(one).values() if isinstance(score, Score)]
    assert len(scores) == 7 * 3
    assert all(score.low <= score.value <= score.high for score in scores)
    assert all(score.low < score.high for score in scores)
    assert all(b.interval and b.interval[0] <= b.accuracy <= b.interval[1] for b in evidence.calibration)


def test_average_precision_and_curve_are_those_of_coco():
    y, found, evidence = measured(7)
    expected = matched(y, found, 3).average_precision(np.ones((1, len(y))))[:, :, 0]
    for k, one in enumerate(evidence.classes):
        assert one.ap is not None
        assert one.ap50 is not None
        assert one.ap.value == pytest.approx(expected[k].mean())
        assert one.ap50.value == pytest.approx(expected[k, 0])
        assert sum(precision for _, precision in one.curve) / 101 == pytest.approx(expected[k, 0])
        assert all(a[1] >= b[1] for a, b in zip(one.curve, one.curve[1:], strict=False))


def test_calibration_bins_hold_every_box_that_counts():
    y, found, evidence = measured(1)
    each = [Judged.of(matched(y, found, 3).hits(k, "all")) for k in range(3)]
    sure = [one.confidence >= 0.05 for one in each]
    assert sum(b.count for b in evidence.calibration) == sum(int(rows.sum()) for rows in sure)
    n_hits = sum(int(one.hit[rows].sum()) for one, rows in zip(each, sure, strict=True))
    assert sum(b.count * b.accuracy for b in evidence.calibration) == pytest.approx(n_hits)


def test_an_absent_class_and_an_empty_test_say_so():
    y = one_each([Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), SIZE)] * 4)
    found = one_each([none_found(SIZE)] * 4)
    evidence = measure_boxes(TASK, y, found, SURE, resamples(4, 20, 0), None)
    assert all(
        (one.ap, one.precision, one.recall, one.f1, one.curve) == (None, None, None, None, ())
        for one in evidence.classes
    )
    assert json.loads(json.dumps(evidence.to_json()))["classes"][0]["name"] == NAMES[0]
    assert sureness(TASK, y, found) == (Sure(threshold=0.5),) * 3


def random_judged(rng: np.random.Generator, n: int = 40, n_pictures: int = 8) -> Judged:
    confidence = np.sort(rng.random(n).round(1))[::-1]  # with ties
    return Judged(
        rng.integers(0, n_pictures, n), confidence, rng.random(n) < confidence, rng.integers(3, 6, n_pictures)
    )


@pytest.mark.parametrize("seed", range(5))
def test_threshold_has_the_highest_f1_of_all(seed):
    rng = np.random.default_rng(seed)
    judged = random_judged(rng)
    weights = rng.integers(0, 3, (6, 8))
    for row, chosen in zip(weights, best_thresholds(judged, weights), strict=True):
        each = row[judged.picture]

        def f1(least: float, row=row, each=each) -> float:
            said = judged.confidence >= least
            return 2 * (each * judged.hit)[said].sum() / max(each[said].sum() + row @ judged.n_objects, 1)

        assert f1(chosen) == pytest.approx(max(f1(least) for least in np.linspace(0, 1, 401)))


def test_few_objects_lean_on_the_common_threshold_and_many_do_not():
    rng = np.random.default_rng(0)
    judged = random_judged(rng)
    weights = resamples(8, 50, 0)
    own = float(np.nanmean(best_thresholds(judged, weights)))
    n = judged.n_objects.sum()
    assert threshold(judged, weights, 0.9) == pytest.approx((n * own + 10 * 0.9) / (n + 10))
    assert threshold(replace(judged, n_objects=judged.n_objects * 0), weights, 0.9) == 0.5


def test_calibration_recovers_a_known_distortion():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.02, 0.98, 20_000)
    scores = expit((logit(truth) + 1.5) / 2.5)  # true log-odds are 2.5 · odds - 1.5
    judged = Judged(np.zeros(20_000, int), scores, rng.random(20_000) < truth, np.array([10_000]))
    line = calibration(judged, USUAL)
    assert line.slope == pytest.approx(2.5, rel=0.05)
    assert line.offset == pytest.approx(-1.5, abs=0.1)
    few = Judged(judged.picture[:3], scores[:3], np.ones(3, bool), judged.n_objects)
    assert abs(calibration(few, line).slope - 2.5) < 0.5  # three hits do not move a line far


def test_sureness_keeps_the_order_and_makes_confidence_true():
    y, found = scenes(0, n=200, ignored=0.0)
    sure = sureness(TASK, y, found)
    detector = Detector(class_names=NAMES, canvas=(32, 32), levels=None, head={}, confidence=sure)
    calibrated = one_each([detector.calibrated(one) for one in found])
    assert all(one.slope > 0 and 0 < one.threshold < 1 for one in sure)
    before, after = (matched(y, one, 3).average_precision(np.ones((1, 200))) for one in (found, calibrated))
    np.testing.assert_allclose(after, before, atol=1e-6)
    for k in range(3):
        judged = Judged.of(matched(y, calibrated, 3).hits(k, "all"))
        assert judged.confidence.mean() == pytest.approx(judged.hit.mean(), abs=0.04)


def test_a_class_that_validation_lacks_leans_on_the_others():
    y, found = scenes(0, n=100, n_classes=2)
    sure = sureness(TASK, y, found)
    assert sure[2].threshold == 0.5
    assert sure[2].slope == pytest.approx(np.mean([one.slope for one in sure[:2]]), rel=0.3)
    with_none = sureness(Detection(class_names=NAMES), y, one_each([none_found(SIZE)] * 100))
    assert with_none == (Sure(threshold=0.5),) * 3


def test_slips_are_the_worst_and_every_class_has_its_turn():
    y, found = scenes(4, n=60)
    slips = worst_slips(TASK, y, found, SURE)
    counts = confusion(y, shown(found, SURE), 3)
    for kind, total in (
        ("miss", counts[:3, 3].sum()),
        ("false alarm", counts[3].sum()),
        ("wrong class", counts[:3, :3].sum() - np.trace(counts[:3, :3])),
    ):
        own = [one for one in slips if one.kind == kind]
        assert len(own) == min(6, total)
        assert max(np.bincount([one.row for one in own])) <= 2
        if total >= 6 and kind != "wrong class":
            assert {one.truth or one.found for one in own[:3]} == set(NAMES)
    surest = next(one for one in slips if one.kind == "false alarm")
    visible, assigned = shown(found, SURE), [pair(t, f) for t, f in zip(y, shown(found, SURE), strict=True)]
    assert surest.confidence == max(
        float(visible[row].confidence[box]) for row, pairs in enumerate(assigned) for box in pairs.false
    )


def test_a_slip_says_what_may_have_been_meant():
    truth = Objects(
        np.array([[0, 0, 40, 40], [100, 0, 140, 40]], np.float32), np.array([0, 1]), np.zeros(2, bool), SIZE
    )
    boxes = np.array([[100, 0, 140, 40], [100, 5, 140, 45], [20, 0, 60, 40]], np.float32)
    found = Detections(boxes, np.array([1, 1, 0]), np.array([0.9, 0.8, 0.7], np.float32), SIZE)
    miss, twice, off = worst_slips(TASK, one_each([truth]), one_each([found]), SURE)
    assert (miss.kind, miss.truth) == ("miss", NAMES[0])
    assert miss.note == f"a box of {NAMES[0]} overlaps it by 33\u00a0%, too little to count"
    notes = {twice.found: twice.note, off.found: off.note}
    assert notes[NAMES[1]] == f"it overlaps {NAMES[1]} by 78\u00a0%, which another box found"
    assert notes[NAMES[0]] == f"it overlaps {NAMES[0]} by 33\u00a0%, too little to count"


@pytest.mark.parametrize("size", [(200, 150), (31, 400), (9, 9)])
def test_window_lies_in_the_picture_and_shows_the_box(size):
    rng = np.random.default_rng(0)
    for _ in range(50):
        corner = rng.uniform(0, 0.8, 2) * size
        box = (*corner, *(corner + rng.uniform(1, np.subtract(size, corner)).clip(1)))
        left, top, right, bottom = window_of(box, size)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert left <= box[0] + 1
        assert right >= min(box[2], size[0]) - 1
        assert right - left <= max((1 + 2 * CONTEXT) * max(box[2] - box[0], box[3] - box[1]), 0.12 * max(size), 8) + 1


def test_slips_are_drawn_small_and_where_they_are():
    y, found = scenes(4, n=20)
    picture = Image.new("RGB", SIZE, "white")
    for place in worst_slips(TASK, y, found, SURE):
        crop, whole = pictured(picture, place, y[place.row], shown(found, SURE)[place.row])
        assert max(crop.size) == SIDE
        assert max(whole.size) == WHOLE_SIDE
        colours = set(np.asarray(crop).reshape(-1, 3).view("u1,u1,u1").ravel().tolist())
        assert ((0, 0x72, 0xB2) if place.kind == "miss" else (0xE6, 0x9F, 0)) in colours
    assert picture.getextrema() == ((255, 255),) * 3  # what it was drawn on is as it was


@pytest.mark.parametrize("size", [(640, 480), (60, 45), (14, 14), (3000, 200), (5, 300)])
def test_drawing_covers_boxes_and_never_fails_at_the_edge(size):
    width, height = size
    boxes = [(-20, -20, width / 2, height / 2), (width - 3, height - 3, width + 9, height + 9), (0, 0, width, height)]
    found = Detections(
        np.array(boxes, np.float32), np.array([0, 1, 2]), np.array([0.97, 0.6, 0.5], np.float32), (width, height)
    )
    black = Image.new("RGB", size, "black")
    drawn = draw(black, found, ("a name that is far too long for a small picture", "é…", "z"))
    assert drawn.size == size
    assert black.getbbox() is None
    colour = tuple(int(PALETTE[2][i : i + 2], 16) for i in (1, 3, 5))
    assert drawn.getpixel((0, height - 1)) == colour  # the corner of the box that is as large as the picture


def test_labels_stay_inside():
    """A label at a corner of the picture is as whole as one in the middle."""
    for corner in ((0, 0), (280, 0), (0, 180), (280, 180)):
        mark = Mark(box=(*corner, corner[0] + 20, corner[1] + 20), colour="#0072B2", text="a long label 99 %")
        drawn = np.asarray(draw_marks(Image.new("RGB", (300, 200), "white"), [mark])).astype(int)
        plate = (np.abs(drawn - [0, 0x72, 0xB2]).sum(axis=2) == 0).sum()
        middle = Mark(box=(140, 90, 160, 110), colour="#0072B2", text="a long label 99 %")
        expected = np.asarray(draw_marks(Image.new("RGB", (300, 200), "white"), [middle])).astype(int)
        assert plate >= (np.abs(expected - [0, 0x72, 0xB2]).sum(axis=2) == 0).sum() - 20 * 8


def test_lines_differ_in_shape_too():
    white = Image.new("RGB", (100, 100), "white")
    drawn = [
        np.asarray(draw_marks(white, [Mark(box=(20, 20, 80, 80), colour="#0072B2", line=line)]))
        for line in ("solid", "dashed", "double")
    ]
    ink = [int((one == [0, 0x72, 0xB2]).all(axis=2).sum()) for one in drawn]
    assert ink[1] < ink[0] < ink[2]
