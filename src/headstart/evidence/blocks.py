"""Resample windows of a rolling origin: blocks of origins that follow one another, with all their series.

Losses at origins that are less than a horizon apart share outcomes, and all series of one market share its days. The
moving block bootstrap (Künsch 1989, doi:10.1214/aos/1176347265), in its circular form (Politis & Romano 1992), keeps
both together. Where origins make too few blocks, whole series are drawn instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from headstart.evidence.intervals import resamples
from headstart.evidence.weigh import N_RESAMPLES, Scales
from headstart.tasks.base import Weights

LEAST_BLOCKS = 4  # with fewer, series are drawn, where there are more of them than blocks


@dataclass(frozen=True)
class Layout:
    """What N windows can be drawn by."""

    slot: np.ndarray  # (N,) which of the distinct origins, in order, a window stands at
    series: np.ndarray  # (N,) which of the distinct series it is of
    overlap: int  # origins whose windows share outcomes with those of one origin, itself counted; 1: none do
    block: int  # origins in a block

    @property
    def n_origins(self) -> int:
        """How many distinct origins there are."""
        return int(self.slot.max()) + 1

    @property
    def n_series(self) -> int:
        """How many series there are."""
        return int(self.series.max()) + 1

    @property
    def n_blocks(self) -> int:
        """How many blocks stand side by side."""
        return self.n_origins // self.block

    @property
    def by_series(self) -> bool:
        """Whether series are the units: the origins make few blocks, and there are more series than blocks."""
        return self.n_blocks < LEAST_BLOCKS and self.n_series > self.n_blocks

    @property
    def n_units(self) -> int:
        """How many units are about independent: blocks, or series."""
        return self.n_series if self.by_series else self.n_blocks

    @property
    def unit(self) -> str:
        """What the units are, for people; takes an s in the plural, or none."""
        return "series" if self.by_series else "block of origins" if self.n_units == 1 else "blocks of origins"


def layout(series: np.ndarray, origins: np.ndarray, horizon: int) -> Layout:
    """The layout of windows with `series` (N,) and `origins` (N,) in steps; one at least.

    A block is as long as the horizon or longer, and no shorter than the cube root of the number of origins.
    """
    steps, slot = np.unique(origins, return_inverse=True)
    between = float(np.median(np.diff(steps))) if len(steps) > 1 else float(horizon)
    overlap = max(1, math.ceil(horizon / between))
    block = max(overlap, math.ceil(len(steps) ** (1 / 3) - 1e-9))
    return Layout(slot, np.unique(series, return_inverse=True)[1], overlap, min(block, max(1, len(steps) // 2)))


def block_resamples(found: Layout, n_resamples: int, seed: int) -> Weights:
    """(n_resamples, N): how often each window is drawn, all windows of an origin alike, or all of a series."""
    if found.by_series:
        return resamples(len(found.series), n_resamples, seed, found.series)
    n, block = found.n_origins, found.block
    rng = np.random.default_rng(seed)
    starts = rng.integers(n, size=(n_resamples, math.ceil(n / block)))
    drawn = (starts[:, :, None] + np.arange(block)).reshape(n_resamples, -1)[:, :n] % n
    counts = np.zeros((n_resamples, n), dtype=np.uint16)
    np.add.at(counts, (np.arange(n_resamples)[:, None], drawn), 1)
    return counts[:, found.slot]


@dataclass(frozen=True, kw_only=True)
class BlockScales(Scales):
    """Scales whose examples are windows of a rolling origin."""

    layout: Layout

    @property
    def n_groups(self) -> int:
        """How many units are about independent."""
        return self.layout.n_units

    def resamples(self, n: int) -> Weights:
        """(B, n) in blocks; only the n windows of the layout can be drawn."""
        assert n == len(self.layout.slot), f"{n} windows, but the layout is of {len(self.layout.slot)}"
        return block_resamples(self.layout, N_RESAMPLES, self.seed)
