"""Train a head that cannot be solved, and what is above a cut; from cached outputs or from items. Lightning loops.

A head that was trained alone is where training of the stages below it starts from (LP-FT, Kumar et al. 2022,
arXiv:2202.10054). What is kept is an average of the weights over the last steps (Polyak & Juditsky 1992), which finds
boxes better than the last step's own, and spares looking at validation in every epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from headstart.backbones.resume import Resumable
from headstart.engine import loop
from headstart.engine.allocator import keep_memory
from headstart.engine.batching import Epochs
from headstart.engine.learner import Learner
from headstart.engine.lesson import Taught, precision, resumable
from headstart.engine.trials import Trainee
from headstart.strategies.base import Trained

AVERAGED = 0.98  # of the average stays in every step, once there were many
LONGEST_GRADIENT = 10.0


class Examples(Taught, Protocol):
    """What a head learns from: pictures with boxes, sounds with transcripts."""

    @property
    def head(self) -> Mapping[str, Tensor] | None:
        """A trained head to start from."""

    @property
    def draws(self) -> bool:
        """Whether a batch is drawn at random though items are plain: some of what each holds."""

    @property
    def checkpoint(self) -> Path | None:
        """File to go on from, and to keep now and then."""

    def batch(self, rows: Sequence[int] | np.ndarray, draw: Sequence[np.random.Generator] | None = None) -> Any:
        """A batch with `inputs`, `maps` and `truth`: plain items, or each in a view that its generator draws."""


def train_head(
    strategy: Trained,
    examples: Examples,
    build: Callable[[Resumable], Any],
    learner: type[HeadLearner] | None = None,
) -> Trainee:
    """Train what `build` puts on the network above the cut; what is random is drawn from (seed, epoch, row) alone.

    What is built has a `head`, takes (inputs, maps), and has a `loss` of what it gives and of the batch's `truth`;
    unless a `learner` of its own does with both what it likes.
    """
    keep_memory()
    start = time.perf_counter()
    torch.manual_seed(examples.seed)
    upper = resumable(strategy, examples)
    network = build(upper)
    if examples.head is not None:
        network.head.load_state_dict(dict(examples.head))
    module = (learner or HeadLearner)(strategy, examples, upper, network)
    average = Average(module)
    rows: Any = range(len(examples.items))
    loader = DataLoader(
        rows,
        batch_sampler=Epochs(strategy, examples, average.n_epochs),
        collate_fn=lambda rows: module.collate(rows, average.n_epochs()),
        generator=torch.Generator(),  # or else it draws from the one that dropout uses
    )
    loop.run(
        module,
        loader,
        average,
        epochs=strategy.epochs,
        precision=precision(examples.backbone),
        checkpoint=examples.checkpoint,
        clip=LONGEST_GRADIENT,
    )
    module.cpu()
    module.load_state_dict(average.state, strict=False)
    head = {name: one.detach().clone() for name, one in module.network.head.state_dict().items()}
    cut = strategy.cut(examples.backbone.n_stages)
    changes = strategy.changes(upper) if cut < examples.backbone.n_stages else None
    return Trainee(head, changes, time.perf_counter() - start)


class HeadLearner(Learner):
    """Stages above a cut under a head that cannot be solved."""

    def __init__(self, strategy: Trained, examples: Examples, upper: Resumable, network: Any) -> None:
        super().__init__(strategy, examples, upper)
        self.examples, self.network = examples, network

    def beside(self) -> list[nn.Parameter]:
        """The head's."""
        return list(self.network.head.parameters())

    def collate(self, rows: Sequence[int], epoch: int) -> Any:
        """A training batch of these rows, each in a view drawn for it and for this epoch."""
        moves = self.strategy.augment or self.strategy.views > 1 or self.examples.draws
        draw = [np.random.default_rng([self.examples.seed, epoch, int(row)]) for row in rows]
        return self.examples.batch(rows, draw if moves else None)

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Mean loss of the batch."""
        raw = self.network(batch.inputs, batch.maps)
        with torch.autocast(self.device.type, enabled=False):
            return self.network.loss(raw, batch.truth)


class Average(pl.Callback):
    """The running average of what is trained, and the checkpoints."""

    def __init__(self, module: HeadLearner) -> None:
        self.module = module
        self.state: dict[str, Tensor] = {}
        self.n_steps = self.epochs_done = 0
        self.checkpoints = loop.Checkpoints(module.examples.checkpoint)

    def n_epochs(self) -> int:
        """How many are done; Lightning's own count is not yet right when a resumed run draws its first batch."""
        return self.epochs_done

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Move the average towards the weights."""
        now, self.n_steps = self.module.learnt(), self.n_steps + 1
        kept = min(AVERAGED, self.n_steps / (self.n_steps + 10))
        if not self.state:
            self.state = {name: one.detach().clone() for name, one in now.items()}
        for name, one in now.items():
            if one.is_floating_point():
                self.state[name].lerp_(one.detach(), 1 - kept)
            else:
                self.state[name].copy_(one)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count, and keep a checkpoint now and then."""
        self.epochs_done += 1
        self.checkpoints.keep(trainer)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"state": self.state, "n_steps": self.n_steps, "n_epochs": self.epochs_done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.state, self.n_steps, self.epochs_done = (state_dict[name] for name in ("state", "n_steps", "n_epochs"))
