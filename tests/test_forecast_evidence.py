"""Blocks stay together, the test keeps its size, bands cover what they say, and a random walk is called one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headstart.data.panel import Panel
from headstart.evidence.bands import Bands, Seen, scores, widened
from headstart.evidence.base import Evidence
from headstart.evidence.blocks import BlockScales, Layout, block_resamples, layout
from headstart.evidence.diebold_mariano import DieboldMariano, diebold_mariano, dm_statistic, long_run_variance
from headstart.evidence.forecast_verdict import Contest, forecast_claim
from headstart.evidence.forecasts import ForecastEvidence, Shown, measure_forecasts
from headstart.evidence.weigh import MODEL, SCRATCH, weigh_systems
from headstart.tasks.forecasting import LEVELS, MIDDLE, Forecasting, last, last_values, outcomes


def grid(n_series: int, origins: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray, Layout]:
    """Every series at every origin."""
    series, steps = np.repeat(np.arange(n_series), len(origins)), np.tile(origins, n_series)
    return series, steps, layout(series, steps, horizon)


def test_blocks_keep_origins_together_and_all_series_of_an_origin() -> None:
    series, steps, found = grid(3, np.arange(0, 120, 2), 10)
    assert (found.overlap, found.block, found.n_units, found.unit) == (5, 5, 12, "blocks of origins")
    weights = block_resamples(found, 200, 0)
    assert (weights.sum(axis=1) == len(series)).all()
    by_origin = np.stack([weights[:, series == one] for one in range(3)])
    assert (by_origin == by_origin[0]).all()
    drawn = by_origin[0][0] > 0
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, np.tile(drawn, 2), 0])))[::2]
    assert runs.min() >= found.block  # round the circle, nothing shorter than a block was drawn
    np.testing.assert_allclose(weights.mean(), 1)
    assert steps.max() == 118


def test_the_block_bootstrap_finds_the_error_of_a_correlated_mean() -> None:
    """A moving average of 8 steps: single draws miss most of the variance of its mean, blocks find most of it."""
    rng = np.random.default_rng(0)
    means, block, single = [], [], []
    for seed in range(60):
        values = np.convolve(rng.normal(size=407), np.ones(8) / 8, mode="valid")
        means.append(values.mean())
        _, _, found = grid(1, np.arange(400), 16)
        block.append((block_resamples(found, 200, seed) @ values / 400).std())
        single.append(values.std() / 20)
    true = 1 / 20  # the long-run deviation is 1
    assert np.mean(block) == pytest.approx(true, rel=0.15)
    assert np.mean(single) < 0.5 * true
    assert np.std(means) == pytest.approx(true, rel=0.35)


def test_with_few_origins_series_are_drawn_whole() -> None:
    series, _, found = grid(40, np.array([100, 110]), 20)
    assert (found.by_series, found.n_units, found.unit) == (True, 40, "series")
    weights = block_resamples(found, 50, 0)
    assert all((weights[:, series == one] == weights[:, series == one][:, :1]).all() for one in range(40))
    _, _, alone = grid(1, np.arange(5), 20)
    assert not alone.by_series
    assert alone.n_units == 2
    assert np.ptp(block_resamples(alone, 50, 0)) > 0
    assert block_resamples(grid(1, np.array([3]), 2)[2], 5, 0).tolist() == [[1]] * 5


def test_the_statistic_is_a_hac_regression_on_a_constant_with_the_correction_for_few_origins() -> None:
    sm = pytest.importorskip("statsmodels.api")
    values = np.convolve(np.random.default_rng(0).normal(size=90), np.ones(6), mode="valid") + 0.3
    n = len(values)
    for lag in (0, 3, 5):
        fit = sm.OLS(values, np.ones(n)).fit(
            cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False, "kernel": "uniform"}
        )
        h = lag + 1
        correction = np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
        assert dm_statistic(values, lag) == pytest.approx(fit.tvalues[0] * correction, rel=1e-10)


def test_a_variance_below_zero_gives_way_to_that_of_newey_and_west() -> None:
    sm = pytest.importorskip("statsmodels.api")
    values = np.tile([1.0, -1.0], 20) + np.random.default_rng(0).normal(size=40) * 0.01 + 0.2
    assert long_run_variance(values, np.ones(2)) < 0
    fit = sm.OLS(values, np.ones(40)).fit(cov_type="HAC", cov_kwds={"maxlags": 1, "use_correction": False})
    correction = np.sqrt((40 + 1 - 4 + 2 / 40) / 40)
    assert dm_statistic(values, 1) == pytest.approx(fit.tvalues[0] * correction, rel=1e-8)


def test_with_one_origin_the_test_is_the_paired_t_test_over_series() -> None:
    stats = pytest.importorskip("scipy.stats")
    a, b = np.random.default_rng(0).normal(size=(2, 30))
    found = diebold_mariano(a, b, grid(30, np.array([7]), 5)[2])
    expected = stats.ttest_rel(a, b)
    assert (found.n, found.unit) == (30, "series")
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)


def test_losses_of_all_series_at_an_origin_count_once() -> None:
    loss = np.random.default_rng(0).normal(size=60)
    rival = np.zeros(60)
    alone = diebold_mariano(loss, rival, grid(1, np.arange(60), 3)[2])
    copies = diebold_mariano(np.tile(loss, 9), np.tile(rival, 9), grid(9, np.arange(60), 3)[2])
    assert copies.statistic == pytest.approx(alone.statistic)
    holes = np.tile(loss, 9)
    holes[60:] = np.nan
    assert diebold_mariano(holes, np.tile(rival, 9), grid(9, np.arange(60), 3)[2]).p == pytest.approx(alone.p)


def test_the_test_keeps_its_size_under_the_null() -> None:
    """Losses that overlap over 4 origins: 5 % of tests reject, where one blind to the overlap rejects a third."""
    rng = np.random.default_rng(0)
    found = grid(1, np.arange(120), 4)[2]
    blind = replace(found, overlap=1)
    losses = [np.convolve(rng.normal(size=123), np.ones(4), mode="valid") for _ in range(600)]
    rejected = [diebold_mariano(loss, np.zeros(120), found).p < 0.05 for loss in losses]
    naive = [diebold_mariano(loss, np.zeros(120), blind).p < 0.05 for loss in losses]
    assert 0.02 < np.mean(rejected) < 0.09
    assert np.mean(naive) > 0.25


def test_what_cannot_be_tested_is_nan_and_no_difference_is_none() -> None:
    assert np.isnan(dm_statistic(np.arange(4.0), 3))
    assert np.isnan(dm_statistic(np.array([1.0]), 0))
    assert dm_statistic(np.zeros(20), 1) == 0
    assert dm_statistic(np.full(20, -2.0), 0) == -np.inf
    test = DieboldMariano(statistic=float("nan"), p=float("nan"), n=1, unit="origins")
    assert json.loads(json.dumps(test.to_json(), allow_nan=False))["p"] is None
    assert np.isnan(DieboldMariano.from_json(test.to_json()).p)


H = 5


def seen(n: int, width: float, loud: Any = 1.0, seed: int = 0, n_series: int = 2) -> Seen:
    """Series of noise whose deviation at step h is loud √h, forecast with bands of a Gaussian of deviation `width`."""
    rng = np.random.default_rng(seed)
    series, steps, _ = grid(n_series, np.arange(n), H)
    values = np.asarray(rng.normal(size=(len(series), H)) * np.sqrt(np.arange(1, H + 1)))
    values *= np.broadcast_to(np.asarray(loud), (n,))[steps][:, None]
    normal = pytest.importorskip("scipy.stats").norm.ppf(LEVELS)
    forecasts = np.broadcast_to(width * normal, (*values.shape, len(LEVELS))).copy()
    return Seen(forecasts=forecasts, outcomes=values, series=series, origins=steps)


def covered(forecasts: np.ndarray, truth: np.ndarray, low: int, high: int) -> float:
    return float(((truth >= forecasts[..., low]) & (truth <= forecasts[..., high])).mean())


@pytest.mark.parametrize("width", [0.4, 2.0])
def test_bands_too_narrow_or_too_wide_are_put_right_at_every_step(width: float) -> None:
    bands = Bands.fit(seen(400, width), rate=0)
    test = seen(1000, width, seed=1)
    found = bands.corrected(test.forecasts, test.series, test.origins, seen(0, width))
    for step in range(H):
        one = (found[:, [step]], test.outcomes[:, [step]])
        assert covered(*one, 1, 9) == pytest.approx(0.8, abs=0.035)
        assert covered(*one, 0, 10) == pytest.approx(0.95, abs=0.02)
    np.testing.assert_array_equal(found[..., MIDDLE], test.forecasts[..., MIDDLE])
    assert (np.diff(found, axis=-1) >= 0).all()


def test_bands_follow_a_series_that_becomes_louder() -> None:
    """The deviation doubles after validation: fixed factors cover far too little, followed ones what they say."""
    loud = np.r_[np.ones(300), np.full(900, 2.0)]
    every = seen(1200, 1.0, loud)
    late = every.origins >= 800
    asked = (every.forecasts[late], every.series[late], every.origins[late], every)
    validation = seen(300, 1.0)
    still = Bands.fit(validation, rate=0).corrected(*asked)
    followed = Bands.fit(validation).corrected(*asked)
    assert covered(still, every.outcomes[late], 1, 9) < 0.55
    assert covered(followed, every.outcomes[late], 1, 9) == pytest.approx(0.8, abs=0.03)
    assert covered(followed, every.outcomes[late], 0, 10) == pytest.approx(0.95, abs=0.03)


def test_no_outcome_after_the_origin_moves_a_band() -> None:
    past = seen(60, 1.0)
    bands = Bands.fit(past)
    asked = (past.forecasts[:1], np.array([0]), np.array([30]))
    changed = past.outcomes.copy()
    future = past.origins[:, None] + np.arange(1, H + 1) > 30
    changed[future] = 1e6
    changed[past.series == 1] = -1e6
    other = replace(past, outcomes=changed)
    np.testing.assert_array_equal(bands.corrected(*asked, past), bands.corrected(*asked, other))
    changed[~future] = 1e6
    assert (bands.corrected(*asked, past) != bands.corrected(*asked, other)).any()


@pytest.mark.parametrize(("stride", "rate"), [(1, 0.05), (2, 0.1), (9, 0.1)])
def test_following_is_the_recursion_written_out(stride: int, rate: float) -> None:
    past = seen(12, 1.0, n_series=1)
    past = replace(past, origins=past.origins * stride)
    past.outcomes[3, 1] = np.nan
    bands = Bands(factors=np.full((H, len(LEVELS)), 1.3))
    step, column = 1, 9
    found = scores(past.forecasts, past.outcomes)[:, step, column]
    held: list[float] = []
    factor = np.log(1.3)
    learnt = 0
    for origin in past.origins:
        while past.origins[learnt] + step + 1 <= origin:
            if np.isfinite(found[learnt]):
                factor += rate * ((found[learnt] > np.exp(held[learnt])) - 0.1)
            learnt += 1
        held.append(factor)
    corrected = bands.corrected(past.forecasts[-1:], np.array([0]), past.origins[-1:], past)
    expected = past.forecasts[-1, step, column] * np.exp(factor)
    assert corrected[0, step, column] == pytest.approx(expected)


def test_bands_without_width_or_outcome_stay_as_they_are() -> None:
    flat = np.full((4, H, len(LEVELS)), 2.0)
    nothing = Seen(forecasts=flat, outcomes=np.full((4, H), np.nan), series=np.zeros(4), origins=np.arange(4))
    bands = Bands.fit(nothing)
    np.testing.assert_array_equal(bands.corrected(flat, np.zeros(4), np.arange(4), nothing), flat)
    again = Bands.from_json(json.loads(json.dumps(bands.to_json())))
    np.testing.assert_array_equal(again.factors, bands.factors)
    crossing = widened(np.arange(11.0)[None, None], np.r_[np.ones(9), 5, 0.2][None, None])
    assert (np.diff(crossing, axis=-1) >= 0).all()


def walk_contest(skill: float, n_origins: int = 240, returns: bool = False, **more: Any) -> Contest:
    """Random walks of 3 series; the model knows a share of what is to come, the rival and scratch nothing."""
    rng = np.random.default_rng(3)
    walks = rng.normal(size=(3, n_origins + 60)).cumsum(axis=1)
    series, steps, found = grid(3, np.arange(40, 40 + n_origins), H)
    y = np.stack([np.r_[walks[s, o + 1 : o + 1 + H], 1.0, walks[s, o]] for s, o in zip(series, steps, strict=True)])
    task = Forecasting(horizon=H, directions=True, returns=returns)
    spread = np.sqrt(np.arange(1, H + 1))[:, None] * pytest.importorskip("scipy.stats").norm.ppf(LEVELS)
    rival = last(y)[:, None] + rng.normal(size=(len(y), H)) * 0.1
    model = rival + skill * (outcomes(y) - last(y)[:, None])
    systems = {
        MODEL: model[..., None] + spread,
        "last value": last_values(y) + spread,
        "ETS": rival[..., None] + spread,
        SCRATCH: rival[..., None] + spread * 1.1,
    }
    scales = BlockScales(metrics=task.metrics(), naive="last value", layout=found)
    return Contest(task=task, scales=scales, y=y, systems=systems, rival="ETS", **more)


def weighed(contest: Contest) -> Evidence:
    return weigh_systems(contest.scales, contest.y, contest.systems, forecast_claim(contest))


def test_a_random_walk_is_not_beaten_and_the_verdict_says_so() -> None:
    found = weighed(walk_contest(0.0))
    assert found.paid is None
    assert "cannot be told whether transfer paid" in found.verdict
    assert "does not beat the random walk" in found.verdict
    assert "no better than to say" in found.verdict
    assert found.metrics["direction"].low <= 0.5


def test_a_model_that_knows_something_pays() -> None:
    found = weighed(walk_contest(0.3))
    assert found.paid is True
    assert found.verdict.startswith("Transfer paid: MASE")
    assert "better than ETS (best of the classical forecasters on validation) by" in found.verdict
    assert "better than the same network from scratch by" in found.verdict
    assert "It beats the random walk" in found.verdict
    assert ": better than to say" in found.verdict


def test_a_model_that_harms_did_not_pay() -> None:
    found = weighed(walk_contest(-0.3))
    assert found.paid is False
    assert "did not pay here" in found.verdict
    assert "worse than ETS" in found.verdict
    assert "does not beat the random walk" in found.verdict


def test_few_blocks_claim_nothing() -> None:
    found = weighed(walk_contest(0.3, n_origins=30))
    assert found.paid is None
    assert "6 blocks of origins only, too few" in found.verdict
    assert "Whether it beats the random walk (the last value stays) cannot be told" in found.verdict


def test_a_network_no_better_than_scratch_has_not_paid() -> None:
    contest = walk_contest(0.3)
    same = {**contest.systems, SCRATCH: contest.systems[MODEL]}
    assert weighed(replace(contest, systems=same)).paid is None


def test_where_the_classical_forecaster_ships_the_verdict_still_speaks_of_the_network() -> None:
    contest = walk_contest(-0.3)
    shipped = {MODEL: contest.systems["ETS"], "transfer": contest.systems[MODEL]}
    systems = {name: one for name, one in contest.systems.items() if name != "ETS"} | shipped
    found = weighed(replace(contest, systems=systems, adapted="transfer"))
    assert found.paid is False
    assert "this run ships it: ETS" in found.verdict
    by_last = {"transfer": contest.systems[MODEL], MODEL: contest.systems["last value"]}
    spoken = weighed(replace(contest, systems=by_last, adapted="transfer", rival="last value"))
    assert "does not beat the random walk" in spoken.verdict


def test_evidence_of_forecasts_and_its_round_trip() -> None:
    contest = walk_contest(0.3)
    series, steps, _ = grid(3, np.arange(40, 280), H)
    values = np.random.default_rng(0).normal(size=(3, 300))
    values[0, 50] = np.nan
    times = np.datetime64("2020-01-01", "ns") + np.arange(310) * np.timedelta64(1, "D")
    panel = Panel(name="walks", source="here", ids=("a", "b", "c"), times=times, frequency="D", season=1, values=values)
    shown = Shown(panel=panel, series=series, origins=steps, splits={"first test origin": "2020-02-10"})
    found = measure_forecasts(contest, contest.task.metrics()[0], shown)
    assert ForecastEvidence.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    model, *others = found.systems
    assert model.name == MODEL
    assert model.test is None
    assert all(one.test is not None and one.test.statistic < 0 for one in others)
    low, high = contest.systems["ETS"][..., 1], contest.systems["ETS"][..., 9]
    inside = (outcomes(contest.y) >= low) & (outcomes(contest.y) <= high)
    ets = next(one for one in others if one.name == "ETS")
    assert ets.bands["80"].share is not None
    assert ets.bands["80"].share.value == pytest.approx(inside.mean())
    assert ets.bands["80"].share.low < inside.mean() < ets.bands["80"].share.high
    scratch = next(one for one in others if one.name == SCRATCH)
    assert scratch.bands["95"].width == pytest.approx(1.1)
    errors = np.abs(outcomes(contest.y) - contest.systems[MODEL][..., MIDDLE])
    np.testing.assert_allclose(found.steps[MODEL], errors.mean(axis=0))
    losses = {name: errors[series == row].mean() for row, name in enumerate(panel.ids)}
    assert {one.name: one.model for one in found.best} == pytest.approx(losses)
    assert found.worst[0].name == max(losses, key=lambda name: losses[name])
    fans = {fan.which: fan for fan in found.fans}
    assert set(fans) == {"typical", "best", "worst"}
    row = int(np.argmax(errors.mean(axis=1)))
    assert fans["worst"].median == pytest.approx(contest.systems[MODEL][row, :, MIDDLE])
    assert fans["worst"].times[0] == str(times[steps[row] + 1])[:10]
    assert len(fans["worst"].history) == len(fans["worst"].history_times) == 4 * H
