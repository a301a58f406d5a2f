"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) on every matrix above the cut, by PEFT.

Stages below the lowest adapted one stay cached. Where transcripts are learnt, the decoder that a backbone comes with
is adapted in place of its stages (engine/decoder.py), which are then all cached. The run keeps the two factors of each
update and adds their product to the pretrained weight when it is loaded, so that no adapter library is needed to
predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from headstart.backbones.changes import DOWN, UP, Changes
from headstart.backbones.resume import Resumable
from headstart.errors import MissingExtraError, PlanError
from headstart.strategies.base import Trained, is_transposed, linear_weights, stage_range


@dataclass(frozen=True, kw_only=True)
class Lora(Trained):
    """Keep the weights; train a low-rank update of each matrix above the cut, together with the head."""

    title: ClassVar = "low-rank adapters"

    freeze: int = 0  # how many stages have no adapter and are cached, counted from the input
    rank: int = 8
    alpha: int = 16  # the update counts alpha / rank times
    decoder: bool = False  # whether the backbone's decoder gets the adapters, and no stage
    learning_rate: float = 1e-3
    head_rate: float = 1.0
    stage_decay: float = 1.0

    def check(self) -> None:
        """PlanError when a setting is out of range."""
        super().check()
        if self.rank < 1:
            raise PlanError(f"rank={self.rank}, but it must be at least 1; 8 is usual.")

    def cut(self, n_stages: int) -> int:
        """The number of stages without adapters, 0 … n_stages - 1, or all for a decoder's; PlanError otherwise."""
        return n_stages if self.decoder else stage_range("LoRA", self.freeze, 0, n_stages)

    def prepare(self, upper: Resumable) -> None:
        """Put adapters on the matrices above the cut; PlanError when there is none. A decoder gets its own later."""
        if self.decoder:
            return
        stages = upper.backbone[0].stages[upper.cut :]
        paths = [path for stage in stages for path in stage.modules]
        names = [name for path in paths for name in linear_weights(upper.network.get_submodule(path), path)]
        if not names:
            raise PlanError("No stage above the cut holds a matrix to adapt. Freeze fewer stages, or use 'partial'.")
        self.put_on(upper.network, names)
        for name, parameter in upper.network.named_parameters():
            parameter.requires_grad_("lora_" in name)

    def put_on(self, network: nn.Module, names: Sequence[str]) -> None:
        """Put adapters on these matrices of a network."""
        library = peft()
        transposed = any(is_transposed(network.get_submodule(name)) for name in names)
        settings = library.LoraConfig(
            r=self.rank, lora_alpha=self.alpha, target_modules=list(names), bias="none", fan_in_fan_out=transposed
        )
        library.inject_adapter_in_model(settings, network)
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()  # small steps would be lost in the type of a frozen weight

    def changes(self, upper: Resumable) -> Changes:
        """The two factors of each update, its scale folded into the second."""
        found = {}
        for name, module in upper.network.named_modules():
            if hasattr(module, "lora_A") and "default" in module.lora_A:
                adapter: Any = module
                down = adapter.lora_A["default"].weight.detach().flatten(1)
                up = adapter.scaling["default"] * adapter.lora_B["default"].weight.detach().flatten(1)
                if is_transposed(adapter.get_base_layer()):
                    down, up = up.t(), down.t()
                found[f"{name}.weight{DOWN}"] = down.cpu().contiguous().clone()
                found[f"{name}.weight{UP}"] = up.cpu().contiguous().clone()
        return Changes(found)


def peft() -> Any:
    """The library of adapters."""
    try:
        import peft as library
    except ImportError:
        raise MissingExtraError("peft", "lora") from None
    return library
