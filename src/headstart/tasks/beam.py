"""Prefix beam search (Hannun et al. 2014, arXiv:1408.2873): the likeliest text rather than the likeliest path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from headstart.tasks.ctc import BLANK, NEVER, Alphabet
from headstart.tasks.ngram import END, WordModel

WIDTH = 16  # texts that are followed
LEAST = -7.0  # natural logarithm of the probability from which a character is looked at in a frame
ODD_SPACE = math.log(1e-4)  # of a space that ends no word
Ids = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Language:
    """A model of words, and how much it is listened to."""

    words: WordModel
    weight: float  # of its log-probabilities
    bonus: float  # for each word, since a product of more probabilities is smaller


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
                        grown = found[longer] = _Beam(language=beam.language + self._word_ended(ids, index))
                    grown.other = _add(grown.other, start + float(frame[index]))
        best = sorted(found, key=lambda ids: -found[ids].total)[: self.width]
        return {ids: found[ids] for ids in best}

    def _word_ended(self, ids: Ids, index: int) -> float:
        """What the language model adds when a space ends a word."""
        if self.language is None or self.alphabet.characters[index - 1] != " ":
            return 0.0
        text = self.alphabet.text(ids)
        ends_one = bool(text) and not text.endswith(" ")
        return self._score(text.split()) if ends_one else self.language.weight * ODD_SPACE

    def _ending(self, ids: Ids) -> float:
        """What it adds where the text ends: the last word, and that none follows."""
        if self.language is None:
            return 0.0
        text = self.alphabet.text(ids)
        words = text.split()
        end = self.language.weight * self.language.words.log_probability(END, words)
        return end + (self._score(words) if words and not text.endswith(" ") else 0.0)

    def _score(self, words: list[str]) -> float:
        assert self.language is not None, "asked only with a language model"
        key = tuple(words[-3:])
        if key not in self._known:
            said = self.language.words.log_probability(words[-1], words[:-1])
            self._known[key] = self.language.weight * said + self.language.bonus
        return self._known[key]


def _add(a: float, b: float) -> float:
    """The logarithm of the sum of two exponentials."""
    high, low = (a, b) if a > b else (b, a)
    return high if low <= NEVER else high + math.log1p(math.exp(low - high))


def choices(words: WordModel) -> Iterator[Language]:
    """What validation chooses from, beside no language model at all."""
    for weight in (0.3, 0.6, 1.0):
        yield Language(words=words, weight=weight, bonus=weight * 2.0)
