"""What a recogniser mishears, as the template draws it: kinds of errors, words mixed up, speakers, worst utterances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from headstart.evidence import words
from headstart.evidence.mishearings import Piece, SpeechEvidence, Utterance
from headstart.report import plots

TITLES = {"substitute": "heard as", "delete": "not heard", "insert": "not said"}


class Kind(NamedTuple):
    """How many errors of one kind."""

    title: str
    n: int
    share: float  # of all errors


class Spoken(NamedTuple):
    """One utterance with errors."""

    name: str
    audio_uri: str
    aligned: Markup
    rate: str
    heard: str


def view(speech: SpeechEvidence, utterances: Sequence[Utterance]) -> dict[str, Any]:
    """What the template needs to know."""
    kinds = [
        ("words heard as others", speech.substitutions),
        ("words not heard", speech.deletions),
        ("words that were not said", speech.insertions),
    ]
    total = sum(n for _, n in kinds)
    return {
        "n": speech.n_utterances,
        "n_right": speech.n_right,
        "n_words": speech.n_words,
        "kinds": [Kind(title, n, n / total if total else 0.0) for title, n in kinds],
        "total": total,
        "mixed": [one for one in speech.mixed if one.n > 1] or speech.mixed[:5],
        "speakers": [(one.name, one.n, words.score(one.score) if one.score else "–") for one in speech.speakers],
        "calibration": plots.calibration(speech.calibration, "words") if speech.calibration else "",
        "calibration_example": _read_aloud(speech),
        "utterances": [
            Spoken(
                one.name.split("/")[-1], one.preview.audio_uri, aligned(one.pieces), words.share(one.rate), one.heard
            )
            for one in utterances
        ],
    }


def aligned(pieces: Sequence[Piece]) -> Markup:
    """What was said, with each error marked and what was heard in its place above it."""
    return Markup(" ").join(_marked(piece) for piece in pieces)


def _marked(piece: Piece) -> Markup:
    if piece.kind == "equal":
        return escape(piece.said)
    said = piece.said or "+"
    heard = piece.heard or "–"
    return Markup('<ruby class="{}" title="{}">{}<rp> [</rp><rt>{}</rt><rp>] </rp></ruby>').format(
        piece.kind, f"{TITLES[piece.kind]}: {piece.heard or piece.said}", said, heard
    )


def _read_aloud(speech: SpeechEvidence) -> str:
    if not speech.calibration:
        return ""
    fullest = max(speech.calibration, key=lambda one: one.count)
    return (
        f"For example, {words.count(fullest.count)} words were heard with a confidence of about "
        f"{words.share(fullest.confidence)}; {words.share(fullest.accuracy)} of them were said."
    )
