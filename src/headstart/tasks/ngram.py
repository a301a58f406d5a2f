"""Which words follow which: an n-gram model of the transcripts, smoothed as by Witten and Bell 1991 (IEEE IT-37).

A recogniser that has heard little speech has read as little text, so the model is small: what it knows best is which
words there are.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

ORDER = 3
END, START = "\n", "\r"  # of a text: no word is written so


class WordModel:
    """Probabilities of a word after up to ORDER - 1 others."""

    def __init__(self, counts: Mapping[tuple[str, ...], int]) -> None:
        self.counts = dict(counts)  # of every run of 1 … ORDER words

    @classmethod
    def of(cls, texts: Sequence[str]) -> WordModel:
        """Learnt from these texts."""
        counts: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            words = [START] * (ORDER - 1) + text.split() + [END]
            for end in range(ORDER - 1, len(words)):
                counts.update(tuple(words[start : end + 1]) for start in range(end - ORDER + 1, end + 1))
        return cls(counts)

    @cached_property
    def _followers(self) -> dict[tuple[str, ...], tuple[int, int]]:
        """What came before -> (how often, how many different words followed)."""
        found: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
        for run, n in self.counts.items():
            found[run[:-1]][0] += n
            found[run[:-1]][1] += 1
        return {before: (n, kinds) for before, (n, kinds) in found.items()}

    def log_probability(self, word: str, before: Sequence[str]) -> float:
        """Natural logarithm of P(word | the words before it); END as the word ends the text."""
        padded = (*[START] * (ORDER - 1), *before)
        return math.log(self._smoothed(word, padded[len(padded) - ORDER + 1 :]))

    def _smoothed(self, word: str, before: tuple[str, ...]) -> float:
        n, kinds = self._followers.get(before, (0, 0))
        if not before:
            return (self.counts.get((word,), 0) + kinds / (kinds + 1)) / max(1, n + kinds)  # all unseen ones are one
        lower = self._smoothed(word, before[1:])
        return lower if n == 0 else (self.counts.get((*before, word), 0) + kinds * lower) / (n + kinds)

    def state(self) -> dict[str, np.ndarray]:
        """As arrays that safetensors can hold."""
        runs = sorted(self.counts)
        text = "\x1e".join("\x1f".join(run) for run in runs)
        return {
            "runs": np.frombuffer(text.encode(), dtype=np.uint8).copy(),
            "counts": np.array([self.counts[run] for run in runs], dtype=np.int32),
        }

    @classmethod
    def restore(cls, state: Mapping[str, np.ndarray]) -> WordModel:
        """The inverse of `state`."""
        runs = state["runs"].tobytes().decode().split("\x1e") if len(state["counts"]) else []
        keys = (tuple(run.split("\x1f")) for run in runs)
        return cls(dict(zip(keys, state["counts"].tolist(), strict=True)))
