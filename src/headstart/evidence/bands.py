"""Bands of forecasts that cover what they say: widened or narrowed by how far past outcomes went beyond them.

A score is how far an outcome lay from the median, in units of the half width on its side: (y − q50) / (q_level − q50).
Conformalised quantile regression (Romano, Patterson & Candès 2019, arXiv:1905.03222, here multiplied, one side each)
takes the right quantile of validation's scores as the factor of the half width. Markets change, so that each series
then follows its own outcomes as they become known, by adaptive conformal inference (Gibbs & Candès 2021,
arXiv:2106.00263) on the logarithm of the factor: a miss widens the band by rate (1 − share of misses wanted), every
other outcome narrows it by rate × that share. Outcomes of origins that follow one another closely say much the same,
so that the rate grows with the steps between origins.

Of the rules tried on exchange rates and index returns and volatilities (validation's quantile alone, the latest 100
to 500 scores of the series, these pooled with validation's), this covered best for every series. Rules and rates were
compared on the latest fifth or so of those series.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.tasks.forecasting import LEVELS, MIDDLE

RATE = 0.05  # for each step between origins
FASTEST = 0.1  # however many steps lie between origins
LEAST, MOST = 0.1, 10.0  # of a factor
ENOUGH = 200  # scores that a factor is taken of; steps are put together until there are so many
MISSES = np.array([min(level, 1 - level) for level in LEVELS])  # (Q,) share of outcomes beyond each level


@dataclass(frozen=True, kw_only=True)
class Seen:
    """M windows with forecasts as the model gave them, not corrected, and what came of them."""

    forecasts: np.ndarray  # (M, H, Q)
    outcomes: np.ndarray  # (M, H) NaN where not observed, or not yet
    series: np.ndarray  # (M,)
    origins: np.ndarray  # (M,) steps; one window for each series and origin


@dataclass(frozen=True, kw_only=True)
class Bands:
    """What half widths are multiplied by, at first; the series' own outcomes move it from there."""

    factors: np.ndarray  # (H, Q)
    rate: float = RATE  # 0: factors stay as validation has them

    @classmethod
    def fit(cls, validation: Seen, rate: float = RATE) -> Bands:
        """Of all series' scores together, by step, or by as many neighbouring steps as hold ENOUGH scores."""
        found = scores(validation.forecasts, validation.outcomes)
        horizon = found.shape[1]
        per_step = max(1.0, float(np.isfinite(validation.outcomes).sum() / horizon))
        n_parts = int(np.clip(horizon * per_step // ENOUGH, 1, horizon))
        factors = np.ones((horizon, len(LEVELS)))
        for steps in np.array_split(np.arange(horizon), n_parts):
            for column in range(len(LEVELS)):
                factors[steps, column] = _factor(found[:, steps, column], MISSES[column])
        return cls(factors=factors, rate=rate)

    def corrected(self, forecasts: np.ndarray, series: np.ndarray, origins: np.ndarray, past: Seen) -> np.ndarray:
        """Forecasts (N, H, Q) for windows with `series` (N,) and `origins` (N,); medians stay as they are.

        Of `past`, each window goes only by outcomes of its own series at steps up to its own origin.
        """
        factors = np.empty(forecasts.shape)
        found = scores(past.forecasts, past.outcomes)
        for one in np.unique(series):
            rows = np.flatnonzero(series == one)
            before = np.flatnonzero(past.series == one)
            before = before[np.argsort(past.origins[before], kind="stable")]
            factors[rows] = self._followed(found[before], past.origins[before], origins[rows])
        return widened(forecasts, factors)

    def _followed(self, found: np.ndarray, known_from: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Factors (K, H, Q) at the origins asked for (K,), given scores (M, H, Q) of origins `known_from`, sorted."""
        horizon = len(self.factors)
        ahead = np.arange(1, horizon + 1)
        now = np.log(np.clip(self.factors, LEAST, MOST))
        at_origin = np.empty(found.shape)  # logarithms that held at each past origin
        answers: dict[int, np.ndarray] = {}
        done = np.zeros(horizon, dtype=np.int64)  # past origins whose outcome at each step has been learnt from
        began = 0
        between = float(np.median(np.diff(known_from))) if len(known_from) > 1 else 1.0
        rate = min(self.rate * between, FASTEST)
        for origin in np.unique(np.concatenate([known_from, asked])):
            known = np.searchsorted(known_from, origin - ahead, side="right")
            while (behind := np.flatnonzero(done < known)).size:
                score, held = found[done[behind], behind], at_origin[done[behind], behind]
                missed = np.where(np.isfinite(score), (score > np.exp(held)) - MISSES, 0.0)
                now[behind] = np.clip(now[behind] + rate * missed, np.log(LEAST), np.log(MOST))
                done[behind] += 1
            while began < len(known_from) and known_from[began] == origin:
                at_origin[began] = now
                began += 1
            answers[int(origin)] = np.exp(now)
        return np.stack([answers[int(origin)] for origin in asked])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"factors": self.factors.tolist(), "rate": self.rate}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Bands:
        """The inverse of `to_json`."""
        return cls(factors=np.array(saved["factors"], dtype=np.float64), rate=saved["rate"])


def scores(forecasts: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """(N, H, Q): how far outcomes (N, H) lie beyond each level's half width; NaN where either is missing or nothing."""
    middle = forecasts[..., MIDDLE, None]
    half = np.asarray(forecasts - middle, dtype=np.float64)
    away = outcomes[..., None] - middle
    return np.divide(away, half, out=np.full(half.shape, np.nan), where=half != 0)


def widened(forecasts: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Forecasts (N, H, Q) with half widths times factors (N, H, Q), in order from the median outwards."""
    middle = forecasts[..., MIDDLE, None]
    half = (forecasts - middle) * factors
    above = np.maximum.accumulate(np.maximum(half[..., MIDDLE:], 0), axis=-1)
    below = np.minimum.accumulate(np.minimum(half[..., MIDDLE::-1], 0), axis=-1)[..., ::-1]
    return np.asarray(middle + np.concatenate([below[..., :-1], above], axis=-1))


def _factor(found: np.ndarray, misses: float) -> float:
    """The quantile of scores that leaves a share of `misses` beyond it in a new one; 1 where there is no score."""
    finite = found[np.isfinite(found)]
    if not len(finite):
        return 1.0
    share = min(1.0, (1 - misses) * (1 + 1 / len(finite)))
    return float(np.clip(np.quantile(finite, share, method="higher"), LEAST, MOST))
