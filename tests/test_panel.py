"""Panels: every layout to the same numbers, frequencies as pandas made them, and errors that say what to do."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data import seasons
from headstart.data.panel import Panel
from headstart.data.read_panel import PanelReading, read_panel
from headstart.data.returns import as_returns, as_volatility, looks_like_prices, variance_ratio
from headstart.errors import DataError


def numbers(n_series: int, n_steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_series, n_steps)).round(4)


def long_table(values: np.ndarray, times: Any) -> pd.DataFrame:
    """(S, T) as rows of id, ds, y, without what is missing, in a shuffled order."""
    rows = [(f"s{i}", t, v) for i, one in enumerate(values) for t, v in zip(times, one, strict=True) if np.isfinite(v)]
    return pd.DataFrame(rows, columns=["id", "ds", "y"]).sample(frac=1, random_state=0)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet", ".jsonl"])
def test_every_kind_of_file_gives_the_same_panel(tmp_path: Path, suffix: str) -> None:
    values = numbers(3, 40)
    table = long_table(values, pd.date_range("2024-01-01", periods=40, freq="h"))
    path = tmp_path / f"load{suffix}"
    if suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif suffix == ".jsonl":
        table.assign(ds=table["ds"].astype(str)).to_json(path, orient="records", lines=True)
    else:
        text = table.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",").encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    panel = read_panel(path)
    order = np.argsort(panel.ids)
    np.testing.assert_array_equal(panel.values[order], values)
    assert (panel.frequency, panel.name, panel.columns["series"]) == ("h", "load", "id")
    assert "long table" in panel.notes[0]


@settings(max_examples=25, deadline=None)
@given(
    n_series=st.integers(2, 4),
    n_steps=st.integers(8, 30),
    frequency=st.sampled_from(["h", "D", "W-SUN", "MS", "QS-OCT", "15min"]),
    seed=st.integers(0, 1000),
)
def test_long_and_wide_are_the_same(n_series: int, n_steps: int, frequency: str, seed: int) -> None:
    values = numbers(n_series, n_steps, seed)
    values[:, 1:-1][np.random.default_rng(seed).random((n_series, n_steps - 2)) < 0.1] = np.nan
    times = pd.date_range("2020-01-01", periods=n_steps, freq=frequency)
    wide = pd.DataFrame(values.T, columns=[f"s{i}" for i in range(n_series)]).assign(date=times)
    one, other = read_panel(wide), read_panel(long_table(values, times))
    other = other.select(np.argsort(other.ids))
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.values, values)
    np.testing.assert_array_equal(other.values, values)
    np.testing.assert_array_equal(one.times, times.to_numpy())
    np.testing.assert_array_equal(other.times, one.times)


@pytest.mark.parametrize("frequency", ["h", "30min", "D", "W-FRI", "MS", "ME", "QS-JAN", "QE-DEC", "YS-JAN"])
def test_a_regular_calendar_is_completed(frequency: str) -> None:
    times = pd.date_range("2001-01-01", periods=60, freq=frequency)
    kept = np.ones(60, bool)
    kept[[7, 8, 30]] = False
    panel = read_panel(pd.DataFrame({"date": times[kept], "y": np.arange(60.0)[kept]}))
    np.testing.assert_array_equal(panel.times, times.to_numpy())
    np.testing.assert_array_equal(np.isnan(panel.values[0]), ~kept)
    assert panel.frequency == frequency
    assert any("3 of 60 steps have no row" in note for note in panel.notes)


def test_a_trading_calendar_is_the_dates_that_occur() -> None:
    days = pd.bdate_range("2024-01-01", periods=80)
    open_ = days.delete([0, 20, 21, 50])
    table = pd.DataFrame({"date": open_, "close": np.arange(76.0), "other": np.arange(76.0)})
    table.loc[5, "close"] = np.nan  # a holiday of one market
    table.loc[9, ["close", "other"]] = np.nan  # of both: no trading day
    panel = read_panel(table)
    np.testing.assert_array_equal(panel.times, open_.delete(9).to_numpy())
    assert panel.frequency == "B"
    assert panel.season == 1
    assert np.isnan(panel.values).sum() == 1
    assert any("holidays" in note for note in panel.notes)


def test_series_without_times_end_together() -> None:
    panel = read_panel({"a": [1.0, 2, 3], "b": [5.0, 6, 7, 8, 9]})
    np.testing.assert_array_equal(panel.values, [[np.nan, np.nan, 1, 2, 3], [5, 6, 7, 8, 9]])
    assert panel.times.dtype == np.int64
    rows = pd.DataFrame({"id": ["a"] * 3 + ["b"] * 5, "y": [1.0, 2, 3, 5, 6, 7, 8, 9]})
    np.testing.assert_array_equal(read_panel(rows).values, panel.values)
    cells = pd.DataFrame({"id": ["a", "b"], "train": ["1 2 3", "5 6 7 8 9"], "test": ["4 5", "10 11"]})
    m4 = read_panel(cells)
    np.testing.assert_array_equal(m4.values, panel.values)
    assert any("'test'" in note for note in m4.notes)
    columns = pd.DataFrame(
        [["a", 1, 2, 3, None, None], ["b", 5, 6, 7, 8, 9]], columns=["id", "V1", "V2", "V3", "V4", "V5"]
    )
    np.testing.assert_array_equal(read_panel(columns).values, panel.values)
    assert read_panel([np.arange(3.0), np.arange(5.0)]).ids == ("series 1", "series 2")


def test_arrays_and_series_in_memory() -> None:
    values = numbers(3, 20)
    np.testing.assert_array_equal(read_panel(values).values, values)
    np.testing.assert_array_equal(read_panel(values[0]).values, values[:1])
    dated = pd.Series(values[0], index=pd.date_range("2024-01-01", periods=20), name="load")
    panel = read_panel(dated)
    assert (panel.ids, panel.frequency) == (("load",), "D")
    apart = read_panel({"a": dated[:12], "b": dated[5:]})
    np.testing.assert_array_equal(np.isfinite(apart.values).sum(axis=1), [12, 15])
    assert read_panel(panel) is panel


def test_dates_in_the_header() -> None:
    table = pd.DataFrame(
        [["x", 1.0, 2, 3, 4], ["y", 2.0, 3, 4, 5]],
        columns=["country", *pd.date_range("2024-01-01", periods=4).strftime("%Y-%m-%d")],
    )
    panel = read_panel(table)
    assert (panel.ids, panel.frequency) == (("x", "y"), "D")
    np.testing.assert_array_equal(panel.values, [[1, 2, 3, 4], [2, 3, 4, 5]])


@pytest.mark.parametrize(
    ("first", "second", "day"),
    [
        ("2024-06-14", "2024-06-15", "2024-06-15"),
        ("14/06/2024", "15/06/2024", "2024-06-15"),
        ("6/14/2024", "6/15/2024", "2024-06-15"),
        ("01.02.2024", "02.02.2024", "2024-02-02"),
        ("Jun 14, 2024", "Jun 15, 2024", "2024-06-15"),
        ("20240614", "20240615", "2024-06-15"),
        ("2024Q1", "2024Q2", "2024-04-01"),
        ("2024-06-14T10:00:00+02:00", "2024-06-14T11:00:00+02:00", "2024-06-14T09:00"),
        ("2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00", "2024-04-01"),
    ],
)
def test_dates_as_people_write_them(first: str, second: str, day: str) -> None:
    panel = read_panel(pd.DataFrame({"date": [first, second], "y": [1.0, 2.0]}))
    assert panel.times[-1] == np.datetime64(day)


def test_dates_that_can_be_read_in_two_ways_are_refused() -> None:
    with pytest.raises(DataError, match=r"two ways.*2024-06-14"):
        read_panel(pd.DataFrame({"date": ["01/02/2024", "02/02/2024"], "y": [1.0, 2.0]}))


def test_covariates_known_in_advance_and_static_ones() -> None:
    times = pd.date_range("2024-01-01", periods=12, freq="D")
    rows = [
        (name, t, float(i) if i < 10 else None, i % 7, region, size, i * 2.5)
        for name, region, size in (("a", "north", 3.0), ("b", "south", 5.0))
        for i, t in enumerate(times)
    ]
    table = pd.DataFrame(rows, columns=["id", "ds", "y", "weekday", "region", "size", "weather"])
    panel = read_panel(table, PanelReading(known=("weekday",)), horizon=2)
    assert (panel.n_steps, len(panel.times)) == (10, 12)
    np.testing.assert_array_equal(panel.known["weekday"][0], np.arange(12) % 7)
    np.testing.assert_array_equal(panel.static["region"], [0, 1])
    np.testing.assert_array_equal(panel.static["size"], [3, 5])
    assert any("'weather'" in note and "--known" in note for note in panel.notes)
    assert any("north 0, south 1" in note for note in panel.notes)
    assert any("to predict takes 3" in note for note in read_panel(table, PanelReading(known=("weekday",)), 3).notes)
    wide = read_panel(table[table["id"] == "a"].drop(columns="id"), PanelReading(target="y", known=("weekday",)))
    np.testing.assert_array_equal(wide.known["weekday"], panel.known["weekday"][:1])
    assert len(read_panel(table).times) == 10


def test_duplicates_in_time() -> None:
    table = long_table(numbers(2, 20), pd.date_range("2024-01-01", periods=20))
    panel = read_panel(pd.concat([table, table[:3]]))
    assert any("3 rows repeat" in note for note in panel.notes)
    with pytest.raises(DataError, match=r"'s\d' has several values at 2024-01-.*--series"):
        read_panel(pd.concat([table, table[:1].assign(y=99.0)]))


@pytest.mark.parametrize(
    ("data", "reading", "message"),
    [
        (
            {"date": ["2024-01-01", "2024-01-02"], "y": ["low", "high"]},
            PanelReading(target="y"),
            "holds 'low'.*no numbers",
        ),
        ({"date": ["2024-01-01"], "y": [1.0]}, PanelReading(), "None of 1 series has 2 values"),
        ({"date": ["2024-01-01", "2024-01-02"], "y": [1.0, 2]}, PanelReading(target="z"), "no column 'z'.*--target"),
        ({"date": ["2024-01-01", "2024-01-02"], "y": [1.0, 2]}, PanelReading(frequency="foo"), "'foo' is none"),
        ({"date": ["2024-01-01", "2024-01-04"], "y": [1.0, 2]}, PanelReading(frequency="W"), "do not keep to"),
        ({"date": ["2024-01-01", None, "2024-01-04"], "y": [1.0, 2, 3]}, PanelReading(), "value without a time"),
        ({"date": ["2024-01-01", "2024-01-02"], "y": [1.0, 2]}, PanelReading(as_="return"), "Did you mean 'returns'"),
        ({"date": ["2024-01-01", "2024-01-02"], "y": [1.0, -2]}, PanelReading(as_="returns"), "above 0"),
        ({"date": ["2024-01-01", "2024-01-02"], "y": [1.0, 2]}, PanelReading(season=0), "season 0"),
        ({"a": ["x", "y"], "b": ["z", "w"]}, PanelReading(), "holds numbers to forecast"),
    ],
)
def test_errors_say_what_to_do(data: dict[str, list[Any]], reading: PanelReading, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_panel(pd.DataFrame(data), reading)


def test_other_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        read_panel(tmp_path / "none.csv")
    with pytest.raises(DataError, match="too few for a horizon of 30"):
        read_panel(np.arange(20.0), horizon=30)
    with pytest.raises(DataError, match="shape"):
        read_panel(np.zeros((2, 3, 4)))
    with pytest.raises(DataError, match="empty"):
        read_panel([])


def test_an_empty_series_is_left_out() -> None:
    panel = read_panel({"a": np.arange(5.0), "b": np.full(5, np.nan)})
    assert panel.ids == ("a",)
    assert any("1 series with fewer than 2 values" in note for note in panel.notes)


def test_the_season_is_the_usual_one_where_the_data_show_it() -> None:
    hours, rng = np.arange(600), np.random.default_rng(0)
    wave = np.stack([np.sin(2 * np.pi * hours / 24 + i) + rng.normal(0, 0.3, 600) for i in range(4)])
    times = pd.date_range("2024-01-01", periods=600, freq="h")

    def season(values: np.ndarray) -> int:
        return read_panel(pd.DataFrame(values.T).assign(date=times)).season

    assert season(wave) == season(wave + 0.05 * hours) == 24
    assert season(np.cumsum(rng.normal(size=(4, 600)), axis=1)) == season(rng.normal(size=(4, 600))) == 1
    assert read_panel(wave).season == 24
    assert read_panel(wave, PanelReading(season=168)).season == 168
    usual = {"h": (24,), "D": (7,), "MS": (12,), "ME": (12,), "QS-OCT": (4,), "B": (), "15min": (96,), "min": (60,)}
    assert {name: seasons.candidates(name, 500) for name in usual} == usual
    assert seasons.candidates("W-SUN", 500) == (52,)
    assert seasons.candidates("W-SUN", 100) == ()


def test_autocorrelations_are_those_of_the_textbook() -> None:
    series = numbers(1, 50)[0]
    centred = series - series.mean()
    by_hand = [sum(centred[i] * centred[i + k] for i in range(50 - k)) / sum(centred**2) for k in range(6)]
    np.testing.assert_allclose(seasons.autocorrelations(series, 5), by_hand)


def test_returns_reach_back_over_holidays() -> None:
    panel = read_panel(np.array([[1.0, np.e, np.nan, np.e**3, np.e**2]]))
    returns = as_returns(panel)
    np.testing.assert_allclose(returns.values, [[1, np.nan, 2, -1]])
    np.testing.assert_array_equal(returns.times, panel.times[1:])
    np.testing.assert_allclose(as_volatility(panel).values, [[1, np.nan, 2, 1]])
    given_returns = read_panel(numbers(2, 50))
    np.testing.assert_array_equal(as_volatility(given_returns).values, np.abs(given_returns.values))


def test_what_looks_like_prices() -> None:
    rng = np.random.default_rng(0)
    walks = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (8, 800)), axis=1))
    around = np.exp(rng.normal(0, 0.1, (8, 800)))
    assert looks_like_prices(read_panel(walks))
    assert read_panel(walks, PanelReading(as_="returns")).prices
    assert not looks_like_prices(read_panel(around))
    assert not looks_like_prices(read_panel(np.log(walks) - 5))
    assert variance_ratio(np.arange(10) + np.tile([0.0, 1.0], 5), 2) == pytest.approx(0, abs=0.1)
    assert isinstance(read_panel(io_frame()), Panel)


def io_frame() -> pd.DataFrame:
    """A frame whose index holds the dates, as yfinance gives it."""
    text = "Date,Close\n2024-01-01,1\n2024-01-02,2\n2024-01-03,4\n"
    return pd.read_csv(io.StringIO(text), index_col=0, parse_dates=True)
