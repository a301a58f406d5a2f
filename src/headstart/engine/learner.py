"""What every training shares: the rates of the stages and the head, what moves in an epoch, what is kept of it.

AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) under one cycle. Which stages are trained is said by the strategy
each time, never restored (Lightning's own fine-tuning callback gets that wrong: Lightning#21901).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.resume import Resumable
from headstart.engine.lesson import Taught
from headstart.strategies.base import Trained

EPSILON = 1e-6  # of AdamW: gradients that are 0 but for rounding (key biases) do not become steps of full length
WARM_UP = 0.1  # share of the steps in which the rate rises


class Learner(pl.LightningModule):
    """Stages above a cut, and what stands on them."""

    strict_loading = False  # checkpoints hold what is trained, and nothing else

    def __init__(self, strategy: Trained, lesson: Taught, upper: Resumable) -> None:
        super().__init__()
        self.strategy, self.taught, self.upper = strategy, lesson, upper

    @abstractmethod
    def beside(self) -> list[nn.Parameter]:
        """What is trained and is no stage of the backbone."""

    def on_train_epoch_start(self) -> None:
        """Modes, what is trained, and everything random, as strategy, seed and epoch say."""
        self.train()
        torch.manual_seed(int(np.random.SeedSequence([self.taught.seed, self.current_epoch, 1]).generate_state(1)[0]))
        n_stages = self.taught.backbone.n_stages
        for stage, parameters in self._stages:
            moves = self.strategy.trains(stage, n_stages, self.current_epoch)
            for parameter in parameters:
                parameter.requires_grad_(moves)

    def configure_optimizers(self) -> Any:
        """AdamW with a rate for each stage, under one cycle."""
        rates = self.strategy.rates(self.taught.backbone.n_stages)
        self._stages = [(stage, self.upper.stage_parameters(stage)) for stage, rate in enumerate(rates) if rate]
        groups = []
        parts = [(rates[stage], parameters) for stage, parameters in self._stages]
        parts.append((self.strategy.learning_rate * self.strategy.head_rate, self.beside()))
        for rate, parameters in parts:
            for some, decay in ((True, self.strategy.weight_decay), (False, 0.0)):  # biases and norms do not decay
                chosen = [p for p in parameters if (p.ndim > 1) == some]
                if chosen:
                    groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        optimiser = torch.optim.AdamW(groups, eps=EPSILON)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, one_cycle(self.n_steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def n_steps(self) -> int:
        """Optimiser steps in all epochs."""
        return self.strategy.epochs * -(-len(self.taught.train) // self.strategy.batch_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what is trained."""
        checkpoint["state_dict"] = self.learnt()

    def learnt(self) -> dict[str, Tensor]:
        """What training moves: trained parameters, the head, and statistics when from scratch."""
        moving = {id(p) for _, parameters in self._stages for p in parameters} | {id(p) for p in self.beside()}
        still = {id(p) for p in self.parameters() if id(p) not in moving}
        if not self.strategy.from_scratch:
            still |= {id(buffer) for buffer in self.buffers()}
        kept: dict[str, Tensor] = {}
        for name, value in self.state_dict(keep_vars=True).items():  # a tensor may have several names: once is enough
            if id(value) not in still:
                still.add(id(value))
                kept[name] = value.detach()
        return kept


def one_cycle(n_steps: int) -> Callable[[int], float]:
    """Rate relative to its peak at each step: up in a straight line, then down along a cosine."""
    rise = max(1, round(WARM_UP * n_steps))

    def rate(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return max(1e-3, 0.5 * (1 + float(np.cos(np.pi * (step - rise) / max(1, n_steps - rise)))))

    return rate
