"""Sequences side by side in one row, without padding, and attention that stays within each of them.

A language model of transformers takes its attention from a table; training puts one there that goes over the row
sequence by sequence, so that nothing leaks from one to the next and no score between two is computed. Queries that
share a key are taken together (grouped queries, Ainslie et al. 2023, arXiv:2305.13245). The scores are plain matrix
products: the way back through torch's own fused attention takes four times as long in bfloat16 on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

NAME = "headstart-packed"
_lengths: ContextVar[tuple[int, ...]] = ContextVar("lengths of the sequences in the row that is run")


def positions(lengths: Sequence[int]) -> Tensor:
    """(1, T) positions in a row of sequences of these lengths: they begin anew with each."""
    return torch.cat([torch.arange(length) for length in lengths])[None]


def attend_within(network: Any) -> None:
    """Let a network of transformers attend within the sequences of a row; it can be run `in_rows` only from now on."""
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, no_mask)
    network.set_attn_implementation(NAME)


@contextmanager
def in_rows(lengths: Sequence[int]) -> Iterator[None]:
    """A network that attends within sequences is run, in the block, on one row of sequences of these lengths."""
    token = _lengths.set(tuple(lengths))
    try:
        yield
    finally:
        _lengths.reset(token)


def no_mask(*args: Any, **kwargs: Any) -> None:
    """None: what is not seen is not computed."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Causal attention of queries (1, H, T, D) over keys and values (1, K, T, D), H a multiple of K: (1, T, H, D)."""
    n_heads, n_keys, width = query.shape[1], key.shape[1], query.shape[3]
    scale = width**-0.5 if scaling is None else scaling
    lengths = list(_lengths.get())
    each = []
    for q, k, v in zip(*(one[0].split(lengths, dim=1) for one in (query, key, value)), strict=True):
        length = q.shape[1]
        scores = (q.reshape(n_keys, -1, width) * scale) @ k.transpose(1, 2)  # (K, H / K * t, t)
        scores = scores if not softcap else softcap * torch.tanh(scores / softcap)
        scores = scores.view(n_heads, length, length) + unseen(length, sliding_window, scores)
        seen = nn.functional.dropout(scores.softmax(-1, dtype=torch.float32).to(v.dtype), dropout, dropout > 0)
        each.append((seen.view(n_keys, -1, length) @ v).view(n_heads, length, -1))
    return torch.cat(each, dim=1).transpose(0, 1)[None].contiguous(), None


def unseen(length: int, sliding_window: int | None, like: Tensor) -> Tensor:
    """(t, t): minus infinity where a token may not look, ahead of itself or too far back."""
    mask = torch.full((length, length), -math.inf, device=like.device, dtype=like.dtype).triu(1)
    if sliding_window and sliding_window < length:
        mask += torch.full_like(mask, -math.inf).tril(-sliding_window)
    return mask
