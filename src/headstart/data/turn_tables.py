"""Tables with one row a turn (who, and what), or one row for what both say in turn, to conversations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from headstart.data.conversation import ASSISTANT, USER, Turn
from headstart.data.raw import NUMBER, Raw, is_missing
from headstart.data.roles import TOOL, Unusable, role_of, roles_of_speakers
from headstart.errors import DataError, listed

_IDS = (
    *("conversation_id", "dialogue_id", "dialog_id", "conv_id", "conversationid", "dialogueid", "dialogid"),
    *("chat_id", "thread_id", "session_id"),
)
_MORE_IDS = ("conversation", "dialogue", "dialog", "chat", "thread", "session")  # where the user says that it is chat
_ORDER = (
    *("turn", "turn_id", "turn_index", "turn_idx", "turn_number", "turn_no", "utterance_idx", "utterance_id"),
    *("position", "message_index"),
)
_WHO = ("role", "speaker", "author", "sender", "from", "participant", "who")
_TEXT = ("text", "content", "message", "utterance", "value", "body")
_ASSISTANT = ("assistant", "bot", "agent", "chatbot", "system")  # in a row with the user, `system` is the assistant
_USER = ("user", "human", "customer")


class TurnColumns(NamedTuple):
    """Which column is what; `who` and `text` for one row a turn, `says` for a row with a column for each of both."""

    conversation: str
    order: str | None
    who: str | None
    text: str | None
    says: tuple[tuple[str, str], ...]  # (column, role) in the order that they speak in
    used: frozenset[str]
    note: str


def turn_columns(raw: Raw, asked: bool, input: str | None = None, label: str | None = None) -> TurnColumns | None:
    """The columns of a table of turns; None where it is none. `input` and `label` name the columns of user and
    assistant. Not `asked` for, only usual names and roles are enough.
    """
    names = {re.sub(r"\W", "_", name.lower()): name for name in raw.columns}
    conversation = _first(names, (*_IDS, *_MORE_IDS) if asked else _IDS)
    if conversation is None:
        return None
    order = _first(names, _ORDER)
    says = _both(raw, names, input, label)
    if says and (order or asked):
        shown = {role: column for column, role in says}
        note = f"{shown[USER]!r} asks and {shown[ASSISTANT]!r} answers, {says[0][0]!r} first in each row"
        return _columns(conversation, order, None, None, says, note)
    who, text = _first(names, _WHO), _first(names, _TEXT)
    if who is None or text is None or input or label:
        return None
    if not asked and not all(role_of(name) for name in set(map(str, raw.columns[who]))):
        return None
    return _columns(conversation, order, who, text, (), f"a row a turn: {who!r} says {text!r}")


def _first(names: dict[str, str], usual: Sequence[str]) -> str | None:
    return next((names[name] for name in usual if name in names), None)


def _both(raw: Raw, names: dict[str, str], input: str | None, label: str | None) -> tuple[tuple[str, str], ...]:
    """(column, role) of user and assistant in the table's order; () where they are not both there."""
    user, assistant = input or _first(names, _USER), label or _first(names, _ASSISTANT)
    if not user or not assistant or user == assistant:
        return ()
    order = list(raw.columns)
    return tuple(sorted(((user, USER), (assistant, ASSISTANT)), key=lambda pair: order.index(pair[0])))


def _columns(
    conversation: str,
    order: str | None,
    who: str | None,
    text: str | None,
    says: tuple[tuple[str, str], ...],
    note: str,
) -> TurnColumns:
    used = {conversation, order, who, text, *(column for column, _ in says)} - {None}
    note = f"{note}; {conversation!r} tells conversations apart{f', {order!r} orders their rows' if order else ''}"
    return TurnColumns(conversation, order, who, text, says, frozenset(name for name in used if name), note)


def turns_in_rows(
    raw: Raw, columns: TurnColumns, whole: Sequence[str]
) -> tuple[list[tuple[Turn, ...] | Unusable], list[int]]:
    """Turns of each conversation in the order of first rows, and these rows.

    DataError when a column of `whole` (the split, a group) has two values within one conversation.
    """
    ids = raw.columns[columns.conversation]
    if n := sum(map(is_missing, ids)):
        raise DataError(
            f"{n:,} of {len(ids):,} rows have no {columns.conversation!r}. Say which conversation each is of."
        )
    rows: dict[tuple[str, str], list[int]] = {}
    for row, one in enumerate(ids):
        rows.setdefault(((raw.splits or [""] * len(ids))[row], str(one)), []).append(row)
    by_talk = [_ordered(raw, columns.order, of) for of in rows.values()]
    for name in whole:
        _check_whole(raw.columns[name], name, ids, by_talk)
    if not columns.says:
        return _spoken(raw, columns, by_talk), [of[0] for of in by_talk]
    return [_said(raw, columns, of) for of in by_talk], [of[0] for of in by_talk]


def _ordered(raw: Raw, order: str | None, rows: list[int]) -> list[int]:
    """By the numbers in the column of the order, where all are some; else as they stand."""
    if order is None:
        return rows
    values = [raw.columns[order][row] for row in rows]
    if not all(NUMBER.fullmatch(str(value)) for value in values):
        return rows
    return [row for _, row in sorted(zip(map(float, values), rows, strict=True))]


def _check_whole(values: Sequence[Any], name: str, ids: Sequence[Any], by_talk: Sequence[Sequence[int]]) -> None:
    torn = next((rows for rows in by_talk if len({str(values[row]) for row in rows}) > 1), None)
    if torn:
        found = listed(sorted({str(values[row]) for row in torn}))
        raise DataError(
            f"Conversation {str(ids[torn[0]])!r} has several values in {name!r} ({found}), but a conversation is not "
            "torn apart. Give all its rows the same."
        )


def _said(raw: Raw, columns: TurnColumns, rows: Sequence[int]) -> tuple[Turn, ...]:
    """What both say, row by row; a cell without words is no turn."""
    cells = ((raw.columns[column][row], role) for row in rows for column, role in columns.says)
    return tuple(Turn(role, str(value)) for value, role in cells if not is_missing(value))


def _spoken(raw: Raw, columns: TurnColumns, by_talk: Sequence[Sequence[int]]) -> list[tuple[Turn, ...] | Unusable]:
    who, text = raw.columns[str(columns.who)], raw.columns[str(columns.text)]
    everyone = roles_of_speakers(str(who[row]) for rows in by_talk for row in rows)
    found: list[tuple[Turn, ...] | Unusable] = []
    for rows in by_talk:
        roles = everyone or roles_of_speakers(str(who[row]) for row in rows)
        if any(role_of(who[row]) == TOOL for row in rows):
            found.append(Unusable("call tools, which cannot be learnt here"))
        elif roles is None:
            found.append(Unusable("have more than two speakers"))
        else:
            found.append(tuple(Turn(roles[str(who[row])], _text(text[row])) for row in rows))
    return found


def _text(value: Any) -> str:
    return "" if is_missing(value) else str(value)
