"""Go on pretraining the stages above a cut by a loss that needs no labels; Lightning runs the loop.

Training is a list of steps: which examples, which views, dropout and masks are drawn from (seed, step) alone. Lightning
sees it as rounds of some steps, after each of which a checkpoint may be kept, so that a run that was stopped goes on
and ends with the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from headstart.backbones.changes import Changes
from headstart.backbones.resume import Resumable
from headstart.engine import loop
from headstart.engine.allocator import keep_memory
from headstart.engine.corpus import HELD, NOISE, ROUND, START, AsIs, Corpus, Steps, moved
from headstart.engine.learner import EPSILON, one_cycle
from headstart.engine.lesson import precision
from headstart.losses.base import Learner, Loss, View

LEAST_UNITS, LEAST_HELD = 10, 16  # batches that are held out, and pictures in one, where a batch is what is measured
MET, AT_ONCE = 4096, 64  # examples that a learner may look at before it learns
TIMED = 3  # steps that show how long one takes


@dataclass(frozen=True)
class Measured:
    """A loss on what was held out: sums (U,) and counts (U,) over its units."""

    sums: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        """The loss."""
        return float(self.sums.sum() / max(1.0, self.counts.sum()))


@dataclass(frozen=True)
class Outcome:
    """What going on changed, and the loss on what was held out: once the head had learnt, and in the end."""

    changes: Changes
    before: Measured
    after: Measured
    losses: tuple[float, ...]  # mean of each round's steps
    n_steps: int
    seconds: float


class GoingOn(pl.LightningModule):
    """A learner under AdamW and one cycle; its head learns alone at first."""

    strict_loading = False  # checkpoints hold what is trained, and nothing else

    def __init__(self, loss: Loss, corpus: Corpus, learner: Learner, n_steps: int) -> None:
        super().__init__()
        self.loss, self.corpus, self.learner, self.n_steps = loss, corpus, learner, n_steps
        self.alone = round(loss.warm_up * n_steps) if learner.head_parameters() else 0
        self.before: Measured | None = None
        self.trained = [p for p in learner.upper.parameters() if p.requires_grad]

    def training_step(self, batch: list[View], batch_index: int) -> Tensor:
        """Loss of the batch."""
        terms = self.learner(batch)
        self.last = float(terms.mean.detach())
        return terms.mean + terms.beside

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """What is trained, and everything random, as seed and step say."""
        step = self.global_step
        if step >= self.alone and self.before is None:
            self.before = measure(self)
            self.train()
        for parameter in self.trained:
            parameter.requires_grad_(step >= self.alone)
        torch.manual_seed(int(self.corpus.draws(NOISE, step).integers(2**31)))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Views are not Lightning's to know."""
        return [moved(view, device) for view in batch]

    def configure_optimizers(self) -> Any:
        """AdamW with a rate for each stage, under one cycle; biases and norms do not decay."""
        upper = self.learner.upper
        rates = self.loss.rates(self.corpus.backbone.n_stages)
        parts = [(rate, upper.stage_parameters(stage)) for stage, rate in enumerate(rates) if rate]
        parts.append((self.loss.head_rate, self.learner.head_parameters()))
        groups = []
        for rate, parameters in parts:
            for matrices, decay in ((True, self.loss.weight_decay), (False, 0.0)):
                chosen = [p for p in parameters if (p.ndim > 1) == matrices]
                if chosen:
                    groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        optimiser = torch.optim.AdamW(groups, eps=EPSILON)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, one_cycle(self.n_steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what is trained."""
        moving = {id(p) for p in (*self.trained, *self.learner.head_parameters())}
        own = {name for name, p in self.named_parameters() if id(p) in moving}
        checkpoint["state_dict"] = {name: value for name, value in self.state_dict().items() if name in own}


class Rounds(pl.Callback):
    """Counts rounds, keeps a checkpoint now and then, and says how far training has got."""

    def __init__(self, module: GoingOn, length: int, advance: Callable[[int], None]) -> None:
        self.module, self.length, self.advance = module, length, advance
        self.losses: list[float] = []
        self._round: list[float] = []
        self.checkpoints = loop.Checkpoints(module.corpus.checkpoint)

    def n_done(self) -> int:
        """Rounds; Lightning's own count is not yet right when a resumed run draws its first batch."""
        return len(self.losses)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """One step on."""
        self._round.append(self.module.last)
        self.advance(1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the round."""
        self.losses.append(float(np.mean(self._round)))
        self._round = []
        self.checkpoints.keep(trainer)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        before = self.module.before
        kept = None if before is None else torch.from_numpy(np.stack([before.sums, before.counts]))
        return {"losses": self.losses, "before": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.losses = list(state_dict["losses"])
        self.advance(len(self.losses) * self.length)
        if state_dict["before"] is not None:
            self.module.before = Measured(*state_dict["before"].numpy())


def go_on(loss: Loss, corpus: Corpus, n_steps: int, advance: Callable[[int], None] = lambda n: None) -> Outcome:
    """Train for about so many steps (whole rounds); the pretrained backbone stays as it is."""
    keep_memory()
    start = time.perf_counter()
    steps = Steps(loss, corpus, n_steps)
    module = GoingOn(loss, corpus, build(loss, corpus), steps.n_steps)
    rounds = Rounds(module, steps.round, advance)
    steps.n_done = rounds.n_done

    def collate(batch: Sequence[tuple[int, np.ndarray]]) -> list[View]:
        ((step, rows),) = batch
        return corpus.batch(loss, rows, step)

    loader = DataLoader(AsIs(), batch_sampler=steps, collate_fn=collate, generator=torch.Generator())
    loop.run(
        module,
        loader,
        rounds,
        epochs=steps.n_rounds,
        precision=precision(corpus.backbone),
        checkpoint=corpus.checkpoint,
    )
    assert module.before is not None, "training has begun, and so it was measured"
    after = measure(module)
    upper = module.cpu().learner.upper
    state = upper.network.state_dict()
    changes = Changes({name: state[name].detach().clone() for name in sorted(upper.trained_names)})
    seconds = time.perf_counter() - start
    return Outcome(changes, module.before, after, tuple(rounds.losses), steps.n_steps, seconds)


def build(loss: Loss, corpus: Corpus) -> Learner:
    """The stages above the cut with a new head, as the seed says; two examples show the forms."""
    torch.manual_seed(int(corpus.draws(START).integers(2**31)))
    backbone, modality = corpus.backbone, corpus.modality
    few = [modality.open(corpus.items[row], backbone.detail) for row in corpus.learn[:2]]
    upper = Resumable(backbone, loss.cut(backbone.n_stages), backbone.collate(few))
    learner = loss.learner(upper, backbone, corpus.located)
    chunks = np.array_split(corpus.learn[:MET], -(-min(MET, len(corpus.learn)) // AT_ONCE))
    learner.meet(corpus.batch(loss, rows, 0)[0].inputs for rows in chunks)
    with torch.no_grad():  # layers that learn their width from the first batch do so now
        learner(corpus.batch(loss, corpus.learn[:2], 0))
    return learner


def seconds_a_step(loss: Loss, corpus: Corpus) -> float:
    """How long a step takes here, the way back included: the middle one of a few."""
    learner = build(loss, corpus)
    steps, found = Steps(loss, corpus, ROUND), []
    kind = "cpu" if not torch.cuda.is_available() else "cuda"
    mixed = precision(corpus.backbone) == "bf16-mixed"
    learner.to(kind).train()
    for number in range(TIMED):
        start = time.perf_counter()
        views = [moved(view, torch.device(kind)) for view in corpus.batch(loss, steps.rows(number), number)]
        with torch.autocast(kind, torch.bfloat16, enabled=mixed):
            mean = learner(views).mean
        mean.backward()
        found.append(time.perf_counter() - start)
    return sorted(found)[TIMED // 2]


@torch.no_grad()
def measure(module: GoingOn) -> Measured:
    """The loss on what was held out, in batches, views and noise that are always the same."""
    corpus, loss = module.corpus, module.loss
    size, least = loss.batch_size, 2  # one example alone cannot be compared
    if loss.unit == "batch":  # smaller ones, so that there are several, and all of one size
        least = size = min(size, max(LEAST_HELD, len(corpus.held) // LEAST_UNITS))
    found = []
    module.eval()
    for start in range(0, len(corpus.held), size):
        rows = corpus.held[start : start + size]
        if start and len(rows) < least:
            continue
        torch.manual_seed(int(corpus.draws(HELD, start).integers(2**31)))
        terms = module.learner([moved(view, module.device) for view in corpus.batch(loss, rows, HELD, start)])
        found.append(torch.stack([terms.sums, terms.counts]).double().cpu().numpy())
    return Measured(*np.concatenate(found, axis=1))
