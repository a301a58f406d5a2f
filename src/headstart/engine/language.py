"""Teach a language model conversations, and say how likely answers are; its own head foretells the next token.

Only the states before tokens of answers meet the head, a few hundred at a time, so that logits over the vocabulary
never fill the memory; their gradient is taken on the spot (as Liger does, Hsu et al. 2024, arXiv:2410.10989).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from headstart.backbones.causal_lm import CausalLm, unembed
from headstart.backbones.resume import Resumable
from headstart.engine.adapters import run_lean
from headstart.engine.dialogues import Answers, Dialogues, Packed
from headstart.engine.heads import HeadLearner, train_head
from headstart.engine.lanes import MOST_LANES
from headstart.engine.lesson import precision
from headstart.engine.packing import attend_within, in_rows
from headstart.engine.trials import Trainee
from headstart.engine.voice import CHUNK, token_nll
from headstart.strategies.base import Trained

AT_ONCE = 16  # conversations whose likelihood is computed together


def teach(strategy: Trained, dialogues: Dialogues) -> Trainee:
    """Train what is above the strategy's cut on the answers of conversations."""
    n_threads = torch.get_num_threads()
    try:
        return train_head(
            strategy, replace(dialogues, lanes=lanes_for(dialogues.backbone.network)), OnTokens, TokenLearner
        )
    finally:
        torch.set_num_threads(n_threads)  # MKL's is one for all threads, so that lanes change it here too


class OnTokens(nn.Module):
    """A language model above a cut, and its own head. `head` has nothing that is trained by itself."""

    def __init__(self, upper: Resumable) -> None:
        super().__init__()
        self.upper, self.head = upper, nn.ParameterDict()
        attend_within(upper.network)
        run_lean(upper.network)

    def forward(self, batch: Packed) -> Tensor:
        """The last stage's output (T, D)."""
        last, kind = self.upper.backbone[0].n_stages - 1, next(self.upper.network.parameters()).dtype
        maps = None if batch.maps is None else {stage: one.to(kind) for stage, one in batch.maps.items()}
        with in_rows(batch.lengths):
            return self.upper.whole(batch.inputs, (last,), maps)[last][0]

    def beside(self) -> OnTokens:
        """Once more over the same tensors, for another thread."""
        other = copy.copy(self)
        other._modules = {**self._modules, "upper": self.upper.beside()}
        return other

    def loss(self, states: Tensor, truth: Answers) -> Tensor:
        """Cross-entropy of the row's answers, as its share of the batch's mean over tokens."""
        some = states[truth.before]
        head: Any = self.upper.network
        if head.get_output_embeddings().weight.requires_grad:  # everything is trained, the head too
            return sum_of_losses(head, some, truth.ids) / truth.total
        return FrozenHead.apply(some, truth.ids, head) / truth.total


class FrozenHead(torch.autograd.Function):
    """The sum of cross-entropies under a head that is not trained: the gradient is made on the way forward."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, ids: Tensor, network: Any) -> Tensor:
        """Of states (M, D) and tokens (M,)."""
        total, gradient = torch.zeros((), device=states.device), torch.empty_like(states)
        for start in range(0, len(ids), CHUNK):
            part = slice(start, start + CHUNK)
            some = states[part].detach().requires_grad_()
            with torch.enable_grad():
                logits = unembed(network, some)
            wrong = logits.detach().float()
            log_sum, true = wrong.logsumexp(-1, keepdim=True), ids[part, None]
            total += (log_sum - wrong.gather(1, true)).sum()
            wrong.sub_(log_sum).exp_().scatter_add_(1, true, -torch.ones_like(log_sum))  # softmax minus the truth
            (gradient[part],) = torch.autograd.grad(logits, some, wrong.to(logits.dtype))
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        """Of the states."""
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0].to(gradient.dtype), None, None


def sum_of_losses(network: Any, states: Tensor, ids: Tensor) -> Tensor:
    """The same under a head that is trained: logits are made once more on the way back."""

    def of(some: Tensor, some_ids: Tensor) -> Tensor:
        return nn.functional.cross_entropy(unembed(network, some).float(), some_ids, reduction="sum")

    parts = zip(states.split(CHUNK), ids.split(CHUNK), strict=True)
    return torch.stack([checkpoint(of, *part, use_reentrant=False) for part in parts]).sum()


class TokenLearner(HeadLearner):
    """A batch may come in parts, whose gradients add up before the step: side by side, one a lane.

    A lane is a thread with its share of the cores and modules of its own over the same tensors, as in the frozen pass;
    two on two cores take two thirds of the time. As many parts as lanes are waited for together, so that sums come out
    the same every time, in whichever order two of them end.
    """

    lanes: ThreadPoolExecutor | None = None

    def on_train_start(self) -> None:
        """Open the lanes."""
        n_threads, n_lanes = torch.get_num_threads(), self.taught.lanes  # type: ignore[attr-defined]
        if n_lanes < 2:
            return
        own = self.own = threading.local()

        def begin() -> None:
            torch.set_num_threads(max(1, n_threads // n_lanes))
            own.network = self.network.beside()

        self.lanes = ThreadPoolExecutor(n_lanes, "lane", begin)

    def on_train_end(self) -> None:
        """Close them."""
        if self.lanes is not None:
            self.lanes.shutdown()
            self.lanes = None

    def on_train_batch_start(self, *args: Any) -> None:
        """Forget the last step's gradients."""
        self.zero_grad(set_to_none=True)

    def optimizer_zero_grad(self, *args: Any) -> None:
        """Not now: the batch has been learnt already when Lightning asks for it."""

    def training_step(self, batch: Sequence[Packed], batch_index: int) -> Tensor:
        """The loss of the batch. Its parts are learnt on the way; what Lightning takes back from here adds nothing."""
        if self.lanes is None:
            losses = [learn(self.network, part) for part in batch]
        else:
            losses, n_lanes = [], self.taught.lanes  # type: ignore[attr-defined]
            half = torch.is_autocast_enabled(self.device.type)
            for start in range(0, len(batch), n_lanes):
                together = [self.lanes.submit(self._learn, part, half) for part in batch[start : start + n_lanes]]
                losses += [one.result() for one in together]
        return torch.stack(losses).sum().requires_grad_()

    def _learn(self, part: Packed, half: bool) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):  # each thread has its own setting
            return learn(self.own.network, part)


def learn(network: OnTokens, part: Packed) -> Tensor:
    """Add a part's gradients to those that are there; its share of the loss."""
    loss = network.loss(network(part), part.truth)
    loss.backward()
    return loss.detach()


def lanes_for(network: nn.Module) -> int:
    """How many parts may be learnt side by side: one where something is drawn at random, which threads would mix up."""
    draws = any(
        (isinstance(one, nn.Dropout) and one.p > 0) or getattr(one, "attention_dropout", 0) for one in network.modules()
    )
    return 1 if draws or torch.cuda.is_available() else min(torch.get_num_threads(), MOST_LANES)


@torch.inference_mode()
def nll_of(backbone: CausalLm, cut: int, dialogues: Dialogues, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """(n, 2): nats of its answers and how many tokens they are, of each conversation at `rows`.

    The stages below the cut are not run, but read from what is kept.

    In the arithmetic of training, so that what is compared on validation is what was trained.
    """
    dialogues, lengths = replace(dialogues, lanes=1), backbone.lengths([dialogues.items[row] for row in rows])
    order, found = sorted(range(len(rows)), key=lambda i: lengths[i]), np.zeros((len(rows), 2))
    example = backbone.collate([dialogues.items[rows[order[0]]]])
    network = OnTokens(Resumable(backbone, cut, example)).eval()
    half = precision(dialogues.backbone) == "bf16-mixed"
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        sums = [pair for part in dialogues.batch([rows[i] for i in some]) for pair in _sums(network, part, half)]
        found[some] = sums
    return found


def _sums(network: OnTokens, part: Packed, half: bool) -> list[tuple[float, int]]:
    """(nats, tokens) of each conversation of a row."""
    with torch.autocast(part.truth.ids.device.type, torch.bfloat16, enabled=half):
        states = network(part)[part.truth.before]
        nll = token_nll(network.upper.network, states, part.truth.ids) if len(states) else torch.zeros(0)
    return [(float(each.sum()), len(each)) for each in nll.split(part.learnt)]
