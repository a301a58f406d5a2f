"""Prefix beam search (Hannun et al. 2014, arXiv:1408.2873): the likeliest text rather than the likeliest path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstart.tasks.ctc import BLANK, NEVER, Alphabet
from headstart.tasks.ngram import END, Ngram

WIDTH = 16  # texts that are followed
LEAST = -7.0  # natural logarithm of the probability from which a character is looked at in a frame
WEIGHTS = {"word": (0.3,), "character": (0.3, 0.6)}  # more hurt: many words of new texts are unknown (docs/log.md)
WORD_BONUS = 2.0
ODD_SPACE = math.log(1e-4)  # of a space that ends no word
Ids = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Language:
    """A model of words or characters, and how much it is listened to."""

    model: Ngram
    weight: float  # of its log-probabilities
    bonus: float  # for each word, since a product of more probabilities is smaller

    def to_json(self) -> dict[str, Any]:
        """All but the model's counts, as plain JSON values."""
        return {"unit": self.model.unit, "weight": self.weight, "bonus": self.bonus}


@dataclass
class _Beam:
    """A text so far."""

    blank: float = NEVER  # log-probability of the paths that end in a blank …
    other: float = NEVER  # … and in its last character
    language: float = 0.0

    @property
    def acoustic(self) -> float:
        return _add(self.blank, self.other)

    @property
    def total(self) -> float:
        return self.acoustic + self.language


@dataclass
class BeamSearch:
    """Decodes frames of an alphabet; scores of words are looked up once."""

    alphabet: Alphabet
    language: Language | None = None
    width: int = WIDTH
    _known: dict[tuple[str, ...], float] = field(default_factory=dict, repr=False)

    def decode(self, log_probs: np.ndarray) -> list[int]:
        """Indices of the best text's characters, of frames (T, K)."""
        beams: dict[Ids, _Beam] = {(): _Beam(blank=0.0)}
        for frame in log_probs:
            beams = self._step(beams, frame)
        return list(max(beams.items(), key=lambda pair: self._ended(*pair))[0])

    def _ended(self, ids: Ids, beam: _Beam) -> float:
        return beam.total + self._ending(ids)

    def _step(self, beams: dict[Ids, _Beam], frame: np.ndarray) -> dict[Ids, _Beam]:
        found: dict[Ids, _Beam] = {}
        likely = [int(one) for one in np.flatnonzero(frame > LEAST) if one != BLANK] or [int(frame[1:].argmax()) + 1]
        for ids, beam in beams.items():
            same = found.setdefault(ids, _Beam(language=beam.language))
            same.blank = _add(same.blank, beam.acoustic + float(frame[BLANK]))
            if ids:
                same.other = _add(same.other, beam.other + float(frame[ids[-1]]))
            for index in likely:
                start = beam.blank if ids and ids[-1] == index else beam.acoustic
                if start > NEVER:
                    longer = (*ids, index)
                    grown = found.get(longer)
                    if grown is None:
                        grown = found[longer] = _Beam(language=beam.language + self._said(ids, index))
                    grown.other = _add(grown.other, start + float(frame[index]))
        best = sorted(found, key=lambda ids: -found[ids].total)[: self.width]
        return {ids: found[ids] for ids in best}

    def _said(self, ids: Ids, index: int) -> float:
        """What the language model adds for one character more."""
        if self.language is None:
            return 0.0
        text, character = self.alphabet.text(ids), self.alphabet.characters[index - 1]
        if self.language.model.unit == "character":
            return self._score((*text, character), self.language.bonus if character == " " else 0.0)
        if character != " ":
            return 0.0
        ends_one = bool(text) and not text.endswith(" ")
        return self._score(tuple(text.split()), self.language.bonus) if ends_one else self.language.weight * ODD_SPACE

    def _ending(self, ids: Ids) -> float:
        """What it adds where the text ends: a last word, and that nothing follows."""
        if self.language is None:
            return 0.0
        text = self.alphabet.text(ids)
        if self.language.model.unit == "character":
            return self._score((*text, END), 0.0)
        words = tuple(text.split())
        last = self._score(words, self.language.bonus) if words and not text.endswith(" ") else 0.0
        return last + self._score((*words, END), 0.0)

    def _score(self, units: tuple[str, ...], bonus: float) -> float:
        """Of the last unit after those before it."""
        assert self.language is not None, "asked only with a language model"
        key = units[-self.language.model.order :]
        if key not in self._known:
            self._known[key] = self.language.model.log_probability(key[-1], key[:-1])
        return self.language.weight * self._known[key] + bonus


def _add(a: float, b: float) -> float:
    """The logarithm of the sum of two exponentials."""
    high, low = (a, b) if a > b else (b, a)
    return high if low <= NEVER else high + math.log1p(math.exp(low - high))


def choices(texts: Sequence[str]) -> Iterator[Language]:
    """What validation chooses from, beside no language model at all: learnt from the transcripts."""
    for unit, weights in WEIGHTS.items():
        model = Ngram.of(texts, unit)
        for weight in weights:
            yield Language(model=model, weight=weight, bonus=weight if unit == "character" else WORD_BONUS)
