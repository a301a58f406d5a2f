"""Checks beside the forecasts: leaks that must be found, and published figures of M4 hourly done again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

import headstart
from headstart import PanelReading, read_panel
from headstart.data.audit_panel import audit_panel
from headstart.data.filled import interpolated
from headstart.screen import Screen

PUBLISHED = {"Naive2": 18.383, "Theta": 18.138, "winner (ES-RNN)": 9.328}  # sMAPE, all 414 hourly series
SEASON, HORIZON = 24, 48
LEAKY, DAYS = "SSE", 400  # the index that is fitted, its latest days


def leaks(indices: Path) -> dict[str, Any]:
    """A covariate that is tomorrow's value, and holidays filled by interpolation: what a fit says of them."""
    closes = pd.read_csv(indices / "world_indices_close_2015_2024.csv", index_col="Date", parse_dates=True)
    index = closes[[LEAKY]].dropna().iloc[-DAYS:].reset_index()
    tomorrow = index.assign(covariate=index[LEAKY].shift(-1))
    yesterday = index.assign(covariate=index[LEAKY].shift(1).bfill())
    known = PanelReading(time="Date", target=LEAKY, known=("covariate",))
    filled = closes.interpolate(limit_area="inside")
    return {
        "covariate is tomorrow's value": said(tomorrow, known),
        "covariate is yesterday's value": said(yesterday, known),
        "holidays interpolated": said(filled.iloc[-DAYS:], PanelReading()),
        "holidays left empty": said(closes.iloc[-DAYS:], PanelReading()),
        "caught": caught(closes, filled),
    }


def said(table: pd.DataFrame, reading: PanelReading) -> dict[str, Any]:
    """What `headstart.fit` finds, and what the reader notes."""
    start = time.perf_counter()
    model = headstart.fit(
        table, horizon=5, reading=reading, strategy="zero_shot", scratch=False, progress=Screen(False)
    )
    run = json.loads(model.files["metrics.json"])
    findings = [{key: one[key] for key in ("kind", "severity", "text")} for one in run["findings"]]
    return {"findings": findings, "notes": run["data"]["notes"], "seconds": round(time.perf_counter() - start, 1)}


def caught(closes: pd.DataFrame, filled: pd.DataFrame) -> dict[str, Any]:
    """How many of the values that were filled in by interpolation are named, and how many others are."""
    panel = read_panel(filled)
    named = pd.DataFrame(interpolated(panel).T, index=panel.times[: panel.n_steps], columns=panel.ids)
    truly = (closes.isna() & filled.notna()).reindex(named.index)[list(named.columns)]
    untouched = read_panel(closes)
    return {
        "values": int(filled.notna().sum().sum()),
        "filled in": int(truly.sum().sum()),
        "of these named": int((named & truly).sum().sum()),
        "others named": int((named & ~truly).sum().sum()),
        "named where holidays are empty": int(interpolated(untouched).sum()),
        "kinds found": sorted({one.kind for one in audit_panel(panel)}),
        "kinds found where holidays are empty": sorted({one.kind for one in audit_panel(untouched)}),
    }


def published(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> dict[str, Any]:
    """sMAPE of M4's own benchmarks on all hourly series, done again from their definition, beside the published."""
    errors: dict[str, list[float]] = {"Naive2": [], "Theta": [], "seasonal naive": []}
    for name, values in train.items():
        figure = seasonal_figure(values)
        even = values / np.resize(figure, len(values))
        ahead = np.resize(np.roll(figure, -(len(values) % SEASON)), HORIZON)
        found = {
            "Naive2": even[-1] * ahead,
            "Theta": theta(even) * ahead,
            "seasonal naive": np.resize(values[-SEASON:], HORIZON),
        }
        for system, forecast in found.items():
            errors[system].append(float(np.mean(200 * abs(test[name] - forecast) / (abs(test[name]) + abs(forecast)))))
    again = {system: round(float(np.mean(each)), 3) for system, each in errors.items()}
    return {"published": PUBLISHED, "again": again, "n_series": len(train)}


def seasonal_figure(values: np.ndarray) -> np.ndarray:
    """(24,) factors of the classical multiplicative decomposition; ones where M4's test at 90 % finds no season."""
    n, centred = len(values), values - values.mean()
    correlations = np.array([centred[lag:] @ centred[: n - lag] for lag in range(1, SEASON + 1)]) / (centred @ centred)
    limit = 1.645 * np.sqrt((1 + 2 * np.sum(correlations[:-1] ** 2)) / n)
    if abs(correlations[-1]) <= limit:
        return np.ones(SEASON)
    window = np.r_[0.5, np.ones(SEASON - 1), 0.5] / SEASON
    trend = np.full(n, np.nan)
    trend[SEASON // 2 : n - SEASON // 2] = np.convolve(values, window, "valid")
    padded = np.pad(values / trend, (0, -n % SEASON), constant_values=np.nan).reshape(-1, SEASON)
    figure = np.nanmean(padded, axis=0)
    return figure / figure.mean()


def theta(values: np.ndarray) -> np.ndarray:
    """(48,) mean of the straight line and of exponential smoothing of the line with twice the curvature."""
    steps = np.arange(len(values))
    slope, start = np.polyfit(steps, values, 1)
    bent = 2 * values - (start + slope * steps)

    def level(alpha: float) -> tuple[float, float]:
        at, squares = bent[0], 0.0
        for one in bent[1:]:
            squares += (one - at) ** 2
            at += alpha * (one - at)
        return at, squares

    alpha = minimize_scalar(lambda a: level(a)[1], bounds=(1e-4, 0.9999), method="bounded").x
    return 0.5 * level(alpha)[0] + 0.5 * (start + slope * (len(values) + np.arange(HORIZON)))
