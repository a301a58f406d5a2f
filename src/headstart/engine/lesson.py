"""What a strategy learns from and what comes of it: the lesson, the network above the cut, the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from headstart import registry
from headstart.backbones.base import Backbone
from headstart.backbones.changes import Changes
from headstart.backbones.resume import Resumable
from headstart.engine.fastest import allowed_precision
from headstart.engine.features import Activations
from headstart.errors import PlanError
from headstart.modalities.base import Modality
from headstart.strategies.base import Adapted, Part, Trained
from headstart.tasks.base import LinearHead, LinearTask

N_EXAMPLES = 2  # that show a network's forms


@dataclass(frozen=True)
class Restated:
    """Batch-norm statistics of both domains, and the source as its own show it."""

    source: Changes
    target: Changes
    head: Adapted  # solved on `train`, its strength chosen on `val`
    train: Part
    val: Part


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a strategy learns from. Rows index `items`, `y` and the activations alike."""

    backbone: Backbone
    modality: Modality
    task: LinearTask
    items: Sequence[Any]  # N stored items
    y: np.ndarray  # (N, …) encoded labels
    train: np.ndarray  # rows that teach
    val: np.ndarray  # rows that choose
    target: np.ndarray | None = None  # rows of the target domain; their y is never read
    seed: int = 0
    head: LinearHead | None = None  # a solved probe on the pooled last stage
    pooled: np.ndarray | None = None  # (n_train, D) pooled last stage of the pretrained network on train
    views: tuple[Activations, ...] = ()  # activations at the cut, the plain ones first; empty: items are run each time
    restated: Restated | None = None  # batch norms at this cut, where they were measured already
    checkpoint: Path | None = None  # file to go on from, and to keep after each epoch


@dataclass(frozen=True)
class Learnt:
    """A trained model, and what validation saw of it."""

    adapted: Adapted
    val_logits: np.ndarray  # (n_val, K)
    val_losses: tuple[float, ...]  # after each epoch
    seconds: float


class Taught(Protocol):
    """What every lesson holds, of labels or of boxes."""

    @property
    def backbone(self) -> Backbone:
        """The pretrained network."""

    @property
    def modality(self) -> Modality:
        """What comes in."""

    @property
    def items(self) -> Sequence[Any]:
        """N stored items."""

    @property
    def train(self) -> np.ndarray:
        """Rows that teach."""

    @property
    def target(self) -> np.ndarray | None:
        """Unlabelled rows of another domain; None where there is none."""

    @property
    def seed(self) -> int:
        """Of all that is random."""


def check(strategy: Trained, lesson: Lesson) -> None:
    """PlanError where the strategy asks for a target that the lesson lacks, or for classes."""
    if not strategy.needs_target:
        return
    name = registry.plugin_name(strategy)
    if lesson.target is None or len(lesson.target) == 0:
        raise PlanError(f"{name} needs an unlabelled target: name it with --to.")
    if registry.plugin_name(lesson.task) != "classification":
        raise PlanError(f"{name} aligns domains for one label of several, but this task is {lesson.task.title}.")


def resumable(strategy: Trained, lesson: Taught) -> Resumable:
    """The network above the strategy's cut, ready to be trained."""
    backbone = lesson.backbone
    few = [lesson.modality.open(lesson.items[row], backbone.detail) for row in lesson.train[:N_EXAMPLES]]
    upper = Resumable(backbone, strategy.cut(backbone.n_stages), backbone.collate(few), strategy.from_scratch)
    strategy.prepare(upper)
    return upper


def precision(backbone: Backbone) -> Any:
    """Lightning's word for the arithmetic of training: bfloat16 where the processor has it and it pays, else float32.

    Transformers train twice as fast in it, to the same score; convolutions do not, on a CPU.
    """
    if backbone.modality == "image" and not torch.cuda.is_available():
        return "32-true"
    able = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if able and allowed_precision() != "float32" else "32-true"
