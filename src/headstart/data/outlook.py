"""A panel cut in time: what teaches, what chooses, what is tested; each forecast is a window of one series.

A rolling-origin evaluation (Tashman 2000) with an embargo: a window teaches only if its whole outcome is known before
the first window that chooses, and chooses only if it is known before the first that is tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from headstart.data.panel import Panel
from headstart.errors import DataError, PlanError

TEST_SHARE, VAL_SHARE = 0.2, 0.25  # of all steps; of those before the test
MOST_TESTED, MOST_CHOSEN = 6_000, 3_000  # windows; with many series their origins lie further apart
FEWEST_ORIGINS = 24  # of each series, however many there are
FEWEST_OBSERVED = 16  # values before an origin
FEWEST_TAUGHT = 8  # origins before the first choice, or there is nothing to learn from

WHAT = {"train": "to learn from", "val": "to choose by", "test": "to test"}  # splits, for people


@dataclass(frozen=True)
class Windows:
    """N forecasts: of which series, and from which step on. Sorted by origin, then by series."""

    series: np.ndarray  # (N,) int64
    origins: np.ndarray  # (N,) int64: the last step that the forecast may see

    def __len__(self) -> int:
        """N."""
        return len(self.series)

    def select(self, rows: np.ndarray) -> Windows:
        """Some of them."""
        return Windows(self.series[rows], self.origins[rows])


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A panel, how far ahead it is forecast, and where in time its parts end."""

    panel: Panel
    horizon: int
    val_from: int  # the first step of which the value is no longer learnt from
    test_from: int  # the first step of which the value is tested

    @property
    def stride(self) -> int:
        """Steps between origins that are tested."""
        return self._stride(self.test_from, self.panel.n_steps, MOST_TESTED)

    def _stride(self, first: int, end: int, most: int) -> int:
        """Steps between the origins of forecasts of steps from `first` to `end`, so that there are not too many."""
        n_origins = end - first - self.horizon + 1
        return max(1, -(-n_origins // max(FEWEST_ORIGINS, most // len(self.panel))))

    def windows(self, name: str) -> Windows:
        """The windows of a split that have enough values before them and any outcome."""
        first, end, stride = {
            "train": (FEWEST_OBSERVED - 1, self.val_from, 1),
            "val": (self.val_from - 1, self.test_from, self._stride(self.val_from, self.test_from, MOST_CHOSEN)),
            "test": (self.test_from - 1, self.panel.n_steps, self.stride),
        }[name]
        origins = np.arange(max(first, 0), end - self.horizon, stride)
        return windows_at(self.panel, origins, self.horizon)

    def checked(self, names: tuple[str, ...]) -> Outlook:
        """Itself; DataError where one of these splits has no window."""
        for name in names:
            if not len(self.windows(name)):
                raise DataError(
                    f"{self.panel.source} has no forecast {WHAT[name]}: no series has {FEWEST_OBSERVED} values before "
                    "and one within the horizon after. Give series with fewer values missing, or more of their past."
                )
        return self

    def truth(self, windows: Windows) -> np.ndarray:
        """(N, H + 2): the outcomes (NaN where missing), the scale of the series, the last value seen."""
        values = self.panel.values
        steps = windows.origins[:, None] + np.arange(1, self.horizon + 1)
        outcomes = values[windows.series[:, None], steps]
        last = carried(values)[windows.series, windows.origins]
        return np.column_stack([outcomes, self.scales[windows.series], last])

    @property
    def scales(self) -> np.ndarray:
        """(S,) mean absolute change over a season, before the test; where that has none, over a step, or of all."""
        season, before = self.panel.season, self.panel.values[:, : self.test_from]
        found = np.array([_mean_change(row, season) for row in before])
        for values in (before, self.panel.values):
            steps = np.array([_mean_change(row, 1) for row in values])
            found = np.where(np.isfinite(found) & (found > 0), found, steps)
        return np.where(np.isfinite(found) & (found > 0), found, 1.0)


def look_ahead(panel: Panel, horizon: int, test_steps: int | None = None) -> Outlook:
    """The panel cut in time: the last fifth is the test (or `test_steps`), a quarter of the rest chooses.

    PlanError for a horizon or a test that cannot be; DataError where the series are too short for them.
    """
    if horizon < 1:
        raise PlanError(f"horizon={horizon}, but it must be at least 1: the steps ahead that are forecast.")
    n = panel.n_steps
    if test_steps is not None and test_steps < horizon:
        raise PlanError(f"The test of {test_steps} steps is shorter than the horizon of {horizon}. Give it more.")
    val_from, test_from = _cuts(n, horizon, test_steps)
    fewest = FEWEST_OBSERVED + FEWEST_TAUGHT + horizon - 1
    if val_from < fewest:
        needed = next(more for more in count(n + 1) if _cuts(more, horizon, test_steps)[0] >= fewest)
        raise DataError(
            f"{panel.source} has {n:,} steps, too few to learn from, to choose by and to test forecasts of {horizon} "
            f"steps: at least {needed:,} are needed. Give more steps, or a shorter horizon."
        )
    return Outlook(panel=panel, horizon=horizon, val_from=val_from, test_from=test_from).checked(tuple(WHAT))


def _cuts(n: int, horizon: int, test_steps: int | None) -> tuple[int, int]:
    """(the step from which windows choose, that from which they are tested) of n steps."""
    test_from = n - (max(horizon, round(TEST_SHARE * n)) if test_steps is None else test_steps)
    return test_from - max(horizon, round(VAL_SHARE * test_from)), test_from


def windows_at(panel: Panel, origins: np.ndarray, horizon: int) -> Windows:
    """The windows at these origins that have enough values up to there and any outcome after it."""
    seen = np.isfinite(panel.values).cumsum(1)
    there = seen[:, origins] >= FEWEST_OBSERVED
    ends = np.minimum(origins + horizon, panel.n_steps - 1)
    there &= seen[:, ends] > seen[:, origins]
    column, series = np.nonzero(there.T)
    return Windows(series.astype(np.int64), origins[column].astype(np.int64))


def season_before(panel: Panel, windows: Windows, horizon: int) -> np.ndarray:
    """(N, H) the values one season before each step ahead, or the last ones where there is no season."""
    ahead = np.arange(1, horizon + 1)
    back = panel.season * -(-ahead // panel.season) - ahead if panel.season > 1 else np.zeros_like(ahead)
    steps = np.maximum(windows.origins[:, None] - back, 0)
    return carried(panel.values)[windows.series[:, None], steps]


def carried(values: np.ndarray) -> np.ndarray:
    """(S, T) with what is missing taken from the last step that is not; NaN before the first."""
    steps = np.where(np.isfinite(values), np.arange(values.shape[1]), -1)
    latest = np.maximum.accumulate(steps, axis=1)
    found = np.take_along_axis(values, np.maximum(latest, 0), axis=1)
    return np.where(latest >= 0, found, np.nan)


def _mean_change(values: np.ndarray, season: int) -> float:
    """Mean absolute change over a season; of values with gaps, over what is carried forward."""
    own = carried(values[None])[0]
    changes = abs(own[season:] - own[:-season])[np.isfinite(values[season:])] if len(own) > season else own[:0]
    changes = changes[np.isfinite(changes)]
    return float(changes.mean()) if len(changes) else float("nan")
