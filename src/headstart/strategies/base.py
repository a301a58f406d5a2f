"""A strategy is what learns: where it cuts the backbone, what it trains, which loss it adds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from headstart.backbones.changes import Changes
from headstart.backbones.resume import Resumable
from headstart.errors import PlanError
from headstart.tasks.base import LinearHead


@dataclass(frozen=True)
class Part:
    """One split as a strategy sees it: features of the last frozen stage, and labels."""

    features: Any  # (N, D) float32 array, or a sparse matrix for classical features
    y: np.ndarray
    weights: np.ndarray | None = None  # (N,) how much each example counts; None is all the same
    variants: tuple[np.ndarray, ...] = ()  # (N, D) features of the same examples in other forms, that teach too
    groups: np.ndarray | None = None  # (N,) which belong together, and must not be torn apart by a cross-validation


@dataclass(frozen=True)
class Adapted:
    """What a strategy learnt."""

    head: LinearHead
    strength: float | None  # regularisation strength that validation chose; None for a head that was trained
    val_loss: float  # mean loss on validation
    changes: Changes | None = None  # what it changed in the backbone
    source_changes: Changes | None = None  # what takes the place of some of them where the source domain is read

    def changes_for(self, source: bool) -> Changes | None:
        """What differs from the pretrained network where the source domain is read, or any other examples."""
        if not source or self.changes is None or self.source_changes is None:
            return self.changes
        return Changes({**self.changes.tensors, **self.source_changes.tensors})


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """Settings of one way to learn. One public subclass a file, named after the file."""

    title: ClassVar[str]  # for people: "linear probe"
    needs_target: ClassVar[bool] = False  # whether it learns from the unlabelled examples of a target domain too

    @abstractmethod
    def cut(self, n_stages: int) -> int:
        """Index of the first trained stage; everything below it runs once. PlanError when out of range."""

    def settings(self) -> dict[str, Any]:
        """What makes this strategy again, as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Trained(Strategy):
    """A strategy that trains stages of the backbone by gradient descent; the settings of the training.

    AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) under a one-cycle schedule (Smith & Topin 2017,
    arXiv:1708.07120), from a solved probe's head: what is pretrained is not torn by a random one (LP-FT, Kumar et al.
    2022, arXiv:2202.10054).
    """

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 1e-4  # of the last stage at the peak
    head_rate: float = 10.0  # the head's rate is so many times that of the last stage
    stage_decay: float = 0.9  # each stage's rate is so many times that of the one above it (ULMFiT, arXiv:1801.06146)
    weight_decay: float = 0.01
    patience: int = 3  # epochs in a row that may be no better on validation before training ends
    class_weight: str | None = None  # "balanced": every class counts the same, however many examples it has
    augment: bool = False  # a new random view of each example in every epoch (cut 0), or one of `views` cached ones
    views: int = 1  # cached views of each example below the cut, the plain one among them

    from_probe: ClassVar[bool] = True  # whether the head starts as the solved probe
    from_scratch: ClassVar[bool] = False  # whether the backbone starts with random weights
    keeps_last: ClassVar[bool] = False  # whether the last epoch is kept, not the one that is best on validation
    backward_cost: ClassVar[float] = 2.0  # of the way back above the cut, in forward passes; of adapters too

    def prepare(self, upper: Resumable) -> None:
        """Change the network in place before it is trained; what is trained has `requires_grad`."""

    def suits(self, network: nn.Module) -> bool:
        """Whether it can do anything with this network."""
        return True

    def rates(self, n_stages: int) -> list[float]:
        """The peak learning rate of every stage, 0.0 below the cut."""
        cut = self.cut(n_stages)
        return [
            0.0 if index < cut else self.learning_rate * self.stage_decay ** (n_stages - 1 - index)
            for index in range(n_stages)
        ]

    def trains(self, stage: int, n_stages: int, epoch: int) -> bool:
        """Whether a stage above the cut is trained in this epoch; all are, unless they are unfrozen one by one."""
        return True

    def changes(self, upper: Resumable) -> Changes:
        """What was learnt above the cut, as a run folder keeps it."""
        state = upper.network.state_dict()
        return Changes({name: state[name].detach().cpu().clone() for name in sorted(upper.trained_names)})

    def check(self) -> None:
        """PlanError when a setting is out of range."""
        for name, low in (("epochs", 1), ("batch_size", 1), ("views", 1), ("patience", 1)):
            if getattr(self, name) < low:
                raise PlanError(f"{name}={getattr(self, name)}, but it must be at least {low}.")
        if not 0 < self.learning_rate < 1:
            raise PlanError(f"learning_rate={self.learning_rate}, but it must be between 0 and 1; 1e-4 is usual.")
        if self.class_weight not in (None, "balanced"):
            raise PlanError(f"class_weight={self.class_weight!r} is not known. Give 'balanced', or nothing.")

    def __post_init__(self) -> None:
        self.check()


def stage_range(name: str, value: int, low: int, n_stages: int) -> int:
    """A cut that a user chose; PlanError unless it is one of low … n_stages - 1."""
    if not low <= value < n_stages:
        raise PlanError(
            f"freeze={value}, but {name} on this backbone of {n_stages} stages can freeze {low} to {n_stages - 1} of "
            f"them. Pass such a value, or --strategy probe to freeze all."
        )
    return value


def linear_weights(module: nn.Module, prefix: str) -> list[str]:
    """Names of the submodules whose weight is a matrix: linear layers, GPT-2's too, and convolutions of one pixel."""
    return [
        f"{prefix}.{name}" if name else prefix
        for name, one in module.named_modules()
        if isinstance(one, nn.Linear)
        or is_transposed(one)
        or (isinstance(one, nn.Conv2d) and one.kernel_size == (1, 1) and one.groups == 1)
    ]


def is_transposed(module: nn.Module) -> bool:
    """Whether it is a linear layer as GPT-2 has them, whose weight is (in, out)."""
    return type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils"
