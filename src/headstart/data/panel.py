"""A panel: several series on one calendar, with what is known of them; nothing missing is ever filled in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Panel:
    """S series on a calendar of T + F steps, of which the first T have values.

    What is missing (a holiday, a series that began later or ended earlier) is NaN, and stays so. Series without dates
    end together. The last F steps are the future: only covariates that are known in advance have values there.
    """

    name: str  # "reviews"
    source: str  # a path, or "8 series in memory"
    ids: tuple[str, ...]  # S
    times: np.ndarray  # (T + F,) datetime64[ns]; int64 steps where the data have no dates
    frequency: str  # pandas offset alias: "h", "D", "B"; "" without dates
    season: int  # steps after which a pattern comes again; 1 is none
    values: np.ndarray  # (S, T) float64
    known: dict[str, np.ndarray] = field(default_factory=dict)  # covariate known in advance -> (S, T + F) float64
    static: dict[str, np.ndarray] = field(default_factory=dict)  # covariate of a whole series -> (S,) float64
    target_name: str = "value"
    as_: str = "levels"  # what the values were made of those given: "levels", "returns", "volatility"
    prices: bool = False  # whether the levels given walk at random, as prices do: direction is then measured too
    columns: dict[str, str] = field(default_factory=dict)  # option -> column that was read
    notes: tuple[str, ...] = ()  # what the reader decided

    def __repr__(self) -> str:
        """One line."""
        n = int(np.isfinite(self.values).sum())
        return f"<Panel {self.source}: {len(self)} series, {self.n_steps:,} steps, {n:,} values, season {self.season}>"

    def __len__(self) -> int:
        """How many series there are."""
        return len(self.ids)

    @property
    def n_steps(self) -> int:
        """T: steps that have values."""
        return self.values.shape[1]

    def select(self, rows: np.ndarray) -> Panel:
        """Some of the series."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            values=self.values[rows],
            known={name: one[rows] for name, one in self.known.items()},
            static={name: one[rows] for name, one in self.static.items()},
        )

    def until(self, n_steps: int) -> Panel:
        """The first steps only, with as much of the future as there is after them."""
        return replace(self, values=self.values[:, :n_steps])
