"""A chatbot as the template draws it: answers side by side, what was copied, what was forgotten, lengths."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any, NamedTuple

from markupsafe import Markup

from headstart.evidence import words
from headstart.evidence.chat_verdict import UNTOUCHED, rise
from headstart.evidence.chats import ChatEvidence, Sample
from headstart.evidence.forgetting import Forgetting
from headstart.evidence.parroting import Parroting
from headstart.evidence.weigh import MODEL
from headstart.report import plots

TITLES = {MODEL: "this model"}
KINDS = {
    "best": "among the best answers, by token F1",
    "worst": "among the worst",
    "median": "typical: in the middle by token F1",
    "random": "drawn at random",
}
COPIES = {
    "half": "Answers of which more than half is one run of words from a training answer",
    "most": "Answers of which more than 80 % is one run",
    "grams": "Sequences of eight words that stand in a training answer",
}


class Answer(NamedTuple):
    """What one system says."""

    who: str
    text: str
    f1: str  # "" for the true answer
    own: bool = False


class Shown(NamedTuple):
    """One conversation, its answers side by side."""

    kind: str
    before: str
    question: str
    answers: list[Answer]
    is_open: bool


class Row(NamedTuple):
    """One line of a plot."""

    who: str
    plot: Markup
    said: str


def view(chat: ChatEvidence) -> dict[str, Any]:
    """What the template needs to know."""
    kinds = [one.kind for one in chat.samples]
    return {
        "n_asked": chat.n_asked,
        "samples": [_shown(one, i == kinds.index(one.kind)) for i, one in enumerate(chat.samples)],
        "copied": None if chat.parroting is None else _copied(chat.parroting),
        "forgotten": None if chat.forgetting is None else _forgotten(chat.forgetting),
        "lengths": chat.lengths,
        "any_cut": any(one.n_cut for one in chat.lengths),
    }


def _shown(one: Sample, is_open: bool) -> Shown:
    said = [
        Answer(TITLES.get(name, name), text.strip() or "(nothing)", words.number(one.f1[name], 2), name == MODEL)
        for name, text in one.answers.items()
    ]
    return Shown(KINDS[one.kind], one.before, one.question, [Answer("true answer", one.truth, ""), *said], is_open)


def _copied(found: Parroting) -> dict[str, Any]:
    rows = [
        (title, words.share(getattr(found.own, name).value), words.share(getattr(found.true, name).value))
        for name, title in COPIES.items()
    ]
    return {"n": found.n, "rows": rows, "said": copying_said(found)}


def copying_said(found: Parroting) -> str:
    """What the two columns come to, in a sentence."""
    beyond = words.score(found.beyond)
    if not found.copies:
        return f"It does not copy more than the true answers share with those of training: the difference is {beyond}."
    more = f"It copies more than the true answers share with those of training, by {beyond}"
    if found.parrots:
        return f"{more}, and its answers are no better than the nearest training answer: it parrots."
    return f"{more}, but its answers are better than the nearest training answer."


def _forgotten(found: Forgetting) -> dict[str, Any]:
    axis = plots.axis([*astuple(found.before), *astuple(found.after), 0.0])
    own = plots.interval_row(found.after, axis, TITLES[MODEL], "model")
    untouched = plots.interval_row(found.before, axis, UNTOUCHED, "baseline")
    rows = [
        Row(TITLES[MODEL], own, words.score(found.after)),
        Row(UNTOUCHED, untouched, words.score(found.before)),
    ]
    return {
        "rows": rows,
        "ticks": plots.tick_row(axis),
        "said": forgetting_said(found),
        "n_passages": found.n_passages,
        "works": found.works,
    }


def forgetting_said(found: Forgetting) -> str:
    """Whether it reads other text as well as before, in a sentence."""
    if found.forgot:
        return f"Perplexity of general English text rose by {rise(found.ratio)}: it forgot."
    outcome = "nothing is lost" if found.ratio.high < 1 else "no clear difference"
    return f"Perplexity of general English text is {words.score(found.ratio)} times that of before: {outcome}."
