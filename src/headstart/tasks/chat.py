"""Chat: the next turn of a conversation. The head is the backbone's own, and the output is text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """What a system says of one conversation."""

    nll: (
        float  # nats: the negative log-likelihood of all tokens of its answers; NaN where a system has no probabilities
    )
    n_tokens: int  # of its answers, the ends of turns among them; 0 where a system has none
    n_bytes: int  # of its answers in UTF-8, a byte more for each end of a turn
    answer: str | None = (
        None  # what the system answers at `Conversation.asked`, after the true turns before; None: not asked
    )


def answer_bytes(texts: Sequence[str]) -> int:
    """`Said.n_bytes` of these answers."""
    return sum(len(text.encode("utf-8", "replace")) + 1 for text in texts)
