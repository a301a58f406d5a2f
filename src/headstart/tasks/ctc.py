"""Connectionist temporal classification (Graves et al. 2006, ICML): characters from frames, without an alignment.

A network gives, for each frame, log-probabilities over a blank (index 0) and the characters of an alphabet. A text is
what is left of a path through them once repeats are merged and blanks dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headstart.data.transcripts import frames_needed
from headstart.tasks.heard import Heard, Word

BLANK = 0
NEVER = -1e30  # a log-probability


@dataclass(frozen=True)
class Alphabet:
    """The characters that can be written; index 0 is the blank, character i has index i + 1."""

    characters: tuple[str, ...]

    def __len__(self) -> int:
        """How many indices there are, the blank among them."""
        return len(self.characters) + 1

    @cached_property
    def _index(self) -> dict[str, int]:
        return {character: index for index, character in enumerate(self.characters, start=1)}

    def ids(self, text: str) -> list[int]:
        """Indices of a text's characters; those that are not in the alphabet are left out."""
        return [self._index[one] for one in text if one in self._index]

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        """The characters of these indices."""
        return "".join(self.characters[index - 1] for index in ids)


def greedy(log_probs: np.ndarray) -> list[int]:
    """Indices along the best path of frames (T, K), repeats merged and blanks dropped."""
    best = log_probs.argmax(axis=1)
    return [int(one) for one, before in zip(best, [BLANK, *best[:-1]], strict=True) if one != BLANK and one != before]


def aligned(log_probs: np.ndarray, ids: Sequence[int]) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of each character of a text on its best path through frames (T, K).

    Viterbi 1967, over the characters with blanks between them. [] where the frames are too few for the text.
    """
    n_frames = len(log_probs)
    if not len(ids) or frames_needed(ids) > n_frames:
        return []
    states = np.full(2 * len(ids) + 1, BLANK)
    states[1::2] = ids
    said = log_probs[:, states]  # (T, S)
    skips = np.zeros(len(states), dtype=bool)  # a character may follow another one without a blank between them
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), NEVER)
    score[:2] = said[0, :2]
    step = np.zeros((n_frames, len(states)), dtype=np.int8)
    for frame in range(1, n_frames):
        over_a_blank = np.where(skips, np.append([NEVER] * 2, score[:-2]), NEVER)
        before = np.stack([score, np.append(NEVER, score[:-1]), over_a_blank])
        step[frame] = before.argmax(axis=0)
        score = before.max(axis=0) + said[frame]
    state = len(states) - 1 if score[-1] >= score[-2] else len(states) - 2
    path = np.empty(n_frames, dtype=int)
    for frame in range(n_frames - 1, -1, -1):
        path[frame] = state
        state -= int(step[frame, state])
    return [
        (int(frames[0]), int(frames[-1]) + 1) for frames in (np.flatnonzero(path == 2 * i + 1) for i in range(len(ids)))
    ]


def heard(log_probs: np.ndarray, ids: Sequence[int], alphabet: Alphabet, seconds: float) -> Heard:
    """A text as words with their times: frames (T, K) of `seconds` each.

    A word's confidence is the geometric mean of its characters' probabilities, each at its surest frame.
    """
    places = aligned(log_probs, ids)
    words: list[Word] = []
    letters: list[tuple[str, int, int, float]] = []

    def end_word() -> None:
        if letters:
            confidence = float(np.exp(np.mean([one[3] for one in letters])))
            text = "".join(one[0] for one in letters)
            words.append(Word(text, letters[0][1] * seconds, letters[-1][2] * seconds, confidence))
            letters.clear()

    for index, (start, end) in zip(ids, places, strict=False):
        character = alphabet.characters[index - 1]
        if character == " ":
            end_word()
        else:
            letters.append((character, start, end, float(log_probs[start:end, index].max())))
    end_word()
    return Heard.of(tuple(words))
