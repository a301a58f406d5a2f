"""One answer as people look at it: what the model says, how sure it is, what drove it, and what is like it.

The page is made once the answer is there, and again once it is explained: a text of many words takes seconds.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from headstart import registry
from headstart.deploy import explain, subtitles
from headstart.deploy.detections import counted
from headstart.deploy.model import Model
from headstart.errors import DataError, HeadstartError
from headstart.evidence import words
from headstart.modalities.base import Preview
from headstart.modalities.drawing import draw
from headstart.tasks.detection import Detection
from headstart.tasks.heard import Heard

MOST_BARS = 5  # classes whose probabilities are shown
MOST_PIXELS = 1600  # the longer side of a picture with boxes
N_SIMILAR = 5


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says of one item."""

    item: Any  # stored
    said: str
    score: int  # the column of the scores that is explained
    bars: list[tuple[str, float]]  # class name, calibrated probability, best first; none for a number


@dataclass(frozen=True, kw_only=True)
class Word:
    """A piece of a text, and what it did."""

    text: str
    space: str  # that follows it
    weight: float  # how much the score falls without it
    share: float  # the same, -1 … 1, beside the piece that did most


@dataclass(frozen=True, kw_only=True)
class Similar:
    """One of the run's own examples."""

    preview: Preview
    label: str
    likeness: str


def ask(model: Model, value: Any) -> Answer:
    """The model's answer to a user's value (a text, file name, array …); DataError when it cannot be read."""
    item, digest = readable(model, value)
    scores = model.scores([item], [digest])
    names = model.task.score_names
    best = np.argsort(-scores[0], kind="stable")
    bars = [(names[k], float(scores[0, k])) for k in best[:MOST_BARS]] if names else []
    return Answer(item=item, said=spoken(model.task.decode(scores)[0]), score=int(best[0]), bars=bars)


def readable(model: Model, value: Any) -> tuple[Any, str]:
    """A user's value as it is stored, and its digest; DataError when it cannot be read."""
    noun = model.modality.noun[0]
    if value is None or value == "":
        raise DataError(f"There is nothing to look at yet: give {'an' if noun[0] in 'aeiou' else 'a'} {noun}.")
    item = model.modality.store(value, None)
    examined = model.examine(item)
    if examined.problem:
        raise DataError(f"This {noun} cannot be used: {examined.problem}.")
    return item, examined.digest


def spoken(label: Any) -> str:
    """A prediction or a label for people: a name, names, or a number."""
    if isinstance(label, float):
        return words.number(label)
    return (", ".join(label) or "none of them") if isinstance(label, list) else str(label)


def pages(model: Model, value: Any) -> Iterator[str]:
    """The answer as HTML, and then the same with what drove it; a problem is one sentence."""
    try:
        if model.detector is not None:
            yield with_boxes(model, value)
            return
        if model.recognizer is not None:
            yield with_words(model, value)
            return
        if model.talker is not None:
            yield written_answer(model, value)
            return
        answer = ask(model, value)
        yield _html(model, answer, explained=False)
        yield _html(
            model,
            answer,
            explained=True,
            words=weighed_words(model, answer),
            picture=heated_picture(model, answer),
            similar=similar(model, answer),
        )
    except HeadstartError as error:
        yield problem(str(error))


def written_answer(model: Model, value: Any) -> str:
    """What a chatbot answers to one prompt, as HTML; DataError when there is none."""
    (said,) = model.answer(str(value or ""))
    return _environment().from_string('<p class="hs-said">{{ said }}</p>').render(said=said)


def with_boxes(model: Model, value: Any) -> str:
    """The picture with what is found in it, and a table of the boxes, as HTML; DataError when it cannot be read."""
    assert isinstance(model.task, Detection), "a detector finds boxes"
    item, digest = readable(model, value)
    (found,) = model.shown(model.scores([item], [digest]))
    drawn = draw(model.modality.open(item), found, model.task.class_names)
    drawn.thumbnail((MOST_PIXELS, MOST_PIXELS))
    (boxes,) = model.task.decode([found])  # type: ignore[arg-type]  # any sequence of them
    view = {"said": counted(model.task, found), "picture": as_jpeg(drawn), "size": found.size, "boxes": boxes}
    return _environment().get_template("answer_boxes.html.j2").render(view)


def with_words(model: Model, value: Any) -> str:
    """What is said in a sound, a word at a time with its time and confidence, as HTML; DataError as `readable`."""
    item, digest = readable(model, value)
    (heard,) = model.scores([item], [digest])
    view = {"heard": heard, "segments": subtitles.segments(heard), "files": written(heard)}
    return _environment().get_template("answer_words.html.j2").render(view)


def written(heard: Heard) -> dict[str, str]:
    """The transcript in every form, as `data:` URIs to save."""
    encoded = {name: base64.b64encode(write(heard).encode()).decode() for name, write in subtitles.FORMATS.items()}
    return {name: f"data:application/octet-stream;base64,{content}" for name, content in encoded.items()}


def problem(text: str) -> str:
    """What went wrong, as HTML."""
    return _environment().from_string('<p class="hs-problem" role="alert">{{ text }}</p>').render(text=text)


def weighed_words(model: Model, answer: Answer) -> list[Word]:
    """The words of a text, each with what it did; [] for other items."""
    if registry.plugin_name(model.modality) != "text":
        return []
    found = explain.word_weights(model, model.modality.open(answer.item), answer.score)
    most = max((abs(weight) for _, weight in found), default=0.0) or 1.0
    return [
        Word(text=text.rstrip(), space=text[len(text.rstrip()) :], weight=weight, share=weight / most)
        for text, weight in found
    ]


def heated_picture(model: Model, answer: Answer) -> str:
    """A picture with what drove the answer laid over it, as a `data:` URI; "" for other items."""
    if registry.plugin_name(model.modality) != "image":
        return ""
    opened = model.modality.open(answer.item)
    return as_jpeg(explain.overlay(opened, explain.heat_map(model, answer.item, answer.score)))


def as_jpeg(picture: Any) -> str:
    """An RGB picture as a `data:` URI."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def similar(model: Model, answer: Answer) -> list[Similar]:
    """The run's own examples that are most like the item, of those that can still be read."""
    found = explain.most_similar(model, answer.item, 2 * N_SIMILAR)
    readable = [one for one in found if model.modality.examine(one.item).problem is None]
    return [
        Similar(
            preview=model.modality.preview(one.item),
            label=spoken(one.label),
            likeness=words.number(one.similarity, 2),
        )
        for one in readable[:N_SIMILAR]
    ]


def _html(model: Model, answer: Answer, *, explained: bool, **parts: Any) -> str:
    empty = {"words": [], "picture": "", "similar": []}
    view = {"model": model, "answer": answer, "explained": explained, **empty, **parts}
    return _environment().get_template("answer.html.j2").render(view)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("headstart.deploy", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": words.share, "number": words.number}
    return environment
