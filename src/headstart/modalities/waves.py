"""Sounds as samples: files decoded by libsndfile, resampled by soxr, and what can be wrong with them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from headstart.errors import DataError, MissingExtraError
from headstart.modalities.files import kind_of

RATE = 16_000  # Hz, of all opened sounds
LONGEST_S = 30.0  # of one example
LEAST_S = 0.02  # below which no network sees a frame
RATES = (1_000, 1_000_000)  # Hz, of files
QUALITY = "HQ"
SILENT, QUIET = 10 ** (-60 / 20), 10 ** (-40 / 20)  # peaks, as shares of full scale
CLIPPED_SHARE = 1e-3  # of the samples at full scale, at which it is told
FULL_SCALE = {"PCM_U8": 0.99, "PCM_S8": 0.99}  # of 8 bits the largest number is 127 / 128
MOST_THERE = 0.9  # of what the header promises: a sound is used if so much of it is there
_BLOCK = 1 << 11  # frames; what is damaged loses one block
_SHORT = re.compile(r"(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")  # libsndfile's log of a truncated file
_ENDLESS = 0x7FFF_0000  # bytes: a size that a program writes when it does not know how many will come


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    frames: int  # that it promises
    rate_hz: int
    channels: int
    subtype: str  # "PCM_16"

    @property
    def seconds(self) -> float:
        """How long it says that it is."""
        return self.frames / self.rate_hz


@dataclass(frozen=True)
class Heard:
    """A tally of the samples of one file."""

    frames: int = 0
    peak: float = 0.0  # of the mean of the channels
    n_samples: int = 0  # of all channels
    n_full: int = 0  # at full scale
    n_odd: int = 0  # NaN or infinite

    def with_block(self, block: np.ndarray, full: float) -> Heard:
        """With the next (n, C) samples counted."""
        size = np.abs(block)
        return Heard(
            frames=self.frames + len(block),
            peak=max(self.peak, float(np.abs(_mono(block)).max(initial=0.0))),
            n_samples=self.n_samples + block.size,
            n_full=self.n_full + int((size[np.isfinite(size)] >= full).sum()),
            n_odd=self.n_odd + int((~np.isfinite(block)).sum()),
        )


def soundfile() -> Any:
    """The library; MissingExtraError when it is not installed."""
    try:
        import soundfile
    except ImportError as error:
        raise MissingExtraError("soundfile", "audio") from error
    return soundfile


def soxr() -> Any:
    """The library; MissingExtraError when it is not installed."""
    try:
        import soxr
    except ImportError as error:
        raise MissingExtraError("soxr", "audio") from error
    return soxr


def wave(file: bytes | Path, most: int | None = None) -> np.ndarray:
    """The sound (T,) float32 in -1 … 1, mono, at RATE, without what is damaged at its end; DataError for no sound.

    `most` is how many samples from the start are enough.
    """
    with opened(file) as (reader, header):
        enough = None if most is None else -(-most * header.rate_hz // (RATE * _BLOCK)) + 1  # one more, for the filter
        blocks = [_mono(block) for block in islice(_blocks(reader, header), enough)]
    samples = np.concatenate([np.zeros(0, dtype=np.float32), *blocks])
    return within_scale(resampled(samples, header.rate_hz)[:most])


def stream(file: bytes | Path) -> Iterator[np.ndarray]:
    """The same as `wave` in consecutive pieces (n,), so that a recording of any length takes little memory."""
    with opened(file) as (reader, header):
        turn = soxr().ResampleStream(header.rate_hz, RATE, 1, dtype="float32", quality=QUALITY)
        for block in _blocks(reader, header):
            yield np.clip(turn.resample_chunk(_mono(block)), -1, 1)
        yield np.clip(turn.resample_chunk(np.zeros(0, dtype=np.float32), last=True), -1, 1)


def resampled(samples: np.ndarray, rate_hz: float, to_hz: float = RATE) -> np.ndarray:
    """Samples (T,) float32 at another rate: (T × to_hz / rate_hz,)."""
    if rate_hz == to_hz or not len(samples):
        return samples
    found: np.ndarray = soxr().resample(samples, rate_hz, to_hz, quality=QUALITY)
    return found


def within_scale(samples: np.ndarray) -> np.ndarray:
    """Samples whose peak is above 1, which a decoder's overshoot or a float file can bring about, scaled to 1."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples / np.float32(peak) if peak > 1 else samples


def header_of(file: bytes | Path) -> Header | None:
    """What the file says of itself, nothing decoded; None where it is no sound."""
    try:
        with opened(file) as (_, header):
            return header
    except (DataError, OSError, ValueError):
        return None


def examined(file: BinaryIO, longest_s: float | None) -> tuple[str | None, tuple[str, ...]]:
    """(why this file is no usable sound or None, what else is worth saying); decoded in blocks, never whole."""
    start = file.read(512)
    file.seek(0)
    if not start:
        return "empty file", ()
    try:
        with _reader(file) as (reader, header):
            if problem := _problem_of_header(header, longest_s):
                return problem, ()
            heard = Heard()
            for block in _blocks(reader, header, mend=False):
                heard = heard.with_block(block, FULL_SCALE.get(header.subtype, 0.9995))
    except DataError as error:
        return str(error), ()
    return _problem_of_samples(header, heard), _remarks(header, heard)


@contextlib.contextmanager
def opened(file: bytes | Path) -> Iterator[tuple[Any, Header]]:
    """(libsndfile's reader, header) of a file or its bytes. DataError when it is no sound."""
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream, _reader(stream) as found:
        yield found


@contextlib.contextmanager
def _reader(file: BinaryIO) -> Iterator[tuple[Any, Header]]:
    library = soundfile()
    start = file.read(512)
    file.seek(0)
    try:
        reader = library.SoundFile(file)
    except Exception as error:  # libsndfile's own errors, and Python's of a damaged header
        kind = kind_of(start)
        raise DataError(f"not a sound but {kind or 'something that libsndfile does not read'}") from error
    reader.seekable = lambda: False  # or else it seeks after every read, where MP3 loses its place (of samples)
    with reader:
        yield reader, Header(_promised(reader), reader.samplerate, reader.channels, reader.subtype)


def _promised(reader: Any) -> int:
    """Frames that the header speaks of; libsndfile itself speaks of those that the file can hold."""
    short = _SHORT.search(reader.extra_info)
    if not short or int(short[1]) >= _ENDLESS or int(short[2]) <= 0:
        return int(reader.frames)
    return round(reader.frames * int(short[1]) / int(short[2]))


def _blocks(reader: Any, header: Header, mend: bool = True) -> Iterator[np.ndarray]:
    """The samples (n, C) float32, block by block, as far as they can be decoded; `mend` makes NaN and infinity 0."""
    if not RATES[0] <= header.rate_hz <= RATES[1]:
        raise DataError(f"a rate of {header.rate_hz:,} Hz, and {RATES[0]:,} to {RATES[1]:,} are allowed")
    while True:
        try:
            block = reader.read(_BLOCK, dtype="float32", always_2d=True)
        except soundfile().LibsndfileError:  # damaged from here on
            return
        if not len(block):
            return
        yield np.nan_to_num(block, copy=False, nan=0.0, posinf=0.0, neginf=0.0) if mend else block


def _mono(block: np.ndarray) -> np.ndarray:
    """(n, C) to (n,): the mean of the channels."""
    finite = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    mean: np.ndarray = finite.mean(1, dtype=np.float32) if block.shape[1] > 1 else finite[:, 0]
    return mean


def _problem_of_header(header: Header, longest_s: float | None) -> str | None:
    if longest_s is not None and header.seconds > longest_s:
        return (
            f"too long: {header.seconds:,.0f} s, and an example may have {longest_s:.0f} s. Split it into several "
            "files, best where nobody speaks"
        )
    return None


def _problem_of_samples(header: Header, heard: Heard) -> str | None:
    promised = max(header.frames, heard.frames)
    there = heard.frames / header.rate_hz
    if not promised:
        return "empty sound: it has no samples"
    if heard.frames < MOST_THERE * promised:
        return f"truncated: {there:.2f} of {promised / header.rate_hz:.2f} s can be read"
    if there < LEAST_S:
        return f"too short: {1000 * there:.0f} ms"
    if heard.peak < SILENT:
        return "silent: " + (f"its peak is {_decibels(heard.peak)}" if heard.peak else "all samples are 0")
    return None


def _remarks(header: Header, heard: Heard) -> tuple[str, ...]:
    """What a sound that is used has about it; each begins with its kind and a colon."""
    remarks = []
    if heard.frames < header.frames:
        remarks.append(f"cut off: {heard.frames / header.rate_hz:.2f} of {header.seconds:.2f} s can be read")
    if heard.n_full > CLIPPED_SHARE * heard.n_samples:
        remarks.append(f"clipped: {100 * heard.n_full / heard.n_samples:.1f} % of the samples at full scale")
    if SILENT <= heard.peak < QUIET:
        remarks.append(f"quiet: its peak is {_decibels(heard.peak)}")
    if heard.n_odd:
        remarks.append(f"not finite: {heard.n_odd:,} samples are no numbers")
    return tuple(remarks)


def _decibels(peak: float) -> str:
    return f"{20 * np.log10(peak):.0f} dB below full scale".replace("-", "")


def encoded(samples: np.ndarray, rate_hz: int, kind: tuple[str, str] = ("WAV", "FLOAT"), **how: Any) -> bytes:
    """Samples (T,) or (T, C) as the bytes of a file, by default without any loss."""
    file = io.BytesIO()
    soundfile().write(file, samples, rate_hz, format=kind[0], subtype=kind[1], **how)
    return file.getvalue()
