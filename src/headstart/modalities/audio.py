"""Sounds: a file that libsndfile reads, encoded bytes, or samples; opened as mono at 16,000 Hz."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np

from headstart.errors import DataError
from headstart.modalities import files, spectra, waves
from headstart.modalities.base import ClassicalFeatures, Examined, Modality, Preview
from headstart.modalities.waves import LONGEST_S, RATE

_PREVIEW_S = 15
SPEEDS = (0.85, 0.93, 1.07, 1.15)  # of the variants
_LEAST_SAMPLES = 1600  # of an array that is taken for a sound: 0.1 s
_MOST_CHANNELS = 8


class Audio(Modality):
    """A stored item is {"path": str or None, "bytes": encoded file or None}; bytes win where both are there."""

    noun: ClassVar = ("sound", "sounds")
    suffixes: ClassVar = frozenset(
        {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"}
    )
    column_names: ClassVar = (
        "audio",
        "audio_filepath",
        "sound",
        "speech",
        "file",
        "filename",
        "file_name",
        "path",
        "audio_path",
        "audio_file",
        "filepath",
        "clip",
        "wav",
        "recording",
    )
    default_backbone: ClassVar = "whisper-tiny.en"
    augments: ClassVar = True
    n_variants: ClassVar = len(SPEEDS)

    def recognises(self, values: Sequence[Any], folder: str | None) -> bool:
        """Mostly names of sound files, their bytes, or arrays of samples with or without a rate."""
        values = [value for value in values if not files.missing(value)]
        return bool(values) and sum(map(self._is_sound, values)) >= 0.9 * len(values)

    def _is_sound(self, value: Any) -> bool:
        if isinstance(value, (str, PurePath)):
            return PurePath(value).suffix.lower() in self.suffixes
        if isinstance(value, Mapping) and value and set(value) <= {"path", "bytes"}:
            return files.is_sound(value) or (value.get("bytes") is None and self._is_sound(value.get("path")))
        return _is_samples(value) or _with_rate(value) is not None

    def store(self, value: Any, folder: str | None) -> files.Stored:
        """File name, encoded bytes, {"path", "bytes"}, samples (T,) or (T, C) at 16,000 Hz, or samples with a rate.

        A rate comes as (samples, rate) or {"array", "sampling_rate"}. Samples are floats from -1 to 1, or integers of
        any width, and are kept without loss. DataError for anything else.
        """
        if (known := files.stored(value, folder)) is not None:
            return known
        samples, rate_hz = _with_rate(value) or (value, RATE)
        if not waves.RATES[0] <= rate_hz <= waves.RATES[1]:
            low, high = waves.RATES
            raise DataError(f"A rate of {rate_hz:,} Hz, and {low:,} to {high:,} are allowed. Give (samples, rate).")
        if isinstance(samples, np.ndarray):
            return {"path": None, "bytes": waves.encoded(_floats(samples), rate_hz)}
        raise DataError(
            f"A sound is a file name, the bytes of a file, an array of samples, or (array, rate in Hz); this is a "
            f"{type(value).__name__}."
        )

    def arrow_feature(self) -> Any:
        """A struct of path and bytes."""
        return files.arrow_feature()

    def example(self) -> np.ndarray:
        """A second of a tone."""
        return (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)

    def examine(self, item: Any, longest_s: float | None = LONGEST_S) -> Examined:
        """The digest is that of the file's bytes. All samples are looked at, a block at a time."""
        try:
            file = files.file_of(item)
            with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                stream.seek(0)
                problem, remarks = waves.examined(stream, longest_s)
                return Examined(digest, problem, () if problem else remarks)
        except (OSError, ValueError) as error:
            return Examined("", files.no_file(error))

    def open(self, item: Any, detail: int | None = None) -> np.ndarray:
        """Samples (T,) float32 in -1 … 1 at 16,000 Hz, the mean of all channels; NaN and infinity are silence.

        `detail` is how many samples from the start are enough.
        """
        return waves.wave(files.file_of(item), detail)

    def outline(self, item: Any) -> np.ndarray:
        """As many zeros as `open` gives samples, by the header; they take no room."""
        return np.broadcast_to(np.float32(0), max(1, round(RATE * (self.duration(item) or 0.0))))

    def duration(self, item: Any) -> float | None:
        """Seconds, as the header tells; None where it is no sound."""
        try:
            header = waves.header_of(files.file_of(item))
        except ValueError:
            return None
        return None if header is None else header.seconds

    def classical_item(self, item: Any) -> dict[str, np.ndarray]:
        """What `classical_features` look at, summed up over time."""
        return spectra.summed_up(self.open(item))

    def variant(self, item: np.ndarray, number: int) -> np.ndarray:
        """Samples (T',) at another speed and so another pitch, as if somebody else spoke."""
        return waves.resampled(item, RATE * SPEEDS[number - 1])

    def augment(self, item: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Samples (T',): faster or slower, with gaps in time and in frequency."""
        from headstart.modalities.distort import distorted

        return distorted(item, rng)

    def preview(self, item: Any) -> Preview:
        """An MP3 of at most 15 s, as a `data:` URI."""
        return Preview(audio_uri="data:audio/mpeg;base64," + base64.b64encode(self._excerpt(item)).decode())

    def small(self, item: Any) -> files.Stored:
        """The same path, with an MP3 of at most 15 s; as it is where the file cannot be read."""
        if self.examine(item).problem:
            return item
        return {"path": item["path"], "bytes": self._excerpt(item)}

    def _excerpt(self, item: Any) -> bytes:
        how: dict[str, Any] = {"compression_level": 0.6, "bitrate_mode": "AVERAGE"}  # 5 kB a second; less is heard
        return waves.encoded(self.open(item, _PREVIEW_S * RATE), RATE, ("MP3", "MPEG_LAYER_III"), **how)

    def describe(self, item: Any) -> str:
        """The path, where there is one."""
        return (item.get("path") if isinstance(item, dict) else None) or "sound in memory"

    def classical_features(self) -> Sequence[ClassicalFeatures]:
        """MFCCs and log-mel energies, summed up over time, and energies in ten spans of it."""
        return spectra.features()


def _is_samples(value: Any) -> bool:
    """Whether an array is long and thin, and its numbers can be samples."""
    if not isinstance(value, np.ndarray) or value.ndim not in (1, 2) or len(value) < _LEAST_SAMPLES:
        return False
    if value.ndim == 2 and value.shape[1] > _MOST_CHANNELS:
        return False
    return value.dtype == np.int16 or (value.dtype.kind == "f" and bool(np.nanmax(np.abs(value)) <= 2))


def _with_rate(value: Any) -> tuple[np.ndarray, int] | None:
    """(samples, rate in Hz) of a pair, or of a dict as `datasets` decodes sounds; None for anything else."""
    if isinstance(value, Mapping) and {"array", "sampling_rate"} <= set(value):
        value = (value["array"], value["sampling_rate"])
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not isinstance(value[1], (int, np.integer)):
        return None
    return (np.asarray(value[0]), int(value[1])) if isinstance(value[0], (np.ndarray, list)) else None


def _floats(samples: np.ndarray) -> np.ndarray:
    """Samples (T,) or (T, C) as float32 in -1 … 1. DataError when they cannot be a sound."""
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > _MOST_CHANNELS):
        turn = " Put the channels last: array.T." if samples.ndim == 2 and len(samples) <= _MOST_CHANNELS else ""
        raise DataError(f"An array of shape {samples.shape} is no sound. Allowed are (T,) and (T, channels).{turn}")
    if samples.dtype.kind not in "uif":
        raise DataError(f"An array of {samples.dtype} is no sound. Give floats from -1 to 1, or integers.")
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples - (half if samples.dtype.kind == "u" else 0.0)) / half).astype(np.float32)
