"""The audit of panels: planted faults are found, and clean series of many kinds stay without a finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from headstart.data.audit_panel import audit_panel
from headstart.data.filled import carried_forward, interpolated, shared_holidays
from headstart.data.panel import Panel
from headstart.data.read_panel import PanelReading, read_panel


def walks(n_series: int = 5, n_steps: int = 800, seed: int = 0) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, (n_series, n_steps)), axis=1))


def trading(values: np.ndarray) -> Panel:
    return read_panel(pd.DataFrame(values.T).assign(date=pd.bdate_range("2015-01-01", periods=values.shape[1])))


def clean(kind: str) -> np.ndarray:
    rng, steps = np.random.default_rng(1), np.arange(800)
    if kind == "walk":
        return walks()
    if kind == "cents":
        return walks().round(2)
    if kind == "counts":
        return rng.poisson(20, (5, 800)).astype(float)
    if kind == "season":
        return np.sin(2 * np.pi * steps / 24) + rng.normal(0, 0.3, (5, 800))
    out = rng.normal(size=(5, 800))
    for t in range(1, 800):
        out[:, t] += 0.8 * out[:, t - 1]
    return out


def kinds(panel: Panel) -> set[str]:
    return {finding.kind for finding in audit_panel(panel)}


@pytest.mark.parametrize("kind", ["walk", "cents", "counts", "season", "autoregression"])
def test_clean_series_raise_no_alarm(kind: str) -> None:
    values = clean(kind)
    rng = np.random.default_rng(2)
    known = {
        "hour": np.tile(np.arange(800) % 24, (5, 1)).astype(float),
        "noise": rng.normal(size=(5, 800)),
        "yesterday": np.concatenate([values[:, :1], values[:, :-1]], axis=1),
        "yesterday too": np.concatenate([values[:, :2], values[:, :-2]], axis=1) + rng.normal(0, 0.01, (5, 800)),
    }
    assert kinds(replace(read_panel(values), known=known)) <= {"prices"}


@pytest.mark.parametrize("kind", ["walk", "season", "autoregression"])
@pytest.mark.parametrize("lead", [0, 1, 3])
def test_a_covariate_that_is_tomorrows_value_is_caught(kind: str, lead: int) -> None:
    values = clean(kind)
    ahead = np.full_like(values, np.nan)
    ahead[:, : 800 - lead] = values[:, lead:]
    noisy = ahead + np.random.default_rng(3).normal(0, 0.1 * np.nanstd(np.diff(values)), values.shape)
    for covariate in (ahead, noisy, 5 - 2 * ahead):
        panel = replace(read_panel(values), known={"forecast": covariate})
        (found,) = [finding for finding in audit_panel(panel) if finding.kind == "leak"]
        assert "'forecast'" in found.text
        assert (f"{lead} step" if lead else "same step") in found.text
        assert found.severity == "warning"


def test_an_interpolated_holiday_is_caught() -> None:
    values, rng = walks(), np.random.default_rng(4)
    holes = np.zeros(values.shape, bool)
    holes[:, rng.choice(np.arange(1, 799), 15, replace=False)] = True  # holidays of all
    holes[0, 300:304] = True  # a week that only one was closed
    panel = trading(pd.DataFrame(np.where(holes, np.nan, values).T).interpolate().to_numpy().T)
    np.testing.assert_array_equal(interpolated(panel), holes)
    assert "interpolated" in kinds(panel)
    shared = shared_holidays(panel, holes)
    assert shared[:, holes.all(axis=0)].all()
    assert shared.sum() == 5 * holes.all(axis=0).sum()
    rounded = replace(panel, values=panel.values.round(4))
    assert interpolated(rounded)[holes].mean() > 0.95


def test_a_close_carried_forward_is_found_and_is_no_leak() -> None:
    values = walks()
    values[:, 100::50] = values[:, 99:-1:50]
    panel = trading(values)
    found = carried_forward(panel)
    assert found[:, 100::50].all()
    assert found.sum() == 5 * len(values[0, 100::50])
    assert "carried forward" in kinds(panel)
    assert not interpolated(panel).any()


def test_other_faults_are_found() -> None:
    values = np.random.default_rng(5).normal(10, 1, (6, 400))
    values[0, 200:] += 40  # measured anew
    values[1] = 7.0
    values[2, 100:160] = values[2, 100]
    values[3, 77] *= 1000
    values[4, 30:90] = np.nan
    values[5, :350] = np.nan
    findings = {finding.kind: finding for finding in audit_panel(read_panel(values))}
    assert {"level shift", "constant", "unit", "gaps", "short"} <= set(findings)
    assert findings["level shift"].examples == ("series 1",)
    assert "step 200" in findings["level shift"].text
    assert findings["unit"].examples == ("series 4",)
    assert findings["short"].examples == ("series 6",)
    assert "60 in a row (series 5)" in findings["gaps"].text


def test_duplicates_and_prices_are_told_of() -> None:
    table = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=100), "close": walks(1, 100)[0]})
    panel = read_panel(pd.concat([table, table[:4]]))
    assert "duplicate" in kinds(panel)
    assert "prices" in kinds(trading(walks()))
    returns = read_panel(walks(), PanelReading(as_="returns"))
    assert kinds(returns) == set()
