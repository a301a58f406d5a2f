"""What a recogniser mishears: kinds of errors, words taken for others, whose speech is harder, the worst utterances."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from headstart.engine.platt import Line
from headstart.evidence.base import Score
from headstart.evidence.calibration import Bin, binned
from headstart.evidence.intervals import resamples, score
from headstart.evidence.platt import fitted
from headstart.evidence.weigh import N_RESAMPLES
from headstart.modalities.base import Modality, Preview
from headstart.tasks.base import Metric
from headstart.tasks.heard import Heard
from headstart.tasks.transcription import Transcription, jiwer

MOST_MIXED, MOST_SPEAKERS, MOST_WORST = 12, 30, 12
Kind = Literal["equal", "substitute", "insert", "delete"]


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """A word that was heard as another; "" where it was dropped, or where nothing was said."""

    said: str
    heard: str
    n: int


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """One group of the test utterances."""

    name: str
    n: int
    score: Score | None  # of the primary metric; None for one utterance, which has no interval


@dataclass(frozen=True, kw_only=True)
class SpeechEvidence:
    """What the test split says of a recogniser, beside its metrics."""

    n_utterances: int
    n_words: int
    n_characters: int
    n_right: int  # utterances without an error
    substitutions: int  # of words
    insertions: int
    deletions: int
    mixed: tuple[Mixed, ...]  # the most frequent
    speakers: tuple[Speaker, ...]  # the hardest first; empty where none are known
    calibration: tuple[Bin, ...]  # of words

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Piece:
    """A run of words of an utterance, and what they were heard as."""

    kind: Kind
    said: str
    heard: str

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Word by word: (said, heard), "" where there is no other side."""
        return list(itertools.zip_longest(self.said.split(), self.heard.split(), fillvalue=""))


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A test utterance with errors."""

    name: str
    preview: Preview
    said: str
    heard: str
    pieces: tuple[Piece, ...]
    rate: float  # errors a character


def pieces_of(said: str, heard: str) -> tuple[Piece, ...]:
    """The words of both, side by side (an alignment with the fewest edits)."""
    if not said:
        return (Piece("insert", "", heard),) if heard else ()
    found = jiwer().process_words(said, heard)
    own, other = said.split(), heard.split()
    return tuple(
        Piece(
            one.type,
            " ".join(own[one.ref_start_idx : one.ref_end_idx]),
            " ".join(other[one.hyp_start_idx : one.hyp_end_idx]),
        )
        for one in found.alignments[0]
    )


def measure_speech(
    task: Transcription, y: np.ndarray, scores: np.ndarray, metric: Metric, groups: Sequence[str] | None, seed: int
) -> SpeechEvidence:
    """Of test transcripts (N,) and what was heard (N,) of Heard."""
    pieces = [pieces_of(said, one.text) for said, one in zip(y, scores, strict=True)]
    wrong = [piece for each in pieces for piece in each if piece.kind != "equal"]
    edits = Counter[str]()
    for piece in wrong:
        edits[piece.kind] += len(piece.pairs)
    mixed = Counter(pair for piece in wrong for pair in piece.pairs)
    return SpeechEvidence(
        n_utterances=len(y),
        n_words=sum(len(text.split()) for text in y),
        n_characters=sum(map(len, y)),
        n_right=sum(said == one.text for said, one in zip(y, scores, strict=True)),
        substitutions=edits["substitute"],
        insertions=edits["insert"],
        deletions=edits["delete"],
        mixed=tuple(Mixed(said=said, heard=heard, n=n) for (said, heard), n in mixed.most_common(MOST_MIXED)),
        speakers=speakers_of(y, scores, metric, groups, seed) if groups is not None else (),
        calibration=reliability_of(pieces, scores),
    )


def speakers_of(
    y: np.ndarray, scores: np.ndarray, metric: Metric, groups: Sequence[str], seed: int
) -> tuple[Speaker, ...]:
    """Each group's own score, its utterances resampled; the hardest first."""
    found = []
    names = np.asarray(groups)
    for name in sorted(set(groups)):
        rows = np.flatnonzero(names == name)
        own = score([metric], y[rows], scores[rows], resamples(len(rows), N_RESAMPLES, seed)) if len(rows) > 1 else {}
        found.append(Speaker(name=name, n=len(rows), score=own.get(metric.name)))
    return tuple(sorted(found, key=lambda one: -(one.score.value if one.score else -1))[:MOST_SPEAKERS])


def right_words(pieces: Sequence[tuple[Piece, ...]]) -> np.ndarray:
    """(W,) for each word that was heard, whether it was said."""
    return np.array([piece.kind == "equal" for each in pieces for piece in each for _ in piece.heard.split()], bool)


def confidences(scores: Sequence[Heard] | np.ndarray) -> np.ndarray:
    """(W,) of each word that was heard."""
    return np.array([word.confidence for one in scores for word in one.words])


def calibrated(y: np.ndarray, scores: np.ndarray) -> Line:
    """What the confidence of a word means, by transcripts (N,) and what was heard (N,) of Heard."""
    pieces = [pieces_of(said, one.text) for said, one in zip(y, scores, strict=True)]
    return fitted(confidences(scores), right_words(pieces), Line())


def reliability_of(pieces: Sequence[tuple[Piece, ...]], scores: Sequence[Heard] | np.ndarray) -> tuple[Bin, ...]:
    """The calibration curve of the words that were heard, in bins of equal width."""
    return tuple(binned(confidences(scores), right_words(pieces)))


def worst(
    y: np.ndarray, scores: np.ndarray, metric: Metric, modality: Modality, items: Sequence[Any]
) -> tuple[Utterance, ...]:
    """The test utterances with the most errors, first."""
    found = []
    for said, one, item in zip(y, scores, items, strict=True):
        rate = float(metric.compute(np.array([said], object), np.array([one], object), np.ones((1, 1)))[0])
        if said != one.text:
            found.append((rate, said, one.text, item))
    found.sort(key=lambda each: -each[0])
    return tuple(
        Utterance(
            name=modality.describe(item),
            preview=modality.preview(item),
            said=said,
            heard=heard,
            pieces=pieces_of(said, heard),
            rate=rate,
        )
        for rate, said, heard, item in found[:MOST_WORST]
    )
