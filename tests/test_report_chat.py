"""The report and the card of a chatbot: answers side by side, what was copied, what was forgotten, lengths."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from headstart.deploy.card import model_card, plain
from headstart.errors import BackboneError
from headstart.evidence.base import Score, TestResult
from headstart.evidence.chat_verdict import UNTOUCHED, Beside, chat_claim
from headstart.evidence.chats import ChatEvidence, Lengths, Sample, measure_chat
from headstart.evidence.forgetting import compared
from headstart.evidence.record import Record
from headstart.evidence.weigh import MODEL, weigh_systems
from headstart.report import frozen
from headstart.report.chat import copying_said, forgetting_said
from headstart.report.html import render
from headstart.report.plots import Box
from headstart.screen import chat_table
from headstart.tasks.chat import Chat
from tests import samples
from tests.test_chat_evidence import SCALES, parroting, spoken

NATS = np.tile([300.0, 100.0], (40, 1))
FORGOT = compared(NATS, NATS * [1.05, 1], ("A <novel>",), seed=0)
LENGTHS = (Lengths.of("train", np.array([10, 30]), np.array([5, 9]), most=20),)
SAMPLE = Sample(
    kind="best",
    before="earlier words",
    question="Is <b>this</b> safe?",
    truth="Yes & no.",
    answers={MODEL: "<script>alert(1)</script>", UNTOUCHED: ""},
    f1={MODEL: 0.875, UNTOUCHED: 0.0},
)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """A run whose answers hold markup."""

    def refuse(*_: object) -> None:
        raise BackboneError("minilm is not on this disk.")

    monkeypatch.setattr("headstart.backbones.catalog.load", refuse)
    talks = spoken()
    chat = replace(measure_chat(talks), forgetting=FORGOT, lengths=LENGTHS)
    chat = replace(chat, samples=(SAMPLE, *chat.samples))
    beside = Beside(n=len(talks.y), parroting=chat.parroting, forgetting=FORGOT)
    own = talks.systems[MODEL]
    base = samples.record("texts")
    return replace(
        base,
        data=replace(base.data, task="chat", label_name="answer", class_counts={}),
        task=Chat(),
        evidence=weigh_systems(SCALES, talks.y, talks.systems, chat_claim(beside)),
        test=TestResult(y=talks.y, scores=own, naive=own, classical=own),
        mistakes=(),
        chat=chat,
    )


def test_answers_stand_side_by_side_and_stay_text(record: Record) -> None:
    page = render(record)
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Is &lt;b&gt;this&lt;/b&gt; safe?" in page
    first = page.split('<details class="talk" open>')[1].split("</details>")[0]
    assert re.findall(r"<dt[^>]*>(.*?)</dt>", first) == ["before that", "true answer", "this model", UNTOUCHED]
    assert "0.88" in first
    assert "(nothing)" in first
    assert page.count('<details class="talk') == len(record.chat.samples if record.chat else ())


def test_the_page_has_every_part_and_drops_those_that_were_not_measured(record: Record) -> None:
    parts = ("answers", "copied", "forgotten", "lengths")
    page = render(record)
    assert all(f'<h2 id="{part}">' in page for part in parts)
    assert "A &lt;novel&gt;" in page
    assert "of 30 of these conversations" in page  # only so many were asked
    bare = ChatEvidence(n_asked=0, forgetting=None, parroting=None, samples=(), lengths=())
    assert not any(f'<h2 id="{part}">' in render(replace(record, chat=bare)) for part in parts)


def test_the_head_of_a_language_model_is_its_own_and_stays() -> None:
    adapted = samples.plan(strategy="lora", strength=None, metric="perplexity", cut=4)
    assert frozen.boxes(adapted)[-1] == Box("frozen", "its own head")
    assert frozen.key(adapted)[-1] == ("frozen", "its own head, as it was pretrained")
    assert frozen.boxes(replace(adapted, metric="roc_auc"))[-1] == Box("head", "new head")


def test_the_card_speaks_of_a_chatbot(record: Record) -> None:
    card = model_card(record)
    assert "pipeline_tag: text-generation" in card
    assert "headstart chat RUN" in card
    assert f"- {plain(forgetting_said(FORGOT))}" in card
    assert "have a person check" in card


def test_copying_is_told_apart_from_parroting() -> None:
    found = parroting(copies=True)
    assert copying_said(found).endswith("it parrots.")
    assert copying_said(replace(found, over_nearest=Score(0.1, 0.05, 0.2))).endswith(
        "than the nearest training answer."
    )
    assert copying_said(parroting(copies=False)).startswith("It does not copy more")


def test_what_is_said_of_forgetting() -> None:
    assert forgetting_said(FORGOT).endswith("it forgot.")
    assert forgetting_said(compared(NATS, NATS * [0.9, 1], ("a",), seed=0)).endswith("nothing is lost.")
    assert forgetting_said(compared(NATS, NATS, ("a",), seed=0)).endswith("no clear difference.")


def test_metrics_json_holds_it(record: Record) -> None:
    told = record.to_json()["chat"]
    assert told["forgetting"]["forgot"] is True
    assert told["lengths"][0]["n_cut"] == 1


def test_the_screen_shows_a_system_a_line(record: Record) -> None:
    table = chat_table(record.evidence)
    assert [column.header for column in table.columns][1] == "perplexity"
    names = list(table.columns[0].cells)
    assert str(names[0]) == "this model"
    assert len(names) == 1 + len(record.evidence.baselines)
    assert "–" in [str(cell) for cell in table.columns[1].cells]  # a search has no perplexity
