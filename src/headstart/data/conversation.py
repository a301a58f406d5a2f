"""A conversation: who said what, in order. It is stored as JSON text, in the form of OpenAI's and Hugging Face's
`messages`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.data.dataset import Dataset

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)


@dataclass(frozen=True)
class Turn:
    """What one of them said."""

    role: str  # one of ROLES
    text: str


@dataclass(frozen=True)
class Conversation:
    """Turns in order: at most one of the system, first; then user and assistant in turn, the user first."""

    turns: tuple[Turn, ...]

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]]) -> Conversation:
        """Of `messages` whose roles and contents are clean already."""
        return cls(tuple(Turn(str(one["role"]), str(one["content"])) for one in messages))

    @classmethod
    def asking(cls, prompt: str, system: str | None = None) -> Conversation:
        """A single question, after the system's words where there are some."""
        before = () if not system else (Turn(SYSTEM, system),)
        return cls((*before, Turn(USER, prompt)))

    @classmethod
    def from_text(cls, stored: str) -> Conversation:
        """The inverse of `to_text`."""
        return cls.of(json.loads(stored))

    def to_text(self) -> str:
        """As it is stored: the JSON of `messages`."""
        return json.dumps(self.messages, ensure_ascii=False)

    @property
    def messages(self) -> list[dict[str, str]]:
        """[{"role": …, "content": …}, …]"""
        return [{"role": turn.role, "content": turn.text} for turn in self.turns]

    @property
    def answers(self) -> tuple[int, ...]:
        """The positions of the assistant's turns."""
        return tuple(i for i, turn in enumerate(self.turns) if turn.role == ASSISTANT)

    @property
    def said(self) -> list[str]:
        """The assistant's turns, in order."""
        return [self.turns[i].text for i in self.answers]

    @property
    def first_question(self) -> str:
        """The user's first words; "" where there are none."""
        return next((turn.text for turn in self.turns if turn.role == USER), "")

    def before(self, position: int) -> Conversation:
        """What was said before the turn at `position`."""
        return Conversation(self.turns[:position])

    @property
    def asked(self) -> int:
        """The position of the answer that systems are asked for in a test: one of each conversation, by its content."""
        drawn = int.from_bytes(hashlib.sha256(self.to_text().encode("utf-8", "replace")).digest()[:8], "big")
        return self.answers[drawn % len(self.answers)]

    @property
    def reference(self) -> str:
        """The answer that was given there."""
        return self.turns[self.asked].text

    @property
    def question(self) -> str:
        """The user's words before it."""
        return next((t.text for t in reversed(self.turns[: self.asked]) if t.role == USER), "")


def as_texts(dataset: Dataset) -> Dataset:
    """Conversations as plain texts without labels, a turn a line; any other data set as it is."""
    if dataset.task != "chat":
        return dataset
    talks = map(Conversation.from_text, dataset.inputs)
    texts = ["\n".join(turn.text for turn in talk.turns) for talk in talks]
    feature = dataset.table.features["input"]
    table = dataset.table.remove_columns(["input", "label"]).add_column("input", texts, feature=feature)
    return replace(dataset, table=table, task=None, notes=(*dataset.notes, "conversations are taken as plain texts"))


def to_messages(dataset: Dataset) -> str:
    """The conversations of a chat data set as JSON lines, {"messages": […]} each: what hosted models are tuned on."""
    lines = ('{"messages": ' + stored + "}" for stored in dataset.inputs)
    return "".join(f"{line}\n" for line in lines)
