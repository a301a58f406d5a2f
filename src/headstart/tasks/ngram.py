"""Which words or characters follow which: an n-gram model of the transcripts (Witten and Bell 1991, IEEE IT-37).

A recogniser that has heard little speech has read as little text, so the model is small. A model of words knows which
words there are; one of characters knows how words are built, those too that it has not read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

ORDERS = {"word": 3, "character": 6}
START, END = "\r", "\n"  # of a text: no unit is written so
BETWEEN, INSIDE = "\x1e", "\x1f"  # runs, and the units of a run, as they are kept


class Ngram:
    """Probabilities of a unit after up to order - 1 others."""

    def __init__(self, unit: str, counts: Mapping[tuple[str, ...], int]) -> None:
        self.unit, self.order = unit, ORDERS[unit]
        self.counts = dict(counts)  # of every run of 1 … order units

    @classmethod
    def of(cls, texts: Sequence[str], unit: str) -> Ngram:
        """Learnt from these texts; `unit` is "word" or "character"."""
        order = ORDERS[unit]
        counts: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            units = [START] * (order - 1) + (text.split() if unit == "word" else list(text)) + [END]
            for end in range(order - 1, len(units)):
                counts.update(tuple(units[start : end + 1]) for start in range(end - order + 1, end + 1))
        return cls(unit, counts)

    @cached_property
    def _followers(self) -> dict[tuple[str, ...], tuple[int, int]]:
        """What came before -> (how often, how many different units followed)."""
        found: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
        for run, n in self.counts.items():
            found[run[:-1]][0] += n
            found[run[:-1]][1] += 1
        return {before: (n, kinds) for before, (n, kinds) in found.items()}

    def log_probability(self, unit: str, before: Sequence[str]) -> float:
        """Natural logarithm of P(unit | the units before it); END as the unit ends the text."""
        padded = (*[START] * (self.order - 1), *before)
        return math.log(self._smoothed(unit, padded[len(padded) - self.order + 1 :]))

    def _smoothed(self, unit: str, before: tuple[str, ...]) -> float:
        n, kinds = self._followers.get(before, (0, 0))
        if not before:
            return (self.counts.get((unit,), 0) + kinds / (kinds + 1)) / max(1, n + kinds)  # all unseen ones are one
        lower = self._smoothed(unit, before[1:])
        return lower if n == 0 else (self.counts.get((*before, unit), 0) + kinds * lower) / (n + kinds)

    def state(self) -> dict[str, np.ndarray]:
        """As arrays that safetensors can hold."""
        runs = sorted(self.counts)
        text = BETWEEN.join(INSIDE.join(run) for run in runs)
        return {
            "runs": np.frombuffer(text.encode(), dtype=np.uint8).copy(),
            "counts": np.array([self.counts[run] for run in runs], dtype=np.int32),
        }

    @classmethod
    def restore(cls, unit: str, state: Mapping[str, Any]) -> Ngram:
        """The inverse of `state`."""
        runs = state["runs"].tobytes().decode().split(BETWEEN) if len(state["counts"]) else []
        keys = (tuple(run.split(INSIDE)) for run in runs)
        return cls(unit, dict(zip(keys, state["counts"].tolist(), strict=True)))
