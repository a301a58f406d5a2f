"""Conversations as a language model learns from them: packed rows of tokens, over cached outputs or from the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from headstart.backbones.causal_lm import CausalLm
from headstart.engine.maps import Maps
from headstart.engine.packing import positions
from headstart.modalities.base import Modality

MOST_AT_ONCE = 768  # tokens whose activations are held at once, two megabytes each: longer batches come in parts


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Outputs of some stages of conversations, as they are: there are no views of a text."""

    stages: tuple[int, ...]
    suffix: str = ""

    def change(self, digest: str, opened: Any) -> Any:
        """The same."""
        return opened


class Answers(NamedTuple):
    """The tokens of a row that are learnt."""

    before: Tensor  # (M,) positions in the row of the tokens before them
    ids: Tensor  # (M,)
    total: Tensor  # () how many there are in the whole batch, of which this row may be a part


class Packed(NamedTuple):
    """Some conversations side by side. (A named tuple, since Lightning moves one to a device.)"""

    inputs: dict[str, Tensor]  # `input_ids` and `position_ids` (1, T)
    maps: dict[int, Tensor] | None  # stage: its outputs (1, T, D), where they are cached
    truth: Answers
    lengths: tuple[int, ...]  # of each conversation, in tokens
    learnt: tuple[int, ...]  # tokens of answers of each


@dataclass(frozen=True, kw_only=True)
class Dialogues:
    """What a language model learns from: N stored conversations. Rows index items, digests and maps alike."""

    backbone: CausalLm  # that reads conversations
    modality: Modality
    items: Sequence[Any]
    digests: Sequence[str]
    train: np.ndarray  # rows that teach
    maps: Maps | None = field(default=None, repr=False)  # of the stage below the cut; none: all stages run
    seed: int = 0
    lanes: int = 1  # parts of a batch that are learnt side by side
    checkpoint: Path | None = None  # file to go on from, and to keep now and then

    head = None  # the backbone's own, which stays
    target = None  # no strategy for conversations learns from another domain
    draws = False

    def batch(self, rows: Sequence[int] | np.ndarray, draw: object = None) -> list[Packed]:
        """These conversations in rows of up to MOST_AT_ONCE tokens; of like length where they are for several lanes."""
        reads = self.backbone.dialogue
        known = {row: reads.encoded(self.items[row]) for row in rows}
        total = torch.tensor(max(1, sum(len(one.learnt) for one in known.values())))
        if self.lanes > 1:
            return [
                self._packed(part, total) for part in self._alike({row: len(one.ids) for row, one in known.items()})
            ]
        parts, size = [list[int]()], 0
        for row in rows:
            n = len(known[row].ids)
            if parts[-1] and size + n > MOST_AT_ONCE:
                parts, size = [*parts, []], 0
            parts[-1].append(row)
            size += n
        return [self._packed(part, total) for part in parts]

    def _alike(self, lengths: Mapping[int, int]) -> list[list[int]]:
        """Rows in as many parts as lanes, or a multiple, the longest rows first, each where least is yet."""
        n = self.lanes * max(1, -(-sum(lengths.values()) // (self.lanes * MOST_AT_ONCE)))
        parts, sizes = [list[int]() for _ in range(n)], [0] * n
        for row in sorted(lengths, key=lambda row: -lengths[row]):
            least = sizes.index(min(sizes))
            parts[least].append(row)
            sizes[least] += lengths[row]
        return [part for part in parts if part]

    def _packed(self, rows: Sequence[int], total: Tensor) -> Packed:
        reads = self.backbone.dialogue
        known = [reads.encoded(self.items[row]) for row in rows]
        lengths = tuple(len(one.ids) for one in known)
        starts = np.cumsum([0, *lengths])
        ids = torch.tensor([token for one in known for token in one.ids])
        learnt = torch.tensor(
            [s + p for s, one in zip(starts, known, strict=False) for p in one.learnt], dtype=torch.long
        )
        maps = None
        if self.maps is not None:
            maps = {stage: torch.cat(list(pieces))[None] for stage, pieces in self.maps.rows(rows).items()}
        inputs = {"input_ids": ids[None], "position_ids": positions(lengths)}
        return Packed(
            inputs, maps, Answers(learnt - 1, ids[learnt], total), lengths, tuple(len(one.learnt) for one in known)
        )
