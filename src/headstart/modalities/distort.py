"""A sound as another speaker, in another place, might have made it: faster or slower, with gaps in time and frequency.

Speed changes are those of Ko et al. 2015 (Interspeech); the gaps are SpecAugment's (Park et al. 2019,
arXiv:1904.08779), made in the samples, so that every network can be given them.
"""

from __future__ import annotations

import numpy as np

from headstart.modalities.waves import RATE, resampled

SPEED = (0.9, 1.1)
N_GAPS = 2  # in time, and as many bands in frequency
GAP_SHARE = 0.05  # of the length, at most, that one gap takes
GAP_S = 0.5  # seconds, at most, that one gap takes
BAND_SHARE = 0.1  # of the mel scale, at most, that one band takes
FADE_HZ = 20.0  # over which a band begins and ends, so that it does not ring


def distorted(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A changed copy (T',) of samples (T,); `rng` alone decides how."""
    changed = faster(samples, float(rng.uniform(*SPEED)))
    changed = without_bands(changed, [band(rng) for _ in range(N_GAPS)])
    for start, end in (gap(len(changed), rng) for _ in range(N_GAPS)):
        changed[start:end] = 0
    return changed


def faster(samples: np.ndarray, speed: float) -> np.ndarray:
    """(T,) to (T / speed,): all frequencies go up by `speed` too, as when a record turns faster."""
    return resampled(samples, round(RATE * speed), RATE).astype(np.float32, copy=True)


def gap(n: int, rng: np.random.Generator) -> tuple[int, int]:
    """First sample of a silenced span, and the one after its last."""
    length = int(rng.uniform(0, min(GAP_SHARE * n, GAP_S * RATE)))
    start = int(rng.integers(0, n - length, endpoint=True))
    return start, start + length


def band(rng: np.random.Generator) -> tuple[float, float]:
    """Lowest and highest frequency (Hz) of a removed band, drawn on the mel scale."""
    top = _mel(RATE / 2)
    width = rng.uniform(0, BAND_SHARE * top)
    low = rng.uniform(0, top - width)
    return _hertz(low), _hertz(low + width)


def without_bands(samples: np.ndarray, bands: list[tuple[float, float]]) -> np.ndarray:
    """The same samples (T,) without what lies in these bands."""
    from scipy import fft

    n = fft.next_fast_len(len(samples), real=True)
    spectrum = fft.rfft(samples, n)
    hertz = fft.rfftfreq(n, 1 / RATE)
    for low, high in bands:
        outside = np.maximum(low - hertz, hertz - high) / FADE_HZ  # 0 at the band's edge, 1 where all is kept
        spectrum *= np.clip(outside, 0, 1)
    kept: np.ndarray = fft.irfft(spectrum, n)[: len(samples)].astype(np.float32)
    return kept


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: float) -> float:
    return float(700 * (10 ** (mel / 2595) - 1))
