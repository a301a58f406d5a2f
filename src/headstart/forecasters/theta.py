"""The dynamic optimised Theta method (Fiorucci et al. 2016, doi:10.1016/j.ijforecast.2016.02.005)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.forecasters.statistical import Statistical, models, root_steps

FIRST = 3  # residuals that depend on the initial state


@dataclass(frozen=True, kw_only=True)
class Theta(Statistical):
    """AutoTheta: the best of four Theta models by squared error. Fitted to 1,000 steps or 10 seasons.

    statsforecast draws its bands from 200 random paths, and its residuals of an additive season hold the season once
    too often; the band here is that of exponential smoothing with drift, which Theta is.
    """

    title = "Theta"

    def model(self, season: int) -> Any:
        """AutoTheta."""
        return models().AutoTheta(season_length=season)

    def deviation(self, model: Any, seen: np.ndarray, forecast: dict[str, np.ndarray]) -> np.ndarray:
        """(H,) from the residuals of one step."""
        residuals = seen - forecast["fitted"]
        residuals = residuals - _season_in_them(model.model_, len(seen))
        one_step = float(np.std(residuals[FIRST:], ddof=1))
        return root_steps(one_step, model.model_["par"]["alpha"], len(forecast["mean"]))


def _season_in_them(fitted: dict[str, Any], n: int) -> np.ndarray | float:
    """What an additive season added to the residuals of n steps: the season itself, which repeats."""
    if not fitted.get("decompose") or fitted["decomposition_type"] != "additive":
        return 0.0
    one = np.asarray(fitted["seas_forecast"]["mean"])  # of the m steps after the last that was fitted
    return one[(np.arange(n) - fitted["n"]) % len(one)]
