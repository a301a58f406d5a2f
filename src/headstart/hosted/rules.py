"""What the fine-tuning API takes: the conversations checked by its rules, and written as its JSONL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.data.conversation import ASSISTANT, ROLES, SYSTEM, Conversation
from headstart.errors import DataError
from headstart.hosted.cost import Counter, family

LEAST = 10  # conversations in a file
MOST_BYTES = 512 * 10**6  # of a file
CONTEXT = {  # most tokens of an example; what is longer loses its end, which is the answer
    "gpt-4.1": 65_536,
    "gpt-4.1-mini": 65_536,
    "gpt-4.1-nano": 65_536,
    "gpt-4o": 65_536,
    "gpt-4o-mini": 65_536,
    "gpt-3.5-turbo": 16_385,
}


@dataclass(frozen=True, kw_only=True)
class Sending:
    """What leaves the machine to be learnt from."""

    train: bytes  # JSONL
    val: bytes | None  # JSONL; None where none is sent
    n_train: int  # conversations
    n_val: int
    n_tokens: int  # of train, in one epoch
    notes: tuple[str, ...] = ()  # what is not sent, and why


def prepare(train: Sequence[Conversation], val: Sequence[Conversation], model: str, counter: Counter) -> Sending:
    """Both splits as files. DataError when the API would refuse them, with the first reason."""
    most = CONTEXT.get(family(model))
    train, val = [to_last_answer(one) for one in train], [to_last_answer(one) for one in val]
    kept, notes = _short_enough(train, most, counter, "train")
    kept_val, more = _short_enough(val, most, counter, "validation")
    if len(kept) < LEAST:
        raise DataError(
            f"The API wants at least {LEAST} conversations to learn from, and there are {len(kept)}. Give more, or "
            "take a backbone that runs here, such as smollm2-135m."
        )
    if 0 < len(kept_val) < LEAST:
        more = (*more, f"validation has {len(kept_val)} conversations, fewer than {LEAST}, and is not sent")
        kept_val = []
    sent = Sending(
        train=lines(kept),
        val=lines(kept_val) if kept_val else None,
        n_train=len(kept),
        n_val=len(kept_val),
        n_tokens=sum(counter.conversation(one) for one in kept),
        notes=(*notes, *more),
    )
    for name, content in (("train", sent.train), ("validation", sent.val or b"")):
        if len(content) > MOST_BYTES:
            raise DataError(
                f"The {name} file would have {len(content) / 1e6:,.0f} MB, and the API takes {MOST_BYTES / 1e6:,.0f}. "
                "Give fewer or shorter conversations."
            )
    return sent


def _short_enough(
    conversations: Sequence[Conversation], most: int | None, counter: Counter, name: str
) -> tuple[list[Conversation], tuple[str, ...]]:
    """Those that the API reads to their end, and a note of how many are left out."""
    for number, one in enumerate(conversations):
        if problem := problem_of(one):
            raise DataError(f"Conversation {number + 1} of {name} cannot be sent: {problem}. Mend it, or leave it out.")
    if most is None:
        return list(conversations), ()
    kept = [one for one in conversations if counter.conversation(one) <= most]
    n = len(conversations) - len(kept)
    return kept, (f"{n:,} of {name} have more than {most:,} tokens and are not sent",) if n else ()


def to_last_answer(conversation: Conversation) -> Conversation:
    """Without what stands after the last answer, from which nothing is learnt."""
    answers = conversation.answers
    return conversation.before(answers[-1] + 1) if answers else conversation


def problem_of(conversation: Conversation) -> str | None:
    """Why the API would refuse it; None where it would not."""
    turns = conversation.turns
    if not turns or turns[-1].role != ASSISTANT:
        return "its last turn must be the assistant's"
    for position, turn in enumerate(turns):
        if turn.role not in ROLES:
            return f"{turn.role!r} is not a role ({', '.join(ROLES)})"
        if turn.role == SYSTEM and position:
            return "the system may speak first only"
        if not turn.text.strip():
            return f"turn {position + 1} is empty"
    return None


def lines(conversations: Sequence[Conversation]) -> bytes:
    """JSONL of {"messages": [...]}."""
    each = (json.dumps({"messages": one.messages}, ensure_ascii=False) for one in conversations)
    return "".join(f"{line}\n" for line in each).encode("utf-8", "replace")
