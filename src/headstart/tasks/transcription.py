"""Transcripts: what is said in a recording; scored by errors a character and a word (Levenshtein 1966), by jiwer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from headstart.errors import DataError, MissingExtraError
from headstart.tasks.base import Metric, Task, Weights, one_each
from headstart.tasks.heard import Heard, bare, written


class Errors(NamedTuple):
    """Of N utterances, against their transcripts: edits, and units that there were to get right."""

    edits: np.ndarray  # (N,) substitutions, deletions and insertions
    units: np.ndarray  # (N,) words or characters of the transcripts

    def rate(self, weights: Weights) -> np.ndarray:
        """(B,): edits a unit in each resample (B, N); NaN where a resample holds no unit."""
        units = weights @ self.units
        return np.divide(weights @ self.edits, units, out=np.full(len(units), np.nan), where=units > 0)


@dataclass(frozen=True, kw_only=True)
class Transcription(Task):
    """What is said in each recording, in characters learnt from the transcripts. y is (N,) of str, scores of Heard."""

    title = "transcripts"
    naive_title = "the usual transcript"

    alphabet: tuple[str, ...]  # every character of the transcripts, the space among them, sorted

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Transcription:
        """The characters that occur; DataError when there are none."""
        alphabet = tuple(sorted({one for label in labels for one in written(label)}))
        if not alphabet:
            raise DataError("Every transcript is empty, so there is nothing to learn. Write down what is said.")
        return cls(alphabet=alphabet)

    def to_json(self) -> dict[str, Any]:
        """{"alphabet": [...]}."""
        return {"alphabet": list(self.alphabet)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Transcription:
        """The inverse of `to_json`."""
        return cls(alphabet=tuple(saved["alphabet"]))

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """Transcripts (N,) as they are compared. Characters beyond the alphabet stay: they count as errors."""
        return one_each([written(label) for label in labels])

    def naive(self, y: np.ndarray, n: int) -> np.ndarray:
        """The transcript that occurs most often in train, n times; of equally frequent ones the shortest."""
        counts = Counter(y)
        usual = min(counts, key=lambda text: (-counts[text], len(text), text))
        return one_each([Heard(usual, counts[usual] / len(y))] * n)

    def decode(self, scores: np.ndarray) -> list[str]:
        """The transcripts."""
        return [one.text for one in scores]

    def metrics(self) -> tuple[Metric, ...]:
        """Errors a character first, which tell small differences apart; then a word, as written and bare of marks."""
        found = [
            Metric("cer", "CER", "lower", _measure(character_errors)),
            Metric("wer", "WER", "lower", _measure(word_errors)),
        ]
        if any(bare(one) != one for one in self.alphabet if one != " "):
            found.append(Metric("wer_bare", "WER, case and punctuation aside", "lower", _measure(bare_word_errors)))
        return tuple(found)


def _measure(count: Callable[[np.ndarray, np.ndarray], Errors]) -> Callable[[np.ndarray, np.ndarray, Weights], Any]:
    return lambda y, scores, weights: count(y, scores).rate(weights)


def word_errors(y: np.ndarray, scores: np.ndarray) -> Errors:
    """Of words, which spaces part."""
    return _errors(y, [one.text for one in scores], "process_words")


def character_errors(y: np.ndarray, scores: np.ndarray) -> Errors:
    """Of characters, spaces among them."""
    return _errors(y, [one.text for one in scores], "process_characters")


def bare_word_errors(y: np.ndarray, scores: np.ndarray) -> Errors:
    """Of words without case and punctuation."""
    return _errors([bare(text) for text in y], [bare(one.text) for one in scores], "process_words")


def _errors(references: Sequence[str] | np.ndarray, heard: Sequence[str], process: str) -> Errors:
    """Counted by one of jiwer's functions; a reference without a unit has one edit for each unit that was heard."""
    count = getattr(jiwer(), process)
    edits, units = np.zeros(len(heard)), np.zeros(len(heard))
    for row, (reference, text) in enumerate(zip(references, heard, strict=True)):
        if not reference:
            edits[row] = len(text.split() if process == "process_words" else text)
            continue
        found = count(reference, text)
        edits[row] = found.substitutions + found.deletions + found.insertions
        units[row] = found.hits + found.substitutions + found.deletions
    return Errors(edits, units)


def jiwer() -> Any:
    """The library that aligns what was heard with what was said."""
    try:
        import jiwer as library
    except ImportError:
        raise MissingExtraError("jiwer", "audio") from None
    return library
