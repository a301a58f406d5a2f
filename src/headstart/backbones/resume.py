"""A backbone's network that starts at a cut: what is below hands back a cached activation, what is above is trained.

The network's own forward runs. Each frozen module keeps its place and its parameters, but its `forward` returns the
activation that it was given, so that masks, positions and pooling stay the model's own business.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from headstart.backbones.base import Backbone, Enough, tensor_of

Normalisation = nn.modules.batchnorm._BatchNorm


class Resumable(nn.Module):
    """A copy of the stages from `cut` on, with the frozen ones shared; gives the pooled last stage.

    Frozen stages stay in `eval()`, and so does every batch norm: its statistics are the pretrained ones, since the
    batches of a small data set give worse ones. Only `from_scratch` everything moves.
    """

    def __init__(self, backbone: Backbone, cut: int, example: Mapping[str, Tensor], from_scratch: bool = False) -> None:
        super().__init__()
        self.backbone, self.cut, self.from_scratch = [backbone], cut, from_scratch  # in a list: not a submodule
        self.network = backbone.reinitialised() if from_scratch else _copy(backbone, cut)
        self._maps: Mapping[int, Tensor] | None = None
        self.trained_names = self._names()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in self.trained_names)
        if from_scratch:
            for module in self.network.modules():
                if isinstance(module, Normalisation):
                    module.momentum = 0.1  # a hundredth, as some networks have it, never settles in a few epochs
        self._hand_back(example)
        self.train()

    def forward(self, inputs: Mapping[str, Tensor], activation: Tensor | None = None) -> Tensor:
        """Pooled last stage (N, D), float32. With `activation`, the stages below the cut are not run."""
        return self.backbone[0].pool(self.last_stage(inputs, activation), inputs).float()

    def last_stage(self, inputs: Mapping[str, Tensor], activation: Tensor | None = None) -> Tensor:
        """The whole output of the last stage: (N, T, D) of texts and sounds, (N, C, H, W) of pictures."""
        last = self.backbone[0].n_stages - 1
        return self.whole(inputs, (last,), None if activation is None else {self.cut - 1: activation})[last]

    def whole(
        self, inputs: Mapping[str, Tensor], stages: Sequence[int], maps: Mapping[int, Tensor] | None = None
    ) -> dict[int, Tensor]:
        """The whole outputs of these stages. `maps` are those of stages below the cut, which are then not run.

        The stage below the cut must be among them, and so must every frozen one that a later stage reads by itself.
        """
        known = {stage: maps[stage] for stage in stages if maps is not None and stage in maps}
        wanted = [stage for stage in stages if stage not in known]
        if not wanted:
            return known
        found: dict[int, Tensor] = {}

        def keep(stage: int, output: Any) -> None:
            found[stage] = tensor_of(output)
            if stage == max(wanted):
                raise Enough

        hooks = [
            self.network.get_submodule(self.backbone[0].stages[stage].modules[-1]).register_forward_hook(
                lambda _module, _args, output, stage=stage: keep(stage, output)
            )
            for stage in wanted
        ]
        try:
            with self.resumed(maps), suppress(Enough):
                self.network(**inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return known | found

    @contextmanager
    def resumed(self, maps: Mapping[int, Tensor] | None) -> Iterator[None]:
        """Frozen stages hand back these maps in the block; those that nothing reads a stand-in of the same shape."""
        self._maps = maps
        try:
            yield
        finally:
            self._maps = None

    def train(self, mode: bool = True) -> Resumable:
        """Training mode above the cut only, and not for batch norms of pretrained networks."""
        super().train(mode)
        for stage in self.backbone[0].stages[: self.cut]:
            for path in (*stage.modules, *stage.shared):
                self.network.get_submodule(path).eval()
        if not self.from_scratch:
            for module in self.network.modules():
                if isinstance(module, Normalisation):
                    module.eval()
        return self

    @property
    def last(self) -> nn.Module:
        """The module whose output is pooled."""
        return self.network.get_submodule(self.backbone[0].stages[-1].modules[-1])

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """The parameters of one stage that are trained."""
        stage = self.backbone[0].stages[index]
        modules = [self.network.get_submodule(path) for path in (*stage.modules, *stage.shared)]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def _names(self) -> frozenset[str]:
        stages = self.backbone[0].stages[self.cut :]
        prefixes = tuple(f"{path}." for stage in stages for path in (*stage.modules, *stage.shared))
        return frozenset(name for name, _ in self.network.named_parameters() if name.startswith(prefixes))

    @torch.no_grad()
    def _hand_back(self, example: Mapping[str, Tensor]) -> None:
        """Let every frozen module return the activation, in the form of its own output on the example."""
        backbone = self.backbone[0]
        stage_of = {
            path: index
            for index, stage in enumerate(backbone.stages[: self.cut])
            for path in stage.modules
            if not backbone.runs_again(index)
        }
        outputs: dict[str, Any] = {}
        modules = {path: self.network.get_submodule(path) for path in stage_of}
        hooks = [
            module.register_forward_hook(lambda _m, _a, output, path=path: outputs.__setitem__(path, output))
            for path, module in modules.items()
        ]
        self.eval()
        self(example)
        for hook in hooks:
            hook.remove()
        ends = {stage.modules[-1] for stage in backbone.stages}
        for path, module in modules.items():
            stage = stage_of[path] if path in ends else None
            module.forward = HandsBack(self, module.forward, outputs[path], stage)

    def for_predictions(self, frozen: Backbone) -> Resumable:
        """Ready to predict; below the cut it holds the tensors of `frozen`, which runs those stages from now on."""
        self.backbone = [frozen]
        self.eval().requires_grad_(False)
        for path in (path for stage in frozen.stages[: self.cut] for path in stage.modules):
            own, same = self.network.get_submodule(path).modules(), frozen.network.get_submodule(path).modules()
            for module, other in zip(own, same, strict=True):
                module._parameters.update(other._parameters)
                module._buffers.update(other._buffers)
        return self

    def beside(self) -> Resumable:
        """Once more with the same tensors, for another thread."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        return copy.deepcopy(self, {id(one): one for one in (*tensors, self.backbone[0])})


class HandsBack:
    """The `forward` of a frozen module: the map that its network was given, or what it gave before."""

    def __init__(self, owner: Resumable, original: Any, output: Any, stage: int | None) -> None:
        self.owner, self.original, self.stage, self.rest = owner, original, stage, None
        self.shape = tensor_of(output).shape[1:]
        if not isinstance(output, Tensor):  # sizes and the like are the same for every example; tensors are not read
            self.rest = tuple(None if isinstance(value, Tensor) else value for value in output[1:])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """In the form of the module's own output."""
        maps = self.owner._maps
        if maps is None:
            return self.original(*args, **kwargs)
        known = None if self.stage is None else maps.get(self.stage)
        given = self.unread(maps) if known is None else known
        return given if self.rest is None else (given, *self.rest)

    def unread(self, maps: Mapping[int, Tensor]) -> Tensor:
        """What stands for an output that no later stage reads: of its shape, so that the code between does not mind."""
        if self.owner.backbone[0].modality != "image":  # of any length: the map at the cut has the right one
            return maps[self.owner.cut - 1]
        some = next(iter(maps.values()))
        return some.new_zeros(1).expand(len(some), *self.shape)


def _copy(backbone: Backbone, cut: int) -> nn.Module:
    """The network, with its own copy of what is trained; frozen tensors are shared, not copied."""
    frozen = [
        backbone.network.get_submodule(path)
        for stage in backbone.stages[:cut]
        for path in (*stage.modules, *stage.shared)
    ]
    shared = {id(p): p for module in frozen for p in module.parameters()}
    return copy.deepcopy(backbone.network, shared)
