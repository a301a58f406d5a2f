"""A head that writes characters: stages mixed, a convolution over time, and a character or a blank a frame.

What a head reads is a learnt mixture of the outputs of all stages, as SUPERB's are (Yang et al. 2021,
arXiv:2105.01051): which depth knows most of sounds is learnt rather than guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    stages: tuple[int, ...]  # whose outputs it mixes
    width: int  # numbers a frame
    n_out: int  # characters, and the blank
    hidden: int = 256
    convolutions: int = 1

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
        widths = [frames.width, *[frames.hidden] * frames.convolutions]
        self.enter = nn.LayerNorm(frames.width)
        self.over_time = nn.ModuleList(
            nn.Conv1d(width, frames.hidden, KERNEL, padding=KERNEL // 2) for width in widths[:-1]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(frames.hidden) for _ in self.over_time)
        self.drop = nn.Dropout(DROPOUT)
        self.leave = nn.Linear(widths[-1], frames.n_out)

    def forward(self, each: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Outputs (N, T, D) of each stage and the frames (N,) that count, to log-probabilities (N, T, K)."""
        there = torch.arange(each[0].shape[1], device=each[0].device) < lengths.to(each[0].device)[:, None]
        frames = self.enter(self._mixed(each))
        kept = (there & ~self._silenced(lengths, frames.shape[1])) if self.training else there
        frames = frames * kept.unsqueeze(-1)
        for convolution, norm in zip(self.over_time, self.norms, strict=True):
            over_time = convolution(frames.transpose(1, 2)).transpose(1, 2)
            frames = self.drop(nn.functional.gelu(norm(over_time))) * there.unsqueeze(-1)
        return self.leave(frames).float().log_softmax(-1)

    def _mixed(self, each: Sequence[Tensor]) -> Tensor:
        """The stages, each levelled (mean 0 and variance 1 a frame), by their learnt shares."""
        if len(each) == 1:
            return each[0].float()
        levelled = [nn.functional.layer_norm(one.float(), one.shape[-1:]) for one in each]
        return torch.stack([share * one for share, one in zip(self.mixture.softmax(0), levelled, strict=True)]).sum(0)

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
