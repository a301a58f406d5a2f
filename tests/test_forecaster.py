"""Forecasts of windows: in pieces, in any unit, from cached states, with covariates; and pretraining for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.backbones import catalog
from headstart.backbones.quantile_head import CENTRE, LAST, SEASON, Outlooks
from headstart.backbones.wavenet import Layout, WaveNet
from headstart.data.outlook import Outlook, Windows, look_ahead
from headstart.data.panel import Panel
from headstart.data.stretches import LEVELS, MEDIAN
from headstart.engine import histories
from headstart.engine.forecaster import Forecaster
from headstart.engine.histories import Units, anchor_for, drawn, pieces_of, stretch_of
from headstart.errors import DataError
from headstart.forecast_workshop import HEAD_ALONE, ForecastWorkshop, fresh_head
from headstart.forecasting import open_shop
from headstart.panels import pose, task_of
from headstart.progress import Progress
from headstart.series_pretraining import key_of, parted, pretrain
from headstart.strategies.frozen import Frozen
from headstart.strategies.full import Full
from headstart.strategies.partial import Partial
from headstart.strategies.zero_shot import ZeroShot
from headstart.tasks.forecasting import outcomes, scale
from headstart.wishes import Wishes
from tests.test_outlook import panel_of, ragged
from tests.test_series_backbones import save_tiny
from tests.test_wavenet import TINY, gappy, load_network, outlooks_of, random_head, save_network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> WaveNet:
    return load_network(save_network(tmp_path_factory.mktemp("backbones") / "wavenet"))


def seasonal(n_series: int = 3, n_steps: int = 150, seed: int = 0) -> Panel:
    """Weeks with gaps."""
    return panel_of(np.stack([gappy(n_steps, seed + number) for number in range(n_series)]), 7)


def forecaster_of(outlooks: Outlooks) -> Forecaster:
    return Forecaster(outlooks=outlooks, head=dict(random_head(outlooks).state_dict()))


def said(network: Any, panel: Panel, windows: Windows, forecaster: Forecaster | None = None) -> np.ndarray:
    """(N, H, Q)."""
    forecaster = forecaster or forecaster_of(outlooks_of())
    return forecaster.forecasts(network, panel, windows, 5, Progress().bar)


def all_windows(panel: Panel) -> Windows:
    outlook = look_ahead(panel, 5)
    parts = [outlook.windows(name) for name in ("train", "val", "test")]
    return Windows(np.concatenate([one.series for one in parts]), np.concatenate([one.origins for one in parts]))


def test_forecasts_know_nothing_of_what_comes_after(network: WaveNet) -> None:
    panel = seasonal()
    windows = all_windows(panel)
    found = said(network, panel, windows)
    assert found.shape == (len(windows), 5, len(LEVELS))
    assert (np.diff(found, axis=-1) >= 0).all()
    before = windows.select(windows.origins < 100)
    values = panel.values.copy()
    values[:, 100:] = 1e3 * np.random.default_rng(0).standard_normal(values[:, 100:].shape)
    changed = said(network, replace(panel, values=values), windows)
    np.testing.assert_allclose(changed[windows.origins < 100], found[windows.origins < 100], rtol=1e-5)
    cut = said(network, panel.until(100), before)
    np.testing.assert_allclose(cut, found[windows.origins < 100], rtol=1e-5)


@pytest.mark.parametrize("anchor", [SEASON, LAST, CENTRE])
def test_forecasts_go_with_the_unit(network: WaveNet, anchor: str) -> None:
    panel = seasonal()
    windows, forecaster = all_windows(panel), forecaster_of(outlooks_of(anchor=anchor))
    found = said(network, panel, windows, forecaster)
    for unit in (1e-4, 300.0):
        other = said(network, replace(panel, values=panel.values * unit), windows, forecaster)
        np.testing.assert_allclose(other, found * unit, rtol=2e-4, atol=2e-4 * unit)


def test_forecasts_of_series_that_stand_still_stay_with_them(network: WaveNet) -> None:
    panel = panel_of(np.stack([np.zeros(80), np.full(80, 7.0), np.full(80, -1e9)]), 7)
    windows = Windows(np.arange(3), np.full(3, 79))
    found = said(network, panel, windows)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1:, :, MEDIAN], panel.values[1:, -1:].repeat(5, 1), rtol=1e-4)


@pytest.mark.parametrize("dense", [True, False])
def test_pieces_hold_every_window_once(monkeypatch: pytest.MonkeyPatch, network: WaveNet, dense: bool) -> None:
    monkeypatch.setattr(histories, "PIECE", 16)
    monkeypatch.setattr(WaveNet, "dense", dense)
    panel = ragged()
    windows = all_windows(panel)
    windows = windows.select(np.random.default_rng(0).permutation(len(windows)))
    pieces, rows = pieces_of(windows, network)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(windows)))
    for piece, own in zip(pieces, rows, strict=True):
        assert (windows.series[own] == piece.series).all()
        np.testing.assert_array_equal(windows.origins[own], piece.origins)
        assert (np.diff(piece.origins) > 0).all()
        assert piece.start == max(0, piece.origins[0] - network.context + 1)
        stretch = stretch_of(panel, piece)
        np.testing.assert_array_equal(
            stretch.values, panel.values[piece.series, piece.start : piece.start + len(stretch)]
        )
        assert piece.within[-1] == len(stretch) - 1
        assert len(piece.origins) == 1 or (dense and np.ptp(piece.origins) < 16)


def test_forecasts_do_not_depend_on_pieces_whose_history_is_whole(
    monkeypatch: pytest.MonkeyPatch, network: WaveNet
) -> None:
    panel = seasonal()
    windows = all_windows(panel)
    monkeypatch.setattr(WaveNet, "context", 10_000)
    found = said(network, panel, windows)
    for size in (1, 23):
        monkeypatch.setattr(histories, "PIECE", size)
        np.testing.assert_allclose(said(network, panel, windows), found, rtol=1e-5)


def test_forecasts_keep_the_order_of_their_windows(network: WaveNet) -> None:
    panel = seasonal()
    windows = all_windows(panel)
    order = np.random.default_rng(0).permutation(len(windows))
    np.testing.assert_allclose(
        said(network, panel, windows.select(order)), said(network, panel, windows)[order], rtol=1e-5
    )


def test_some_origins_are_drawn_each_once() -> None:
    origins = np.arange(10, 300, 2)
    found = drawn(origins, np.random.default_rng(0))
    assert len(found) == len(set(found.tolist())) == histories.DRAWN
    assert set(found.tolist()) <= set(origins.tolist())
    np.testing.assert_array_equal(drawn(origins[:5], np.random.default_rng(0)), origins[:5])


def test_anchors_are_what_comes_nearer() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4, 300))
    assert anchor_for(panel_of(noise.cumsum(1)), 300, 5) == LAST
    assert anchor_for(panel_of(noise), 300, 5) == CENTRE
    assert anchor_for(panel_of(noise, 7), 300, 5) == SEASON
    turned = np.concatenate([noise, 1e3 * noise.cumsum(1)], 1)
    assert anchor_for(panel_of(turned), 300, 5) == CENTRE  # goes by what comes before step 300 alone


def open_on(panel: Panel, network: Any, horizon: int = 5) -> ForecastWorkshop:
    outlook = look_ahead(panel, horizon)
    task = task_of(panel, horizon)
    return open_shop(pose(outlook, (), task, network), network, task.metrics(), Wishes(), 0, Progress())


WAYS: list[Any] = [
    Frozen(epochs=2, learning_rate=1e-3),
    Partial(freeze=3, epochs=2, learning_rate=1e-3),
    Partial(freeze=2, epochs=2, learning_rate=1e-3),
    Partial(freeze=1, epochs=2, learning_rate=1e-3),
]


def assert_same_weights(one: Any, other: Any, moved: bool) -> None:
    """Of two trainings, to 1e-5."""
    for name, tensor in one.head.items():
        np.testing.assert_allclose(tensor, other.head[name], atol=1e-5, err_msg=name)
    assert (one.changes is None) == (other.changes is None) == (not moved)
    if moved:
        assert one.changes.tensors.keys() == other.changes.tensors.keys()
        for name, tensor in one.changes.tensors.items():
            np.testing.assert_allclose(tensor, other.changes.tensors[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("way", WAYS, ids=["head", "cut 3", "cut 2", "cut 1"])
def test_cached_states_give_the_weights_that_series_give(
    network: WaveNet, way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    monkeypatch.setattr(histories, "PIECE", 32)
    shop = open_on(seasonal(), network)
    rows = shop.problem.rows["train"]
    assert len(rows) > 6
    lessons = [shop.lesson_for(way, rows, cache) for cache in (True, False)]
    assert [bool(one.views) for one in lessons] == [True, False]
    cached, uncached = (shop.teach(way, one) for one in lessons)
    assert_same_weights(cached, uncached, not isinstance(way, Frozen))
    start = lessons[0].head
    assert start is not None
    assert any((cached.head[name] != start[name]).any() for name in start)  # it learnt something


@pytest.mark.parametrize("way", [WAYS[0], WAYS[3]], ids=["head", "cut 1"])
def test_cached_windows_give_the_weights_that_series_give(
    way: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    backbone = catalog.load(str(save_tiny("fracast", tmp_path / "fracast")), Progress())
    shop = open_on(seasonal(1, 60), backbone)
    rows = shop.problem.rows["train"]
    cached, uncached = (shop.teach(way, shop.lesson_for(way, rows, cache)) for cache in (True, False))
    assert_same_weights(cached, uncached, not isinstance(way, Frozen))


def test_training_does_not_look_at_validation_or_test(network: WaveNet) -> None:
    panel = seasonal()
    until = look_ahead(panel, 5).val_from
    values = panel.values.copy()
    values[:, until:] = np.where(np.isfinite(values[:, until:]), -5.0, np.nan)
    way = Full(epochs=1, learning_rate=1e-3)
    found = []
    for one in (panel, replace(panel, values=values)):
        shop = open_on(one, network)
        found.append(shop.teach(way, shop.lesson_for(way, shop.problem.rows["train"], True)))
    for name, tensor in found[0].head.items():
        torch.testing.assert_close(tensor, found[1].head[name], rtol=0, atol=0)
    for name, tensor in found[0].changes.tensors.items():
        torch.testing.assert_close(tensor, found[1].changes.tensors[name], rtol=0, atol=0)


def test_a_fresh_head_says_how_far_outcomes_lie_from_their_anchors(network: WaveNet) -> None:
    network = WaveNet(network.network, None, network.provenance)
    shop = open_on(seasonal(8, 150), network)
    lesson = shop.lesson_for(WAYS[0], shop.problem.rows["train"], False)
    head = fresh_head(lesson)
    batch = lesson.batch(lesson.train, None)
    for h in range(5):
        values = batch.truth.values[..., h][batch.truth.there[..., h]].numpy()
        below = [(values < level).mean() for level in head["bias"][h].tolist()]
        np.testing.assert_allclose(below, LEVELS, atol=0.12)


def test_an_own_head_forecasts_without_training(network: WaveNet) -> None:
    shop = open_on(seasonal(), network)
    (tried,) = shop.untrained()
    assert isinstance(tried.strategy, ZeroShot)
    wanted = said(network, shop.posed.outlook.panel, shop.posed.val)
    np.testing.assert_allclose(tried.scores, np.maximum(wanted, 0), rtol=1e-6)
    assert open_on(seasonal(), network, 6).untrained() == []  # it forecasts 5 steps
    assert open_on(replace(seasonal(), season=4), network).untrained() == []
    shorter = open_on(seasonal(), network, 3).untrained()[0].scores
    assert shorter.shape[1] == 3


def with_switch(known: bool) -> Panel:
    """A slow walk that stands 4 higher while a switch, known in advance, is on."""
    rng = np.random.default_rng(0)
    on = (rng.random((4, 260)) < 0.5).astype(float)
    values = 0.2 * rng.standard_normal((4, 260)).cumsum(1) + 4 * on
    return replace(panel_of(values), known={"switch": on} if known else {})


def test_a_covariate_that_decides_is_learnt(network: WaveNet) -> None:
    losses = {}
    blank = WaveNet(network.network, None, network.provenance)
    for known in (False, True):
        panel = with_switch(known)
        shop = open_on(panel, blank, 3)
        assert shop.outlooks.n_beside == (2 if known else 0)
        way = Frozen(**{**HEAD_ALONE, "learning_rate": 2e-3}, epochs=60)
        tried = shop.train(way, cache=False)
        shop.trials.forget()
        y = shop.posed.outlook.truth(shop.posed.val)
        losses[known] = np.nanmean(abs(outcomes(y) - tried.scores[..., MEDIAN]) / scale(y)[:, None])
    assert losses[True] < 0.5 * losses[False]


def test_units_of_covariates_are_those_before_the_first_choice() -> None:
    rng = np.random.default_rng(0)
    known = rng.standard_normal((2, 60)) * 3 + 5
    known[0, 4] = np.nan
    panel = replace(
        panel_of(rng.standard_normal((2, 50))), known={"price": known}, static={"size": np.array([1.0, 3.0])}
    )
    outlooks = outlooks_of(1, known=("price",), static=("size",))
    units = Units.of(panel, outlooks, 30)
    assert units.known[0] == pytest.approx((np.nanmean(known[:, :30]), np.nanstd(known[:, :30])))
    assert units.static[0] == (2.0, 1.0)
    found = units.covariates(panel, outlooks)
    assert found is not None
    assert found.known.shape == (2, 60, 1)
    assert found.known[0, 4, 0] == 0.0  # what is missing is as the mean
    beside = found.at(1, np.array([40, 59, 70]), np.array([39, 39, 39]))
    standard = (known[1] - units.known[0][0]) / units.known[0][1]
    wanted = [[standard[t], standard[t] - standard[39], 1.0] for t in (40, 59, 59)]
    np.testing.assert_allclose(beside, wanted, rtol=1e-5)
    flat = replace(panel, known={"price": np.full((2, 60), 4.0)})
    assert Units.of(flat, outlooks, 30).known[0] == (4.0, 1.0)


def test_a_forecaster_comes_back_as_it_was() -> None:
    outlooks = outlooks_of(known=("price",), static=("size",))
    one = Forecaster(outlooks=outlooks, head={}, units=Units(known=((1.0, 2.0),), static=((0.5, 1.0),)))
    saved = json.loads(json.dumps(one.to_json()))
    assert Forecaster.restore(saved, {}, None) == one


def waves(n_steps: int = 240, seed: int = 0) -> Panel:
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 7, (3, 1))
    values = 10 + 4 * np.sin((np.arange(n_steps) + phase) * 2 * np.pi / 7) + 0.3 * rng.standard_normal((3, n_steps))
    return panel_of(values, 7)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "of_season", classmethod(lambda cls, season: TINY))


@pytest.mark.usefixtures("tiny")
def test_pretraining_gives_a_backbone_with_the_forecasts_that_it_measured(tmp_path: Path) -> None:
    panel = waves()
    told = pretrain(panel, 5, out=tmp_path / "net", steps=40, progress=Progress())
    backbone = load_network(tmp_path / "net")
    outlook: Outlook = parted(panel, 5)
    windows = outlook.windows("val")
    assert backbone.own is not None
    forecaster = Forecaster(outlooks=backbone.own_outlooks, head=dict(backbone.own.state_dict()))
    found = said(backbone, panel, windows, forecaster)
    y = outlook.truth(windows)
    mase = (abs(outcomes(y) - found[..., MEDIAN]) / scale(y)[:, None]).mean()
    assert told.mase.value == pytest.approx(mase, rel=1e-6)
    origins, steps = windows.origins[:, None], np.arange(1, 6)
    naive = panel.values[windows.series[:, None], origins + steps - 7]
    assert told.naive.value == pytest.approx((abs(outcomes(y) - naive) / scale(y)[:, None]).mean(), rel=1e-6)
    assert told.difference.value == pytest.approx(told.mase.value - told.naive.value, abs=1e-9)
    assert told.difference.low <= told.difference.value <= told.difference.high
    kept = json.loads((tmp_path / "net" / "panel.json").read_text())
    assert kept["verdict"] == told.verdict
    assert (kept["n_held"], kept["season"], kept["horizon"]) == (len(windows), 7, 5)
    assert told.verdict in (tmp_path / "net" / "README.md").read_text()
    assert told.until == str(panel.times[outlook.val_from - 1])


@pytest.mark.usefixtures("tiny")
def test_pretraining_does_not_learn_from_what_is_held_out(tmp_path: Path) -> None:
    panel = waves()
    held = parted(panel, 5).val_from
    assert held == 240 - 24
    values = panel.values.copy()
    values[:, held:] = 1e3
    for name, one in (("one", panel), ("other", replace(panel, values=values))):
        pretrain(one, 5, out=tmp_path / name, steps=3, progress=Progress())
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other
    values[:, held - 1] = 0.0
    pretrain(replace(panel, values=values), 5, out=tmp_path / "third", steps=3, progress=Progress())
    assert (tmp_path / "third" / "model.safetensors").read_bytes() != one


def test_too_little_to_pretrain_on() -> None:
    with pytest.raises(DataError, match="30 steps, too few"):
        parted(panel_of(np.zeros((1, 30))), 10)


def test_a_source_is_known_by_all_that_is_learnt_from() -> None:
    panel = waves()
    others = [replace(panel, season=1), replace(panel, as_="returns"), panel.until(200), panel.select(np.array([0, 1]))]
    keys = {key_of(one, 5, 0) for one in (panel, *others)} | {key_of(panel, 6, 0), key_of(panel, 5, 1)}
    assert len(keys) == 7
    assert key_of(waves(), 5, 0) == key_of(panel, 5, 0)
