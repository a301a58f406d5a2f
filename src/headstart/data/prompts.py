"""What a chatbot is asked: prompts and conversations to go on with, out of Python values, files and lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from headstart.data.conversation import SYSTEM, USER, Conversation, Turn
from headstart.data.raw import Raw, is_missing
from headstart.data.roles import Unusable, as_messages, turns_of
from headstart.data.tables import TABLE_SUFFIXES, read_table, table_suffix
from headstart.errors import DataError, did_you_mean, listed

TALKS = ("messages", "conversations", "conversation")  # columns of whole conversations
PROMPTS = ("prompt", "question", "instruction", "input", "query", "user", "text")  # columns of single questions
SYSTEMS = ("system", "system_prompt")


def conversations(given: Any) -> list[Conversation]:
    """One prompt, one conversation, or a list of them, as conversations that wait for an answer."""
    if isinstance(given, (str, Conversation, Mapping)) or as_messages(given):
        return [asked(conversation_of(given))]
    try:
        each = list(given)
    except TypeError:
        raise DataError(_what_is_needed(given)) from None
    return [asked(conversation_of(one)) for one in each]


def conversation_of(given: Any) -> Conversation:
    """Of a prompt, a list of messages, or {"messages": […]} or {"prompt": …}. DataError for anything else."""
    if isinstance(given, Conversation):
        return given
    if messages := as_messages(given):
        return of_messages(messages)
    if isinstance(given, str):
        return Conversation.asking(given)
    if isinstance(given, Mapping):
        talk = next((given[name] for name in TALKS if name in given), None)
        if messages := as_messages(talk):
            return of_messages(messages)
        prompt = next((given[name] for name in PROMPTS if isinstance(given.get(name), str)), None)
        if prompt is not None:
            return Conversation.asking(prompt)
    raise DataError(_what_is_needed(given))


def of_messages(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Messages as OpenAI, Hugging Face or ShareGPT write them; neighbours of one role become one turn, and what the
    system says stands first. DataError for an unknown role, and for content that is no text.
    """
    turns = turns_of(messages)
    if isinstance(turns, Unusable):
        raise DataError(f"A chatbot goes on with texts alone, and not with conversations that {turns.reason}.")
    system = [turn.text for turn in turns if turn.role == SYSTEM]
    others = groupby((turn for turn in turns if turn.role != SYSTEM), key=lambda turn: turn.role)
    merged = [Turn(role, "\n\n".join(turn.text for turn in some)) for role, some in others]
    first = [Turn(SYSTEM, "\n\n".join(system))] if system else []
    return Conversation((*first, *merged))


def asked(conversation: Conversation) -> Conversation:
    """Up to the user's last words, which are to be answered. DataError where the user says nothing."""
    last = max((i for i, turn in enumerate(conversation.turns) if turn.role == USER), default=None)
    if last is None or not conversation.turns[last].text.strip():
        raise DataError("There is nothing to answer: the user's turn is missing, or empty.")
    return conversation.before(last + 1)


def read_prompts(given: Sequence[str], column: str | None = None, system: str | None = None) -> list[Conversation]:
    """The conversations in files, in lines of standard input ("-"), or in texts on the command line, in order.

    A .txt file has a prompt a line; a table a column of prompts or of messages (`column` names it). `system` is said
    first where a conversation has no system's words of its own.
    """
    found = [conversation for one in given for conversation in _read(one, column)]
    if not found:
        raise DataError(f"There is no prompt in {listed(given)}.")
    return [with_system(one, system) for one in found]


def with_system(conversation: Conversation, system: str | None) -> Conversation:
    """With the system's words first, where it has none."""
    if not system or conversation.turns[0].role == SYSTEM:
        return conversation
    return Conversation((Turn(SYSTEM, system), *conversation.turns))


def _read(given: str, column: str | None) -> Iterator[Conversation]:
    path = Path(given)
    if given == "-":
        yield from _lines(sys.stdin, "standard input")
    elif _is_file(path) and path.suffix.lower() == ".txt":
        yield from _lines(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), given)
    elif _is_file(path) and table_suffix(path) is not None:
        yield from _of_table(read_table(path), column)
    elif _is_file(path) or (path.suffix and "/" in given and " " not in given):
        near = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"{given} is no file of prompts.{did_you_mean(path.name, near)} Give a .txt file with a prompt a line, a "
            f"table ({listed(TABLE_SUFFIXES)}), '-' for standard input, or a prompt in quotes."
        )
    else:
        yield asked(Conversation.asking(given))


def _lines(lines: Any, source: str) -> Iterator[Conversation]:
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise DataError(f"{source} holds no line to answer.")
    yield from map(Conversation.asking, prompts)


def _of_table(raw: Raw, column: str | None) -> Iterator[Conversation]:
    """A conversation a row. DataError, naming the row, where one cannot be answered."""
    names = {name.lower(): name for name in raw.columns}
    if column is not None and column not in raw.columns:
        raise DataError(
            f"{raw.source} has no column {column!r}; its columns are {listed(raw.columns, 20)}."
            f"{did_you_mean(column, raw.columns)}"
        )
    chosen = column or next((names[name] for name in (*TALKS, *PROMPTS) if name in names), None)
    if chosen is None:
        raise DataError(
            f"{raw.source} has no column of prompts; its columns are {listed(raw.columns, 20)}. Name it with --input "
            f"COL, or call it {listed((TALKS[0], *PROMPTS[:2]))}."
        )
    system = next((names[name] for name in SYSTEMS if name in names), None)
    for row, value in enumerate(raw.columns[chosen]):
        try:
            talk = asked(conversation_of("" if is_missing(value) else value))
        except DataError as error:
            raise DataError(f"{raw.source}, row {row + 1}: {error}") from None
        first = raw.columns[system][row] if system else None
        yield with_system(talk, None if is_missing(first) else str(first))


def _what_is_needed(given: Any) -> str:
    return (
        f"A chatbot answers prompts and conversations, and this is a {type(given).__name__} ({str(given)[:60]!r}). "
        'Give a text, or messages like [{"role": "user", "content": "…"}].'
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a long text is no file name
        return False
