"""The learning-rate range test (Smith 2015, arXiv:1506.01186): raise the rate until the loss breaks away.

The rate at which the smoothed loss falls fastest, divided by two, is given; discriminative rates keep their ratios.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from headstart.engine.batching import Epochs
from headstart.engine.lesson import Lesson, resumable
from headstart.engine.train import Adapting
from headstart.strategies.base import Trained

LOWEST, HIGHEST = 1e-6, 1e-2
STEPS, SMOOTHING, BREAKS_AWAY = 60, 0.8, 3.0


def find_rate(strategy: Trained, lesson: Lesson) -> float:
    """A peak learning rate of the last stage for this strategy; the lesson's network stays as it is."""
    losses = range_test(strategy, lesson)
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)[: len(losses)]
    return steepest(rates, losses)


def steepest(rates: np.ndarray, losses: np.ndarray) -> float:
    """Half of the rate (n,) at which the losses (n,), smoothed, fall fastest."""
    smooth, weight = [], 0.0
    for step, loss in enumerate(losses):
        weight = SMOOTHING * weight + (1 - SMOOTHING) * float(loss)
        smooth.append(weight / (1 - SMOOTHING ** (step + 1)))
    if len(smooth) < 8:
        return float(rates[0])
    slope = np.gradient(np.array(smooth), np.log(rates))
    fell = slope[3:]  # the first steps are noise
    return float(rates[3 + int(np.argmin(fell))] / 2)


def range_test(strategy: Trained, lesson: Lesson) -> np.ndarray:
    """Training loss (n,) of each step as the rate grows from LOWEST to HIGHEST; it ends where the loss breaks away."""
    torch.manual_seed(lesson.seed)
    strategy = replace(strategy, learning_rate=LOWEST)
    module = Adapting(strategy, lesson, resumable(strategy, lesson))
    optimiser = module.configure_optimizers()["optimizer"]
    growth = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
    losses: list[float] = []
    n_steps_an_epoch = -(-len(lesson.train) // strategy.batch_size)
    epochs = Epochs(strategy, lesson, lambda: len(losses) // n_steps_an_epoch)
    while len(losses) < STEPS:
        for rows in epochs:
            batch = module.collate(rows, epochs.epoch())
            loss = module.training_step(batch, 0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for group in optimiser.param_groups:
                group["lr"] *= growth
            losses.append(float(loss.detach()))
            if len(losses) == STEPS or losses[-1] > BREAKS_AWAY * min(losses) + 1e-3:
                return np.array(losses)
    return np.array(losses)
