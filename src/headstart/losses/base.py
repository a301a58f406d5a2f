"""A loss that needs no labels: what a backbone goes on pretraining by, on examples of a new domain alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from headstart.backbones.base import Backbone, Located
from headstart.backbones.resume import Resumable
from headstart.errors import PlanError, listed


@dataclass(frozen=True)
class View:
    """A batch of N examples: keyword arguments of the network, and the activation at the cut where it is cached."""

    inputs: dict[str, Tensor]
    activation: Tensor | None = None


@dataclass(frozen=True)
class Terms:
    """A loss over U units: examples, or one batch where its examples are compared with one another."""

    sums: Tensor  # (U,)
    counts: Tensor  # (U,) how much each sum is made of; 0 where a unit has nothing to say
    beside: Tensor | float = 0.0  # a scalar that training adds, and that is not reported

    @property
    def mean(self) -> Tensor:
        """Scalar: the loss that is reported."""
        return self.sums.sum() / self.counts.sum().clamp(min=1)


class Learner(nn.Module, ABC):
    """The stages above a cut under what a loss puts on them, which is dropped afterwards.

    Everything random is drawn from torch's global generator on the CPU, so that a seed decides it on every device.
    """

    def __init__(self, upper: Resumable) -> None:
        super().__init__()
        self.upper = upper

    @abstractmethod
    def forward(self, views: Sequence[View]) -> Terms:
        """The loss of one batch, in so many views as the loss asks for."""

    def meet(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Look at some of the inputs before training; nothing is learnt by gradient."""

    def head_parameters(self) -> list[nn.Parameter]:
        """What is trained besides the backbone."""
        return [p for name, p in self.named_parameters() if not name.startswith("upper.") and p.requires_grad]


@dataclass(frozen=True, kw_only=True)
class Loss(ABC):
    """Settings of one way to go on pretraining. One public subclass a file, named after the file."""

    title: ClassVar[str]  # for people: "masked language modelling"
    modality: ClassVar[str]  # of the backbones that it is for
    unit: ClassVar[str]  # what the reported loss is a mean over: "masked token"
    n_views: ClassVar[int] = 1  # of each example in a batch
    augments: ClassVar[bool] = False  # whether views are random ones
    caches: ClassVar[bool] = True  # whether what is below the cut may run once: it sees the plain item, or a few views

    freeze: int | None = None  # stages, counted from the input; None is what measured best
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 2e-5  # of the last stage at the peak
    head_rate: float = 1e-3  # of what the loss puts on the network
    stage_decay: float = 1.0  # each stage's rate is so many times that of the one above it
    weight_decay: float = 0.01
    warm_up: float = 0.1  # share of the steps in which the head learns alone

    @abstractmethod
    def default_freeze(self, n_stages: int) -> int:
        """How many stages are frozen where nothing is said."""

    @abstractmethod
    def learner(self, upper: Resumable, backbone: Backbone, located: Located) -> Learner:
        """The stages above the cut, ready to learn. PlanError when this network cannot learn so."""

    @property
    def n_cached(self) -> int:
        """How many views of each item are kept at the cut: the plain one alone, unless views are random."""
        return 1

    def cut(self, n_stages: int) -> int:
        """Index of the first trained stage. PlanError when out of range."""
        if self.freeze is None:
            return self.default_freeze(n_stages)
        if not 0 <= self.freeze < n_stages:
            raise PlanError(
                f"freeze={self.freeze}, but this backbone has {n_stages} stages, and at least one must learn. "
                f"Pass a value from 0 to {n_stages - 1}."
            )
        return self.freeze

    def rates(self, n_stages: int) -> list[float]:
        """The peak learning rate of every stage, 0.0 below the cut."""
        cut = self.cut(n_stages)
        return [
            0.0 if index < cut else self.learning_rate * self.stage_decay ** (n_stages - 1 - index)
            for index in range(n_stages)
        ]

    def settings(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def check(self, backbone: Backbone) -> None:
        """PlanError when a setting is out of range, or the backbone takes something else."""
        if backbone.modality != self.modality:
            raise PlanError(
                f"{self.title} is a loss for {self.modality} backbones, but {backbone.provenance.name} is one for "
                f"{backbone.modality}. Leave --loss out, or name another."
            )
        small = [name for name in ("epochs", "batch_size") if getattr(self, name) < 1]
        if small:
            raise PlanError(f"{listed(small)} must be at least 1.")
        self.cut(backbone.n_stages)
