"""A stretch: consecutive values of one series, as a network takes them; what is missing stays NaN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headstart.data.causal_scale import Scaled, causally_scaled

LEVELS = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)  # of the quantiles that are forecast
MEDIAN = LEVELS.index(0.5)


@dataclass(frozen=True, eq=False)
class Stretch:
    """T steps of one series, in its own unit."""

    values: np.ndarray  # (T,) float64; NaN where missing
    season: int = 1  # steps after which a pattern comes again; 1 is none

    @cached_property
    def scaled(self) -> Scaled:
        """In units of what came before each step."""
        return causally_scaled(np.asarray(self.values, dtype=np.float64), self.season)

    def __len__(self) -> int:
        """How many steps there are, missing ones counted."""
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        """Whether the values, missing ones included, and the season are the same."""
        if not isinstance(other, Stretch):
            return NotImplemented
        return self.season == other.season and np.array_equal(self.values, other.values, equal_nan=True)

    def __hash__(self) -> int:
        """Equal stretches have equal hashes."""
        return hash((len(self.values), self.season))
