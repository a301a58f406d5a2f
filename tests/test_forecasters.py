"""Every classical forecaster keeps the contract of `Forecaster`; naive ones have closed forms, models their library."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from headstart.errors import MissingExtraError
from headstart.forecasters import run
from headstart.forecasters.run import Windows, names_for, run_all
from headstart.forecasters.statistical import NORMAL, Statistical, quiet
from headstart.registry import FORECASTERS
from headstart.tasks.forecasting import LEVELS

RNG = np.random.default_rng(0)
STEPS = np.arange(140)
SEASONAL = 20 + 3 * np.sin(2 * np.pi * STEPS / 7) + RNG.normal(size=len(STEPS)).cumsum() * 0.3
UNTIL, ORIGINS, H = 100, np.array([99, 110, 120]), 9
NAMES = FORECASTERS.names()
MODELS = [name for name in NAMES if issubclass(FORECASTERS.get(name), Statistical)]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param in MODELS:
        pytest.importorskip("statsforecast")
    return request.param


def forecasts(name: str, values: np.ndarray, season: int = 7, horizon: int = H) -> np.ndarray:
    return FORECASTERS.get(name)().fit(values, season, UNTIL).forecasts(values, ORIGINS, horizon)


def test_contract_quantiles_are_sorted_and_finite(name: str) -> None:
    found = forecasts(name, SEASONAL)
    assert found.shape == (3, H, len(LEVELS))
    assert np.isfinite(found).all()
    assert (np.diff(found, axis=-1) >= 0).all()
    assert (np.diff(found[..., [0, -1]], axis=-1) > 0).all()


def test_contract_nothing_after_the_origin_is_used(name: str) -> None:
    """Another future gives the same forecasts to the bit, and so does none."""
    changed = SEASONAL.copy()
    changed[ORIGINS[1] + 1 :] = -1e6
    np.testing.assert_array_equal(forecasts(name, changed)[:2], forecasts(name, SEASONAL)[:2])
    missing = SEASONAL.copy()
    missing[ORIGINS[0] + 1 :] = np.nan
    np.testing.assert_array_equal(forecasts(name, missing)[0], forecasts(name, SEASONAL)[0])


def test_contract_missing_values_and_a_late_start(name: str) -> None:
    values = SEASONAL.copy()
    values[:20] = np.nan
    values[RNG.choice(np.arange(20, 140), 15, replace=False)] = np.nan
    values[99] = np.nan
    assert np.isfinite(forecasts(name, values)).all()


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_contract_a_constant_or_a_short_series_repeats_its_last_value(name: str, kept: int) -> None:
    values = np.full(140, 5.0)
    if kept:
        values[:UNTIL] = np.nan
        values[UNTIL - kept : UNTIL] = 5.0
    fitted = FORECASTERS.get(name)().fit(values, 7, UNTIL)
    found = fitted.forecasts(values, ORIGINS, H)
    np.testing.assert_allclose(found[..., 5], 0.0 if name == "no_change" else 5.0)
    if name != "no_change":
        np.testing.assert_allclose(found, 5.0)
    assert bool(fitted.fallback) == (name in MODELS)


def test_last_value_drift_and_season_are_closed_forms() -> None:
    origin = ORIGINS[1]
    ahead = np.arange(1, H + 1)
    np.testing.assert_allclose(forecasts("last_value", SEASONAL)[1, :, 5], SEASONAL[origin])
    slope = (SEASONAL[origin] - SEASONAL[0]) / origin
    np.testing.assert_allclose(forecasts("drift", SEASONAL)[1, :, 5], SEASONAL[origin] + slope * ahead)
    seasonal = [SEASONAL[origin - 7 + 1 + (h % 7)] for h in range(H)]
    np.testing.assert_allclose(forecasts("seasonal_naive", SEASONAL)[1, :, 5], seasonal)
    np.testing.assert_array_equal(forecasts("seasonal_naive", SEASONAL, 1), forecasts("last_value", SEASONAL, 1))


def test_a_hole_in_the_season_is_filled_from_the_season_before_only() -> None:
    values = SEASONAL.copy()
    values[94] = np.nan
    assert forecasts("seasonal_naive", values)[0, 1, 5] == SEASONAL[87]  # step 101 has the place of 94 and 87


def test_the_bands_of_the_last_value_are_quantiles_of_its_absolute_errors() -> None:
    found = forecasts("last_value", SEASONAL)
    for step in (0, 4):
        errors = [abs(SEASONAL[t + step + 1] - SEASONAL[t]) for t in range(UNTIL // 4, UNTIL - 1 - step)]
        for low, high, share in ((1, 9, 0.8), (0, 10, 0.95)):
            width = np.quantile(errors, share)
            np.testing.assert_allclose(found[0, step, [low, high]], SEASONAL[99] + np.array([-width, width]))


def test_the_last_value_of_a_random_walk_covers_what_it_says() -> None:
    walks = np.random.default_rng(1).normal(size=(100, 320)).cumsum(axis=1)
    origins = np.array([300])
    found = np.stack([FORECASTERS.get("last_value")().fit(w, 1, 300).forecasts(w, origins, 5)[0] for w in walks])
    truth = walks[:, 301:306, None]
    inside = ((truth >= found[..., [1]]) & (truth <= found[..., [9]])).mean()
    assert inside == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("name", MODELS)
def test_at_the_end_of_the_fit_a_model_says_what_its_library_predicts(name: str) -> None:
    pytest.importorskip("statsforecast")
    past = SEASONAL[:UNTIL].copy()
    with quiet():
        library = FORECASTERS.get(name)().model(7).fit(past)
    expected = library.predict(H, level=[80])
    found = forecasts(name, SEASONAL)[0]
    np.testing.assert_allclose(found[:, 5], expected["mean"], rtol=1e-6)
    if name != "theta":  # whose library draws bands at random
        np.testing.assert_allclose(found[:, 1], expected["lo-80"], rtol=0.02)
        np.testing.assert_allclose(found[:, 9], expected["hi-80"], rtol=0.02)


@pytest.mark.parametrize("shift", [0.0, -40.0])  # below zero the season is additive
def test_the_band_of_theta_is_near_the_paths_that_its_library_draws(shift: float) -> None:
    pytest.importorskip("statsforecast")
    walk = np.random.default_rng(2).normal(size=UNTIL).cumsum() + 30 + shift
    library = FORECASTERS.get("theta")().model(1).fit(walk.copy())
    drawn = np.quantile(library.simulate(H, 4000, seed=0), LEVELS, axis=0).T
    found = FORECASTERS.get("theta")().fit(walk, 1, UNTIL).forecasts(walk, np.array([UNTIL - 1]), H)[0]
    width = drawn[:, 9] - drawn[:, 1]
    np.testing.assert_allclose(found[:, 9] - found[:, 1], width, rtol=0.15)


def test_the_additive_season_is_not_in_thetas_band() -> None:
    """The band does not grow with a season that is foretold exactly."""
    pytest.importorskip("statsforecast")
    noise = np.random.default_rng(3).normal(size=140)
    widths = []
    for height in (10.0, 40.0):
        values = height * np.sin(2 * np.pi * STEPS / 7) + noise
        found = FORECASTERS.get("theta")().fit(values, 7, UNTIL).forecasts(values, ORIGINS, H)
        widths.append((found[..., 9] - found[..., 1]).mean())
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[0] < 5


def test_gaussian_levels() -> None:
    pytest.importorskip("statsforecast")
    found = forecasts("ets", SEASONAL)[0]
    deviation = (found[:, 9] - found[:, 5]) / NORMAL[9]
    np.testing.assert_allclose(found - found[:, [5]], deviation[:, None] * NORMAL)


def test_a_model_that_explodes_or_raises_at_one_origin_falls_back_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("statsforecast")
    fitted = FORECASTERS.get("ets")().fit(SEASONAL, 7, UNTIL)
    model = fitted.model
    real = model.forward

    def forward(y: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if len(y) == ORIGINS[1] + 1:
            raise ValueError("no")
        found = real(y, *args, **kwargs)
        return {**found, "mean": found["mean"] * 1e9} if len(y) == ORIGINS[2] + 1 else found

    monkeypatch.setattr(model, "forward", forward)
    found = fitted.forecasts(SEASONAL, ORIGINS, H)
    expected = forecasts("last_value", SEASONAL)
    np.testing.assert_array_equal(found[1:], expected[1:])
    assert fitted.fallback == "ValueError: no"


def test_run_all_puts_every_window_in_its_row() -> None:
    values = np.stack([SEASONAL, SEASONAL[::-1], np.full(140, 2.0)])
    series, origins = np.array([2, 0, 1, 0]), np.array([99, 120, 99, 99])
    windows = Windows(values=values, series=series, origins=origins, horizon=4, season=7, until=UNTIL)
    told: list[int] = []
    found = run_all(windows, ("last_value", "seasonal_naive"), told.append)
    assert sum(told) == 6
    for title, name in (("last value", "last_value"), ("seasonal naive", "seasonal_naive")):
        for row, (one, origin) in enumerate(zip(series, origins, strict=True)):
            alone = FORECASTERS.get(name)().fit(values[one], 7, UNTIL)
            expected = alone.forecasts(values[one], np.array([origin]), 4)[0]
            np.testing.assert_array_equal(found.forecasts[title][row], expected)
    assert not found.fallbacks
    assert set(found.seconds) == {"last value", "seasonal naive"}


def test_worker_processes_give_the_same_and_fallbacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("statsforecast")
    values = np.stack([SEASONAL, SEASONAL[::-1], np.full(140, 2.0)])
    windows = Windows(values=values, series=np.arange(3), origins=np.full(3, 99), horizon=4, season=1, until=UNTIL)
    here = run_all(windows, ("theta",))
    monkeypatch.setattr(run, "WORTH_WORKERS", 1)
    there = run_all(windows, ("theta",))
    np.testing.assert_array_equal(here.forecasts["Theta"], there.forecasts["Theta"])
    assert here.fallbacks == there.fallbacks == {"Theta": {"constant": 1}}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    with pytest.raises(MissingExtraError, match=r"headstart\[forecasting\]"):
        FORECASTERS.get("ets")().fit(SEASONAL, 7, UNTIL)


def test_without_a_season_the_seasonal_naive_is_left_out() -> None:
    assert "seasonal_naive" not in names_for(1)
    assert set(names_for(7, returns=True)) == set(NAMES)


def test_of_returns_the_random_walk_says_no_change() -> None:
    assert set(names_for(1, returns=True)) - set(names_for(1)) == {"no_change"}
    np.testing.assert_array_equal(forecasts("no_change", SEASONAL)[..., 5], 0.0)
