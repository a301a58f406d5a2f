"""What classical models see of a sound: log-mel energies and MFCCs (Davis and Mermelstein 1980), summed up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from headstart.modalities.classical import Standardised
from headstart.modalities.waves import RATE

WINDOW, HOP = 400, 160  # samples: 25 and 10 ms
N_FFT, N_MELS, N_MFCC = 512, 40, 20
N_SPANS = 10  # equal parts of the time, each with its own log-mel energies
FLOOR = 1e-8  # of a mel energy; below it there is nothing but rounding
TITLES = ("MFCC statistics", "log-mel statistics", "log-mel in ten spans of time")


def features() -> list[Standardised]:
    """One for each of `TITLES`; they take opened sounds (T,), or what `summed_up` made of them."""
    return [Standardised(title, partial(_rows, title)) for title in TITLES]


def summed_up(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Title -> (D,) float32, of samples (T,) at RATE."""
    mel = log_mel(samples)
    cepstra = mfcc(mel)
    moving = np.diff(cepstra, axis=0) if len(cepstra) > 1 else np.zeros_like(cepstra)
    spans = [mel[_span(len(mel), i)].mean(0) for i in range(N_SPANS)]
    found = (
        np.concatenate([*_moments(cepstra), *_moments(moving)]),
        np.concatenate(_moments(mel)),
        np.concatenate(spans),
    )
    return {title: row.astype(np.float32) for title, row in zip(TITLES, found, strict=True)}


def log_mel(samples: np.ndarray) -> np.ndarray:
    """(T,) to (F, N_MELS): the logarithm of the energy in each mel band, a row each 10 ms, at least one."""
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), N_FFT)) ** 2
    energies: np.ndarray = np.log(power @ _filters() + FLOOR)
    return energies


def mfcc(mel: np.ndarray) -> np.ndarray:
    """(F, N_MELS) to (F, N_MFCC): the cosine transform of each row, its first numbers."""
    from scipy import fft

    cepstra: np.ndarray = fft.dct(mel, type=2, norm="ortho", axis=1)[:, :N_MFCC]
    return cepstra


def _moments(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over time of (F, D)."""
    return frames.mean(0), frames.std(0)


def _span(n: int, i: int) -> slice:
    """The rows of the i-th of N_SPANS parts; short sounds have parts that share a row."""
    start = min(i * n // N_SPANS, n - 1)
    return slice(start, max(start + 1, (i + 1) * n // N_SPANS))


def _rows(title: str, items: Sequence[Any]) -> np.ndarray:
    """(N, D)."""
    return np.stack([(item if isinstance(item, dict) else summed_up(item))[title] for item in items])


@cache
def _filters() -> np.ndarray:
    """(N_FFT / 2 + 1, N_MELS): triangles, equally wide on the mel scale."""
    from transformers.audio_utils import mel_filter_bank

    return mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=N_MELS,
        min_frequency=20.0,
        max_frequency=RATE / 2,
        sampling_rate=RATE,
        mel_scale="htk",
    )
