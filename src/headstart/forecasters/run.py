"""Forecasts of every classical forecaster for every window of a panel, each series fitted once."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstart.forecasters.statistical import Statistical
from headstart.registry import FORECASTERS
from headstart.tasks.forecasting import LEVELS

NAMES = ("last_value", "drift", "seasonal_naive", "ets", "theta", "arima")
WORTH_WORKERS = 24  # series to fit models to, from which it pays to start other processes


@dataclass(frozen=True, kw_only=True)
class Windows:
    """N windows of a panel, and how far it may be looked at to fit."""

    values: np.ndarray  # (S, T) NaN where missing
    series: np.ndarray  # (N,) rows of values
    origins: np.ndarray  # (N,) steps
    horizon: int
    season: int
    until: int  # forecasters are fitted to values[:, :until]


@dataclass(frozen=True, kw_only=True)
class Classical:
    """What classical forecasters say of N windows, by title."""

    forecasts: dict[str, np.ndarray]  # (N, H, Q)
    fallbacks: dict[str, dict[str, int]] = field(default_factory=dict)  # title -> why the last value stays -> series
    seconds: dict[str, float] = field(default_factory=dict)  # of work, all series together


@dataclass(frozen=True)
class _Job:
    """One forecaster on one series."""

    name: str
    values: np.ndarray  # (T,)
    rows: np.ndarray  # (K,) windows of this series
    windows: tuple[np.ndarray, int, int, int]  # origins (K,), horizon, season, until

    def run(self) -> tuple[_Job, np.ndarray, str, float]:
        """(itself, forecasts (K, H, Q), why it fell back, seconds)."""
        origins, horizon, season, until = self.windows
        start = time.perf_counter()
        fitted = FORECASTERS.get(self.name)().fit(self.values, season, until)
        found = fitted.forecasts(self.values, origins, horizon)
        return self, found, fitted.fallback, time.perf_counter() - start


def names_for(season: int, returns: bool = False) -> tuple[str, ...]:
    """All forecasters but the seasonal naive one where there is no season: it would be the last value again."""
    names = tuple(name for name in NAMES if season > 1 or name != "seasonal_naive")
    return ("no_change", *names) if returns else names


def run_all(windows: Windows, names: Sequence[str], tick: Callable[[int], None] = lambda n: None) -> Classical:
    """Every named forecaster on every window; `tick` is told of each series that a forecaster is through with.

    statsforecast holds the interpreter's lock, so that threads gain nothing; many series go to other processes.
    """
    titles = {name: FORECASTERS.get(name).title for name in names}
    shape = (len(windows.series), windows.horizon, len(LEVELS))
    forecasts = {title: np.full(shape, np.nan) for title in titles.values()}
    fallbacks: dict[str, Counter[str]] = {title: Counter() for title in titles.values()}
    seconds = dict.fromkeys(titles.values(), 0.0)
    with _finished(list(_jobs(windows, names))) as finished:
        for job, found, why, spent in finished:
            title = titles[job.name]
            forecasts[title][job.rows] = found
            seconds[title] += spent
            if why:
                fallbacks[title][why] += 1
            tick(1)
    named = {title: dict(counts) for title, counts in fallbacks.items() if counts}
    return Classical(forecasts=forecasts, fallbacks=named, seconds=seconds)


def _jobs(windows: Windows, names: Sequence[str]) -> Iterator[_Job]:
    for series in np.unique(windows.series):
        rows = np.flatnonzero(windows.series == series)
        asked = (windows.origins[rows], windows.horizon, windows.season, windows.until)
        for name in names:
            yield _Job(name, windows.values[series], rows, asked)


@contextmanager
def _finished(jobs: list[_Job]) -> Iterator[Iterator[tuple[_Job, np.ndarray, str, float]]]:
    """Results of jobs, in any order, by worker processes where there are many models to fit and cores to do it."""
    n_models = len({id(job.rows) for job in jobs if issubclass(FORECASTERS.get(job.name), Statistical)})
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_models < WORTH_WORKERS or n_cores < 2:
        yield (job.run() for job in jobs)
        return
    import joblib
    from joblib.externals.loky import get_reusable_executor

    workers: Any = joblib.Parallel(n_jobs=n_cores, return_as="generator_unordered", batch_size=1)
    try:
        yield workers(joblib.delayed(job.run)() for job in jobs)
    finally:
        get_reusable_executor().shutdown(wait=True)
