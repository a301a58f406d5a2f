"""What the test split says of a chatbot, beside its metrics: copying, forgetting, answers side by side, lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from headstart.data.conversation import Conversation
from headstart.evidence.chat_verdict import COMMONEST
from headstart.evidence.forgetting import Forgetting, Nll, measure_forgetting
from headstart.evidence.parroting import Parroting, measure_parroting, over_nearest
from headstart.evidence.retrieval import MINILM, TFIDF, by_encoder, by_tf_idf
from headstart.evidence.weigh import MODEL, Scales
from headstart.progress import Progress
from headstart.tasks.base import one_each
from headstart.tasks.chat import Said, guess, overlaps

N_SHOWN = 3  # of each kind of sample


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One test conversation, and what the systems answer."""

    kind: str  # "best", "median", "worst" by token F1 of the model's answer, or "random"
    before: str  # what the assistant said before the question; "" where nothing
    question: str
    truth: str
    answers: dict[str, str]  # system -> answer, MODEL first
    f1: dict[str, float]  # system -> token F1


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the conversations of a split are, in tokens of the backbone."""

    split: str
    n: int
    n_tokens: int
    n_answer_tokens: int  # of the answers, which are what is learnt or measured
    median: float  # tokens of a conversation
    longest: int
    n_cut: int  # conversations that are longer than the model sees
    tokens_cut: int

    @classmethod
    def of(cls, split: str, tokens: np.ndarray, answer_tokens: np.ndarray, most: int) -> Lengths:
        """Of tokens (N,) of whole conversations and of their answers; `most` is what is seen of one."""
        over = np.maximum(tokens - most, 0)
        return cls(
            split=split,
            n=len(tokens),
            n_tokens=int(tokens.sum()),
            n_answer_tokens=int(answer_tokens.sum()),
            median=float(np.median(tokens)) if len(tokens) else 0.0,
            longest=int(tokens.max(initial=0)),
            n_cut=int((over > 0).sum()),
            tokens_cut=int(over.sum()),
        )


@dataclass(frozen=True, kw_only=True)
class ChatEvidence:
    """Beside the scores; `samples` are the best, the worst, the typical ones and some at random."""

    n_asked: int  # conversations in which an answer was asked for
    forgetting: Forgetting | None
    parroting: Parroting | None
    samples: tuple[Sample, ...]
    lengths: tuple[Lengths, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **asdict(self),
            "forgetting": self.forgetting.to_json() if self.forgetting else None,
            "parroting": self.parroting.to_json() if self.parroting else None,
        }


@dataclass(frozen=True, kw_only=True)
class Talks:
    """What was said of the test conversations, and what is needed to judge it."""

    train: Sequence[Conversation] | np.ndarray
    y: np.ndarray  # (N,) of Conversation, of test
    systems: Mapping[str, np.ndarray]  # name -> (N,) of Said: those that `weigh_systems` gets
    scales: Scales
    nll: tuple[Nll, Nll] | None = None  # of the untouched model and of the fine-tuned one, for forgetting
    lengths: tuple[Lengths, ...] = ()

    @property
    def asked(self) -> np.ndarray:
        """The rows in which an answer was asked for."""
        return np.flatnonzero([one.answer is not None for one in self.systems[MODEL]])


def rivals(
    train: Sequence[Conversation] | np.ndarray, y: np.ndarray, said: np.ndarray, progress: Progress
) -> dict[str, np.ndarray]:
    """What systems without a language model answer, (N,) of Said each, in the rows in which `said` has an answer."""
    searches = {TFIDF: by_tf_idf(train), MINILM: by_encoder(train, progress)}
    found = {
        name: one_each([Said(math.nan, 0, 0, answer) for answer in search.answers(y)])
        for name, search in searches.items()
        if search is not None
    }
    found[COMMONEST] = guess(train, y)
    return {name: one_each(_where_asked(each, said)) for name, each in found.items()}


def _where_asked(each: np.ndarray, said: np.ndarray) -> list[Said]:
    return [one if own.answer is not None else replace(one, answer=None) for one, own in zip(each, said, strict=True)]


def measure_chat(talks: Talks) -> ChatEvidence:
    """All of it; none of the choices that were made before depend on it."""
    return ChatEvidence(
        n_asked=len(talks.asked),
        forgetting=None if talks.nll is None else measure_forgetting(*talks.nll, talks.scales.seed),
        parroting=_parroting(talks),
        samples=samples(talks),
        lengths=talks.lengths,
    )


def _parroting(talks: Talks) -> Parroting | None:
    """The nearest training answer is that by TF-IDF, else by MiniLM."""
    pool = list(dict.fromkeys(one.turns[i].text for one in talks.train for i in one.answers))
    said, y = talks.systems[MODEL], talks.y
    nearest = talks.systems.get(TFIDF, talks.systems.get(MINILM))
    gain = None if nearest is None else over_nearest(y, said, nearest, talks.scales)
    return measure_parroting(y, said, pool, talks.scales, gain)


def samples(talks: Talks) -> tuple[Sample, ...]:
    """Up to three of each kind, no conversation twice."""
    f1 = {name: overlaps(talks.y, said) for name, said in talks.systems.items()}
    ranked = sorted(talks.asked.tolist(), key=lambda row: -f1[MODEL][row])
    chosen: dict[int, str] = {}
    for kind, rows in _in_order(ranked, talks.scales.seed).items():
        fresh = [row for row in rows if row not in chosen][:N_SHOWN]
        chosen |= dict.fromkeys(fresh, kind)
    return tuple(_sample(talks, f1, row, kind) for row, kind in chosen.items())


def _in_order(ranked: list[int], seed: int) -> dict[str, list[int]]:
    """Kind -> rows that may stand for it, the most fitting first; `ranked` begins with the best."""
    middle = (len(ranked) - 1) / 2
    median = [ranked[i] for i in sorted(range(len(ranked)), key=lambda i: abs(i - middle))]
    drawn = np.random.default_rng(seed).permutation(ranked).tolist()
    return {"best": ranked, "worst": ranked[::-1], "median": median, "random": drawn}


def _sample(talks: Talks, f1: Mapping[str, Sequence[float]], row: int, kind: str) -> Sample:
    one = talks.y[row]
    answered = {name: said[row].answer for name, said in talks.systems.items() if said[row].answer is not None}
    names = sorted(answered, key=lambda name: name != MODEL)
    earlier = [turn.text for turn in one.turns[: one.asked] if turn.role == "assistant"]
    return Sample(
        kind=kind,
        before=earlier[-1] if earlier else "",
        question=one.question,
        truth=one.reference,
        answers={name: answered[name] for name in names},
        f1={name: f1[name][row] for name in names},
    )
