"""Train what is above a cut, from cached activations or from the items themselves; Lightning runs the loop.

Every epoch draws its order, its dropout and its views from (seed, epoch) alone. So a run that was stopped and goes on
from the checkpoint of an epoch ends with the same weights; which stages are trained is said by the strategy each time,
never restored (Lightning's own fine-tuning callback gets that wrong: Lightning#21901).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from headstart.backbones.changes import Changes
from headstart.backbones.resume import Resumable
from headstart.data.batch import batches
from headstart.engine import loop
from headstart.engine.allocator import keep_memory
from headstart.engine.batching import Epochs, batch_of, lengths
from headstart.engine.learner import Learner
from headstart.engine.lesson import Learnt, Lesson, check, precision, resumable
from headstart.engine.restate import own_norms, restate, set_norms
from headstart.strategies.aligning import Aligning, Pair, Seen
from headstart.strategies.base import Adapted, Trained
from headstart.strategies.batch_norm import BatchNorm
from headstart.strategies.probe import column_scales
from headstart.tasks.base import LinearHead, LinearTask

TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # at which an epoch is judged


def train(strategy: Trained, lesson: Lesson) -> Learnt:
    """Train; the weights of the epoch that was best on validation are kept, or the last where the strategy says so."""
    keep_memory()
    check(strategy, lesson)
    if isinstance(strategy, BatchNorm):
        return restate(strategy, lesson)
    start = time.perf_counter()
    torch.manual_seed(lesson.seed)
    upper, lesson = resumable(strategy, lesson), own_norms(strategy, lesson)
    module = Adapting(strategy, lesson, upper)
    best = Best(module)
    rows: Any = range(len(lesson.items))
    epochs = Epochs(strategy, lesson, best.n_epochs)
    loader = DataLoader(
        rows,
        batch_sampler=epochs,
        collate_fn=lambda rows: module.collate(rows, best.n_epochs()),
        generator=torch.Generator(),  # or else it draws from the one that dropout uses
    )
    loop.run(
        module,
        loader,
        best,
        epochs=strategy.epochs,
        precision=precision(lesson.backbone),
        checkpoint=lesson.checkpoint,
    )
    module.cpu()
    module.load_state_dict(best.state, strict=False)
    changes, source_changes = strategy.changes(upper), None
    if lesson.restated is not None:
        source_changes = lesson.restated.source
        changes = Changes({**changes.tensors, **lesson.restated.target.tensors})
    adapted = Adapted(module.linear_head(), None, best.kept_loss, changes, source_changes)
    return Learnt(adapted, best.logits, tuple(best.losses), time.perf_counter() - start)


class Adapting(Learner):
    """Stages above a cut under a linear head on the standardised pooled last stage."""

    def __init__(self, strategy: Trained, lesson: Lesson, upper: Resumable) -> None:
        super().__init__(strategy, lesson, upper)
        self.lesson = lesson
        self.origin, self.scale = lesson.task.unit(lesson.y[lesson.train])
        mean, spread, linear = _first_head(strategy, lesson, upper, (self.origin, self.scale))
        self.mean: Tensor
        self.spread: Tensor
        self.class_weight: Tensor | None
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("spread", torch.from_numpy(spread))
        self.linear = linear
        self.extra = strategy.extra(*linear.weight.shape[::-1]) if isinstance(strategy, Aligning) else nn.Identity()
        self._val_batches = batches(lengths(lesson, lesson.val), lesson.backbone.batch_budget)
        weights = lesson.task.class_weights(lesson.y[lesson.train]) if strategy.class_weight else None
        self.register_buffer("class_weight", None if weights is None else torch.from_numpy(weights))

    def beside(self) -> list[nn.Parameter]:
        """The head's, and what the strategy adds."""
        return [*self.linear.parameters(), *self.extra.parameters()]

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits (N, K) in the task's unit."""
        return self.seen(batch).logits

    def seen(self, batch: Mapping[str, Any]) -> Seen:
        """What the network makes of the batch."""
        pooled = (self.upper(batch["inputs"], batch["activation"]) - self.mean) / self.spread
        return Seen(pooled, self.linear(pooled))

    def collate(self, rows: Sequence[int], epoch: int) -> dict[str, Any]:
        """A training batch of these rows; y is that of the source, which comes first."""
        batch = batch_of(self.lesson, rows, epoch, self.strategy.augment or self.strategy.views > 1)
        y = self.lesson.y[list(rows[: len(rows) // 2] if self.strategy.needs_target else rows)]
        if (self.origin, self.scale) != (0.0, 1.0):
            y = ((y - self.origin) / self.scale).astype(np.float32)
        return {"inputs": batch.inputs, "activation": batch.activation, "y": torch.as_tensor(y)}

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Mean loss of the batch; of an aligning strategy, with its domain loss."""
        y, strategy = batch["y"], self.strategy
        source, target = self.by_domain(batch, len(y))
        loss = self.lesson.task.training_loss(source.logits, y, self.class_weight).mean()
        if isinstance(strategy, Aligning):
            pair = Pair(source, target, y, progress=min(1.0, self.global_step / self.n_steps))
            with torch.autocast(self.device.type, enabled=False):
                loss = loss + strategy.domain_weight * strategy.domain_loss(pair, self.extra)
        return loss

    def by_domain(self, batch: Mapping[str, Any], n: int) -> tuple[Seen, Seen]:
        """What the network makes of the n examples of the source and of the target's behind them, in float32.

        One pass for both, unless each has statistics of its own.
        """
        parts = (slice(n), slice(n, None))
        if self.lesson.restated is None:
            seen = self.seen(batch)
            found = [Seen(seen.pooled[part], seen.logits[part]) for part in parts]
        else:
            found = []
            for part, norms in zip(parts, (self.lesson.restated.source, self.lesson.restated.target), strict=True):
                set_norms(self.upper.network, norms)
                inputs = {name: one[part] for name, one in batch["inputs"].items()}
                activation = batch["activation"]
                found.append(
                    self.seen({"inputs": inputs, "activation": None if activation is None else activation[part]})
                )
        source, target = (Seen(seen.pooled.float(), seen.logits.float()) for seen in found)
        return source, target

    @torch.no_grad()
    def val_logits(self) -> np.ndarray:
        """(n_val, K) logits in the label's own unit, in float32."""
        lesson = self.lesson
        out: np.ndarray | None = None
        self.eval()
        if lesson.restated is not None:
            set_norms(self.upper.network, lesson.restated.source)
        for index in self._val_batches:
            batch = batch_of(lesson, lesson.val[index], 0)
            moved = self.transfer_batch_to_device(
                {"inputs": batch.inputs, "activation": batch.activation}, self.device, 0
            )
            logits = self(moved).float().cpu().numpy()
            out = np.empty((len(lesson.val), logits.shape[1]), dtype=np.float32) if out is None else out
            out[index] = logits
        assert out is not None, "the val split is empty"
        return (out * self.scale + self.origin).astype(np.float32)

    def linear_head(self) -> LinearHead:
        """The head on raw features, in the label's own unit."""
        weight = self.linear.weight.detach().cpu().double().numpy() / self.spread.cpu().double().numpy()
        bias = self.linear.bias.detach().cpu().double().numpy() - weight @ self.mean.cpu().double().numpy()
        return LinearHead(
            (weight * self.scale).astype(np.float32), (bias * self.scale + self.origin).astype(np.float32)
        )


class Best(pl.Callback):
    """After each epoch: the loss on validation, the weights to keep so far, and whether to go on."""

    def __init__(self, module: Adapting) -> None:
        self.module = module
        self.patience, self.keeps_last = module.strategy.patience, module.strategy.keeps_last
        self.state: dict[str, Tensor] = {}
        self.logits = np.empty((0, 0), dtype=np.float32)
        self.losses: list[float] = []
        self.checkpoints = loop.Checkpoints(module.lesson.checkpoint)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure, keep, stop."""
        lesson = self.module.lesson
        logits = self.module.val_logits()
        loss = calibrated_loss(lesson.task, lesson.y[lesson.val], logits)
        if self.keeps_last or not self.losses or loss < min(self.losses):
            self.state = {name: value.detach().cpu().clone() for name, value in self.module.learnt().items()}
            self.logits = logits
        self.losses.append(loss)
        if not self.keeps_last and len(self.losses) - int(np.argmin(self.losses)) > self.patience:
            trainer.should_stop = True
        self.checkpoints.keep(trainer)

    @property
    def kept_loss(self) -> float:
        """The validation loss of the weights that are kept."""
        return self.losses[-1] if self.keeps_last else min(self.losses)

    def n_epochs(self) -> int:
        """How many are done; Lightning's own count is not yet right when a resumed run draws its first batch."""
        return len(self.losses)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"state": self.state, "logits": torch.from_numpy(self.logits), "losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.state, self.losses = state_dict["state"], list(state_dict["losses"])
        self.logits = state_dict["logits"].numpy()


def calibrated_loss(task: LinearTask, y: np.ndarray, logits: np.ndarray) -> float:
    """Mean loss at the best of a few temperatures: a network that has grown too sure is mended afterwards."""
    temperatures = TEMPERATURES if task.calibrated else (1.0,)
    return min(float(task.losses(y, task.scores(logits, t)).mean()) for t in temperatures)


def _first_head(
    strategy: Trained, lesson: Lesson, upper: Resumable, unit: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, nn.Linear]:
    """(mean, spread) of the pooled last stage, and the head on it: the solved probe's, or one of zeros."""
    batch = batch_of(lesson, lesson.train[:1], 0)
    with torch.no_grad():
        width = upper.eval()(batch.inputs, batch.activation).shape[1]
    mean, spread = np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32)
    n_out = lesson.head.bias.shape[0] if lesson.head is not None else max(1, len(lesson.task.score_names))
    linear = nn.Linear(width, n_out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    if strategy.from_probe and lesson.head is not None and lesson.pooled is not None:
        origin, scale = unit
        mean, spread = column_scales(lesson.pooled)
        weight, bias = lesson.head.weight.astype(np.float64), lesson.head.bias.astype(np.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight * spread / scale))
            linear.bias.copy_(torch.from_numpy((bias + weight @ mean - origin) / scale))
    return mean.astype(np.float32), spread.astype(np.float32), linear
