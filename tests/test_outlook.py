"""A panel cut in time, window by window against brute force: what teaches, chooses and is tested never overlaps."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error

from headstart.data.outlook import (
    FEWEST_OBSERVED,
    FEWEST_ORIGINS,
    FEWEST_TAUGHT,
    MOST_CHOSEN,
    MOST_TESTED,
    Outlook,
    Windows,
    carried,
    look_ahead,
    season_before,
    windows_at,
)
from headstart.data.panel import Panel
from headstart.errors import DataError, PlanError

SPLITS = ("train", "val", "test")


def panel_of(values: np.ndarray, season: int = 1) -> Panel:
    """Series without dates."""
    n_series, n_steps = values.shape
    return Panel(
        name="series",
        source=f"{n_series} series in memory",
        ids=tuple(f"s{number}" for number in range(n_series)),
        times=np.arange(n_steps),
        frequency="",
        season=season,
        values=values,
    )


def ragged(season: int = 7) -> Panel:
    """A whole series, one that begins late, one that ends early, one full of gaps, and one that was never seen."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 200)).cumsum(1)
    values[1, :90] = np.nan
    values[2, 130:] = np.nan
    values[3, rng.random(200) < 0.7] = np.nan
    values[4] = np.nan
    return panel_of(values, season)


def splits() -> list[Outlook]:
    return [look_ahead(ragged(), 5), look_ahead(ragged(), 1, test_steps=30), look_ahead(ragged(), 25)]


@pytest.mark.parametrize("outlook", splits(), ids=["default", "one step", "long"])
@pytest.mark.parametrize("name", SPLITS)
def test_windows_are_those_that_brute_force_finds(outlook: Outlook, name: str) -> None:
    values, ahead = outlook.panel.values, outlook.horizon
    begin, end = {
        "train": (0, outlook.val_from),
        "val": (outlook.val_from, outlook.test_from),
        "test": (outlook.test_from, values.shape[1]),
    }[name]
    wanted = set()
    for series, row in enumerate(values):
        for origin in range(values.shape[1]):
            first, last = origin + 1, origin + ahead
            enough = np.isfinite(row[: origin + 1]).sum() >= FEWEST_OBSERVED
            if enough and begin <= first and last < end and np.isfinite(row[first : last + 1]).any():
                wanted.add((series, origin))
    found = outlook.windows(name)
    pairs = list(zip(found.series.tolist(), found.origins.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs) == len(found)
    assert set(pairs) == wanted
    assert pairs == sorted(pairs, key=lambda pair: (pair[1], pair[0]))


@pytest.mark.parametrize("outlook", splits(), ids=["default", "one step", "long"])
def test_what_one_split_learns_of_is_over_before_the_next_begins(outlook: Outlook) -> None:
    spans = []
    for name in SPLITS:
        origins = outlook.windows(name).origins
        spans.append((int(origins.min()) + 1, int(origins.max()) + outlook.horizon))
    for (_, last), (first, _) in pairwise(spans):
        assert last < first
    assert spans[-1][1] == outlook.panel.n_steps - 1  # the latest outcome is tested


def test_truth_is_what_came_the_scale_and_the_last_value() -> None:
    outlook = look_ahead(ragged(), 5)
    values = outlook.panel.values
    windows = outlook.windows("test")
    y = outlook.truth(windows)
    assert y.shape == (len(windows), 7)
    for row, series, origin in zip(y, windows.series, windows.origins, strict=True):
        np.testing.assert_array_equal(row[:5], values[series, origin + 1 : origin + 6])
        seen = values[series, : origin + 1]
        assert row[6] == seen[np.isfinite(seen)][-1]
        assert row[5] == outlook.scales[series]


def test_the_scale_is_that_of_mase() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((2, 120)).cumsum(1)
    values[1, 100:] += 50  # in the test: of no concern
    outlook = look_ahead(panel_of(values, 7), 5)
    before = values[:, : outlook.test_from]
    wanted = [mean_absolute_error(row[7:], row[:-7]) for row in before]
    np.testing.assert_allclose(outlook.scales, wanted)


def test_the_scale_leaves_out_what_is_missing() -> None:
    row = np.sin(np.arange(100.0)) * np.arange(100)
    gaps = row.copy()
    gaps[[3, 20, 21, 50]] = np.nan
    filled = carried(gaps[None])[0]
    outlook = look_ahead(panel_of(gaps[None], 4), 3)
    steps = [t for t in range(4, outlook.test_from) if np.isfinite(gaps[t]) and np.isfinite(filled[t - 4])]
    assert outlook.scales[0] == pytest.approx(np.mean([abs(gaps[t] - filled[t - 4]) for t in steps]))


def test_a_series_that_stands_still_has_a_scale() -> None:
    values = np.ones((2, 100))
    values[1, -5] = 3.0
    scales = look_ahead(panel_of(values, 7), 3).scales
    assert scales[0] == 1.0
    assert scales[1] == pytest.approx(4 / 99)


def test_carried_is_the_last_value_that_was_seen() -> None:
    values = np.array([[np.nan, 1.0, np.nan, np.nan, 2.0], [np.nan] * 5])
    np.testing.assert_array_equal(carried(values), [[np.nan, 1, 1, 1, 2], [np.nan] * 5])


@pytest.mark.parametrize("season", [1, 4, 7])
@pytest.mark.parametrize("ahead", [1, 4, 10])
def test_season_before_is_the_seasonal_naive_forecast(season: int, ahead: int) -> None:
    rng = np.random.default_rng(2)
    panel = panel_of(rng.standard_normal((3, 60)), season)
    windows = windows_at(panel, np.array([20, 33, 49]), ahead)
    assert len(windows) == 9
    for row, series, origin in zip(season_before(panel, windows, ahead), windows.series, windows.origins, strict=True):
        seen = list(panel.values[series, : origin + 1])
        for _ in range(ahead):  # by going on with it, a step at a time
            seen.append(seen[-season])
        np.testing.assert_array_equal(row, seen[-ahead:])


def test_season_before_carries_a_gap_forward() -> None:
    values = np.arange(40.0)[None].copy()
    values[0, 26] = np.nan
    found = season_before(panel_of(values, 4), Windows(np.array([0]), np.array([29])), 4)
    np.testing.assert_array_equal(found, [[25, 27, 28, 29]])


def test_many_series_are_tested_from_fewer_origins_that_cover_all_of_the_time() -> None:
    many = panel_of(np.random.default_rng(0).standard_normal((400, 400)))
    outlook = look_ahead(many, 4)
    test, val = outlook.windows("test"), outlook.windows("val")
    for split, most, first in ((test, MOST_TESTED, outlook.test_from), (val, MOST_CHOSEN, outlook.val_from)):
        origins = np.unique(split.origins)
        assert len(split) == 400 * len(origins)
        assert len(np.unique(np.diff(origins))) == 1
        assert len(origins) <= max(FEWEST_ORIGINS, most // 400)
        assert origins[0] == first - 1
    assert len(np.unique(test.origins)) >= FEWEST_ORIGINS // 2


def test_horizons_that_cannot_be() -> None:
    panel = panel_of(np.zeros((1, 100)))
    with pytest.raises(PlanError, match="horizon=0"):
        look_ahead(panel, 0)
    with pytest.raises(PlanError, match=r"test of 3 steps .* horizon of 4"):
        look_ahead(panel, 4, test_steps=3)
    with pytest.raises(DataError, match="100 steps, too few"):
        look_ahead(panel, 60)
    with pytest.raises(DataError, match="too few"):
        look_ahead(panel, 4, test_steps=200)


@pytest.mark.parametrize("ahead", [1, 3, 10, 40])
def test_as_many_steps_as_are_asked_for_are_enough(ahead: int) -> None:
    with pytest.raises(DataError) as caught:
        look_ahead(panel_of(np.zeros((1, 12))), ahead)
    found = re.search(r"at least ([\d,]+) are needed", str(caught.value))
    assert found is not None
    needed = int(found[1].replace(",", ""))
    rng = np.random.default_rng(0)
    outlook = look_ahead(panel_of(rng.standard_normal((1, needed))), ahead)
    assert len(outlook.windows("train")) >= FEWEST_TAUGHT
    assert min(len(outlook.windows(name)) for name in SPLITS) >= 1
    with pytest.raises(DataError):
        look_ahead(panel_of(np.zeros((1, needed - 1))), ahead)


def test_the_scale_of_a_series_that_began_late_does_not_go_by_the_test() -> None:
    values = np.full((2, 200), np.nan)
    values[0] = np.arange(200.0)
    values[1, 130:] = np.arange(70.0)
    outlook = look_ahead(panel_of(values, 40), 5)
    changed = values.copy()
    changed[:, outlook.test_from :] *= 7
    np.testing.assert_array_equal(look_ahead(panel_of(changed, 40), 5).scales, outlook.scales)
