"""The audit of boxes: each kind of trouble in a few small pictures, with exactly what must be left of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from headstart.data.audit import Audited, audit, class_counts
from headstart.data.audit_boxes import _overlaps
from headstart.data.audit_splits import audit_splits
from headstart.data.audit_state import names_in, stripped
from headstart.data.boxes import annotation_of, label_of
from headstart.data.dataset import Dataset
from headstart.data.read import read
from headstart.data.split import split
from headstart.errors import DataError
from headstart.progress import Progress
from tests.boxes import Scene, coco, paint, write_json

FINE = ("bolt", 50, 50, 40, 40)
SIZE = (100, 100)


def drawn(boxes, ignored=()):
    keys = ("name", "x", "y", "width", "height")
    return [{**dict(zip(keys, one, strict=True)), "ignored": j in ignored} for j, one in enumerate(boxes)]


def make(pictures, n=30, splits=None, fill=FINE, size=SIZE):
    """A data set of `pictures`, each a list of boxes or a whole label, and `n` with the box `fill`."""
    labels = [one if isinstance(one, dict) or one is None else drawn(one) for one in [*pictures, *[[fill]] * n]]
    rng = np.random.default_rng(0)
    items = [rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8) for _ in labels]
    dataset = read(items, labels)
    return dataset.with_splits(splits) if splits else dataset


def found(dataset: Dataset) -> tuple[Audited, dict[str, str]]:
    """What the audit leaves, and its findings by kind."""
    done = audit(dataset, Progress())
    assert all(finding.text.endswith(".") for finding in done.findings)
    return done, {finding.kind: finding.text for finding in done.findings}


def boxes(done: Audited, row: int = 0):
    return [tuple(box[:5]) for box in annotation_of(done.dataset.column("label")[row]).boxes]


def test_blameless_boxes_pass_untouched():
    dataset = make([[FINE, ("bolt", 1, 1, 20, 20)]])
    done, findings = found(dataset)
    assert done.dataset is dataset
    assert not findings


def test_boxes_over_the_edge_end_there():
    done, findings = found(make([[("bolt", -5, 10, 30, 20), ("bolt", 80, 90, 30, 30), ("bolt", 70, 5, 30.2, 20)]]))
    assert boxes(done) == [("bolt", 0, 10, 25, 20), ("bolt", 70, 5, 30, 20), ("bolt", 80, 90, 20, 10)]
    assert findings["outside"] == "Cut 2 boxes at the edge of the picture, in 1 image."  # 0.2 pixels are rounding


def test_boxes_beyond_the_edge_leave():
    done, findings = found(make([[("bolt", 100, 10, 30, 20), ("bolt", 5, -40, 30, 30), FINE], [FINE]]))
    assert boxes(done) == [FINE]
    assert findings == {"outside": "Left out 2 boxes wholly outside the picture, in 1 image."}


def test_boxes_without_a_pixel_leave():
    bad = [("bolt", 10, 10, 0, 20), ("bolt", 10, 10, 20, 0.5), ("bolt", 30, 30, -5, 20), ("bolt", -9, 5, 9.5, 20)]
    done, findings = found(make([[*bad, FINE]]))
    assert boxes(done) == [FINE]
    assert findings["degenerate box"] == "Left out 4 boxes less than a pixel wide or high, in 1 image."


def test_of_equal_boxes_one_stays():
    done, findings = found(make([[FINE, FINE, FINE, ("nut", 1, 1, 30, 30)]], fill=("nut", 2, 2, 40, 40)))
    assert boxes(done) == [FINE, ("nut", 1, 1, 30, 30)]
    assert findings["duplicate box"].startswith("Left out 2 boxes for repeating another of the same class exactly")
    assert "near-duplicate box" not in findings


def test_what_is_mended_in_test_is_counted():
    splits = ["test", "train", *["train"] * 20, *["test"] * 10]
    _, findings = found(make([[FINE, FINE], [FINE, FINE, ("bolt", 1, 1, 9, 9)]], splits=splits))
    assert findings["duplicate box"].endswith("in 2 images. Of these 1 in test.")


def test_equal_boxes_of_two_classes_stay():
    done, findings = found(make([[FINE, ("nut", *FINE[1:])], *[[("nut", 1, 1, 40, 40)]] * 3]))
    assert boxes(done) == [FINE, ("nut", *FINE[1:])]
    assert findings["two classes"].startswith("1 box with the very edges of a box of another class, kept")


def test_boxes_that_nearly_repeat_another_stay():
    near, other = ("bolt", 50, 51, 40, 40), ("nut", 50, 51, 40, 40)
    done, findings = found(make([[FINE, near], *[[other, FINE]] * 3]))
    assert boxes(done) == [FINE, near]
    assert findings["near-duplicate box"].startswith("Boxes of one class that overlap by more than 90 %, kept: 1 pair,")


def test_overlaps_are_those_of_pixels():
    """Against counting pixels one by one."""
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 12, (8, 2))
    edges = np.concatenate([corners, corners + rng.integers(1, 12, (8, 2))], axis=1)
    masks = np.zeros((8, 24, 24), dtype=bool)
    for mask, (left, top, right, bottom) in zip(masks, edges, strict=True):
        mask[top:bottom, left:right] = True
    both = [[(a & b).sum() / (a | b).sum() for b in masks] for a in masks]
    np.testing.assert_allclose(_overlaps(edges.astype(float)), both)


@pytest.mark.parametrize(
    ("stated", "ending"),
    [
        ((50, 50), "(50 × 50 stated, 100 × 100 as it opens), as of a larger or smaller copy: their boxes were scaled"),
        ((120, 90), "of another shape: their boxes were taken as they are"),
    ],
)
def test_another_size_than_stated(stated, ending):
    one = {"width": stated[0], "height": stated[1], "boxes": drawn([("bolt", 5, 5, 20, 20)])}
    done, findings = found(make([one]))
    assert ending in findings["picture size"]
    assert boxes(done) == [("bolt", 10, 10, 40, 40) if stated == (50, 50) else ("bolt", 5, 5, 20, 20)]


def test_a_picture_on_its_side():
    one = {"width": 60, "height": 80, "boxes": drawn([("bolt", 5, 5, 20, 20)])}
    done, findings = found(make([one], size=(80, 60), fill=("bolt", 1, 1, 30, 30)))
    assert "1 image of another size than stated (60 × 80 stated, 80 × 60 as it opens)" in findings["picture size"]
    assert boxes(done) == [("bolt", 5, 5, 20, 20)]


def test_a_pixel_more_or_less_is_no_other_size():
    one = {"width": 101, "height": 99, "boxes": drawn([FINE])}
    done, findings = found(make([one]))
    assert not findings
    assert boxes(done) == [FINE]


def test_pictures_without_boxes_are_kept():
    done, findings = found(make([[], []]))
    assert len(done.dataset) == 32
    assert findings == {"no boxes": "2 images of 32 without a box: kept, as pictures that show no object."}
    done, findings = found(make([[]] * 31))
    assert len(done.dataset) == 61
    assert "If nobody has looked for objects in them" in findings["no boxes"]


def test_a_missing_label_is_no_empty_one():
    done, findings = found(make([None, []]))
    assert len(done.dataset) == 31
    assert findings["missing label"] == "Left out 1 image with no value for 'label'."


def test_annotations_whose_picture_is_missing(tmp_path):
    shown = [Scene(f"{i}.png", [("bolt", 5, 5, 20, 15)]) for i in range(25)]
    for i, one in enumerate(shown[:-1]):
        paint(tmp_path / one.name, one.size, i)
    write_json(tmp_path / "boxes.json", coco(shown))
    done = audit(read(tmp_path), Progress())
    assert len(done.dataset) == 24
    (finding,) = done.findings
    assert (finding.kind, finding.severity) == ("unreadable", "warning")
    assert finding.text == "Left out 1 image for no such file (1)."
    assert finding.examples == (str(tmp_path / "24.png"),)


def test_one_picture_with_different_boxes_is_a_conflict():
    dataset = make([[FINE], [("nut", 1, 1, 30, 30)], [("nut", 1, 1, 30, 30), FINE], [FINE, ("nut", 1, 1, 30, 30)]])
    items = dataset.inputs
    items[1], items[3] = items[0], items[2]
    table = dataset.table.remove_columns(["input"]).add_column("input", items, feature=dataset.table.features["input"])
    done, findings = found(Dataset(table=table, modality="image", task="detection", name="d", source="s"))
    assert findings["conflict"] == "Different labels for 1 image: left out 2 copies."
    assert findings["duplicate"] == "Left out 1 image for repeating another exactly."  # the order of boxes is no matter
    assert len(done.dataset) == 31


def test_spaces_around_names():
    done, findings = found(make([[("bolt ", 50, 50, 40, 40), FINE]]))
    assert boxes(done) == [FINE]
    assert "'bolt ' became 'bolt'" in findings["label spaces"]
    assert "duplicate box" in findings


def test_a_class_in_two_pictures_is_ignored():
    rare = ("gear", 5, 5, 20, 20)
    dataset = make([[rare, ("gear", 40, 5, 20, 20)], [rare, FINE]])
    done, findings = found(dataset)
    assert findings["rare class"].startswith("Neither learnt nor counted, for standing in fewer than 3 images")
    assert [box["ignored"] for box in done.dataset.column("label")[1]["boxes"]] == [False, True]
    assert class_counts(done.dataset) == {"bolt": {"": 31}}
    given = dataset.with_splits(["train", "test", *["train"] * 20, *["test"] * 10])
    assert "gear (2 objects in 1 image)" in found(given)[1]["rare class"]


def test_few_objects_and_uneven_classes():
    nut = ("nut", 1, 1, 30, 30)
    done, findings = found(make([[nut, ("nut", 40, 1, 30, 30)]] * 3))
    assert findings["rare class"] == (
        "In fewer than 15 images, so that their predictions are unsure: nut (6 objects in 3 images)."
    )
    assert "imbalance" not in findings
    assert class_counts(done.dataset) == {"bolt": {"": 30}, "nut": {"": 6}}
    _, findings = found(make([[nut]] * 5))
    assert findings["imbalance"].startswith("The classes are uneven: of the objects 'bolt' holds 85.7 % and 'nut' ")


def test_ignored_boxes_do_not_count():
    one = {"width": 100, "height": 100, "boxes": drawn([FINE, ("nut", 1, 1, 9, 9)], ignored={1})}
    done, findings = found(make([one]))
    assert not findings
    assert class_counts(done.dataset) == {"bolt": {"": 31}}


def test_tiny_objects():
    _, findings = found(make([[("bolt", 5, 5, 4, 4)]] * 10))  # 26 pixels in a picture of 640
    assert findings["tiny objects"].startswith("25.0 % of the objects (10) are smaller than 32 × 32 pixels")


@pytest.mark.parametrize("splits", [None, [*["test"] * 2, *["train"] * 25]])
def test_without_a_box_there_is_nothing_to_learn(splits):
    pictures = [[FINE]] * 2 + [[]] * 25 if splits else [[("bolt", 500, 500, 9, 9)]] * 27
    with pytest.raises(DataError, match=r"holds a box to learn from\. Give images with boxes"):
        audit(make(pictures, n=0, splits=splits), Progress())


def test_too_few_pictures():
    with pytest.raises(DataError, match="12 images can be used, but at least 20 are needed"):
        audit(make([], n=12), Progress())


def test_pictures_are_split_by_the_rarest_class_in_them():
    nut = ("nut", 1, 1, 30, 30)
    dataset = make([[FINE, nut]] * 10 + [[]] * 10, n=80)
    divided = split(dataset, seed=3)
    sides = list(zip(divided.column("split"), map(names_in, divided.column("label")), strict=True))
    assert Counter(side for side, names in sides if "nut" in names) == {"train": 6, "val": 2, "test": 2}
    assert Counter(side for side, names in sides if not names) == {"train": 6, "val": 2, "test": 2}
    assert "stratified by the rarest class in each" in divided.notes[-1]
    assert class_counts(divided)["bolt"] == {"train": 54, "val": 18, "test": 18}


def test_classes_that_only_test_holds():
    splits = ["test", *["train"] * 20, *["test"] * 10]
    dataset = make([[FINE, ("gear", 1, 1, 30, 30)]], splits=splits)
    texts = [finding.text for finding in audit_splits(split(dataset, seed=0))]
    assert any(t.startswith("In test but not in train, so never predicted: gear. Their objects are") for t in texts)
    assert "Only 11 images to test on: the intervals will be wide." in texts


def test_labels_come_back_as_they_were():
    label = {"width": 100, "height": 100, "boxes": drawn([FINE, ("nut", 1.5, 2, 3, 4)], ignored={1})}
    assert label_of(annotation_of(label), (100, 100)) == label
    assert stripped(label) == label
    assert names_in(label) == ["bolt"]
