"""Put a conversation's turns in order: at most one of the system, then user and assistant in turn, an answer last."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.data.conversation import ASSISTANT, SYSTEM, USER, Conversation, Turn

EMPTY, LATE_SYSTEM, TWICE, OPENING, UNANSWERED = "empty", "late system", "twice", "opening", "unanswered"


def mend(conversation: Conversation) -> tuple[Conversation, tuple[str, ...]]:
    """The conversation in order, and what had to be done, in the order of the constants above.

    Empty turns, words of the system after the first turn, answers before any question and a last question without an
    answer are dropped; turns of one role that follow each other become one. Without an answer nothing is left.
    """
    kept = [Turn(turn.role, turn.text.strip()) for turn in conversation.turns]
    said = [turn for turn in kept if turn.text]
    done = [EMPTY] if len(said) < len(kept) else []
    first = next((i for i, turn in enumerate(said) if turn.role != SYSTEM), len(said))
    in_order = [turn for i, turn in enumerate(said) if turn.role != SYSTEM or i < first]
    done += [LATE_SYSTEM] if len(in_order) < len(said) else []
    turns = _joined(in_order)
    done += [TWICE] if len(turns) < len(in_order) else []
    start = 1 if turns and turns[0].role == SYSTEM else 0
    if len(turns) > start and turns[start].role == ASSISTANT:
        done.append(OPENING)
        del turns[start]
    if turns and turns[-1].role == USER:
        done.append(UNANSWERED)
        turns.pop()
    return Conversation(tuple(turns) if len(turns) > start else ()), tuple(done)


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Neighbours of one role as one turn, a line each."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            turn = Turn(turn.role, f"{joined.pop().text}\n{turn.text}")
        joined.append(turn)
    return joined
