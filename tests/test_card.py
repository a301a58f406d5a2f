from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from headstart.deploy.card import code, model_card, plain
from headstart.evidence.base import Score
from tests import samples


@pytest.fixture(params=samples.KINDS)
def record(request):
    return samples.record(request.param)


def test_the_hub_reads_the_front_matter(record):
    card = ModelCard(model_card(record))
    assert card.data.library_name == "headstart"
    assert card.data.license == "apache-2.0"
    assert card.data.base_model is None
    read = {result.metric_type: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in read.items()} == {
        name: score.value for name, score in record.evidence.metrics.items()
    }
    assert {(r.dataset_name, r.dataset_split) for r in read.values()} == {(record.data.name, "test")}
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()


@pytest.mark.parametrize(
    ("kind", "tag"), [("images", "image-classification"), ("multilabel", "text-classification"), ("regression", None)]
)
def test_pipeline_tag(kind, tag):
    assert ModelCard(model_card(samples.record(kind))).data.pipeline_tag == tag


@pytest.mark.parametrize(
    ("source", "licence", "expected"),
    [
        ("hub:google/vit-base-patch16-224", "MIT", {"base_model": "google/vit-base-patch16-224", "license": "mit"}),
        ("folder:/models/mine", "unknown", {"base_model": None, "license": None}),
        ("pypi:x", "LicenseRef-Own Terms", {"license": "other", "license_name": "licenseref-own-terms"}),
    ],
)
def test_origin_of_the_backbone(source, licence, expected):
    record = samples.record("texts")
    text = model_card(replace(record, provenance=replace(record.provenance, source=source, licence=licence)))
    data = ModelCard(text).data
    assert {key: data.get(key) for key in expected} == expected
    assert ("Find it out before" in text) == (licence == "unknown")


def test_undefined_metrics_stay_out_of_the_front_matter():
    record = samples.record("images")
    nan = Score(math.nan, math.nan, math.nan)
    evidence = replace(record.evidence, metrics=record.evidence.metrics | {"roc_auc": nan})
    text = model_card(replace(record, evidence=evidence))
    assert "roc_auc" not in {result.metric_type for result in ModelCard(text).data.eval_results}
    assert "not defined (not defined)" not in text
    assert ".nan" not in text


@pytest.mark.parametrize("paid", [True, False, None])
def test_it_says_what_it_knows_and_where_it_ends(paid):
    record = samples.record("images", paid)
    text = model_card(record)
    assert plain(record.evidence.verdict) in text
    assert "measured on 525 test examples from that same source" in text
    assert record.provenance.sha256 in text
    assert record.command in text
    assert ("no reason in these scores to prefer" in text) == (paid is False)
    assert ("It cannot be told from these examples" in text) == (paid is None)


def test_small_classes_are_named():
    """By what was measured on, wherever that comes from."""
    record = samples.record("images")
    first, *others = record.task.score_names
    y = np.repeat(np.arange(len(others) + 1), [9, *(10 for _ in others)])
    text = model_card(replace(record, test=replace(record.test, y=y)))
    assert f"Fewer than 10 test examples: {first} (9). Little can be said about this class." in text


def test_hostile_names_stay_text():
    nasty = "<script>alert(1)</script> | *a* `b` [c](http://d) #\n---\nlicense: evil"
    record = samples.record("images", task=samples.task("images", [nasty, "bee"]))
    counts = {nasty: {"train": 3, "val": 1, "test": 1}}
    record = replace(record, data=replace(record.data, name=nasty, source=nasty, class_counts=counts))
    text = model_card(record)
    assert ModelCard(text).data.license == "apache-2.0"
    assert ModelCard(text).data.eval_results[0].dataset_name == nasty
    body = MarkdownIt("commonmark").enable("table").render(ModelCard(text).text)
    assert "<script>" not in body
    assert "<a " not in body
    assert "<em>a</em>" not in body


def test_the_tables_are_tables(record):
    body = MarkdownIt("commonmark").enable("table").render(ModelCard(model_card(record)).text)
    assert body.count("<table>") == 3
    rows = re.findall(r"<tr>(.*?)</tr>", body.split("<table>")[2], re.DOTALL)
    assert len(rows) == 1 + len(record.evidence.metrics)
    assert {len(re.findall("<t[hd][ >]", row)) for row in rows} == {2 + len(record.evidence.baselines)}
    assert "{{" not in body
    assert "{%" not in body


@pytest.mark.parametrize("text", ["a", "a`b", "``x` y```", "`"])
def test_inline_code_round_trip(text):
    assert MarkdownIt("commonmark").renderInline(code(text)) == f"<code>{text}</code>"
