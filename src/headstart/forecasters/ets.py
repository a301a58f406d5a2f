"""Exponential smoothing with error, trend and season chosen by AICc (Hyndman et al. 2002)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headstart.forecasters.statistical import Statistical, models


@dataclass(frozen=True, kw_only=True)
class Ets(Statistical):
    """AutoETS; a season of more than 24 steps is beyond it and passed over. Fitted to 1,000 steps or 10 seasons."""

    title = "ETS"

    def model(self, season: int) -> Any:
        """AutoETS."""
        return models().AutoETS(season_length=season)
