"""Metrics of forecasts against plain loops, scikit-learn and utilsforecast; labels, quantiles and resamples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from headstart.errors import DataError
from headstart.tasks.base import Metric
from headstart.tasks.forecasting import (
    LEVELS,
    Forecasting,
    last,
    last_values,
    median,
    outcomes,
    scale,
    seasonal_scale,
)

RNG = np.random.default_rng(0)
N, H = 7, 5
TASK = Forecasting(horizon=H, season=3, directions=True)


def windows(gaps: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """y (N, H + 2) with outcomes missing, one window without any; forecasts (N, H, Q)."""
    y = RNG.normal(10, 3, size=(N, H + 2))
    y[:, H] = RNG.uniform(0.5, 2, size=N)
    if gaps:
        y[1, 2] = y[2, 0] = np.nan
        y[3, :H] = np.nan
    return y, np.sort(RNG.normal(10, 3, size=(N, H, len(LEVELS))), axis=-1)


def metric(name: str, task: Forecasting = TASK) -> Metric:
    return next(one for one in task.metrics() if one.name == name)


def by_hand(name: str, y: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """One resample, in plain loops over windows, steps and levels."""
    total = whole = 0.0
    for row, weight in enumerate(weights):
        steps = [h for h in range(H) if not np.isnan(y[row, h])]
        each = []
        for h in steps:
            truth, point = y[row, h], scores[row, h, 5]
            if name == "mase":
                each.append(abs(truth - point) / y[row, H])
            elif name == "smape":
                each.append(200 * abs(truth - point) / (abs(truth) + abs(point)))
            elif name == "direction":
                each.append(float((truth > y[row, H + 1]) == (point > y[row, H + 1])))
            else:
                losses = [
                    2 * (q * max(truth - f, 0) + (1 - q) * max(f - truth, 0))
                    for q, f in zip(LEVELS, scores[row, h], strict=True)
                ]
                each.append(sum(losses) / len(LEVELS))
        if name in ("mase", "smape") and steps:
            total, whole = total + weight * sum(each) / len(each), whole + weight
        elif name == "wql":
            total, whole = total + weight * sum(each), whole + weight * sum(abs(y[row, h]) for h in steps)
        else:
            total, whole = total + weight * sum(each), whole + weight * len(each)
    return total / whole


@pytest.mark.parametrize("name", ["mase", "wql", "smape", "direction"])
def test_metrics_are_what_plain_loops_give(name: str) -> None:
    y, scores = windows()
    weights = RNG.multinomial(N, np.full(N, 1 / N), size=300).astype(np.uint16)
    values = metric(name).compute(y, scores, weights)
    expected = [by_hand(name, y, scores, one.astype(float)) for one in weights]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_the_weighted_quantile_loss_is_scikit_learns_pinball_loss() -> None:
    y, scores = windows(gaps=False)
    truth = outcomes(y).ravel()
    losses = [mean_pinball_loss(truth, scores[..., column].ravel(), alpha=level) for column, level in enumerate(LEVELS)]
    expected = 2 * np.mean(losses) / np.mean(np.abs(truth))
    assert metric("wql").compute(y, scores, np.ones((1, N)))[0] == pytest.approx(expected, rel=1e-12)


def test_mase_and_smape_are_those_of_utilsforecast() -> None:
    losses = pytest.importorskip("utilsforecast.losses")
    pandas = pytest.importorskip("pandas")
    past = RNG.normal(10, 2, size=(N, 30))
    y, scores = windows(gaps=False)
    y[:, H] = [seasonal_scale(one, 3) for one in past]
    ids = np.arange(N)
    test = pandas.DataFrame(
        {
            "unique_id": np.repeat(ids, H),
            "ds": np.tile(np.arange(30, 30 + H), N),
            "y": outcomes(y).ravel(),
            "model": median(scores).ravel(),
        }
    )
    train = pandas.DataFrame({"unique_id": np.repeat(ids, 30), "ds": np.tile(np.arange(30), N), "y": past.ravel()})
    mase = losses.mase(test, models=["model"], seasonality=3, train_df=train)["model"].mean()
    smape = losses.smape(test, models=["model"])["model"].mean()  # a fraction, without the factor 2
    plain = np.ones((1, N))
    assert metric("mase").compute(y, scores, plain)[0] == pytest.approx(mase, rel=1e-9)
    assert metric("smape").compute(y, scores, plain)[0] == pytest.approx(200 * smape, rel=1e-9)


def test_a_window_without_outcomes_counts_nothing_and_none_defines_nothing() -> None:
    y, scores = windows()
    seen = np.array([row for row in range(N) if row != 3])
    for one in TASK.metrics():
        plain = one.compute(y, scores, np.ones((1, N)))
        np.testing.assert_allclose(plain, one.compute(y[seen], scores[seen], np.ones((1, N - 1))))
        assert np.isnan(one.compute(y[3:4], scores[3:4], np.ones((1, 1)))).all()


def test_a_series_that_never_changed_has_no_mase_but_an_smape() -> None:
    y, scores = windows(gaps=False)
    y[:, H] = 0
    assert np.isnan(metric("mase").compute(y, scores, np.ones((1, N)))).all()
    assert np.isfinite(metric("smape").compute(y, scores, np.ones((1, N)))).all()
    y[:, :H], scores[:] = 0, 0
    assert metric("smape").compute(y, scores, np.ones((1, N)))[0] == 0


def test_no_change_foretold_is_half_right() -> None:
    y, _ = windows()
    assert metric("direction").compute(y, last_values(y), np.ones((1, N)))[0] == 0.5


def test_of_returns_the_sign_itself_counts() -> None:
    task = Forecasting(horizon=2, directions=True, returns=True)
    y = np.array([[0.1, -0.2, 1.0, 9.0]])
    scores = np.repeat(np.array([[0.3, 0.1]])[:, :, None], len(LEVELS), axis=2)
    assert metric("direction", task).compute(y, scores, np.ones((1, 1)))[0] == 0.5
    assert [one.name for one in Forecasting(horizon=2).metrics()] == ["mase", "wql", "smape"]


def test_window_losses_add_up_to_the_metric() -> None:
    y, scores = windows()
    for name in ("mase", "smape"):
        losses = TASK.window_losses(name, y, scores)
        assert np.isnan(losses[3])
        assert np.nanmean(losses) == pytest.approx(metric(name).compute(y, scores, np.ones((1, N)))[0])
    wql = TASK.window_losses("wql", y, scores) * scale(y) * np.isfinite(outcomes(y)).sum(axis=1)
    whole = np.nansum(np.abs(outcomes(y)))
    assert np.nansum(wql) / whole == pytest.approx(metric("wql").compute(y, scores, np.ones((1, N)))[0])
    assert TASK.window_losses("direction", y, last_values(y))[0] == 0.5


def test_many_windows_and_resamples_stay_small() -> None:
    """In blocks of resamples or all at once, the values are the same."""
    y, scores = windows()
    weights = RNG.multinomial(N, np.full(N, 1 / N), size=1000).astype(np.uint16)
    for one in TASK.metrics():
        halves = [one.compute(y, scores, half) for half in (weights[:501], weights[501:])]
        np.testing.assert_array_equal(one.compute(y, scores, weights), np.concatenate(halves))


def test_the_scale_is_the_seasonal_difference_or_that_of_one_step() -> None:
    values = np.array([1.0, 5.0, np.nan, 4.0, 9.0])
    assert seasonal_scale(values, 3) == np.mean([3.0, 4.0])
    assert seasonal_scale(values, 10) == np.mean([4.0, 5.0])
    assert np.isnan(seasonal_scale(np.array([np.nan, 2.0]), 1))


def test_labels_are_pasts_with_their_futures() -> None:
    labels = [{"past": [1, None, 4], "future": [3, None]}, {"past": [2, 3], "future": [1, 0]}]
    task = Forecasting.from_labels(labels)
    assert (task.horizon, task.non_negative) == (2, True)
    y = task.encode(labels)
    np.testing.assert_array_equal(outcomes(y), [[3, np.nan], [1, 0]])
    np.testing.assert_array_equal(last(y), [4, 3])
    assert scale(y)[1] == 1
    assert task.decode(task.naive(y, 2))[0]["0.5"] == [4, 4]
    with pytest.raises(DataError, match="same"):
        Forecasting.from_labels([*labels, {"past": [1], "future": [1]}])
    with pytest.raises(DataError, match="horizon is 2"):
        task.encode([{"past": [1], "future": [1]}])
    with pytest.raises(DataError, match="not numbers"):
        task.encode([{"past": ["x"], "future": [1, 2]}])


def test_proper_quantiles_do_not_cross_and_stay_above_zero() -> None:
    crossed = np.array([[[3.0, -1.0, *range(9)]]])
    assert Forecasting(horizon=1).proper(crossed)[0, 0].tolist() == sorted(crossed[0, 0])
    assert Forecasting(horizon=1, non_negative=True).proper(crossed).min() == 0
