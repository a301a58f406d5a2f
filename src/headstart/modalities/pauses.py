"""Cut a recording of any length where nobody speaks: by its loudness, against a threshold that follows the room.

Half a minute is looked at at a time, so that a recording of any length takes little memory. What is louder than the
threshold, which lies between the quietest and the loudest of that half minute, counts as speech. How loud speech is
fades slowly from memory, so that half a minute of nothing but the room is silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from headstart.modalities.waves import RATE, SILENT

FRAME = RATE // 100  # samples that loudness is told of: 10 ms
SMOOTH = 5  # frames that it is the mean of
LOOK = 30 * RATE  # samples that are looked at together
LONGEST = 20 * RATE  # samples of a piece
LATEST = 15 * RATE  # where nobody pauses, a piece is cut at the quietest place between this and LONGEST
PAUSE = 50  # frames without speech that end a piece
MARGIN = RATE // 5  # samples of silence left on either side of a piece
QUIET, LOUD = 10, 98  # percentiles of the loudness
SHARE = 0.35  # of the way from the quietest to the loudest, in decibels, at which speech begins
FLAT_DB = 6.0  # where loudest and quietest are no further apart, all of it counts as speech
FADE_DB = 0.1  # a second, by which the loudest is forgotten
FLOOR = 1e-4  # root mean square below which silence is silence: 80 dB below full scale


class Piece(NamedTuple):
    """A part of a recording in which somebody may speak."""

    start: int  # sample of the recording at which it starts
    samples: np.ndarray  # (n,) float32


class Cut(NamedTuple):
    """Where the next piece lies in what is looked at, in samples; where it is empty there is none yet."""

    start: int
    end: int
    after: int  # what comes before is done with


def pieces(stream: Iterable[np.ndarray]) -> Iterator[Piece]:
    """The parts with speech of a recording that comes in consecutive arrays (n,), in order, none longer than LONGEST.

    Silence before, between and after them is left out, but for a margin.
    """
    arrays, ahead = iter(stream), np.zeros(0, dtype=np.float32)
    done, ended, loud, level = 0, False, -np.inf, 0.0
    while not ended or len(ahead):
        if not ended:
            ahead, ended = _filled(ahead, arrays)
            quiet, now = np.percentile(levels(ahead), [QUIET, LOUD]) if len(ahead) else (0.0, 0.0)
            loud = max(float(now), loud)
            level = threshold(float(quiet), loud)
        cut = next_cut(ahead, level, ended)
        if cut.end > cut.start:
            yield Piece(done + cut.start, ahead[cut.start : cut.end].copy())  # a view would hold on to all of it
        ahead, done = ahead[cut.after :], done + cut.after
        loud -= FADE_DB * cut.after / RATE


def _filled(ahead: np.ndarray, arrays: Iterator[np.ndarray]) -> tuple[np.ndarray, bool]:
    """(with more behind it, LOOK samples or a little more, whether the recording ends with them)."""
    parts, n = [ahead], len(ahead)
    while n < LOOK:
        if (more := next(arrays, None)) is None:
            return np.concatenate(parts), True
        parts.append(more)
        n += len(more)
    return np.concatenate(parts), False


def next_cut(samples: np.ndarray, level: float, ended: bool) -> Cut:
    """The first piece of samples (n,) that are speech from this level on; `ended`: the recording ends with them."""
    n, loudness = len(samples), levels(samples)
    speech = np.flatnonzero(loudness >= level)
    if not len(speech):
        return Cut(0, 0, n if ended else n - MARGIN)
    start = max(0, int(speech[0]) * FRAME - MARGIN)
    if not ended and n - start < LONGEST + MARGIN:
        return Cut(0, 0, start)  # more of it must be seen
    breaks = np.flatnonzero(np.diff(speech) > PAUSE)
    end = min(n, (int(speech[breaks[0] if len(breaks) else -1]) + 1) * FRAME + MARGIN)
    if end - start > LONGEST:
        frames = slice((start + LATEST) // FRAME, (start + LONGEST) // FRAME)
        end = (frames.start + int(loudness[frames].argmin())) * FRAME
        return Cut(start, end, end)
    return Cut(start, end, n if ended and not len(breaks) else end)


def levels(samples: np.ndarray) -> np.ndarray:
    """Loudness of each frame (ceil(n / FRAME),) in decibels below full scale."""
    whole = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
    power = np.einsum("tf,tf->t", whole, whole) / FRAME
    summed = np.cumsum(np.pad(power.astype(np.float64), (SMOOTH // 2 + 1, SMOOTH // 2)))
    decibels: np.ndarray = 10 * np.log10(np.maximum((summed[SMOOTH:] - summed[:-SMOOTH]) / SMOOTH, FLOOR**2))
    return decibels


def threshold(quiet: float, loud: float) -> float:
    """The level from which on a frame counts as speech, between the quietest and the loudest (decibels)."""
    between = quiet + SHARE * (loud - quiet) if loud - quiet > FLAT_DB else quiet - FLAT_DB
    return max(between, 20 * float(np.log10(SILENT)))
