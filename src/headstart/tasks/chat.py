"""Chat: the next turn of a conversation. The head is the backbone's own, and the output is text.

y is an array (N,) of whole `Conversation`s, since a system is asked after the true turns before; scores are (N,) of
`Said`. Tokens differ from one backbone to another: bits per byte compare where perplexity cannot.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.data.conversation import Conversation
from headstart.errors import DataError
from headstart.tasks import metrics
from headstart.tasks.base import Metric, Task, Weights, one_each
from headstart.tasks.overlap import rouge_l, token_f1

N_BYTES = 256
TURN_END = N_BYTES  # what comes after the last byte of an answer


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


@dataclass(frozen=True, kw_only=True)
class Chat(Task):
    """What the assistant says next. y is (N,) of `Conversation`, scores are (N,) of `Said`."""

    title = "answers in a conversation"
    naive_title = "the commonest answer"

    @classmethod
    def from_labels(cls, labels: Sequence[Sequence[str]]) -> Chat:
        """Of the answers of each conversation; DataError where no one answers anything."""
        if not any(text.strip() for answers in labels for text in answers):
            raise DataError(
                "No conversation has an answer (a turn of the assistant's with text), so there is nothing to learn. "
                'Give conversations like {"messages": [{"role": "user", "content": "…"}, '
                '{"role": "assistant", "content": "…"}]}, or a table of prompts and responses.'
            )
        return cls()

    def to_json(self) -> dict[str, Any]:
        """{}: there is nothing to keep."""
        return {}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Chat:
        """The inverse of `to_json`."""
        return cls()

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """Conversations (N,) as stored: answers alone do not say what was asked."""
        return one_each([Conversation.from_text(stored) for stored in labels])

    def truth(self, inputs: Sequence[str], labels: Sequence[Any]) -> np.ndarray:
        """The inputs hold the whole conversations."""
        return self.encode(inputs)

    def naive(self, y: np.ndarray, n: int) -> np.ndarray:
        """The answer that was given most often in train, n times, without probabilities; `guess` has some."""
        return one_each([Said(math.nan, 0, 0, commonest(y))] * n)

    def decode(self, scores: np.ndarray) -> list[str]:
        """The answers; "" where none was asked for."""
        return [one.answer or "" for one in scores]

    def metrics(self) -> tuple[Metric, ...]:
        """Perplexity first; the overlaps count the conversations that were answered."""
        return (
            metrics.metric("perplexity", "perplexity", "lower", perplexity),
            metrics.metric("bits_per_byte", "bits per byte", "lower", bits_per_byte),
            metrics.metric("token_f1", "token F1 of the answers", "higher", _overlap(token_f1)),
            metrics.metric("rouge_l", "ROUGE-L of the answers", "higher", _overlap(rouge_l)),
        )


def perplexity(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """(B,): exp of the mean nats a token over all answers of a resample; NaN without probabilities or tokens."""
    return np.exp(_a_unit(scores, np.array([one.n_tokens for one in scores], np.float64), weights))


def bits_per_byte(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """(B,): bits a byte over all answers of a resample; NaN without probabilities."""
    return _a_unit(scores, np.array([one.n_bytes for one in scores], np.float64), weights) / math.log(2)


def _a_unit(scores: np.ndarray, units: np.ndarray, weights: Weights) -> np.ndarray:
    """(B,): nats for each of the units (N,) of those rows that have probabilities."""
    nll = np.array([one.nll for one in scores], np.float64)
    known = np.isfinite(nll) & (units > 0)
    return _ratio(weights[:, known] @ nll[known], weights[:, known] @ units[known])


def _overlap(agree: Callable[[str, str], float]) -> Callable[[np.ndarray, np.ndarray, Weights], np.ndarray]:
    """Mean over the conversations that were answered; NaN where none was."""

    def mean(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
        each = np.array(overlaps(y, scores, agree))
        asked = ~np.isnan(each)
        return _ratio(weights[:, asked] @ each[asked], weights[:, asked].sum(axis=1, dtype=np.float64))

    return mean


def overlaps(y: np.ndarray, scores: np.ndarray, agree: Callable[[str, str], float] = token_f1) -> list[float]:
    """How far each answer agrees with the true one, (N,); NaN where none was asked for."""
    return [
        math.nan if said.answer is None else agree(said.answer, conversation.reference)
        for conversation, said in zip(y, scores, strict=True)
    ]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def commonest(conversations: Sequence[Conversation] | np.ndarray) -> str:
    """The answer that was given most often; of equally frequent ones the shortest."""
    counts = Counter(text for one in conversations for text in _answers(one))
    return min(counts, key=lambda text: (-counts[text], len(text), text))


def guess(train: Sequence[Conversation] | np.ndarray, test: Sequence[Conversation] | np.ndarray) -> np.ndarray:
    """What is known without reading a question (n_test,): the commonest answer, and how often each byte occurs in
    answers of train.

    Bytes are taken as independent, each counted once more than it was seen; there are no tokens, so no perplexity.
    """
    counts = np.ones(N_BYTES + 1)
    for one in train:
        counts += _byte_counts(_answers(one))
    nats, answer = -np.log(counts / counts.sum()), commonest(train)
    return one_each(
        [Said(float(_byte_counts(_answers(one)) @ nats), 0, answer_bytes(_answers(one)), answer) for one in test]
    )


def _answers(conversation: Conversation) -> list[str]:
    return [conversation.turns[i].text for i in conversation.answers]


def _byte_counts(texts: Sequence[str]) -> np.ndarray:
    """(257,): how often each byte occurs in these answers, and last how many ends of a turn there are."""
    joined = "".join(texts).encode("utf-8", "replace")
    return np.bincount([*joined, *[TURN_END] * len(texts)], minlength=N_BYTES + 1)
