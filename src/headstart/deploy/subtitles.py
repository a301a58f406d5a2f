"""Transcripts as people use them: text, JSON, and subtitles in SRT (SubRip) and WebVTT (W3C)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from headstart.tasks.heard import Heard, Word

PAUSE_S = 0.5  # a segment ends where nobody speaks for so long
LINE = 42  # characters, the usual most of a subtitle's line
CUE_S = 7.0  # that a subtitle stands at most
LEAST_S = 1.0  # that it stands at least, where the next one leaves it the time


class Cue(NamedTuple):
    """One subtitle."""

    start: float  # seconds
    end: float
    lines: tuple[str, ...]  # one or two


def segments(heard: Heard) -> list[Heard]:
    """What is said between pauses."""
    words = heard.words
    ends = [i for i in range(1, len(words)) if words[i].start - words[i - 1].end >= PAUSE_S]
    bounds = [0, *ends, len(words)] if words else [0]
    return [Heard.of(words[start:end]) for start, end in itertools.pairwise(bounds)]


def cues(heard: Heard) -> list[Cue]:
    """Subtitles of at most two lines, which end at pauses where they can."""
    found: list[Cue] = []
    for segment in segments(heard):
        words = [part for word in segment.words for part in _parts(word)]
        while words:
            n = _n_shown(words)
            found.append(Cue(words[0].start, words[n - 1].end, lines_of([word.text for word in words[:n]]) or ()))
            del words[:n]
    starts = [*(cue.start for cue in found[1:]), float("inf")]
    return [
        cue._replace(end=max(min(cue.end, after), min(cue.start + LEAST_S, after)))
        for cue, after in zip(found, starts, strict=False)
    ]


def _parts(word: Word) -> Iterator[Word]:
    """A word in parts that fit on a line, since some scripts have no spaces; the time is shared evenly."""
    each = (word.end - word.start) / len(word.text)
    for first in range(0, len(word.text), LINE):
        text = word.text[first : first + LINE]
        start = word.start + each * first
        yield replace(word, text=text, start=start, end=start + each * len(text))


def _n_shown(words: Sequence[Word]) -> int:
    """How many of the words the next subtitle shows: all that fit, or those before the longest pause of its end."""
    most = 1
    while most < len(words) and words[most].end - words[0].start <= CUE_S:
        if lines_of([word.text for word in words[: most + 1]]) is None:
            break
        most += 1
    if most == len(words):
        return most
    return max(range(max(1, most // 2), most + 1), key=lambda n: (round(words[n].start - words[n - 1].end, 3), n))


def lines_of(texts: Sequence[str]) -> tuple[str, ...] | None:
    """Words on one line, or on two of like length; None where they do not fit."""
    whole = " ".join(texts)
    if len(whole) <= LINE:
        return (whole,)
    pairs = [(" ".join(texts[:n]), " ".join(texts[n:])) for n in range(1, len(texts))]
    fitting = [pair for pair in pairs if max(map(len, pair)) <= LINE]
    return min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1])), default=None)


def as_text(heard: Heard) -> str:
    """A line a segment."""
    return "".join(f"{segment.text}\n" for segment in segments(heard))


def as_json(heard: Heard) -> str:
    """Text, confidence, and segments and words with their times in seconds."""
    return json.dumps(told(heard), ensure_ascii=False, indent=1) + "\n"


def told(heard: Heard) -> dict[str, Any]:
    """The same as plain JSON values."""
    each = [
        {"text": one.text, "start": one.words[0].start, "end": one.words[-1].end, "confidence": one.confidence}
        for one in segments(heard)
    ]
    return {"text": heard.text, "confidence": heard.confidence, "segments": each, "words": heard.to_json()["words"]}


def as_srt(heard: Heard) -> str:
    """Numbered, with a comma before the milliseconds. There are no escapes: an arrow in the text is rewritten."""
    blocks = []
    for number, cue in enumerate(cues(heard), start=1):
        shown = "\n".join(cue.lines).replace("-->", "->")
        blocks.append(f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{shown}\n")
    return "\n".join(blocks)


def as_vtt(heard: Heard) -> str:
    """What would be markup is escaped."""
    blocks = ["WEBVTT\n"]
    for cue in cues(heard):
        shown = "\n".join(cue.lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{shown}\n")
    return "\n".join(blocks)


def _clock(seconds: float, mark: str) -> str:
    """01:02:03,456."""
    whole, thousandths = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{mark}{thousandths:03d}"


FORMATS: dict[str, Callable[[Heard], str]] = {"srt": as_srt, "vtt": as_vtt, "txt": as_text, "json": as_json}
