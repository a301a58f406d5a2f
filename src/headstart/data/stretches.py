"""A stretch: consecutive values of one series, as a network takes them; what is missing stays NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)  # Q = 11 quantiles that a forecast gives


@dataclass(frozen=True, eq=False)
class Stretch:
    """T steps of one series, in its own unit."""

    values: np.ndarray  # (T,) float64; NaN where missing
    season: int = 1  # steps after which a pattern comes again; 1 is none

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
