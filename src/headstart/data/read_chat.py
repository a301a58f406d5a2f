"""Conversations out of raw columns: messages, prompts with answers, one row a turn, dialogues in files.

What is unmistakable is found by itself; the rest is taken where the user says that it is chat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath
from typing import Any, NamedTuple

from headstart.data import personal
from headstart.data.columns import Roles, check_column, split_column
from headstart.data.conversation import ASSISTANT, SYSTEM, USER, Conversation, Turn
from headstart.data.dialogues import CONVERSATION
from headstart.data.labels import CHAT
from headstart.data.raw import Raw, is_missing, printable
from headstart.data.roles import Unusable, as_messages, role_of, turns_of
from headstart.data.turn_tables import turn_columns, turns_in_rows
from headstart.errors import DataError, listed

ANSWERS = "answers"  # the label's name where no column is called so
SURE = (("instruction", "output"), ("instruction", "response"), ("prompt", "completion"), ("prompt", "response"))
_ASK = (
    *("instruction", "prompt", "question", "questions", "query", "user", "human", "customer", "request", "input"),
    *("utterance", "context", "text"),
)
_SAY = ("output", "completion", "response", "answer", "answers", "reply", "assistant", "bot", "agent", "chatbot")
_MORE = ("input", "context")  # what an instruction is about (Alpaca, Dolly)
_SYSTEM = ("system", "system_prompt")
_RATINGS = {"label", "labels", "class", "score", "rating", "stars", "chosen", "rejected"}  # then it is another task
_WORDS_SHARE = 0.5  # of the answers must be more than a word, to be taken for answers unasked
_SAMPLE = 50


@dataclass(frozen=True, kw_only=True)
class ChatWish:
    """What the user says; None leaves it to the reader."""

    input: str | None = None  # the column with the prompts, or with whole conversations
    label: str | None = None  # the column with the answers
    task: str | None = None
    system: str | None = None  # the system's words where a conversation has none of its own
    redact: bool = False  # mask personal data
    rules: tuple[str, ...] = ()  # columns for groups or times, which must be there

    @property
    def asked(self) -> bool:
        """Whether the user says that it is chat."""
        return self.task == CHAT


class Talks(NamedTuple):
    """What a layout yields: conversations or why they cannot be used, and the row that each begins in."""

    found: Sequence[tuple[Turn, ...] | Unusable]
    rows: Sequence[int]
    input: str
    label: str
    used: frozenset[str]  # columns that the conversations are made of
    note: str


def as_chat(raw: Raw, wish: ChatWish) -> tuple[Raw, Roles] | None:
    """The rows as conversations, and their columns; None where they are none and none were asked for.

    DataError when they cannot be read as chat, though the user says that they are.
    """
    if wish.task not in (None, CHAT) or wish.label == "":
        if wish.asked:
            raise DataError("Chat learns the answers of conversations, so --label cannot be empty. Leave it out.")
        return None
    for option, name in (("input", wish.input), ("label", wish.label)):
        if name and wish.asked:
            check_column(raw, name, option)
    if raw.label and not wish.asked:
        return None
    talks = _messages(raw, wish) or _turn_table(raw, wish) or _pairs(raw, wish) or _lists(raw, wish)
    if talks is None:
        if wish.asked:
            raise DataError(_what_is_needed(raw))
        return None
    return _finished(raw, talks, wish)


def _what_is_needed(raw: Raw) -> str:
    """What was given, what is allowed and what to do."""
    if raw.input and raw.source is None:
        shown = type(raw.columns[raw.input][0]).__name__
        return (
            f"The data hold {shown}, and these are no conversations. Give a list of "
            '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}, or prompts and '
            "their answers."
        )
    return (
        f"{raw.source or 'The data'} cannot be read as conversations: its columns are {listed(raw.columns, 20)}. "
        "Name the column of prompts with --input COL and that of answers with --label COL, or give JSON lines with "
        '"messages".'
    )


def _messages(raw: Raw, wish: ChatWish) -> Talks | None:
    """A column of whole conversations; a column of the system's words beside it counts."""
    pair = _sure(raw) or ()  # whose cells may be messages too
    names = [wish.input] if wish.input in raw.columns else [] if wish.input else list(raw.columns)
    names = [name for name in names if name not in pair]
    name = next((name for name in names if name and _is_talk(raw.columns[name], wish.asked)), None)
    if name is None or wish.label:
        return None
    system = _named(raw, _SYSTEM)
    first = raw.columns[system] if system else [None] * len(raw)
    found = [_with_system(_turns(value), said) for value, said in zip(raw.columns[name], first, strict=True)]
    used = frozenset({name} | ({system} if system else set()))
    return Talks(
        found, range(len(raw)), name, ANSWERS, used, "" if raw.input else f"column {name!r} holds conversations"
    )


def _is_talk(values: Sequence[Any], asked: bool) -> bool:
    """Whether the first values that are there are all messages, of usual roles unless the user asked for chat."""
    there = list(islice((value for value in values if not _is_nothing(value)), _SAMPLE))
    if not there or not all(map(as_messages, there)):
        return False
    lists = [as_messages(value) for value in there]
    roles = {one.get("role", one.get("from", one.get("speaker"))) for some in lists for one in some or ()}
    return asked or sum(role_of(role) is not None for role in roles) > len(roles) / 2


def _is_nothing(value: Any) -> bool:
    return (isinstance(value, (list, tuple)) and not value) or (not hasattr(value, "__len__") and is_missing(value))


def _turns(value: Any) -> tuple[Turn, ...] | Unusable:
    messages = None if _is_nothing(value) else as_messages(value)
    return turns_of(messages) if messages else ()


def _with_system(turns: tuple[Turn, ...] | Unusable, system: Any) -> tuple[Turn, ...] | Unusable:
    """With the system's words before it, where it has none."""
    if isinstance(turns, Unusable) or is_missing(system) or any(turn.role == SYSTEM for turn in turns):
        return turns
    return (Turn(SYSTEM, str(system).strip()), *turns)


def _turn_table(raw: Raw, wish: ChatWish) -> Talks | None:
    """One row a turn, or a row for what both say in turn."""
    columns = turn_columns(raw, wish.asked, wish.input, wish.label)
    if columns is None:
        return None
    split = split_column(raw, [])
    found, rows = turns_in_rows(raw, columns, [name for name in {*wish.rules, split} if name in raw.columns])
    return Talks(found, rows, CONVERSATION, ANSWERS, columns.used, columns.note)


def _pairs(raw: Raw, wish: ChatWish) -> Talks | None:
    """A prompt and its answer in each row."""
    ask, say = _ask_and_say(raw, wish)
    if not ask or not say:
        return None
    more = _named(raw, _MORE) if ask.lower() == "instruction" and not wish.input else None
    system = _named(raw, _SYSTEM)
    more, system = (None if name in (ask, say) else name for name in (more, system))
    nothing = [None] * len(raw)
    columns = [raw.columns[name] if name else nothing for name in (ask, more, say, system)]
    found = [
        _with_system(_both(_part(_joined(prompt, about), USER, ask), _part(answer, ASSISTANT, say)), said)
        for prompt, about, answer, said in zip(*columns, strict=True)
    ]
    used = frozenset(name for name in (ask, more, say, system) if name)
    note = f"{ask!r}{f' with {more!r}' if more else ''} asks, {say!r} answers"
    note += "" if wish.asked else "; pass --task or --label COL to learn something else"
    return Talks(found, range(len(raw)), ask, say, used, "" if raw.input else note)


def _ask_and_say(raw: Raw, wish: ChatWish) -> tuple[str | None, str | None]:
    """The columns of prompts and answers: as named, by the usual names, or where the items are prompts themselves."""
    if not wish.asked:
        sure = None if wish.input or wish.label else _sure(raw)
        return sure or (None, None)
    if raw.input and raw.label:
        return raw.input, raw.label
    say = wish.label or _named(raw, _SAY, (wish.input,))
    ask = wish.input or _named(raw, _ASK, (say,))
    if ask and ask == say:
        raise DataError(f"Column {ask!r} cannot be both the prompt and the answer. Name another with --label COL.")
    lacking = "--input COL, the prompts" if say and not ask else "--label COL, the answers" if ask and not say else ""
    if lacking and not raw.input and (wish.input or wish.label):
        raise DataError(f"Name the other column too: {lacking}. Its columns are {listed(raw.columns, 20)}.")
    return ask, say


def _sure(raw: Raw) -> tuple[str, str] | None:
    """Columns whose names and contents leave no doubt."""
    names = {name.lower(): name for name in raw.columns}
    if raw.input or _RATINGS & set(names):
        return None
    for ask, say in SURE:
        if ask in names and say in names:
            answers = [value for value in raw.columns[names[say]] if not _is_nothing(value)]
            spoken = [
                (isinstance(value, str) and " " in value.strip()) or bool(as_messages(value)) for value in answers
            ]
            if spoken and sum(spoken) >= _WORDS_SHARE * len(spoken):
                return names[ask], names[say]
    return None


def _named(raw: Raw, usual: Sequence[str], but: Sequence[str | None] = ()) -> str | None:
    """The column with the first of these names, in any case."""
    names = {name.lower(): name for name in raw.columns if name not in but}
    return next((names[name] for name in usual if name in names), None)


def _joined(prompt: Any, about: Any) -> Any:
    return prompt if is_missing(about) or as_messages(prompt) else f"{prompt}\n\n{about}"


def _part(value: Any, role: str, column: str) -> tuple[Turn, ...] | Unusable:
    """A cell as a turn, or the messages in it (as TRL has them). DataError where it is neither."""
    if (messages := as_messages(value)) is not None:
        return turns_of(messages)
    if isinstance(value, (list, tuple, dict, bytes, PurePath)):
        raise DataError(
            f"Column {column!r} holds a {type(value).__name__} ({str(value)[:60]!r}), but a row needs one text. "
            "Name the columns of texts with --input COL and --label COL."
        )
    return (Turn(role, "" if is_missing(value) else str(value)),)


def _both(asked: tuple[Turn, ...] | Unusable, said: tuple[Turn, ...] | Unusable) -> tuple[Turn, ...] | Unusable:
    if isinstance(asked, Unusable):
        return asked
    return said if isinstance(said, Unusable) else asked + said


def _lists(raw: Raw, wish: ChatWish) -> Talks | None:
    """Lists of texts, said in turn, the user first; only where the user asked for chat."""
    if not wish.asked:
        return None
    names = [wish.input] if wish.input else list(raw.columns)
    name = next((name for name in names if name and _are_lists(raw.columns[name])), None)
    if name is None:
        return None
    found = [
        tuple(Turn((USER, ASSISTANT)[i % 2], str(text)) for i, text in enumerate(value or ()))
        for value in raw.columns[name]
    ]
    note = f"{name!r} holds lists of texts: the first is the user's, the next the assistant's, and so on"
    return Talks(found, range(len(raw)), name, ANSWERS, frozenset({name}), note)


def _are_lists(values: Sequence[Any]) -> bool:
    there = [value for value in values if not _is_nothing(value)]
    return bool(there) and all(
        isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value) for value in there
    )


def _finished(raw: Raw, talks: Talks, wish: ChatWish) -> tuple[Raw, Roles]:
    """Raw columns of stored conversations and their answers, beside the columns that they are not made of."""
    for name in wish.rules:
        if name not in raw.columns:
            check_column(raw, name, "group")
    kept = [i for i, one in enumerate(talks.found) if not isinstance(one, Unusable)]
    notes = [*raw.notes, *filter(None, [talks.note]), *_left_out(talks.found)]
    if not kept:
        raise DataError(f"None of the {len(talks.found):,} conversations can be used: {'; '.join(notes[-1:])}.")
    turns = [_with_system(talks.found[i], wish.system) for i in kept]
    usable = (one for one in turns if not isinstance(one, Unusable))
    said = [Conversation(tuple(Turn(turn.role, printable(turn.text)) for turn in one)) for one in usable]
    if wish.redact:
        said, note = personal.redacted(said)
        notes.append(note)
    rows = [talks.rows[i] for i in kept]
    columns = {n: [v[row] for row in rows] for n, v in raw.columns.items() if n not in talks.used or n in wish.rules}
    ask, say = (
        new if name in wish.rules else name for name, new in ((talks.input, CONVERSATION), (talks.label, ANSWERS))
    )
    columns |= {ask: [one.to_text() for one in said], say: [one.said for one in said]}
    splits = [raw.splits[row] for row in rows] if raw.splits is not None else None
    alone = ask if raw.input or ask not in raw.columns else None  # no column of theirs holds the items
    split = split_column(raw, notes) if raw.splits is None else None
    raw = replace(raw, columns=columns, splits=splits, input=alone, label=say, notes=tuple(notes))
    return raw, Roles(input=ask, modality="text", label=say, split=split)


def _left_out(found: Sequence[tuple[Turn, ...] | Unusable]) -> list[str]:
    """A note for each reason why conversations cannot be used."""
    reasons = Counter(one.reason for one in found if isinstance(one, Unusable))
    return [f"left out {n:,} conversation{'s' * (n > 1)} that {reason}" for reason, n in reasons.items()]
