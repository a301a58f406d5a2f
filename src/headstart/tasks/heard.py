"""What a recogniser makes of a recording: words with their times, and how a text is written for it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Word:
    """A word, and when it is said."""

    text: str
    start: float  # seconds from the start of the recording
    end: float
    confidence: float  # 0 … 1

    def later(self, seconds: float) -> Word:
        """The same word in a recording that starts so much earlier."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True)
class Heard:
    """What is said in one recording."""

    text: str
    confidence: float  # 0 … 1: the mean of its words'; 0 where nothing was heard
    words: tuple[Word, ...] = ()

    @classmethod
    def of(cls, words: tuple[Word, ...]) -> Heard:
        """These words, in a row."""
        confidence = sum(word.confidence for word in words) / max(1, len(words))
        return cls(" ".join(word.text for word in words), confidence, words)

    def surer(self, calibrate: Callable[[np.ndarray], np.ndarray]) -> Heard:
        """With its words' confidences calibrated."""
        each = calibrate(np.array([word.confidence for word in self.words]))
        return Heard.of(tuple(replace(w, confidence=float(c)) for w, c in zip(self.words, each, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        words = [vars(word) for word in self.words]
        return {"text": self.text, "confidence": self.confidence, "words": words}


def written(text: str) -> str:
    """A transcript as it is learnt and compared: composed characters (NFC), single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def bare(text: str) -> str:
    """Without case and punctuation, for a second look at what was misheard and what was only written otherwise."""
    folded = (" " if unicodedata.category(one)[0] in "PS" else one for one in text.casefold() if one not in "'’")
    return " ".join("".join(folded).split())
