"""The training loop, which Lightning runs: without its remarks, and going on from a checkpoint where there is one."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

CHECKPOINT_S = 20.0  # a killed run loses at most this much, or an epoch


def run(
    module: pl.LightningModule,
    loader: DataLoader,
    callback: pl.Callback,
    *,
    epochs: int,
    precision: Any,
    checkpoint: Path | None,
    clip: float = 1.0,
) -> None:
    """Train the module in place; `callback` measures, keeps what is best, and writes the checkpoint.

    `clip` is the longest a gradient may be.
    """
    with without_remarks():
        trainer = pl.Trainer(
            max_epochs=epochs,
            callbacks=[callback],
            precision=precision,
            gradient_clip_val=clip,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        resume = checkpoint if checkpoint and checkpoint.exists() else None
        try:
            trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
        except SIGTERMException:
            raise
        except SystemExit as end:  # Lightning's answer to Ctrl-C, which others wait for too
            raise KeyboardInterrupt from end


class Checkpoints:
    """What is trained, written to a file every CHECKPOINT_S: whole, or not at all."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.since = file, time.monotonic()

    def keep(self, trainer: pl.Trainer) -> None:
        """Write one where it is time, and a file was named."""
        if self.file is None or time.monotonic() - self.since <= CHECKPOINT_S:
            return
        making = self.file.with_suffix(".making")
        trainer.save_checkpoint(making)
        os.replace(making, self.file)
        self.since = time.monotonic()


@contextmanager
def without_remarks() -> Iterator[None]:
    """Nothing below an error is said, and no warning, in the block: of workers, of what a trainer lacks, of tips."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
