"""What forecasts prove beside their scores: coverage, tests against each rival, errors by step and series, fans.

Every share has its interval over the same block resamples as the metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from headstart.data.panel import Panel
from headstart.evidence.base import Score
from headstart.evidence.diebold_mariano import DieboldMariano
from headstart.evidence.forecast_verdict import Contest, against
from headstart.evidence.intervals import score
from headstart.tasks.base import Metric, Weights
from headstart.tasks.forecasting import BANDS, coverage, median, outcomes, scale

N_SERIES = 5  # best and worst that are named
TAIL = 4  # horizons of history in a fan …
SEASONS = 3  # … or so many seasons, whichever is longer


@dataclass(frozen=True, kw_only=True)
class Covered:
    """One band of one system."""

    share: Score | None  # of outcomes within it; None where nothing was observed
    width: float | None  # mean over that of the model's, each in units of the series' scale


@dataclass(frozen=True, kw_only=True)
class SystemForecasts:
    """One system on test."""

    name: str
    bands: dict[str, Covered]  # "80", "95"
    test: DieboldMariano | None  # of the model against it; None for the model itself


@dataclass(frozen=True, kw_only=True)
class SeriesError:
    """One series under the primary metric's loss of a window, less being better."""

    name: str
    model: float
    rival: float


@dataclass(frozen=True, kw_only=True)
class Fan:
    """One window as it is drawn; None where nothing was observed."""

    name: str  # of the series
    which: str  # "typical", "best", "worst" under the primary metric
    history_times: tuple[str, ...]
    history: tuple[float | None, ...]  # up to the origin
    times: tuple[str, ...]  # H steps after it
    outcome: tuple[float | None, ...]
    median: tuple[float, ...]
    bands: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]  # "80" -> (low, high)
    rival: tuple[float, ...]  # median of the rival


@dataclass(frozen=True, kw_only=True)
class ForecastEvidence:
    """All systems on test. JSON through `to_json` / `from_json`."""

    metric: str  # name of the metric that tests, series and fans go by
    rival: str  # the classical forecaster that was best on validation
    n_windows: int
    n_series: int
    n_origins: int
    n_units: int  # about independent
    unit: str  # "blocks of origins", "series"
    splits: dict[str, str]  # "first validation origin" -> date or step
    systems: tuple[SystemForecasts, ...]  # the model first
    steps: dict[str, tuple[float | None, ...]]  # system -> H mean absolute errors of the median, in units of the scale
    best: tuple[SeriesError, ...]
    worst: tuple[SeriesError, ...]  # worst first
    fans: tuple[Fan, ...]
    fallbacks: dict[str, dict[str, int]] = field(default_factory=dict)  # forecaster -> why the last value -> series

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        saved = asdict(self)
        for one, system in zip(saved["systems"], self.systems, strict=True):
            one["test"] = system.test and system.test.to_json()
        return saved

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> ForecastEvidence:
        """The inverse of `to_json`."""
        errors = {name: tuple(SeriesError(**one) for one in saved[name]) for name in ("best", "worst")}
        own = {
            "systems": tuple(_system(one) for one in saved["systems"]),
            "steps": {name: tuple(each) for name, each in saved["steps"].items()},
            "fans": tuple(_fan(one) for one in saved["fans"]),
        }
        return cls(**{**saved, **errors, **own})


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The panel that windows (N,) are of, so that evidence can name and draw them."""

    panel: Panel
    series: np.ndarray  # (N,) rows of the panel
    origins: np.ndarray  # (N,) steps
    splits: dict[str, str] = field(default_factory=dict)
    fallbacks: dict[str, dict[str, int]] = field(default_factory=dict)


def measure_forecasts(contest: Contest, metric: Metric, shown: Shown) -> ForecastEvidence:
    """The evidence of test; `metric` is the primary one, that `weigh_systems` found."""
    y, systems, layout = contest.y, contest.systems, contest.scales.layout
    weights = contest.scales.resamples(len(y))
    tests = against(contest, metric, tuple(systems))
    names = [contest.adapted, *(name for name in systems if name != contest.adapted)]
    losses = {name: contest.task.window_losses(metric.name, y, one) for name, one in systems.items()}
    own, rival = losses[contest.adapted], losses[contest.rival_system]
    errors = _by_series(own, rival, shown)
    return ForecastEvidence(
        metric=metric.name,
        rival=contest.rival,
        n_windows=len(y),
        n_series=layout.n_series,
        n_origins=layout.n_origins,
        n_units=layout.n_units,
        unit=layout.unit,
        splits=shown.splits,
        systems=tuple(
            SystemForecasts(
                name=name,
                bands={band: _covered(contest, name, band, weights) for band in BANDS},
                test=tests[name].test if name in tests else None,
            )
            for name in names
        ),
        steps={name: _by_step(y, systems[name]) for name in names},
        best=tuple(errors[:N_SERIES]),
        worst=tuple(errors[: -N_SERIES - 1 : -1]),
        fans=tuple(_drawn(contest, shown, which, row) for which, row in _typical(own).items()),
        fallbacks=shown.fallbacks,
    )


def _covered(contest: Contest, name: str, band: str, weights: Weights) -> Covered:
    metric = coverage(band)
    y, found = contest.y, contest.systems[name]
    share = score([metric], y, found, weights, contest.scales.n_groups).get(metric.name)
    widths = [_width(y, contest.systems[one], band) for one in (name, contest.adapted)]
    return Covered(share=share, width=widths[0] / widths[1] if widths[1] > 0 else None)


def _width(y: np.ndarray, found: np.ndarray, band: str) -> float:
    """Mean width in units of the scale; 0 where no series has a scale."""
    low, high = BANDS[band]
    unit = scale(y)
    kept = unit > 0
    widths = (found[kept, :, high] - found[kept, :, low]) / unit[kept, None]
    return float(widths.mean()) if kept.any() else 0.0


def _by_step(y: np.ndarray, found: np.ndarray) -> tuple[float | None, ...]:
    unit = scale(y)
    errors = np.abs(outcomes(y) - median(found)) / np.where(unit > 0, unit, np.nan)[:, None]
    return tuple(float(np.nanmean(step)) if np.isfinite(step).any() else None for step in errors.T)


def _by_series(own: np.ndarray, rival: np.ndarray, shown: Shown) -> list[SeriesError]:
    """Every series with a loss, the best first."""
    found = []
    for one in np.unique(shown.series):
        rows = (shown.series == one) & np.isfinite(own) & np.isfinite(rival)
        if rows.any():
            name = shown.panel.ids[one]
            found.append(SeriesError(name=name, model=float(own[rows].mean()), rival=float(rival[rows].mean())))
    return sorted(found, key=lambda error: error.model)


def _typical(own: np.ndarray) -> dict[str, int]:
    """Which windows are drawn: that with the median loss, the least and the greatest; fewer where there are fewer."""
    order = np.argsort(own, kind="stable")[: int(np.isfinite(own).sum())]
    if not len(order):
        return {}
    rows = {"typical": order[(len(order) - 1) // 2], "best": order[0], "worst": order[-1]}
    return {which: int(row) for which, row in rows.items() if which == "typical" or row != rows["typical"]}


def _drawn(contest: Contest, shown: Shown, which: str, row: int) -> Fan:
    panel, origin = shown.panel, int(shown.origins[row])
    found, horizon = contest.systems[contest.adapted][row], contest.task.horizon
    start = max(0, origin + 1 - max(TAIL * horizon, SEASONS * contest.task.season))
    values = panel.values[shown.series[row], start : origin + 1]
    return Fan(
        name=panel.ids[shown.series[row]],
        which=which,
        history_times=times_said(panel.times[start : origin + 1]),
        history=known_or_none(values),
        times=times_said(panel.times[origin + 1 : origin + 1 + horizon]),
        outcome=known_or_none(outcomes(contest.y)[row]),
        median=floats(median(found)),
        bands={band: (floats(found[:, low]), floats(found[:, high])) for band, (low, high) in BANDS.items()},
        rival=floats(median(contest.systems[contest.rival_system][row])),
    )


def times_said(times: np.ndarray) -> tuple[str, ...]:
    """Dates without a clock time that says nothing; steps as numbers."""
    if times.dtype.kind != "M":
        return tuple(str(int(one)) for one in times)
    days = bool((times == times.astype("datetime64[D]")).all())
    return tuple(str(one) for one in times.astype("datetime64[D]" if days else "datetime64[m]"))


def known_or_none(values: np.ndarray) -> tuple[float | None, ...]:
    """Numbers, None where there is none."""
    return tuple(float(one) if np.isfinite(one) else None for one in values)


def floats(values: np.ndarray) -> tuple[float, ...]:
    """Plain numbers."""
    return tuple(float(one) for one in values)


def _system(saved: dict[str, Any]) -> SystemForecasts:
    bands = {
        band: Covered(share=one["share"] and Score(**one["share"]), width=one["width"])
        for band, one in saved["bands"].items()
    }
    test = saved["test"] and DieboldMariano.from_json(saved["test"])
    return SystemForecasts(name=saved["name"], bands=bands, test=test)


def _fan(saved: dict[str, Any]) -> Fan:
    bands = {band: (tuple(low), tuple(high)) for band, (low, high) in saved["bands"].items()}
    rows: Sequence[str] = ("history_times", "history", "times", "outcome", "median", "rival")
    return Fan(**{**saved, **{name: tuple(saved[name]) for name in rows}, "bands": bands})
