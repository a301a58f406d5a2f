"""The report and the model card of a fit on boxes hold every part, well formed, and nothing that is of one label."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import yaml

from headstart.deploy.card import model_card
from headstart.report.boxes import MOST_LINES, recall_curves
from headstart.report.html import render
from tests.scenes import NAMES, record
from tests.test_report import Page


@pytest.fixture(scope="module")
def made():
    return record()


@pytest.fixture(scope="module")
def page(made):
    return Page(render(made))  # which checks that tags nest


def test_parts_are_there_in_order(page):
    titles = [
        "How good it is, and beside what",
        "How well each class is found",
        "Finding more against being right",
        "What it takes for what",
        "If you count them",
        "Does it know how sure it should be?",
        "Its worst slips",
        "Missed",
        "False alarms",
        "What the look at the data found",
    ]
    places = [page.words.index(title) for title in titles]
    assert places == sorted(places)
    for absent in ("The mistakes it was surest of", "ROC AUC: ", "Temperature of calibration", "Majority guess"):
        assert absent not in page.words
    assert "Objects of each class" in page.words


def test_page_is_in_order_and_every_picture_has_words(page):
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert {attrs["aria-labelledby"] for attrs in page.all("section")} == set(ids)
    assert len(ids) == len(set(ids))
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert all(str(attrs["src"]).startswith("data:image/jpeg;base64,") for attrs in page.all("img"))
    whole = [i for i, (tag, _) in enumerate(page.elements) if tag == "svg" and "svg" not in page.parents[i]]
    assert all(page.elements[i][1]["role"] == "img" and page.elements[i + 1][0] == "title" for i in whole)


def test_every_slip_is_shown(page, made):
    assert len(page.all("img")) == 2 * len(made.slips)
    assert {slip.place.kind for slip in made.slips} == {"miss", "false alarm", "wrong class"}


def test_the_numbers_stand_in_the_tables(page, made):
    for row in made.boxes.confusion[:-1]:
        assert all(f"{n:,}" in page.words for n in row)
    for one in made.boxes.classes:
        assert f"{one.ap50.value:.2f}" in page.words
        assert f"{one.count_error.value:.2f}" in page.words


def test_a_page_without_slips_or_objects_still_stands(made):
    blank = [
        replace(one, ap=None, ap50=None, precision=None, recall=None, f1=None, curve=()) for one in made.boxes.classes
    ]
    nothing = ((0,) * 4,) * 4
    empty = replace(made.boxes, classes=tuple(blank), confusion=nothing, calibration=())
    words = Page(render(replace(made, boxes=empty, slips=()))).words
    assert "Its worst slips" not in words
    assert "Does it know how sure it should be?" not in words


def test_many_classes_are_listed_instead_of_drawn(made):
    classes = tuple(replace(made.boxes.classes[k % 3], name=f"class {k}") for k in range(40))
    confusion = tuple(tuple(int(i == j or j == 40) * 3 for j in range(41)) for i in range(41))
    words = Page(render(replace(made, boxes=replace(made.boxes, classes=classes, confusion=confusion)))).words
    assert "class 39" in words
    assert "and 20 more" in words  # of those without a line


def test_lines_stay_in_the_plot(made):
    drawn = str(recall_curves([replace(made.boxes.classes[k % 3], name=f"class {k}") for k in range(MOST_LINES)]))
    assert drawn.count('class="line"') == MOST_LINES
    assert "nan" not in drawn
    assert math.isfinite(float(drawn.split("viewBox")[1].split('"')[1].split()[-1]))


def test_json_holds_the_boxes(made):
    saved = json.loads(json.dumps(made.to_json(), default=str))["boxes"]
    assert [one["name"] for one in saved["classes"]] == list(NAMES)
    assert saved["classes"][0]["ap50"]["low"] <= saved["classes"][0]["ap50"]["value"]


def test_card_is_of_object_detection(made):
    card = model_card(made)
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "object-detection"
    assert "| class | test objects | AP50 | precision | recall | off by, a picture |" in card
    assert card.count("\n| bolt &amp; &lt;nut&gt; |") == 1
    assert "temperature 1" not in card.split("## Provenance")[0]
    few = replace(made.boxes, classes=(replace(made.boxes.classes[0], n_objects=4), *made.boxes.classes[1:]))
    assert "Fewer than 10 test objects: bolt &amp; &lt;nut&gt; (4)" in model_card(replace(made, boxes=few))
