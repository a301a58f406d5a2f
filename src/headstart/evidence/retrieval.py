"""The nearest question's answer: what a search among the training conversations says, the rival of every chatbot.

A question is what stands just before an answer; the nearest is that of the highest cosine, of TF-IDF (Spärck Jones
1972) or of a sentence encoder (Reimers & Gurevych, arXiv:1908.10084).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from headstart import registry
from headstart.data.conversation import SYSTEM, Conversation
from headstart.errors import BackboneError
from headstart.progress import Progress

LAST_TURNS = 2  # of what stands before an answer: the user's words, and what these reply to
AT_ONCE = 256  # questions that are held beside the whole pool
ENCODER = "minilm"
TFIDF, MINILM = "nearest question by TF-IDF", "nearest question by MiniLM"

Embed = Callable[[Sequence[str]], Any]  # texts -> (N, D), dense or a SciPy sparse matrix


class Nearest(NamedTuple):
    """For each of N questions the nearest one of training."""

    rows: np.ndarray  # (N,) positions in the pool; the first of equally near ones
    similarity: np.ndarray  # (N,) cosines


@dataclass(frozen=True, kw_only=True)
class Retriever:
    """Every question of the training conversations with its answer."""

    embed: Embed
    questions: tuple[str, ...]
    pool: tuple[str, ...]  # the answer to each

    @classmethod
    def fit(cls, conversations: Sequence[Conversation] | np.ndarray, embed: Embed) -> Retriever:
        """Of all answers of these conversations."""
        pairs = [(asked_in(one.before(i)), one.turns[i].text) for one in conversations for i in one.answers]
        return cls(embed=embed, questions=tuple(q for q, _ in pairs), pool=tuple(answer for _, answer in pairs))

    @cached_property
    def places(self) -> Any:
        """(P, D) of the questions, of unit length."""
        return _unit(self.embed(self.questions))

    def nearest(self, conversations: Sequence[Conversation] | np.ndarray) -> Nearest:
        """By what stands before `Conversation.asked`."""
        places = _unit(self.embed([asked_in(one.before(one.asked)) for one in conversations]))
        rows, similarity = np.zeros(len(conversations), np.int64), np.zeros(len(conversations))
        for start in range(0, len(conversations), AT_ONCE):
            cosines = places[start : start + AT_ONCE] @ self.places.T
            cosines = cosines if isinstance(cosines, np.ndarray) else cosines.toarray()
            best = cosines.argmax(axis=1)
            rows[start : start + AT_ONCE], similarity[start : start + AT_ONCE] = best, cosines.max(axis=1)
        return Nearest(rows, similarity)

    def answers(self, conversations: Sequence[Conversation] | np.ndarray) -> list[str]:
        """The answers to the nearest questions."""
        return [self.pool[row] for row in self.nearest(conversations).rows]


def asked_in(prompt: Conversation) -> str:
    """The last turns of a prompt, without the system's words, which are the same for all."""
    return "\n".join([turn.text for turn in prompt.turns if turn.role != SYSTEM][-LAST_TURNS:])


def by_tf_idf(conversations: Sequence[Conversation] | np.ndarray) -> Retriever:
    """By words, pairs of words and pieces of words, as the classical model of texts has them."""
    features = registry.modality("text").classical_features()[-1]
    retriever = Retriever.fit(conversations, features.transform)
    features.fit_transform(retriever.questions)
    return retriever


def fetch_encoder(progress: Progress) -> None:
    """Have the encoder on this disk before anything is trained; where it cannot be had, that is said later."""
    from headstart.backbones import catalog

    with suppress(BackboneError):
        catalog.locate(ENCODER, progress)


def by_encoder(conversations: Sequence[Conversation] | np.ndarray, progress: Progress) -> Retriever | None:
    """By the catalog's sentence encoder, through the feature cache; None, and a remark, where it cannot be had."""
    from headstart.backbones import catalog

    try:
        encoder = catalog.load(ENCODER, progress)
    except BackboneError as error:
        progress.say(f"  {MINILM} is left out: {error}")
        return None

    def embed(texts: Sequence[str]) -> np.ndarray:
        from headstart.engine import freeze

        modality = registry.modality("text")
        digests = [modality.examine(text).digest for text in texts]
        features = freeze.features(encoder, modality, list(texts), digests, progress)
        return features.stage(encoder.n_stages - 1, np.arange(len(texts)))

    return Retriever.fit(conversations, embed)


def _unit(places: Any) -> Any:
    from sklearn.preprocessing import normalize

    return normalize(places)
