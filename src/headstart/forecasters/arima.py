"""Seasonal ARIMA whose order a stepwise search chooses by AICc (Hyndman & Khandakar 2008)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from headstart.forecasters.statistical import Statistical, models

MOST_MODELS = 20  # that the stepwise search looks at


@dataclass(frozen=True, kw_only=True)
class Arima(Statistical):
    """AutoARIMA, bounded: one seasonal lag, 20 orders, conditional sums of squares while it searches, 10 seasons."""

    title = "ARIMA"
    steps: ClassVar[int] = 500

    def model(self, season: int) -> Any:
        """AutoARIMA; a season of one step is none."""
        return models().AutoARIMA(
            season_length=season,
            seasonal=season > 1,
            approximation=True,
            nmodels=MOST_MODELS,
            max_P=1,
            max_Q=1,
        )
