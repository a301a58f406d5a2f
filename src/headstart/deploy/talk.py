"""A chatbot put to use: the oldest turns left out of long talks, prompts answered in batches, held-out talks measured.

What is measured are the probabilities of all true answers, and one answer of its own to some of the conversations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.conversation import ASSISTANT, SYSTEM, USER, Conversation, Turn
from headstart.engine.voice import Sampling
from headstart.hosted.voice import AnyVoice
from headstart.progress import Progress
from headstart.tasks.base import one_each

if TYPE_CHECKING:
    import pandas as pd

    from headstart.deploy.model import Model

ANSWERS = "answers.jsonl"  # of a run: questions of the test, with true answers and its own
MOST_ANSWERS = 100  # conversations that `evaluate` asks for an answer, since each takes seconds
TEST_TOKENS = 256  # of such an answer


def fitting(voice: AnyVoice, conversation: Conversation, how: Sampling) -> tuple[Conversation, int]:
    """Without the oldest turns that leave no room for an answer, and how many these are; the system's words stay.

    The user's last words stay too: `voice` says where they alone are too long.
    """
    room = min(how.max_tokens, voice.context // 2)
    first = tuple(turn for turn in conversation.turns if turn.role == SYSTEM)
    rest = [turn for turn in conversation.turns if turn.role != SYSTEM]
    starts = [i for i, turn in enumerate(rest) if turn.role == USER]
    for start in starts:
        shorter = Conversation((*first, *rest[start:]))
        if voice.count(shorter) + room <= voice.context or start == starts[-1]:
            return (shorter, start) if start else (conversation, 0)
    return conversation, 0


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a chatbot answers to N conversations; None where one leaves no room, and `problems` says so."""

    asked: Sequence[Conversation]
    answers: Sequence[str | None]
    problems: Sequence[str | None]

    def short(self) -> pd.DataFrame:
        """A row a conversation: the user's last words, and the answer."""
        import pandas as pd

        table = pd.DataFrame({"input": [one.turns[-1].text for one in self.asked], "prediction": list(self.answers)})
        return table.assign(problem=list(self.problems)) if any(self.problems) else table

    def table(self) -> pd.DataFrame:
        """The same with the whole conversation, the answer included, as messages."""
        each = zip(self.asked, self.answers, strict=True)
        whole = [talk.messages if said is None else with_answer(talk, said).messages for talk, said in each]
        return self.short().assign(messages=whole)


def with_answer(conversation: Conversation, answer: str) -> Conversation:
    """The conversation with one more turn of the assistant's."""
    return Conversation((*conversation.turns, Turn(ASSISTANT, answer)))


def answer_all(model: Model, asked: Sequence[Conversation], how: Sampling, progress: Progress) -> Answered:
    """The answers to conversations; one that fills the network's context has none, and its problem is told."""
    voice = model.voice()
    counts = [voice.count(one) for one in asked]
    fits = [i for i, n in enumerate(counts) if n < voice.context]
    answers: list[str | None] = [None] * len(asked)
    for i, text in zip(fits, voice.answers([asked[i] for i in fits], how, progress), strict=True):
        answers[i] = text
    problems = [None if n < voice.context else f"{n:,} tokens, and the network sees {voice.context:,}" for n in counts]
    return Answered(asked=asked, answers=answers, problems=problems)


def samples(model: Model, most: int = 16) -> list[Conversation]:
    """Some of the run's own conversations with their true answers, those of validation or of the test; [] without."""
    kept = None if model.examples is None else model.examples.of("val")
    if kept is not None and kept.items:
        return [Conversation.from_text(one) for one in kept.items[:most]]
    lines = model.files.get(ANSWERS, b"").decode().splitlines()
    told = [json.loads(line) for line in lines[:most]]
    return [with_answer(Conversation.asking(one["question"]), one["truth"]) for one in told]


def first_question(conversation: Conversation) -> Turn | None:
    """The user's first words."""
    return next((turn for turn in conversation.turns if turn.role == USER), None)


def said(voice: AnyVoice, stored: Sequence[Any], progress: Progress | None = None) -> np.ndarray:
    """(N,) of `Said`: how likely the answers of stored conversations are."""
    return one_each(voice.said([Conversation.from_text(str(one)) for one in stored], progress))


def measured(
    voice: AnyVoice, stored: Sequence[Any], progress: Progress | None = None, most: int = MOST_ANSWERS
) -> np.ndarray:
    """The same, with an answer of its own to up to `most` of them, spread evenly."""
    found = said(voice, stored, progress)
    rows = np.unique(np.linspace(0, len(stored) - 1, min(most, len(stored)), dtype=int))
    talks = [Conversation.from_text(str(stored[row])) for row in rows]
    prompts = [fitting(voice, one.before(one.asked), Sampling(max_tokens=TEST_TOKENS))[0] for one in talks]
    for row, answer in zip(rows, voice.answers(prompts, Sampling(max_tokens=TEST_TOKENS), progress), strict=True):
        found[row] = replace(found[row], answer=answer)
    return found
