"""The flow of forecasts: from a source to a run that forecasts, done again, cut off and gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headstart
from headstart import forecast_workshop, places, series_pretraining
from headstart.backbones.wavenet import Layout
from headstart.data.layouts import PanelReading
from headstart.engine import heads
from headstart.errors import HeadstartError, PlanError
from headstart.evidence.plan import Plan
from headstart.forecasters import run as classical_run
from tests.test_wavenet import TINY, outlooks_of, save_network

READING = PanelReading(season=7)
PATCHES = (
    (forecast_workshop, "PROFILE_STEPS", 4),
    (forecast_workshop, "STEPS", 8),
    (forecast_workshop, "STEPS_OF_OWN_HEAD", 8),
    (forecast_workshop, "STEPS_AFTERWARDS", 4),
    (forecast_workshop, "STEPS_FROM_SCRATCH", 8),
    (series_pretraining, "FEWEST_STEPS", 30),
    (series_pretraining, "MOST_STEPS", 30),
    (classical_run, "NAMES", ("last_value", "seasonal_naive")),
)


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    """Few steps of a tiny network, and rivals that need no library."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in PATCHES:
            patch.setattr(module, name, value)
        patch.setattr(Layout, "of_season", classmethod(lambda cls, season: TINY))
        yield


def waves(n_series: int, n_steps: int, seed: int, begin: str = "2020-01-01") -> pd.DataFrame:
    """Days with a week in them, and noise."""
    rng = np.random.default_rng(seed)
    steps, phase = np.arange(n_steps), rng.integers(0, 7, n_series)
    values = 20 + 5 * np.sin((steps[:, None] + phase) * 2 * np.pi / 7) + rng.standard_normal((n_steps, n_series))
    table = pd.DataFrame(values, columns=[f"s{number}" for number in range(n_series)])
    return table.assign(date=pd.date_range(begin, periods=n_steps, freq="D"))


TARGET, SOURCE = waves(2, 200, 1), waves(3, 260, 2)
VAL_FROM, TEST_FROM = 120, 160  # of TARGET


def fit(data: Any = None, **wishes: Any) -> Any:
    """On the usual target, by what is fast."""
    asked = {"horizon": 5, "reading": READING, "scratch": False} | wishes
    return headstart.fit(TARGET if data is None else data, **asked)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From a source, with the whole search."""
    out = tmp_path_factory.mktemp("runs") / "run"
    fit(source=SOURCE, out=out, scratch=True)
    return out


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random network and head of five steps and a season of seven."""
    return str(save_network(tmp_path_factory.mktemp("backbones") / "wavenet", outlooks_of()))


def weights(model: Any) -> dict[str, np.ndarray]:
    """All that training gave."""
    seer = model.seer
    changes = {} if seer.changes is None else seer.changes.tensors
    return {name: one.numpy() for name, one in {**seer.head, **changes}.items()}


def assert_same(one: Any, other: Any, atol: float = 0.0) -> None:
    """Two models' weights."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=0, atol=atol, err_msg=name)


def test_a_fit_from_a_source_says_what_the_transfer_was_worth(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "forecasting"
    assert {"last value", "seasonal naive", "same network from scratch"} <= metrics["baselines"].keys()
    plan = Plan.read(run)
    tried = [(one.strategy, one.cut) for one in plan.candidates]
    assert [name for name, _ in tried] == ["zero_shot", "frozen", "partial", "full"]
    assert [point.stages for point in plan.depth] == [(stage,) for stage in range(4)]
    assert plan.reads in [point.stages for point in plan.depth]
    assert (run / "report.html").is_file()
    assert "random walk" in json.dumps(metrics)


def test_a_run_forecasts_the_same_before_and_after_it_is_saved(run: Path, tmp_path: Path) -> None:
    model = headstart.load(run)
    model.save(tmp_path / "again")
    found, again = model.forecast(), headstart.load(tmp_path / "again").forecast()
    pd.testing.assert_frame_equal(found, again)
    assert len(found) == 2 * 5
    assert found["time"].min() == TARGET["date"].max() + pd.Timedelta(1, "D")
    assert np.isfinite(found.drop(columns=["series", "time"]).to_numpy(float)).all()
    of_data = model.forecast(TARGET)
    pd.testing.assert_frame_equal(of_data, found, rtol=1e-6)


def test_a_run_brings_the_network_that_was_pretrained_for_it(run: Path, monkeypatch: Any, tmp_path: Path) -> None:
    found = headstart.load(run).forecast()
    elsewhere = tmp_path / "home"
    elsewhere.mkdir()
    moved = shutil.copytree(run, tmp_path / "moved")
    monkeypatch.setenv("HEADSTART_HOME", str(elsewhere))
    pd.testing.assert_frame_equal(headstart.load(moved).forecast(), found)


def test_a_plan_is_done_again(run: Path) -> None:
    first = headstart.load(run)
    again = fit(plan=run)
    assert again.plan.reads == first.plan.reads
    assert (again.plan.strategy, again.plan.cut) == (first.plan.strategy, first.plan.cut)
    assert again.plan.ships == first.plan.ships
    assert_same(first, again, atol=1e-6)
    pd.testing.assert_frame_equal(again.forecast(), first.forecast(), rtol=1e-5)


def test_a_plan_reads_the_stage_that_it_chose(network: str, tmp_path: Path) -> None:
    first = fit(backbone=network, strategy="frozen")
    plan = first.plan
    assert plan.depth
    other = next(point.stages for point in plan.depth if point.stages != plan.reads)
    first.save(tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "plan.json").read_text())
    saved["reads"] = list(other)
    (tmp_path / "run" / "plan.json").write_text(json.dumps(saved))
    again = fit(backbone=network, plan=tmp_path / "run")
    assert again.plan.reads == other


def test_a_fit_that_was_cut_off_goes_on(network: str, monkeypatch: Any) -> None:
    whole = fit(backbone=network, strategy="full", seed=5)
    trained: list[str] = []
    train = heads.train_head

    def stopping(strategy: Any, *rest: Any) -> Any:
        if len(trained) == 5:  # after the depths and the head alone
            raise KeyboardInterrupt
        trained.append(strategy.title)
        return train(strategy, *rest)

    monkeypatch.setattr(heads, "train_head", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit(backbone=network, strategy="full", seed=5)
    n_before = len(trained)
    assert n_before == 5
    monkeypatch.setattr(heads, "train_head", lambda *rest: trained.append("more") or train(*rest))
    gone_on = fit(backbone=network, strategy="full", seed=5)
    assert len(trained) == n_before + 1  # what was trained is not trained again
    assert_same(whole, gone_on)


@pytest.mark.parametrize("wish", [{}, {"freeze": 0}], ids=["search", "full"])
def test_the_test_is_not_looked_at_before(network: str, wish: dict[str, Any]) -> None:
    changed = TARGET.copy()
    rng = np.random.default_rng(0)
    for name in ("s0", "s1"):
        changed.loc[TEST_FROM:, name] = -50 + 30 * rng.standard_normal(len(changed) - TEST_FROM)
    one, other = (fit(data, backbone=network, **wish) for data in (TARGET, changed))
    found = [[(way.title, way.score, way.outcome) for way in model.plan.candidates] for model in (one, other)]
    assert found[0] == found[1]
    assert (one.plan.reads, one.plan.cut, one.plan.ships) == (other.plan.reads, other.plan.cut, other.plan.ships)
    assert one.task.non_negative == other.task.non_negative
    np.testing.assert_array_equal(one.seer.bands.factors, other.seer.bands.factors)
    assert_same(one, other)


def test_the_source_is_cut_where_choosing_begins() -> None:
    changed = SOURCE.copy()
    day = TARGET["date"][VAL_FROM]
    after = changed["date"] >= day
    changed.loc[after, ["s0", "s1", "s2"]] = 1e3
    folders = []
    for source in (SOURCE, changed):
        model = fit(source=source, strategy="zero_shot")
        folders.append(model.provenance.name)
    assert folders[0] == folders[1]
    kept = json.loads((Path(folders[0]) / "panel.json").read_text())
    assert pd.Timestamp(kept["until"]) < day
    changed.loc[changed["date"] == day - pd.Timedelta(1, "D"), "s0"] = 1e3
    assert fit(source=changed, strategy="zero_shot").provenance.name != folders[0]
    assert Path(folders[0]).parent == places.home() / "backbones"


@pytest.mark.parametrize(
    ("wish", "strategy", "cut"),
    [
        ({"strategy": "zero_shot"}, "zero_shot", None),
        ({"strategy": "frozen"}, "frozen", 4),
        ({"freeze": 4}, "frozen", 4),
        ({"freeze": 2}, "partial", 2),
        ({"freeze": 0}, "full", 0),
    ],
    ids=["zero_shot", "frozen", "freeze 4", "freeze 2", "freeze 0"],
)
def test_a_way_that_is_named_ships(network: str, wish: dict[str, Any], strategy: str, cut: int | None) -> None:
    model = fit(backbone=network, **wish)
    assert model.plan.strategy == strategy
    if cut is not None:
        assert model.plan.cut <= cut
    assert model.plan.ships == "transfer"
    assert model.seer.network is not None
    assert (model.seer.changes is None) == (strategy in ("zero_shot", "frozen"))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"strategy": "probe"}, "no way to learn forecasts"),
        ({"freeze": 9}, "9"),
        ({"horizon": 0}, "horizon 0 is too small"),
        ({"source": SOURCE}, "--source pretrains a network, and --backbone names one"),
        ({"strategy": "zero_shot", "horizon": 6}, "was not pretrained"),
        ({"strategy": "full", "freeze": 2}, "'full' freezes nothing"),
        ({"class_weight": "balanced"}, "Class weights"),
        ({"metric": "f1"}, "f1"),
        ({"test_steps": 3}, "shorter than the horizon"),
    ],
)
def test_what_cannot_be_wished_for(network: str, wish: dict[str, Any], said: str) -> None:
    with pytest.raises(HeadstartError, match=said):
        fit(backbone=network, **wish)
    assert issubclass(PlanError, HeadstartError)


def test_a_random_walk_is_not_beaten(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    walk = pd.DataFrame({"value": 100 + rng.standard_normal(400).cumsum()})
    folder = save_network(tmp_path / "net", outlooks_of(1))
    model = headstart.fit(walk, horizon=5, backbone=str(folder), scratch=False, reading=PanelReading(season=1))
    assert "does not beat the random walk" in model.evidence.verdict
    assert model.evidence.paid is not True
