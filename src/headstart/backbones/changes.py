"""What training changed in a backbone: whole tensors, or low-rank updates of them (LoRA, arXiv:2106.09685).

Names are those of the network's state dict; a low-rank update of NAME is the pair NAME.lora_A (r, in) and
NAME.lora_B (out, r), its scale folded into B.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from safetensors.torch import save
from torch import Tensor, nn

from headstart.errors import BackboneError, listed

DOWN, UP = ".lora_A", ".lora_B"


@dataclass(frozen=True)
class Changes:
    """Tensors by name, on the CPU."""

    tensors: Mapping[str, Tensor]

    @cached_property
    def sha256(self) -> str:
        """Of all names and values."""
        return hashlib.sha256(save({name: one.contiguous() for name, one in self.tensors.items()})).hexdigest()

    def without(self, paths: Sequence[str]) -> Changes:
        """Those outside of these modules."""
        prefixes = tuple(f"{path}." for path in paths)
        return Changes({name: one for name, one in self.tensors.items() if not name.startswith(prefixes)})

    @torch.no_grad()
    def apply(self, network: nn.Module) -> nn.Module:
        """Change the network in place and return it. BackboneError when a tensor does not fit it."""
        own = network.state_dict()
        low_rank = {name.removesuffix(DOWN) for name in self.tensors if name.endswith(DOWN)}
        whole = {name for name in self.tensors if not name.endswith((DOWN, UP))}
        unknown = sorted((low_rank | whole) - own.keys())
        if unknown:
            raise BackboneError(f"The network lacks {len(unknown)} tensors that were adapted: {listed(unknown, 3)}.")
        for name in whole:
            own[name].copy_(self.tensors[name])
        for name in low_rank:
            update = self.tensors[name + UP].float() @ self.tensors[name + DOWN].float()
            own[name].add_(update.view_as(own[name]))
        return network
