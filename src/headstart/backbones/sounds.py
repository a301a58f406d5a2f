"""What all backbones of sounds share: length is the clip's own, padding is masked, and a pass can be resumed blindly.

An opened sound is (T,) float32 at 16 kHz. What it gives does not depend on what else is in its batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.base import Backbone, Provenance, Stage, tensor_of
from headstart.backbones.mel import RATE


class Sounds(Backbone):
    """A backbone whose keyword arguments hold an `attention_mask` (N, T) over the frames that it hands on."""

    modality = "audio"
    compiles = False

    def __init__(
        self,
        network: nn.Module,
        stages: Sequence[Stage],
        provenance: Provenance,
        preprocessing: Mapping[str, Any],
        folder: Path,
    ) -> None:
        super().__init__(network, stages, provenance, preprocessing)
        self.folder = folder  # of its files: settings, tokenizer, and a decoder where it has one

    @abstractmethod
    def frames(self, n_samples: int) -> int:
        """How many frames the network hands on for a clip of so many samples."""

    def lengths(self, items: Sequence[np.ndarray]) -> list[int]:
        """Frames of each clip; of an item only the shape (T,) is looked at."""
        return [self.frames(item.shape[0]) for item in items]

    def placeholders(self, items: Sequence[Any], kept: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """The mask alone, from the lengths of what was kept (T_i, D): no clip is decoded again."""
        if kept is None or self.rereads:
            return self.collate(items)
        return {"input": torch.zeros(len(kept), 0), "attention_mask": mask_of([len(one) for one in kept])}

    def example(self) -> dict[str, Tensor]:
        """Half a second of silence."""
        return self.collate([np.zeros(RATE // 2, dtype=np.float32)])

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, T, D) to the mean (N, D) over each clip's own frames."""
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        return (tensor_of(output).float() * mask).sum(1) / mask.sum(1)

    def reinitialised(self) -> nn.Module:
        """A network of the same settings, initialised as its authors do."""
        network: Any = self.network
        return type(network)(network.config)


def mask_of(lengths: Sequence[int]) -> Tensor:
    """(N, longest) int64: 1 where a clip has a frame, 0 where its batch is padded."""
    return (torch.arange(max(lengths)) < torch.tensor(list(lengths))[:, None]).long()


def attended(mask: Tensor) -> Tensor | None:
    """(N, T) as what attention may look at, (N, 1, 1, T); None where nothing is padded, which is faster."""
    return None if bool(mask.all()) else mask[:, None, None, :].bool()
