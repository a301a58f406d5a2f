"""The report on forecasts: fans, ticks, errors by step, the table of all systems, and the words of a forecast."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from headstart.data.calendars import after
from headstart.evidence.base import Evidence, Score, TestResult
from headstart.evidence.diebold_mariano import DieboldMariano
from headstart.evidence.forecasts import Covered, Fan, ForecastEvidence, SeriesError, SystemForecasts, times_said
from headstart.report import fans, forecasts, frozen
from headstart.report.html import render
from headstart.screen import forecast_table
from headstart.tasks.forecasting import LEVELS, Forecasting
from tests import samples

H = 4
DAYS = [str(day) for day in np.arange("2024-01-30", "2024-02-23", dtype="datetime64[D]")]
WINDOW = Fan(
    name="<north>",
    which="typical",
    history_times=tuple(DAYS[:20]),
    history=tuple(None if i == 7 else float(i) for i in range(20)),
    times=tuple(DAYS[20:24]),
    outcome=(20.0, None, 22.0, 23.0),
    median=(20.0, 21.0, 22.0, 23.0),
    bands={"80": ((19.0,) * H, (25.0,) * H), "95": ((18.0,) * H, (26.0,) * H)},
    rival=(19.0,) * H,
)


def covered(share: float | None, width: float | None) -> Covered:
    return Covered(share=None if share is None else Score(share, share - 0.05, share + 0.05), width=width)


def system(name: str, share: float | None, width: float | None, p: float | None) -> SystemForecasts:
    test = None if p is None else DieboldMariano(statistic=-1.5, p=p, n=40, unit="origins")
    return SystemForecasts(name=name, bands={band: covered(share, width) for band in ("80", "95")}, test=test)


EVIDENCE = ForecastEvidence(
    metric="mase",
    rival="ETS",
    n_windows=80,
    n_series=2,
    n_origins=40,
    n_units=10,
    unit="blocks of origins",
    splits={
        "learnt from": "2023-01-02",
        "chosen on": "2023-10-01",
        "tested on": "2024-01-01T12:00:00.000000000",
        "until": "2024-02-22",
    },
    systems=(
        system("model", 0.81, 1.0, None),
        system("ETS", 0.7, 1.25, 0.0004),
        system("last value", None, None, math.nan),
    ),
    steps={"model": (0.5, 0.6, None, 0.8), "ETS": (0.6, 0.7, 0.8, 0.9), "last value": (0.9, 1.0, 1.1, 1.2)},
    best=(SeriesError(name="a", model=0.5, rival=0.7),),
    worst=(SeriesError(name="b", model=0.9, rival=0.7),),
    fans=(WINDOW, replace(WINDOW, which="worst")),
    fallbacks={"ETS": {"no model could be fitted": 1}},
)


def scored() -> Evidence:
    """Evidence of three systems: ETS is worse than the last value under MASE."""
    own, ets, last = Score(0.8, 0.7, 0.9), Score(1.2, 1.1, 1.3), Score(1.0, 0.9, 1.1)
    return Evidence(
        primary="mase",
        titles={"mase": "MASE", "smape": "sMAPE (%)"},
        better={"mase": "lower", "smape": "lower"},
        metrics={"mase": own, "smape": own},
        baselines={"ETS": {"mase": ets}, "last value": {"mase": last, "smape": last}},
        differences={},
        n_resamples=100,
        paid=True,
        verdict="Transfer paid.",
    )


def paths(svg: str, kind: str) -> list[str]:
    return re.findall(rf'<path d="([^"]*)" class="{kind}"', svg)


def test_a_fan_breaks_its_lines_where_values_are_missing_and_escapes_names() -> None:
    svg = str(fans.fan(WINDOW))
    (seen,), (came,), (median,) = paths(svg, "seen"), paths(svg, "came"), paths(svg, "median")
    assert seen.count("M") == 2
    assert seen.count("L") == 17
    assert came.startswith("M")
    assert "h0" in came  # a value alone is a dot
    assert (median.count("M"), median.count("L")) == (1, 3)
    assert "&lt;north&gt;" in svg
    assert "<north>" not in svg


def test_bands_lie_where_their_values_do() -> None:
    svg = str(fans.fan(WINDOW))
    ends = {}
    for kind in ("b80", "b95"):
        (path,) = paths(svg, kind)
        ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path)]
        ends[kind] = min(ys), max(ys)
    (median,) = paths(svg, "median")
    first = float(re.findall(r"[\d.]+ ([\d.]+)", median)[0])
    assert ends["b95"][0] < ends["b80"][0] < first < ends["b80"][1] < ends["b95"][1]
    unit = (ends["b95"][1] - ends["b95"][0]) / 8  # 18 to 26
    assert ends["b80"][1] - ends["b80"][0] == pytest.approx(6 * unit, abs=0.3)


def test_a_forecast_of_one_step_without_outcome_and_rival_is_drawn() -> None:
    one = replace(
        WINDOW, times=WINDOW.times[:1], outcome=(), median=(20.0,), rival=(), bands={"80": ((19.0,), (25.0,))}
    )
    svg = str(fans.fan(one))
    assert not paths(svg, "came")
    assert not paths(svg, "rival")
    assert paths(svg, "b80")
    assert "xmlns" in fans.standalone(one)


@pytest.mark.parametrize(
    ("start", "frequency", "n", "some"),
    [
        ("2015-03-31", "QE-DEC", 40, "2016"),
        ("2023-11-30", "D", 120, "Feb 2024"),
        ("2024-03-01", "D", 20, "3 Mar"),
        ("2024-03-01", "h", 90, "2 Mar"),
        ("2024-03-01", "min", 30, "1 Mar 00:"),
    ],
)
def test_ticks_are_where_a_year_a_month_or_a_day_begins(start: str, frequency: str, n: int, some: str) -> None:
    times = times_said(after(np.array([start], dtype="datetime64[ns]"), frequency, n))
    ticks = fans.ticks_of(times)
    assert 3 <= len(ticks) <= fans.MOST_DATES
    assert any(name.startswith(some) for _, name in ticks), ticks
    assert [step for step, _ in ticks] == sorted({step for step, _ in ticks})


def test_ticks_of_steps_are_round_numbers() -> None:
    ticks = fans.ticks_of([str(step) for step in range(893, 1_013)])
    assert [name for _, name in ticks] == [str(step) for step in range(900, 1_001, 20)]
    assert all(893 + place == int(name) for place, name in ticks)


def test_the_table_holds_the_model_and_then_the_others_the_best_first() -> None:
    view = forecasts.view(EVIDENCE, scored())
    own, second, third = view["systems"]
    assert [own.name, second.name, third.name] == ["this model", "last value", "ETS"]
    assert own.test.value == "–"
    assert third.test.small == "p < 0.001"
    assert third.metrics[1].value == "–"
    assert own.bands[0][0].value.startswith("81")
    assert third.bands[0][1].startswith("1.25")
    assert second.bands[0][0].value == "–"
    assert view["best"] == []  # of two series, all are among the worst
    assert view["dates"].startswith("Learnt from 2 January 2023 on")
    assert "1 January 2024, 12:00" in view["dates"]
    assert view["fallbacks"] == ["ETS: 1 series, no model could be fitted"]


def test_errors_by_step_are_a_line_a_system_broken_where_there_is_none() -> None:
    svg = str(forecasts.steps(EVIDENCE))
    lines = re.findall(r'<path d="([^"]*)" class="line"', svg)
    assert [line.count("M") for line in lines] == [2, 1, 1]
    assert "this model" in svg
    assert forecasts.steps(replace(EVIDENCE, steps={"model": (0.5,), "ETS": (0.6,)})) == ""


def test_a_run_that_ships_the_rival_says_which_is_which() -> None:
    systems = (system("net, head alone trained", 0.8, 1.0, None), system("model", 0.8, 1.0, 0.5))
    names = {"model": (0.5,) * H, "net, head alone trained": (0.6,) * H}
    found = replace(EVIDENCE, systems=systems, steps=names)
    evidence = replace(scored(), baselines={"net, head alone trained": {"mase": Score(1.0, 0.9, 1.1)}})
    view = forecasts.view(found, evidence)
    assert view["ships_rival"]
    assert view["adapted"] == "net, head alone trained"
    assert "network" in str(view["steps"])
    assert "ETS" in str(view["steps"])


def test_the_screen_has_the_same_systems() -> None:
    table = forecast_table(scored(), EVIDENCE)
    first = [str(cell) for cell in table.columns[0].cells]
    assert first == ["this model", "last value", "ETS"]


def test_nothing_trained_is_said_so() -> None:
    plan = samples.plan()
    plan = replace(plan, strategy="zero_shot", cut=plan.n_stages, settings={}, ships="transfer")
    assert frozen.boxes(plan)[-1].name == "its own head"
    assert any("nothing was trained" in text for _, text in frozen.key(plan))
    assert not any(kind in ("head", "trained") for kind, _ in frozen.key(plan))


def test_the_whole_page_speaks_of_forecasts() -> None:
    task = Forecasting(horizon=H, season=7)
    y, quantiles = np.zeros((80, H + 2)), np.zeros((80, H, len(LEVELS)))
    test = TestResult(y=y, scores=quantiles, naive=quantiles, classical=quantiles, transfer=None, scratch=None)
    page = render(
        replace(samples.record(), task=task, test=test, evidence=scored(), forecasts=EVIDENCE, mistakes=(), findings=())
    )
    for said in ("What the forecasts look like", "80 test forecasts", "4 steps ahead", "In time", "season of 7 steps"):
        assert said in page
    for other in ("Majority guess", "test examples", " classes", "What it gets right"):
        assert other not in page
    assert "<script" not in page
    assert "<north>" not in page
