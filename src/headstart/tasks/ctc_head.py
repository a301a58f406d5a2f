"""A head that writes characters: convolutions over the frames of a stage, and a character or a blank a frame.

On frozen frames of the last stage two convolutions made a third of the errors of a linear layer. A recurrent layer of
half the width took more than twice as long a step, and was not trained to its end (docs/log.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headstart.tasks.ctc import BLANK

DROPOUT = 0.1
KERNEL = 5  # frames
MASKS, MASK_FRAMES, MASK_SHARE = 2, 20, 0.25  # spans silenced in training: how many, frames each, of the clip at most


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What a head reads and writes."""

    stage: int  # whose outputs it reads
    width: int  # numbers a frame
    n_out: int  # characters, and the blank
    hidden: int = 256
    convolutions: int = 2

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Frames:
        """The inverse of `to_json`."""
        return cls(**saved)


class CtcHead(nn.Module):
    """Frames of a stage to log-probabilities of characters."""

    def __init__(self, frames: Frames) -> None:
        super().__init__()
        self.frames = frames
        widths = [frames.width, *[frames.hidden] * frames.convolutions]
        self.enter = nn.LayerNorm(frames.width)
        self.over_time = nn.ModuleList(
            nn.Conv1d(width, frames.hidden, KERNEL, padding=KERNEL // 2) for width in widths[:-1]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(frames.hidden) for _ in self.over_time)
        self.drop = nn.Dropout(DROPOUT)
        self.leave = nn.Linear(widths[-1], frames.n_out)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Outputs (N, T, D) of the stage and the frames (N,) that count, to log-probabilities (N, T, K)."""
        there = torch.arange(frames.shape[1], device=frames.device) < lengths.to(frames.device)[:, None]
        frames = self.enter(frames.float())
        kept = (there & ~self._silenced(lengths, frames.shape[1])) if self.training else there
        frames = self.drop(frames * kept.unsqueeze(-1))
        for convolution, norm in zip(self.over_time, self.norms, strict=True):
            over_time = self.drop(nn.functional.gelu(norm(convolution(frames.transpose(1, 2)).transpose(1, 2))))
            own = frames if frames.shape == over_time.shape else 0.0
            frames = (own + over_time) * there.unsqueeze(-1)
        return self.leave(frames).float().log_softmax(-1)

    @staticmethod
    def _silenced(lengths: Tensor, longest: int) -> Tensor:
        """(N, T) spans of frames to leave out in training (SpecAugment, Park et al. 2019, arXiv:1904.08779)."""
        most = (lengths * MASK_SHARE).long().clamp(max=MASK_FRAMES)[:, None]
        sizes = (torch.rand(len(lengths), MASKS, device=lengths.device) * (most + 1)).long()
        starts = (torch.rand(len(lengths), MASKS, device=lengths.device) * (lengths[:, None] - sizes + 1)).long()
        frame = torch.arange(longest, device=lengths.device)
        return ((frame >= starts[..., None]) & (frame < (starts + sizes)[..., None])).any(1)

    def loss(self, log_probs: Tensor, lengths: Tensor, texts: Tensor, n_characters: Tensor) -> Tensor:
        """Mean loss a character of a batch; an utterance too short for its text teaches nothing."""
        losses = nn.functional.ctc_loss(
            log_probs.transpose(0, 1), texts, lengths, n_characters, BLANK, reduction="none", zero_infinity=True
        )
        return (losses / n_characters.clamp(min=1)).mean()
