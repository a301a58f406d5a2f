"""Forgetting: perplexity of general text before and after fine-tuning (McCloskey & Cohen 1989; for language models Luo
et al., arXiv:2308.08747).

The text is `general.json` beside this file: passages in the public domain from a novel, a report, a play, a
constitution and a poem; where it comes from stands in it. It is English: of other languages it says little.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from headstart.evidence.base import Score
from headstart.evidence.intervals import compare, resamples
from headstart.evidence.weigh import MODEL, N_RESAMPLES
from headstart.tasks.base import Weights
from headstart.tasks.metrics import metric

Nll = Callable[[Sequence[str]], np.ndarray]  # texts -> (N, 2): nats and tokens of each
BEFORE = "before"


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """Perplexity of the same passages, before and after."""

    n_passages: int
    n_tokens: int
    works: tuple[str, ...]  # that they are from
    before: Score  # perplexity
    after: Score
    ratio: Score  # after over before, paired over passages: 1.1 is 10 % more

    @property
    def forgot(self) -> bool:
        """Whether the perplexity rose, beyond the interval."""
        return self.ratio.low > 1

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "forgot": self.forgot}


def measure_forgetting(before: Nll, after: Nll, seed: int) -> Forgetting:
    """Of the untouched model and of what became of it."""
    known = general()
    texts = [one["text"] for one in known]
    works = tuple(dict.fromkeys(one["work"] for one in known))
    return compared(before(texts), after(texts), works, seed)


def general() -> list[dict[str, str]]:
    """[{"work": …, "text": …}, …]"""
    stored = json.loads(files("headstart.evidence").joinpath("general.json").read_text(encoding="utf-8"))
    return list(stored["passages"])


def compared(before: np.ndarray, after: np.ndarray, works: tuple[str, ...], seed: int) -> Forgetting:
    """Of nats and tokens (N, 2) of the same passages; their mean a token is resampled, the ratio is its exponential."""
    nats = metric("nats", "nats a token", "lower", _nats)
    weights = resamples(len(before), N_RESAMPLES, seed)
    scores, differences = compare([nats], before[:, 1], {MODEL: after, BEFORE: before}, MODEL, weights)
    return Forgetting(
        n_passages=len(before),
        n_tokens=int(before[:, 1].sum()),
        works=works,
        before=_exp(scores[BEFORE]["nats"]),
        after=_exp(scores[MODEL]["nats"]),
        ratio=_exp(differences[BEFORE]["nats"]),
    )


def _nats(y: np.ndarray, rows: np.ndarray, weights: Weights) -> np.ndarray:
    return (weights @ rows[:, 0]) / (weights @ rows[:, 1])


def _exp(score: Score) -> Score:
    low, value, high = np.exp([score.low, score.value, score.high]).tolist()
    return Score(value, low, high)
