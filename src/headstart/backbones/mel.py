"""Log-mel spectrograms as Whisper hears them (Radford et al. 2022, arXiv:2212.04356): 100 frames a second.

The arithmetic is that of transformers' `WhisperFeatureExtractor`; each clip is scaled by its own loudest point, so that
what it gives does not depend on the batch that it is in.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from headstart.errors import MissingExtraError

RATE = 16_000  # samples a second
WINDOW, HOP = 400, 160  # samples: 25 ms, 10 ms
FLOOR, RANGE = 1e-10, 8.0  # the least power; how many powers of ten below the loudest point are told apart


def log_mel(samples: np.ndarray, n_mels: int) -> Tensor:
    """(T,) float32 at 16 kHz, T at least 201 and a multiple of 160, as (n_mels, T / 160), float32."""
    window = torch.hann_window(WINDOW)
    # through bytes of its own: an array that cannot be written to makes torch warn
    spectrum = torch.stft(torch.tensor(samples), WINDOW, HOP, window=window, return_complex=True)
    power = (spectrum[:, :-1].abs() ** 2).contiguous()  # the last frame is centred on the end
    mels = (_filters(n_mels) @ power).clamp_min(FLOOR).log10()
    return (torch.maximum(mels, mels.max() - RANGE) + 4.0) / 4.0


@cache
def _filters(n_mels: int) -> Tensor:
    """(n_mels, 201) Slaney's triangles on the mel scale."""
    try:
        from transformers.audio_utils import mel_filter_bank
    except ImportError:
        raise MissingExtraError("transformers", "audio") from None
    bank = mel_filter_bank(
        num_frequency_bins=1 + WINDOW // 2,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=RATE / 2,
        sampling_rate=RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank).float().T.contiguous()
