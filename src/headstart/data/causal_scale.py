"""What a causal network reads of a series: each step in units of what came before it, never of what comes after.

Location and scale are exponentially weighted over the steps up to each one (as Toto normalises causally, Cohen et al.
2025, arXiv:2505.14766), so that one pass over a series gives what a forecast from any of its steps needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

N_INPUTS = 9
SLOW, SLOW_SEASONS, FAST = 60.0, 7.0, 0.1  # half-lives: steps, seasons if that is more; of the fast one, its share
LEAST_SCALE, LEAST_SHARE = 0.02, 1e-6  # of the standard deviation, and of the level: a series that stands still
DAYS = (24, 48, 96)  # steps: a season of a day lies in a longer one, the week


class Scaled(NamedTuple):
    """A series (T,) made ready; `last`, `centre` are relative to `offset`, so that float32 keeps their digits."""

    inputs: np.ndarray  # (T, N_INPUTS) float32
    last: np.ndarray  # (T,) float32: the value, carried forward where it is missing; 0 before the first
    centre: np.ndarray  # (T,) float32: the smoothed value
    scale: np.ndarray  # (T,) float32, positive
    observed: np.ndarray  # (T,) bool
    offset: float


def causally_scaled(values: np.ndarray, season: int) -> Scaled:
    """Values (T,), NaN where missing, as a causal network reads them."""
    import pandas as pd

    observed = np.isfinite(values)
    offset = float(values[observed][0]) if observed.any() else 0.0
    own = np.where(observed, values, np.nan) - offset
    last = pd.Series(own).ffill().to_numpy()
    slow = max(SLOW, SLOW_SEASONS * season)
    fast = max(5.0, slow * FAST)
    loc = _smooth(own, slow)
    spread = np.sqrt(np.maximum(_smooth(own**2, slow) - loc**2, 0.0))
    change = own - _before(last, 1)
    seasonal = own - _before(last, season) if season > 1 else change
    scale, step, recent = _smooth(abs(seasonal), slow), _smooth(abs(change), slow), _smooth(abs(seasonal), fast)
    scale = np.fmax(np.where(np.isnan(scale), step, scale), LEAST_SCALE * spread)
    scale = np.fmax(scale, LEAST_SHARE * abs(loc + offset))
    scale = np.where(np.isnan(scale) | (scale <= 0), 1.0, scale)
    recent = np.fmax(np.where(np.isnan(recent), scale, recent), LEAST_SCALE * scale)
    spread, step = np.fmax(np.nan_to_num(spread), 0.1 * scale), np.fmax(np.nan_to_num(step), LEAST_SCALE * scale)
    loc = np.nan_to_num(loc)
    long = own - _before(last, 7 * season) if season in DAYS else np.zeros_like(own)
    inputs = [
        _squashed((own - loc) / spread),
        _squashed(change / step),
        _squashed(seasonal / scale),
        0.3 * _squashed(np.where(np.isnan(last), 0.0, loc + offset) / scale),  # of nothing that is still to come
        np.log(recent / scale),
        np.log(spread / scale),
        np.log(step / scale),
        observed.astype(np.float64),
        _squashed(long / scale),
    ]
    return Scaled(
        inputs=np.stack(inputs, 1).astype(np.float32),
        last=np.nan_to_num(last).astype(np.float32),
        centre=loc.astype(np.float32),
        scale=scale.astype(np.float32),
        observed=observed,
        offset=offset,
    )


def _smooth(values: np.ndarray, half_life: float) -> np.ndarray:
    """The exponentially weighted mean up to each step, over what is not missing."""
    import pandas as pd

    return pd.Series(values).ewm(halflife=half_life, ignore_na=True).mean().to_numpy()


def _before(values: np.ndarray, steps: int) -> np.ndarray:
    """The values so many steps before; NaN where there are none."""
    found = np.full_like(values, np.nan)
    found[steps:] = values[: max(0, len(values) - steps)]
    return found


def _squashed(values: np.ndarray) -> np.ndarray:
    """Large values logarithmically, missing ones as 0."""
    return np.arcsinh(np.nan_to_num(values))
