"""Parroting: how far answers are copied from training answers, beside how far the true answers are.

A language model can give its training texts back word by word (Carlini et al., arXiv:2202.07646), and a field's
boilerplate stands in many answers: so the true answers of test are held beside the same training answers. Runs of
words are found with a suffix array, as Lee et al. (arXiv:2107.06499) find repeats; copies are counted in sequences of
eight words, as Radford et al. (2019, "Language models are unsupervised multitask learners", section 4) count overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from headstart.evidence.base import Score, Scores
from headstart.evidence.intervals import compare
from headstart.evidence.weigh import MODEL, Scales
from headstart.tasks.base import Metric, Weights
from headstart.tasks.chat import overlaps
from headstart.tasks.metrics import metric
from headstart.tasks.overlap import tokens

N_GRAM = 8  # words; a shorter answer says nothing about copying
HALF, MOST = 0.5, 0.8  # of an answer's words
TRUE = "true answers"


class Copied(NamedTuple):
    """Of N answers, against all training answers."""

    run: np.ndarray  # (N,) words of the longest run that stands in one of them, as a share of the answer's words
    grams: np.ndarray  # (N,) share of the answer's sequences of eight words that stand in one of them


@dataclass(frozen=True, kw_only=True)
class Copying:
    """Of the answers that are long enough."""

    half: Score  # share of answers of which a run covers more than half
    most: Score  # … more than 80 %
    grams: Score  # share of an answer's sequences of eight words that stand in a training answer, on average


@dataclass(frozen=True, kw_only=True)
class Parroting:
    """What was copied, and whether it is more than the true answers share."""

    n: int  # answers of eight words or more
    own: Copying
    true: Copying
    beyond: Score  # own grams minus those of the true answers, paired
    over_nearest: Score | None  # token F1 minus the nearest training question's answer's, paired; None: not known

    @property
    def copies(self) -> bool:
        """Whether more is copied than the true answers share, beyond the interval."""
        return self.beyond.low > 0

    @property
    def parrots(self) -> bool:
        """Whether it copies, and its answers are no better than the nearest training answer."""
        return self.copies and (self.over_nearest is None or self.over_nearest.low <= 0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "copies": self.copies, "parrots": self.parrots}


def measure_parroting(
    y: np.ndarray, said: np.ndarray, pool: Sequence[str], scales: Scales, over_nearest: Score | None = None
) -> Parroting | None:
    """Of the answers in `said` (N,) of Said; None where none has eight words, or no true answer has."""
    asked = [i for i, one in enumerate(said) if one.answer is not None]
    own = copied([said[i].answer for i in asked], pool)
    true = copied([y[i].reference for i in asked], pool)
    systems = {MODEL: _filled(own, asked, len(y)), TRUE: _filled(true, asked, len(y))}
    scores, differences = compare(METRICS, y, systems, MODEL, scales.resamples(len(y)), scales.n_groups)
    if not scores[MODEL] or not scores[TRUE]:
        return None
    return Parroting(
        n=int(np.isfinite(own.grams).sum()),
        own=_copying(scores[MODEL]),
        true=_copying(scores[TRUE]),
        beyond=differences[TRUE]["grams"],
        over_nearest=over_nearest,
    )


def copied(answers: Sequence[str], pool: Sequence[str]) -> Copied:
    """Beside all texts of the pool; NaN for an answer of fewer than eight words."""
    run, grams = np.full(len(answers), np.nan), np.full(len(answers), np.nan)
    for row, lengths in enumerate(matches([tokens(text) for text in answers], [tokens(text) for text in pool])):
        if len(lengths) >= N_GRAM:
            run[row] = lengths.max() / len(lengths)
            grams[row] = (lengths[: len(lengths) - N_GRAM + 1] >= N_GRAM).mean()
    return Copied(run, grams)


def matches(answers: Sequence[Sequence[str]], pool: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """For each answer, at each of its words, how long a run from there stands in a text of the pool."""
    joined, is_pool = _joined([*pool, *answers], len(pool))
    levels = _levels(joined)
    order = np.argsort(levels[-1], kind="stable")
    place = np.arange(len(order))
    found = np.zeros(len(joined), np.int64)
    here = is_pool[order]
    before = np.maximum.accumulate(np.where(here, place, -1))
    after = np.minimum.accumulate(np.where(here, place, len(order))[::-1])[::-1]
    for near, known in ((before, before >= 0), (after, after < len(order))):
        known &= ~here
        own, other = order[known], order[near[known]]
        found[own] = np.maximum(found[own], _common(levels, own, other))
    ends = np.cumsum([len(text) + 1 for text in [*pool, *answers]])[len(pool) :]
    return [found[end - 1 - len(text) : end - 1] for text, end in zip(answers, ends, strict=True)]


def _joined(texts: Sequence[Sequence[str]], n_pool: int) -> tuple[np.ndarray, np.ndarray]:
    """(the words of all texts as numbers, each text ended by a number of its own; whether each is of the pool)."""
    known: dict[str, int] = {}
    parts = [[*(known.setdefault(word, len(known)) for word in text), -1 - row] for row, text in enumerate(texts)]
    sizes = [len(part) for part in parts]
    joined = np.array([number for part in parts for number in part], np.int64)
    return joined, np.repeat(np.arange(len(texts)) < n_pool, sizes)


def _levels(joined: np.ndarray) -> list[np.ndarray]:
    """Ranks of the runs of 1, 2, 4 … words from each place, until all runs differ (Manber & Myers 1993)."""
    levels = [np.unique(joined, return_inverse=True)[1].reshape(-1)]
    size = 1
    while levels[-1].max(initial=-1) + 1 < len(joined):
        later = np.zeros(len(joined), np.int64)  # past the end comes what is less than all
        later[: len(joined) - size] = levels[-1][size:] + 1
        levels.append(np.unique(levels[-1] * (len(joined) + 1) + later, return_inverse=True)[1].reshape(-1))
        size *= 2
    return levels


def _common(levels: list[np.ndarray], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(M,) how many words the runs from these pairs of places have in common at their start."""
    one, other, length = one.copy(), other.copy(), np.zeros(len(one), np.int64)
    for level in reversed(range(len(levels))):  # no common run reaches an end, which is like no other
        step = np.where(levels[level][one] == levels[level][other], 1 << level, 0)
        one, other, length = one + step, other + step, length + step
    return length


def _filled(part: Copied, asked: Sequence[int], n: int) -> np.ndarray:
    """(n, 2), NaN in the rows that were not asked."""
    rows = np.full((n, 2), np.nan)
    rows[asked] = np.stack([part.run, part.grams], axis=1)
    return rows


def _mean(values: np.ndarray, weights: Weights) -> np.ndarray:
    """Mean (B,) of values (N,) over those that are known; NaN where a resample has none."""
    known = ~np.isnan(values)
    total = weights[:, known].sum(axis=1)
    return np.divide(weights[:, known] @ values[known], total, out=np.full(len(total), np.nan), where=total > 0)


def _more_than(share: float) -> Any:
    def compute(y: np.ndarray, rows: np.ndarray, weights: Weights) -> np.ndarray:
        run = rows[:, 0]
        return _mean(np.where(np.isnan(run), np.nan, run > share), weights)

    return compute


METRICS: tuple[Metric, ...] = (
    metric("half", "more than half in one run", "lower", _more_than(HALF), proportion=True),
    metric("most", "more than 80 % in one run", "lower", _more_than(MOST), proportion=True),
    metric("grams", "sequences of eight words", "lower", lambda y, rows, weights: _mean(rows[:, 1], weights)),
)


def _copying(scores: Scores) -> Copying:
    return Copying(**{metric.name: scores[metric.name] for metric in METRICS})


def over_nearest(y: np.ndarray, said: np.ndarray, nearest: np.ndarray, scales: Scales) -> Score | None:
    """Token F1 of the answers minus the nearest training answer's (N,) of Said each, paired; None without answers."""
    f1 = metric("f1", "token F1", "higher", lambda y, rows, weights: _mean(rows, weights))
    both = np.array([overlaps(y, said), overlaps(y, nearest)])
    both[:, np.isnan(both).any(axis=0)] = np.nan
    systems = {MODEL: both[0], TRUE: both[1]}
    return compare([f1], y, systems, MODEL, scales.resamples(len(y)))[1][TRUE].get("f1")
