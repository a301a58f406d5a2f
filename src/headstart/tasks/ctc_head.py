"""A head that writes characters: stages mixed, a recurrent layer over time, and a character or a blank a frame.

What a head reads is a learnt mixture of the outputs of all stages, as SUPERB's are (Yang et al. 2021,
arXiv:2105.01051): which depth knows most of sounds is learnt rather than guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from headstart.tasks.ctc import BLANK

DROPOUT = 0.2
MASKS, MASK_FRAMES, MASK_SHARE = 2, 10, 0.2  # spans that are silenced in training, frames each, of the text at most


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What a head reads and writes."""

    stages: tuple[int, ...]  # whose outputs it mixes
    width: int  # numbers a frame
    n_out: int  # characters, and the blank
    hidden: int = 192  # of each direction of the recurrent layer

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "stages": list(self.stages)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Frames:
        """The inverse of `to_json`."""
        return cls(**{**saved, "stages": tuple(saved["stages"])})


class CtcHead(nn.Module):
    """Frames of several stages to log-probabilities of characters."""

    def __init__(self, frames: Frames) -> None:
        super().__init__()
        self.frames = frames
        self.mixture = nn.Parameter(torch.zeros(len(frames.stages)))
        self.enter = nn.Linear(frames.width, frames.hidden)
        self.drop = nn.Dropout(DROPOUT)
        self.over_time = nn.LSTM(frames.hidden, frames.hidden, batch_first=True, bidirectional=True)
        self.leave = nn.Linear(2 * frames.hidden, frames.n_out)

    def forward(self, each: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Outputs (N, T, D) of each stage and the frames (N,) that count, to log-probabilities (N, T, K)."""
        share = self.mixture.softmax(0)
        mixed = sum(
            w * nn.functional.layer_norm(one.float(), one.shape[-1:]) for w, one in zip(share, each, strict=True)
        )
        entered = self.drop(nn.functional.gelu(self.enter(self._masked(mixed, lengths))))
        packed = pack_padded_sequence(entered, lengths.cpu(), batch_first=True, enforce_sorted=False)
        over, _ = pad_packed_sequence(self.over_time(packed)[0], batch_first=True, total_length=entered.shape[1])
        return self.leave(self.drop(over)).log_softmax(-1)

    def _masked(self, mixed: Tensor, lengths: Tensor) -> Tensor:
        """In training, with spans of frames silenced (SpecAugment, Park et al. 2019, arXiv:1904.08779)."""
        if not self.training:
            return mixed
        kept = torch.ones(mixed.shape[:2], dtype=torch.bool)
        for row, n in enumerate(lengths.tolist()):
            for _ in range(MASKS):
                most = min(MASK_FRAMES, int(MASK_SHARE * n / MASKS))
                size = int(torch.randint(0, most + 1, ()))
                start = int(torch.randint(0, max(1, n - size), ()))
                kept[row, start : start + size] = False
        return mixed * kept.unsqueeze(-1).to(mixed.device)

    def loss(self, log_probs: Tensor, lengths: Tensor, texts: Tensor, n_characters: Tensor) -> Tensor:
        """Mean loss a character of a batch; an utterance too short for its text teaches nothing."""
        losses = nn.functional.ctc_loss(
            log_probs.transpose(0, 1), texts, lengths, n_characters, BLANK, reduction="none", zero_infinity=True
        )
        return (losses / n_characters.clamp(min=1)).mean()
