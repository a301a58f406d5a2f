"""Who speaks: the roles behind the many names that chat data give them, and one conversation's turns out of a value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from headstart.data.conversation import ASSISTANT, SYSTEM, USER, Conversation, Turn
from headstart.data.raw import is_missing
from headstart.errors import DataError, listed

TOOL = "tool"  # calls of functions and what they return: no turn that a language model of ours learns
_NAMES = {
    SYSTEM: ("system", "developer"),
    USER: ("user", "human", "prompter", "customer", "client"),
    ASSISTANT: ("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "agent", "support", "ai"),
    TOOL: ("tool", "function", "function_call", "function_response", "tool_call", "tool_response", "observation"),
}
ROLE_OF = {name: role for role, names in _NAMES.items() for name in names}
_KEYS = (("role", "content"), ("from", "value"), ("role", "text"), ("speaker", "text"))
_CALLS = ("tool_calls", "function_call")


class Unusable(NamedTuple):
    """A conversation that cannot be learnt from, and why: for "left out 3 conversations that …"."""

    reason: str  # "call tools", "hold pictures or files"


def role_of(name: Any) -> str | None:
    """The role behind a name in any case, `TOOL` among them; None for a name that is none of the usual ones."""
    return ROLE_OF.get(str(name).strip().lower())


def as_messages(value: Any) -> list[Mapping[str, Any]] | None:
    """Messages as OpenAI, Hugging Face (a list, a dict of lists) or ShareGPT write them, or their JSON; else None."""
    if isinstance(value, Conversation):
        return list(value.messages)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
        value = [dict(zip(value, row, strict=False)) for row in zip(*value.values(), strict=False)]
    value = value.tolist() if isinstance(value, np.ndarray) and value.dtype == object else value
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(one, Mapping) for one in value):
        return None
    return list(value) if all(_keys(one) or _calls(one) for one in value) and any(map(_keys, value)) else None


def turns_of(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...] | Unusable:
    """The turns, with roles as ours are called. DataError for a role that is not known and for content of no text."""
    turns = []
    for message in messages:
        names, content = _keys(message) or (_KEYS[0], None)
        role = role_of(message[names[0]])
        if role is None:
            raise DataError(
                f"The role {str(message[names[0]])[:40]!r} is not known. Roles are system (or developer), user (or "
                "human) and assistant (or gpt, bot, model): rename it."
            )
        if role == TOOL or _calls(message):
            return Unusable("call tools, which cannot be learnt here")
        text = _text(message.get(names[1]) if content is None else content)
        if isinstance(text, Unusable):
            return text
        turns.append(Turn(role, text))
    return tuple(turns)


def roles_of_speakers(speakers: Iterable[str]) -> dict[str, str] | None:
    """Name -> role of those who speak, in the order of their first words; None where they cannot be told apart.

    Usual names say it; of two others the second is the assistant. A system beside users alone is the assistant.
    """
    names = list(dict.fromkeys(speakers))
    found = {name: role for name in names if (role := role_of(name)) and role != TOOL}
    roles = set(found.values())
    if ASSISTANT not in roles and SYSTEM in roles and USER in roles and len(found) == len(names):
        return {name: ASSISTANT if role == SYSTEM else role for name, role in found.items()}
    others = [name for name in names if name not in found]
    lacking = [role for role in (USER, ASSISTANT) if role not in roles]
    if len(others) > len(lacking):
        return None
    return found | dict(zip(others, lacking, strict=False))


def _keys(message: Mapping[str, Any]) -> tuple[tuple[str, str], Any] | None:
    """(names of role and content, the content)."""
    return next(((pair, message[pair[1]]) for pair in _KEYS if pair[0] in message and pair[1] in message), None)


def _calls(message: Mapping[str, Any]) -> bool:
    return "role" in message and any(message.get(name) for name in _CALLS)


def _text(content: Any) -> str | Unusable:
    """A content: a text, or a list of parts {"type": "text", "text": …}."""
    if isinstance(content, str):
        return content
    if is_missing(content):
        return ""
    if not isinstance(content, (list, tuple)):
        raise DataError(f"The content of a turn is a text; this is a {type(content).__name__}: {str(content)[:60]!r}.")
    kinds = {part.get("type", "text") if isinstance(part, Mapping) else "text" for part in content}
    if odd := kinds - {"text", "input_text", "output_text"}:
        return Unusable(f"hold {listed(sorted(map(str, odd)))} beside text")
    return "\n".join(str(part.get("text") or "") if isinstance(part, Mapping) else str(part) for part in content)
