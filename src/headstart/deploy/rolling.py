"""Measure a run on what came after it was fitted: forecasts at rolling origins, over steps that it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.data.outlook import FEWEST_OBSERVED, Outlook, Windows, windows_at
from headstart.data.panel import Panel
from headstart.deploy import forecasts
from headstart.deploy.ahead import check_panel
from headstart.deploy.evaluation import Evaluation
from headstart.deploy.forecasts import PAST_ORIGINS, outcomes_of
from headstart.errors import DataError
from headstart.evidence import words
from headstart.evidence.bands import Seen
from headstart.evidence.base import Score
from headstart.evidence.blocks import BlockScales, Layout, layout
from headstart.evidence.forecasts import times_said
from headstart.evidence.intervals import compare
from headstart.evidence.weigh import MODEL
from headstart.progress import Progress
from headstart.tasks.base import Metric
from headstart.tasks.forecasting import BANDS, Forecasting, coverage, last_values

if TYPE_CHECKING:
    from headstart.deploy.model import Model


def measure(model: Model, panel: Panel, seed: int = 0, progress: Progress | None = None) -> Evaluation:
    """Every metric and the coverage of the bands, with their intervals, over the steps after the run's last.

    DataError where there are not enough of them for one forecast.
    """
    assert model.seer is not None, "asked of a run that forecasts"
    task = model.task
    assert isinstance(task, Forecasting), "a run that forecasts has such a task"
    check_panel(panel, model.seer, 0)
    first = first_new(panel, forecasts.history(model))
    outlook = Outlook(panel=panel, horizon=task.horizon, val_from=first, test_from=first)
    tested = outlook.windows("test")
    if not len(tested):
        raise DataError(nothing_new(panel, first, task.horizon))
    said, y = _said(model, outlook, tested, progress or Progress()), outlook.truth(tested)
    metrics = (*task.metrics(), *(coverage(band) for band in BANDS))
    found = layout(tested.series, tested.origins, task.horizon)
    scales = BlockScales(metrics=metrics, asked_for=None, seed=seed, layout=found)
    walk = np.zeros_like(said) if task.returns else last_values(y)
    both = {MODEL: said, task.walk_title: walk}
    scores, differences = compare(metrics, y, both, MODEL, scales.resamples(len(y)), scales.n_groups)
    beside = _beside(task, metrics[0], scores[task.walk_title], differences[task.walk_title])
    return Evaluation(
        metrics=scores[MODEL],
        n=len(tested),
        notes=(_spread(panel, first, found, task.horizon), *beside),
        titles={metric.name: metric.title for metric in metrics},
    )


def _said(model: Model, outlook: Outlook, tested: Windows, progress: Progress) -> np.ndarray:
    """Quantiles (N, H, Q) of the tested windows; their bands follow the outcomes known at each origin."""
    seer, panel, first = model.seer, outlook.panel, outlook.test_from
    assert seer is not None, "asked of a run that forecasts"
    start = max(FEWEST_OBSERVED - 1, first - 1 - PAST_ORIGINS)
    all_ = windows_at(panel, np.arange(start, int(tested.origins[-1]) + 1), outlook.horizon)
    found = seer.said(model, panel, all_, progress, until=first)
    known = outcomes_of(panel, all_, outlook.horizon)
    past = Seen(forecasts=found, outcomes=known, series=all_.series, origins=all_.origins)
    places = {pair: row for row, pair in enumerate(zip(all_.series, all_.origins, strict=True))}
    rows = [places[pair] for pair in zip(tested.series, tested.origins, strict=True)]
    return seer.bands.corrected(found[rows], tested.series, tested.origins, past)


def first_new(panel: Panel, seen: Panel) -> int:
    """The first step of a panel that the run has not seen.

    With dates it is the first after the run's last, whatever the series. Without them it is found by the run's last
    values: what comes after them is new; where they are not there, they are other data, and all of it is new.
    """
    if panel.times.dtype.kind == "M" and seen.times.dtype.kind == "M":
        return int(np.searchsorted(panel.times[: panel.n_steps], seen.times[seen.n_steps - 1], side="right"))
    for row in seen.values:
        observed = row[np.isfinite(row)]
        tail = observed[-FEWEST_OBSERVED:]
        for values in panel.values:
            if (end := _end_of(tail, values)) is not None:
                return end
            if _end_of(values[np.isfinite(values)][-FEWEST_OBSERVED:], row) is not None:
                return panel.n_steps  # all of it is a part of what the run was fitted on
    return FEWEST_OBSERVED


def _end_of(tail: np.ndarray, values: np.ndarray) -> int | None:
    """The step after the place where these values stand in others (T,), its gaps left out; None where they do not."""
    steps = np.flatnonzero(np.isfinite(values))
    if not FEWEST_OBSERVED <= len(tail) <= len(steps):
        return None
    pieces = np.lib.stride_tricks.sliding_window_view(values[steps], len(tail))
    places = np.flatnonzero(np.isclose(pieces, tail, rtol=1e-9, atol=0).all(1))
    return int(steps[places[-1] + len(tail) - 1]) + 1 if len(places) else None


def nothing_new(panel: Panel, first: int, horizon: int) -> str:
    """Why nothing can be measured."""
    n_new = panel.n_steps - first
    what = f"{n_new:,} step{'s' * (n_new != 1)}" if n_new > 0 else "no step"
    return (
        f"{panel.source} has {what} after those that the run was fitted on, and a forecast of {horizon:,} steps is "
        f"measured on {horizon:,} new ones with values. Give a file that goes on for longer, with what came before."
    )


def _spread(panel: Panel, first: int, found: Layout, horizon: int) -> str:
    since = times_said(panel.times[first : first + 1])[0]
    return (
        f"forecasts of {horizon:,} steps from {words.count(found.n_origins)} origin{'s' * (found.n_origins != 1)} of "
        f"{words.count(found.n_series)} series, over what came from {since} on; about {found.n_units:,} independent "
        f"{found.unit}"
    )


def _beside(task: Forecasting, metric: Metric, walk: dict[str, Score], difference: dict[str, Score]) -> list[str]:
    """What the random walk scores on the same windows."""
    if metric.name not in walk:
        return []
    said = words.comparison(difference[metric.name], metric.better).text
    return [f"{task.walk_title}: {metric.title} {words.score(walk[metric.name])}; {said}"]
