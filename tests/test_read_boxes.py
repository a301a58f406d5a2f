"""Boxes: every form of annotation files gives the same labels, and every error says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from headstart import registry
from headstart.data.boxes import annotation_of, is_scaled
from headstart.data.dataset import Dataset
from headstart.data.describe import describe
from headstart.data.read import Reading, columns_to_choose, read
from headstart.errors import DataError
from tests import boxes as forms
from tests.boxes import FORMS, Scene, coco, paint, paint_all, scenes, voc, write, write_json
from tests.conftest import write_csv

DETECTION = Reading(task="detection")


def rows(dataset: Dataset) -> dict[str, tuple[str, dict[str, Any]]]:
    """File name -> (split, label)."""
    names = [Path(item["path"]).name for item in dataset.inputs]
    return dict(zip(names, zip(dataset.column("split"), dataset.column("label"), strict=True), strict=True))


def expected(one: Scene) -> dict[str, Any]:
    found = [
        {"name": name, "x": x, "y": y, "width": w, "height": h, "ignored": j in one.ignored}
        for j, (name, x, y, w, h) in enumerate(one.boxes)
    ]
    return {"width": one.size[0], "height": one.size[1], "boxes": found}


def assert_label(label: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert (label["width"], label["height"]) == (wanted["width"], wanted["height"])
    assert [(b["name"], b["ignored"]) for b in label["boxes"]] == [(b["name"], b["ignored"]) for b in wanted["boxes"]]
    for one, other in zip(label["boxes"], wanted["boxes"], strict=True):
        assert [one[k] for k in ("x", "y", "width", "height")] == pytest.approx(
            [other[k] for k in ("x", "y", "width", "height")], abs=1e-5
        )


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_labels(form, tmp_path):
    dataset = read(form(tmp_path))
    assert (dataset.modality, dataset.task) == ("image", "detection")
    found = rows(dataset)
    assert found.keys() == {one.name for one in scenes()}
    for one in scenes():
        split, label = found[one.name]
        assert split == one.split
        assert_label(label, expected(one))


@pytest.mark.parametrize("form", [forms.as_coco, forms.as_voc, forms.as_yolo, forms.as_csv])
def test_the_task_may_be_said(form, tmp_path):
    assert read(form(tmp_path), reading=DETECTION).task == "detection"


def test_in_memory(tmp_path):
    shown = scenes()[:4]
    pictures = [np.full((one.size[1], one.size[0], 3), 90, np.uint8) for one in shown]
    keys = ("name", "x", "y", "width", "height")
    labels = [[dict(zip(keys, each, strict=True)) for each in one.boxes] for one in shown]
    dataset = read(pictures, [*labels[:3], None])
    assert dataset.task == "detection"
    found = dataset.column("label")
    assert found[3] is None
    for label, one in zip(found, shown[:3], strict=False):
        assert_label(label, expected(one))
    again = read(pictures[:3], found[:3])  # a label struct is taken too
    assert again.column("label") == found[:3]
    assert read((pictures[:3], labels[:3])).column("label") == found[:3]


def test_a_hub_data_set_with_class_names():
    feature = {"bbox": datasets.List(datasets.List(datasets.Value("float32"))),
               "category": datasets.List(datasets.ClassLabel(names=["bolt", "nut"]))}  # fmt: skip
    shown = scenes()[:3]
    table = datasets.Dataset.from_dict(
        {
            "image": [Image.new("RGB", one.size) for one in shown],
            "objects": [
                {"bbox": [b[1:] for b in one.boxes], "category": [forms.NAMES.index(b[0]) for b in one.boxes]}
                for one in shown
            ],
        },
        features=datasets.Features({"image": datasets.Image(), "objects": feature}),
    )
    for label, one in zip(read(table).column("label"), shown, strict=True):
        assert_label(label, expected(one))


def test_one_line_says_what_was_read(tmp_path):
    dataset = read(forms.as_coco(tmp_path))
    assert "7 boxes of 2 classes (bolt 4, nut 3), 1 image without boxes; train 4, val 1, test 1" in describe(dataset)


def test_ignored_boxes(tmp_path):
    one = Scene("a.png", [("bolt", 1, 2, 10, 10), ("nut", 5, 5, 8, 8)], ignored={1})
    paint_all(tmp_path, [one])
    write_json(tmp_path / "boxes.json", coco([one]))
    assert_label(read(tmp_path).column("label")[0], expected(one))
    assert "bolt 1), 1 of them ignored" in describe(read(tmp_path))
    (tmp_path / "boxes.json").unlink()
    write(tmp_path / "a.xml", voc(one))
    assert_label(read(tmp_path).column("label")[0], expected(one))


# COCO


def test_a_json_by_its_path_is_one_split_less(tmp_path):
    dataset = read(forms.as_coco(tmp_path) / "instances_train2017.json")
    assert dataset.name == "instances_train2017"
    assert dataset.column("split") == [""] * 4
    assert columns_to_choose(tmp_path) == []


def test_a_json_that_repeats_the_splits_is_passed_over(tmp_path):
    write_json(forms.as_coco(tmp_path) / "coco_all.json", coco(scenes()))
    dataset = read(tmp_path)
    assert len(dataset) == 6
    assert any("it repeats the pictures of the files of splits: coco_all.json" in note for note in dataset.notes)


def test_the_annotations_folder_of_coco(tmp_path):
    shown = scenes()
    paint_all(tmp_path / "train2017", shown)
    path = write_json(tmp_path / "annotations" / "instances_train2017.json", coco(shown))
    write_json(tmp_path / "annotations" / "person_keypoints_train2017.json", coco(shown[:1]))
    write_json(tmp_path / "annotations" / "instances_val2017.json", coco(shown[1:2]))
    assert all(Path(item["path"]).is_file() for item in [*read(path).inputs, *read(tmp_path).inputs])
    assert len(read(tmp_path)) == 7


def test_of_pictures_of_one_name_the_split_tells(tmp_path):
    for split, size in (("train", (40, 30)), ("val", (50, 20))):
        paint(tmp_path / "images" / split / "1.png", size)
        write_json(tmp_path / f"{split}.json", coco([Scene("1.png", [("bolt", 1, 1, 5, 5)], size=size)]))
    assert [(label["width"], label["height"]) for label in read(tmp_path).column("label")] == [(40, 30), (50, 20)]


def test_polygons_get_the_box_around_them(tmp_path):
    content = coco([Scene("a.png", [("bolt", 0, 0, 1, 1)] * 3)])
    for one in content["annotations"]:
        del one["bbox"]
    content["annotations"][0]["segmentation"] = [[2, 3, 12, 3, 7, 9], [20, 5, 21, 4, 22, 5]]
    content["annotations"][1]["segmentation"] = {"counts": [1, 2], "size": [30, 40]}
    content["annotations"][2] |= {"image_id": 99}
    paint(tmp_path / "a.png", (40, 30))
    write_json(tmp_path / "boxes.json", content)
    dataset = read(tmp_path)
    (one,) = annotation_of(dataset.column("label")[0]).boxes
    assert one == ("bolt", 2, 3, 20, 6, False)
    assert any("1 annotation with neither a box nor a polygon" in note for note in dataset.notes)
    assert any("1 annotation of images that it does not list" in note for note in dataset.notes)


def test_a_missing_picture_stays_a_row_with_the_stated_size(tmp_path):
    write_json(forms.as_coco(tmp_path) / "instances_train2017.json", coco([*scenes()[:4], Scene("gone.png", [])]))
    split, label = rows(read(tmp_path))["gone.png"]
    assert (split, label) == ("train", {"width": 40, "height": 30, "boxes": []})


def test_what_coco_says_of_an_image_is_a_column(tmp_path):
    content = coco(scenes())
    for i, image in enumerate(content["images"]):
        image["patient"] = f"p{i // 2}"
    paint_all(tmp_path, scenes())
    path = write_json(tmp_path / "boxes.json", content)
    assert read(path, reading=Reading(group="patient")).groups == ["p0", "p0", "p1", "p1", "p2", "p2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(category_id=9), r"annotation 0 is of category 9, but .* 2 \(bolt\)"),
        (lambda c: c["images"][0].pop("file_name"), "no file_name or no id"),
        (lambda c: c["images"].clear(), "holds no annotated picture"),
    ],
)
def test_a_bad_coco_file(change, message, tmp_path):
    content = coco(scenes())
    change(content)
    write_json(tmp_path / "boxes.json", content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_damaged_json(tmp_path):
    write(tmp_path / "a.json", '{"images": [], "annotations": [], "categories": [')
    with pytest.raises(DataError, match=r"a\.json is not valid JSON"):
        read(tmp_path)


@pytest.mark.parametrize("edges", [[1, 2, 3], [1, 2, 3, float("nan")], ["a", 2, 3, 4]])
def test_a_coco_box_that_is_no_four_numbers_has_no_size(edges, tmp_path):
    content = coco(scenes()[:1])
    content["annotations"][0]["bbox"] = edges
    bad, good = annotation_of(read(write_json(tmp_path / "a.json", content)).column("label")[0]).boxes
    assert (bad.width, bad.height) == (0, 0)
    assert good.width > 0


def test_a_json_file_that_was_cut_is_named(tmp_path):
    forms.as_coco(tmp_path)
    path = next(tmp_path.rglob("*.json"))
    path.write_text(path.read_text()[: path.stat().st_size // 3])
    with pytest.raises(DataError, match=rf"{path.name} is not valid JSON.*Copy it anew"):
        read(tmp_path)


def test_several_json_files_without_a_split(tmp_path):
    for name in ("one", "two"):
        write_json(tmp_path / f"{name}.json", coco(scenes()))
    with pytest.raises(DataError, match=r"2 COCO files.*one\.json, two\.json\. Give the path of one"):
        read(tmp_path)


# Pascal VOC


def test_the_folder_of_xml_files_alone(tmp_path):
    forms.as_voc(tmp_path)
    assert rows(read(tmp_path / "Annotations")) == rows(read(tmp_path))


def test_pictures_that_nobody_annotated(tmp_path):
    forms.as_voc_beside(tmp_path)
    paint(tmp_path / "train" / "z.png", (9, 9))
    dataset = read(tmp_path)
    assert rows(dataset)["z.png"] == ("train", None)
    assert "1 picture without an XML file: unlabelled" in dataset.notes


def test_pictures_that_no_list_names(tmp_path):
    forms.as_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "test.txt").unlink()
    dataset = read(tmp_path)
    assert len(dataset) == 5
    assert "left out 1 picture that no list of a split names" in dataset.notes


def test_a_damaged_xml_file_leaves_its_picture_unlabelled(tmp_path):
    forms.as_voc(tmp_path)
    write(tmp_path / "Annotations" / "a.xml", "<annotation><object>")
    dataset = read(tmp_path)
    assert rows(dataset)["a.png"][1] is None
    assert "1 XML file that cannot be read, their pictures unlabelled: a.xml" in dataset.notes


def test_a_box_that_is_no_numbers_has_no_size(tmp_path):
    """So that the audit drops and counts it, and the rest of the picture is learnt."""
    text = voc(scenes()[0]).replace("<xmax>12</xmax>", "<xmax>wide</xmax>")
    write(paint(tmp_path / "a.png", (40, 30)).with_suffix(".xml"), text)
    bad, good = annotation_of(read(tmp_path).column("label")[0]).boxes
    assert bad == ("bolt", 0, 0, 0, 0, False)
    assert good.width > 0


def test_an_xml_object_without_a_name(tmp_path):
    text = voc(scenes()[0]).replace("<name>bolt</name>", "")
    write(paint(tmp_path / "a.png", (40, 30)).with_suffix(".xml"), text)
    with pytest.raises(DataError, match=r"a\.xml.*has no class name"):
        read(tmp_path)


# YOLO


def test_polygons_and_poses_of_yolo(tmp_path):
    picture = paint(tmp_path / "images" / "a.png", (100, 50))
    text = write(tmp_path / "labels" / "a.txt", "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n")
    (one,) = annotation_of(read(tmp_path).column("label")[0]).boxes
    assert one[1:5] == pytest.approx((10, 10, 40, 20))
    write(text, "0 0.3 0.4 0.4 0.4 0.3 0.4 2\n")
    write(tmp_path / "pose.yaml", f"train: {picture.parent}\nnames: [man]\nkpt_shape: [1, 3]")
    (pose,) = annotation_of(read(tmp_path).column("label")[0]).boxes
    assert pose.name == "man"
    assert pose[1:5] == pytest.approx((10, 10, 40, 20))


def test_classes_without_names_go_by_number(tmp_path):
    (forms.as_yolo_plain(tmp_path) / "classes.txt").unlink()
    dataset = read(tmp_path)
    assert {one.name for label in dataset.column("label") for one in annotation_of(label).boxes} == {
        "class 0",
        "class 1",
    }
    assert any("classes are named by number" in note for note in dataset.notes)


def test_a_picture_without_a_text_file_shows_nothing(tmp_path):
    assert "1 picture without a text file: read as showing nothing" in read(forms.as_yolo(tmp_path)).notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", r"a\.txt, box 1: '0 0.5 0.5 0.2' is no box"),
        ("0 100 200 30 40", "is no box. Write class, centre x"),
        ("7 0.5 0.5 0.2 0.2", r"no class 7 in .*data\.yaml, which names 0 \(bolt\), 1 \(nut\)"),
    ],
)
def test_a_bad_text_file(line, message, tmp_path):
    write(forms.as_yolo(tmp_path) / "labels" / "train" / "a.txt", line)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_yaml_with_lists_of_files(tmp_path):
    """As darknet has it, with one split that is not there."""
    forms.as_yolo_plain(tmp_path / "data")
    write(tmp_path / "train.txt", "data/a.png\ndata/b.png\n")
    write(tmp_path / "val.txt", "./data/e.png\n")
    path = write(tmp_path / "d.yaml", "train: train.txt\nval: [val.txt]\ntest: gone\nnames: {0: bolt, 1: nut}")
    found = rows(read(path))
    assert {name: split for name, (split, _) in found.items()} == {"a.png": "train", "b.png": "train", "e.png": "val"}
    assert_label(found["a.png"][1], expected(scenes()[0]))
    assert "d.yaml names test: gone, where no pictures are" in read(path).notes


def test_a_yaml_that_leads_nowhere(tmp_path):
    path = write(tmp_path / "data.yaml", "train: nowhere\nnames: [a]")
    with pytest.raises(DataError, match="names train: nowhere, but no pictures are there"):
        read(path)
    write(path, "train: nowhere\nnames: 3")
    with pytest.raises(DataError, match="names must be a list"):
        read(path)


# tables


def test_columns_of_a_picture_stay(tmp_path):
    paint_all(tmp_path, scenes()[:2])
    header = ["file", "class", "x", "y", "width", "height", "patient", "drawn_by"]
    made = [["a.png", "bolt", 1, 2, 3, 4, "p1", "ann"], ["a.png", "nut", 5, 6, 7, 8, "p1", "bob"]]
    path = write_csv(tmp_path / "boxes.csv", header, [*made, ["b.png", "nut", 1, 1, 9, 9, "p2", "ann"]])
    assert read(path, reading=Reading(group="patient")).groups == ["p1", "p2"]
    with pytest.raises(DataError, match=r"a\.png has rows with different values of 'drawn_by'"):
        read(path, reading=Reading(group="drawn_by"))


def test_the_columns_may_be_named(tmp_path):
    paint(tmp_path / "a.png", (40, 30))
    header = ["left_eye", "kind", "class", "x", "y", "w", "h"]
    path = write_csv(tmp_path / "boxes.csv", header, [["a.png", "round", "bolt", 1, 2, 3, 4]])
    dataset = read(path, reading=Reading(input="left_eye", label="kind"))
    assert annotation_of(dataset.column("label")[0]).boxes == (("round", 1, 2, 3, 4, False),)
    again = read(path, reading=Reading(input="left_eye", label=dataset.label_name, task="detection"))
    assert [one.name for one in annotation_of(again.column("label")[0]).boxes] == ["bolt"]
    with pytest.raises(DataError, match="There is no column 'sort'"):
        read(path, reading=Reading(input="left_eye", label="sort"))
    assert read(path, reading=Reading(input="left_eye", label="kind", task="classification")).column("label") == [
        "round"
    ]


def test_a_data_frame_of_boxes(tmp_path):
    paint_all(tmp_path, scenes())
    frame = pd.read_csv(forms.as_csv(tmp_path)).assign(split=lambda f: f["split"].where(f["split"] != "train"))
    frame["filename"] = [str(tmp_path / name) for name in frame["filename"]]
    found = rows(read(frame))
    for one in scenes():
        assert_label(found[one.name][1], expected(one))
    assert [split for split, _ in found.values()] == ["", "", "", "", "val", "test"]


def test_a_picture_on_two_sides(tmp_path):
    header = ["file", "class", "xmin", "ymin", "xmax", "ymax", "split"]
    made = [["a.png", "bolt", 1, 2, 3, 4, "train"], ["a.png", "nut", 5, 6, 7, 8, "test"]]
    with pytest.raises(DataError, match=r"a\.png has rows with different values of 'split'"):
        read(write_csv(tmp_path / "boxes.csv", header, made))


def test_tables_may_hold_shares_and_lists(tmp_path):
    paint(tmp_path / "a.png", (40, 30))
    header = ["ImageID", "XMin", "XMax", "YMin", "YMax", "LabelName"]
    open_images = write_csv(tmp_path / "oi.csv", header, [["a.png", 0.25, 0.5, 0.1, 0.3, "cat"]])
    (one,) = annotation_of(read(open_images).column("label")[0]).boxes
    assert one[:5] == ("cat", pytest.approx(10), pytest.approx(3), pytest.approx(10), pytest.approx(6))
    lists = write_csv(
        tmp_path / "w.csv", ["image_id", "bbox"], [["a.png", "[1, 2, 3.5, 4]"], ["a.png", "[5, 6, 7, 8]"]]
    )
    assert annotation_of(read(lists).column("label")[0]).boxes == (
        ("object", 1, 2, 3.5, 4, False),
        ("object", 5, 6, 7, 8, False),
    )


def test_a_table_that_lacks_an_edge(tmp_path):
    table = write_csv(tmp_path / "boxes.csv", ["file", "class", "xmin", "ymin", "xmax"], [["a.png", "bolt", 1, 2, 3]])
    with pytest.raises(DataError, match=r"xmin, ymin, xmax, but none called 'ymax'"):
        read(table)


def test_a_row_with_half_a_box(tmp_path):
    header = ["file", "class", "xmin", "ymin", "xmax", "ymax"]
    dataset = read(write_csv(tmp_path / "boxes.csv", header, [["a.png", "bolt", 1, "", 3, 4]]))
    assert annotation_of(dataset.column("label")[0]).boxes == (("bolt", 0, 0, 0, 0, False),)
    with pytest.raises(DataError, match=r"a\.png: the box .* has no class name"):
        read(write_csv(tmp_path / "boxes.csv", header, [["a.png", "", 1, 2, 3, 4]]))


# what lies beside


def test_masks_and_results_beside_are_no_pictures(tmp_path):
    """Files with the names of pictures, in folders where no annotated picture stands."""
    forms.as_voc(tmp_path / "voc")
    paint(tmp_path / "voc" / "SegmentationClass" / "a.png", (40, 30))
    assert len(read(tmp_path / "voc")) == 6
    forms.as_yolo_plain(tmp_path / "yolo")
    paint(tmp_path / "yolo" / "runs" / "drawn.png", (40, 30))
    dataset = read(tmp_path / "yolo")
    assert len(dataset) == 6
    assert "1 picture in folders without any text file: not read" in dataset.notes
    forms.as_coco(tmp_path / "coco")
    paint(tmp_path / "coco" / "images" / "more.png", (40, 30))
    paint(tmp_path / "coco" / "masks" / "a.png", (40, 30))
    dataset = read(tmp_path / "coco")
    assert len(dataset) == 6
    assert "1 picture that no annotation file lists: not read" in dataset.notes


def test_a_file_is_read_anew_each_time(tmp_path):
    path = forms.as_coco(tmp_path) / "instances_train2017.json"
    assert len(read(path)) == 4
    write_json(path, coco(scenes()[:2]))
    assert len(read(path)) == 2


def test_a_link_back_up_is_not_followed(tmp_path):
    forms.as_coco(tmp_path)
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    assert len(read(tmp_path)) == 6


# telling forms apart


def test_of_several_forms_one_is_read(tmp_path):
    forms.as_voc(forms.as_coco(tmp_path))
    dataset = read(tmp_path)
    assert dataset.notes[0].startswith("boxes read from COCO, though there is also Pascal VOC (for it give the folder")
    assert str(tmp_path / "Annotations") in dataset.notes[0]


def test_another_task_reads_the_folder_as_before(tmp_path):
    for name in ("plain", "striped"):
        paint(tmp_path / name / "a.png", (8, 8))
        write(tmp_path / name / "a.xml", voc(scenes()[0]))
    assert read(tmp_path).task == "detection"
    assert read(tmp_path, reading=Reading(task="classification")).column("label") == ["plain", "striped"]


def test_texts_beside_pictures_that_hold_no_boxes(tmp_path):
    for name in ("plain", "striped"):
        paint(tmp_path / name / "a.png", (8, 8))
        write(tmp_path / name / "a.txt", "a caption of 5 words")
    assert read(tmp_path).task == "classification"


def test_boxes_need_pictures_and_their_task():
    labels = [[{"name": "cat", "x": 1, "y": 2, "width": 3, "height": 4}], []]
    with pytest.raises(DataError, match="Boxes are drawn on images"):
        read(["a long text about nothing", "and another text"], labels)
    pictures = [np.zeros((9, 9), np.uint8)] * 2
    with pytest.raises(DataError, match="holds boxes, which --task classification cannot learn"):
        read(pictures, labels, reading=Reading(task="classification"))
    with pytest.raises(DataError, match="which is no list of boxes"):
        read(pictures, ["cat", "dog"], reading=DETECTION)
    with pytest.raises(DataError, match="a box with name, x"):
        read(pictures, [[{"name": "cat", "x": 1}], []])
    with pytest.raises(DataError, match="holds no boxes: all of its 2 values are missing"):
        read(pictures, [None, None], reading=DETECTION)
    with pytest.raises(DataError, match="not one of classification, multilabel, regression, detection"):
        read(pictures, labels, reading=Reading(task="detecting"))


# sizes


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_is_that_of_the_opened_picture(suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    image = registry.modality("image")
    for item in (image.store(path, None), image.store(path.read_bytes(), None)):
        assert image.size(item) == image.open(item).size


def test_no_size_without_a_picture(tmp_path):
    image = registry.modality("image")
    bad = write(tmp_path / "bad.png", "no picture")
    for item in (tmp_path / "gone.png", bad, tmp_path, None):
        assert image.size(image.store(item, None)) is None


def test_boxes_drawn_on_a_smaller_copy_are_scaled(tmp_path):
    one = Scene("a.png", [("bolt", 2, 3, 10, 8)], size=(40, 30))
    paint(tmp_path / "a.png", (80, 60))
    write_json(tmp_path / "boxes.json", coco([one]))
    dataset = read(tmp_path)
    assert dataset.column("label")[0]["boxes"][0] == {
        "name": "bolt", "x": 4.0, "y": 6.0, "width": 20.0, "height": 16.0, "ignored": False,
    }  # fmt: skip
    assert dataset.column("stated") == [[40, 30]]


def test_what_is_a_scaled_copy():
    assert is_scaled((40, 30), (80, 60))
    assert is_scaled((640, 427), (320, 214))  # rounded
    assert not is_scaled((40, 30), (40, 30))
    assert not is_scaled((40, 30), (30, 40))
