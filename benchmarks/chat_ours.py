"""A training of our own as benchmarks.chat asks for it, in a process of its own: every step timed, the real code path.

    python -m benchmarks.chat_ours FOLDER    reads asked.json there; writes said.json, and tokens.json for the peers

The outputs of the frozen stages come from the cache, and the first time are made for it, as `headstart fit` does.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

import headstart
from headstart import registry
from headstart.chat import language_model
from headstart.chat_workshop import MOST_TOKENS, ChatWorkshop
from headstart.engine import heads
from headstart.engine.batching import Epochs
from headstart.engine.dialogues import Dialogues
from headstart.engine.voice import token_nll
from headstart.evidence.weigh import primary_first
from headstart.problem import pose
from headstart.progress import Progress
from headstart.wishes import Wishes
from headstart.workshop import open_workshop

AT_ONCE = 16  # conversations of validation


def workshop(data: str, progress: Progress) -> ChatWorkshop:
    """As `headstart fit` opens it."""
    dataset = headstart.read(data, task="chat")
    network = language_model(None, dataset, progress).of_conversations(MOST_TOKENS)
    problem = pose(dataset, 0, progress, crosswise=False).in_fixed_order()
    metrics = primary_first(problem.task.metrics(), None)
    shop: ChatWorkshop = open_workshop(problem, network, metrics, Wishes(), 0, progress, ChatWorkshop)
    return shop


def perplexity(network: Any, lesson: Dialogues, rows: np.ndarray, half: bool) -> float:
    """Of the answers of validation, under what is being trained."""
    lengths = lesson.backbone.lengths([lesson.items[row] for row in rows])
    order, nats, tokens = rows[np.argsort(lengths)], 0.0, 0
    network.eval()
    for start in range(0, len(order), AT_ONCE):
        for part in lesson.batch(order[start : start + AT_ONCE]):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                states = network(part)[part.truth.before]
                nll = token_nll(network.upper.network, states, part.truth.ids)
            nats, tokens = nats + float(nll.sum()), tokens + len(nll)
    network.train()
    return math.exp(nats / tokens)


def watching(told: dict[str, Any], every: int, measure: Any) -> type[heads.Average]:
    """The callback that averages weights, and beside it takes the time; what is measured meanwhile does not count."""

    class Watching(heads.Average):
        paused = paused_cpu = 0.0

        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.mark()

        def on_train_batch_end(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *rest: Any
        ) -> None:
            super().on_train_batch_end(trainer, pl_module, outputs, *rest)
            told["loss"].append(float(outputs["loss"]))
            self.mark()
            if every and (self.n_steps % every == 0):
                wall, cpu = time.perf_counter(), time.process_time()
                now = {name: one.clone() for name, one in self.module.learnt().items()}
                self.module.load_state_dict(self.state, strict=False)
                told["curve"].append({"step": self.n_steps, "s": told["at"][-1], "perplexity": measure(self.module)})
                self.module.load_state_dict(now, strict=False)
                self.paused += time.perf_counter() - wall
                self.paused_cpu += time.process_time() - cpu

        def mark(self) -> None:
            told["at"].append(time.perf_counter() - told["start"] - self.paused)
            told["at_cpu"].append(time.process_time() - told["start_cpu"] - self.paused_cpu)

    return Watching


def tokens_of(strategy: Any, lesson: Dialogues, val: np.ndarray) -> dict[str, Any]:
    """What the peers are to learn from, in the very batches, and what is held out."""

    def tokens(row: int) -> dict[str, list[int]]:
        one = lesson.backbone.dialogue.encoded(lesson.items[row])
        return {"ids": list(one.ids), "learnt": list(one.learnt)}

    epoch = [0]
    batches = Epochs(strategy, lesson, lambda: epoch[0])
    found = []
    for epoch[0] in range(strategy.epochs):
        found += [[tokens(row) for row in batch] for batch in batches]
    return {"batches": found, "val": [tokens(row) for row in val]}


def main(folder: Path) -> None:
    """One training."""
    asked = json.loads((folder / "asked.json").read_text())
    progress = Progress()
    shop = workshop(asked["data"], progress)
    strategy: Any = registry.STRATEGIES.get(asked["strategy"])(**asked["settings"])
    rows, val = shop.problem.rows["train"][: asked["most"]], shop.problem.rows["val"]
    wall, cpu = time.perf_counter(), time.process_time()
    lesson = shop.lesson_for(strategy, rows, cache=True)
    frozen = {"s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    half = heads.precision(lesson.backbone) == "bf16-mixed"
    told: dict[str, Any] = {"frozen": frozen, "loss": [], "curve": [], "at": [], "at_cpu": []}
    told |= {"start": time.perf_counter(), "start_cpu": time.process_time()}
    heads.Average = watching(told, asked["every"], lambda module: perplexity(module.network, lesson, val, half))  # type: ignore[misc]
    trainee = shop.teach(strategy, lesson)
    told["precision"] = "bfloat16" if half else "float32"
    if asked["every"]:  # in float32, as the peers' are
        said = shop.talker(trainee).network(shop.backbone).said(list(shop.problem.y[val]))
        told["perplexity"] = math.exp(sum(one.nll for one in said) / sum(one.n_tokens for one in said))
    (folder / "tokens.json").write_text(json.dumps(tokens_of(strategy, lesson, val)))
    (folder / "said.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
