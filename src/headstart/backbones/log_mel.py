"""Log-mel spectrograms as if they were a network: what a head can do with sounds when nothing was pretrained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.base import Located, Provenance, Stage
from headstart.backbones.mel import HOP, log_mel
from headstart.backbones.sounds import Sounds, mask_of

N_MELS = 80
STACKED = 2  # mel frames a frame, so that there are as many as a network hands on
NAME = "log-mel"


class LogMel(Sounds):
    """Two mel frames of 10 ms side by side, 20 ms each; one stage, without a weight."""

    def __init__(self) -> None:
        settings = {"n_mels": N_MELS, "stacked": STACKED}
        sha256 = hashlib.sha256(f"{NAME} {sorted(settings.items())}".encode()).hexdigest()
        provenance = Provenance(name=NAME, source="computed", licence="none", sha256=sha256, n_parameters=0)
        super().__init__(_Spectrogram(), [Stage(name=NAME, modules=("frames",))], provenance, settings, Path())

    @classmethod
    def load(cls, located: Located) -> LogMel:
        """There is nothing to load."""
        return cls()

    @property
    def dtype(self) -> str:
        """It has no weights, and computes in float32."""
        return "float32"

    @property
    def batch_budget(self) -> int:
        """Frames, padding counted."""
        return 6000

    def frames(self, n_samples: int) -> int:
        """One for 20 ms, rounded up."""
        return max(1, -(-n_samples // (STACKED * HOP)))

    def collate(self, items: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """`input` (N, T, mels × stacked) and `attention_mask` (N, T)."""
        each = []
        for item in items:
            n_samples = self.frames(len(item)) * STACKED * HOP
            mels = log_mel(np.pad(np.asarray(item, dtype=np.float32), (0, n_samples - len(item))), N_MELS)
            each.append(mels.T.reshape(-1, STACKED * N_MELS))
        padded = nn.utils.rnn.pad_sequence(each, batch_first=True)
        return {"input": padded, "attention_mask": mask_of([len(one) for one in each])}


class _Spectrogram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Identity()

    def forward(self, input: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, T, D) as it is."""
        return torch.as_tensor(self.frames(input))
