"""Whether two forecasts differ in accuracy (Diebold & Mariano 1995, doi:10.1080/07350015.1995.10524599).

Losses of all series at one origin are averaged first, so that what moves them together counts once. Origins closer
than a horizon share outcomes: the variance adds up their autocovariances, all alike, as the original test does, and it
is corrected for few origins (Harvey, Leybourne & Newbold 1997, doi:10.1016/S0169-2070(96)00719-4). Where that is not
above zero, it is that of Newey & West (1987, doi:10.2307/1913610), which is kept in reserve as it rejects too often:
12 % of true nulls at a level of 5 % (simulated: 1,000 origins, a horizon of 20) where the original rejects 6 %.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from headstart.evidence.blocks import Layout


@dataclass(frozen=True, kw_only=True)
class DieboldMariano:
    """A two-sided test of equal accuracy; less than zero favours the model."""

    statistic: float  # NaN where there is too little to test
    p: float
    n: int  # origins, or series
    unit: str  # "origins", or "series" where the origins are too few

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN as None."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> DieboldMariano:
        """The inverse of `to_json`."""
        undefined = {name: math.nan for name, value in saved.items() if value is None}
        return cls(**{**saved, **undefined})


def diebold_mariano(loss: np.ndarray, rival: np.ndarray, found: Layout) -> DieboldMariano:
    """The test on losses (N,) of the model and of a rival, NaN where a window has none.

    Where the origins make too few blocks, the unit is the series, which are then taken for independent.
    """
    unit = found.series if found.by_series else found.slot
    differences = _means(loss - rival, unit)
    lag = 0 if found.by_series else found.overlap - 1
    statistic = dm_statistic(differences, lag)
    n = len(differences)
    p = math.nan if math.isnan(statistic) else float(2 * student.sf(abs(statistic), n - 1))
    return DieboldMariano(statistic=statistic, p=p, n=n, unit="series" if found.by_series else "origins")


def dm_statistic(differences: np.ndarray, lag: int) -> float:
    """Of loss differences (n,) in order, correlated up to `lag`; NaN where n is too small for the lag.

    Without any difference it is 0, and with one that is always the same it is infinite.
    """
    n, steps = len(differences), lag + 1
    correction = (n + 1 - 2 * steps + steps * (steps - 1) / n) / n if n else 0.0
    if n < 2 or n <= 2 * lag or correction <= 0:
        return math.nan
    mean = float(differences.mean())
    variance = long_run_variance(differences, np.ones(steps)) / n
    if variance <= 0:
        variance = long_run_variance(differences, 1 - np.arange(steps) / steps) / n
    if variance <= (1e-14 * np.abs(differences).max()) ** 2:
        return 0.0 if mean == 0 else math.copysign(math.inf, mean)
    return mean / math.sqrt(variance) * math.sqrt(correction)


def long_run_variance(values: np.ndarray, weights: np.ndarray) -> float:
    """Autocovariances of values (n,) at lags 0, 1, … times `weights`, those after the first counted on both sides."""
    centred = values - values.mean()
    n = len(values)
    total = weights[0] * float(centred @ centred)
    for lag in range(1, len(weights)):
        total += 2 * weights[lag] * float(centred[lag:] @ centred[:-lag])
    return total / n


def _means(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Mean of the finite values (N,) of each unit that has one, in the units' order."""
    kept = np.isfinite(values)
    counts = np.bincount(unit[kept])
    sums = np.bincount(unit[kept], values[kept])
    return np.asarray(sums[counts > 0] / counts[counts > 0])
