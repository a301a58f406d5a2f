"""A WaveNet of series: what stands at a step depends on nothing after it, on no neighbour, and not on the unit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import mean_pinball_loss

from headstart.backbones.quantile_head import (
    ANCHORS,
    CENTRE,
    LAST,
    N_RAW,
    SEASON,
    Outlooks,
    QuantileHead,
    look_around,
    pinball,
)
from headstart.backbones.wavenet import Layout, WaveNet, files_of
from headstart.data.causal_scale import N_INPUTS, causally_scaled
from headstart.data.outlook import carried
from headstart.data.stretches import LEVELS, Stretch
from headstart.engine.maps import whole_maps
from headstart.errors import BackboneError
from headstart.progress import Progress
from headstart.series_pretraining import _nowhere
from headstart.workshop import load_backbones
from tests.test_backbones import assert_stages_hold_all_parameters

TINY = Layout(width=8, dilations=((1, 2), (4,)), dropout=0.1)


def outlooks_of(season: int = 7, horizon: int = 5, **changed: Any) -> Outlooks:
    """Of a head on the last stage of the tiny network."""
    anchor = SEASON if season > 1 else LAST
    made = {"stage": 3, "width": 8, "horizon": horizon, "season": season, "by_step": True, "anchor": anchor}
    return Outlooks(**(made | changed))


def random_head(outlooks: Outlooks, seed: int = 0) -> QuantileHead:
    """A head whose every weight says something."""
    torch.manual_seed(seed)
    head = QuantileHead(outlooks)
    with torch.no_grad():
        for one in head.parameters():
            one.add_(0.2 * torch.randn_like(one))
    return head.eval().requires_grad_(False)


def save_network(folder: Path, outlooks: Outlooks | None = None, layout: Layout = TINY, seed: int = 0) -> Path:
    """A random network with a random head, as `headstart pretrain` writes it."""
    torch.manual_seed(seed)
    network, outlooks = WaveNet.blank(layout, _nowhere()), outlooks or outlooks_of()
    made = files_of(network, random_head(outlooks, seed).state_dict(), outlooks)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(made["config"]))
    save_file(made["tensors"], folder / "model.safetensors")
    return folder


def load_network(folder: Path) -> WaveNet:
    (network,) = load_backbones(str(folder), "series", Progress())
    assert isinstance(network, WaveNet)
    return network


def gappy(n: int = 90, seed: int = 0) -> np.ndarray:
    """A seasonal walk with a holiday and with values missing here and there."""
    rng = np.random.default_rng(seed)
    values = 50 + rng.standard_normal(n).cumsum() + 3 * np.sin(np.arange(n) * 2 * np.pi / 7)
    values[rng.random(n) < 0.1] = np.nan
    values[30:38] = np.nan
    values[0] = 47.0
    return values


def states_of(network: WaveNet, items: Sequence[Stretch]) -> list[torch.Tensor]:
    """Each stage's (N, T, C)."""
    whole = whole_maps(network, network.collate(items), range(network.n_stages))
    return [whole[stage] for stage in range(network.n_stages)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("backbones") / "wavenet")


@pytest.fixture(scope="module")
def network(folder: Path) -> WaveNet:
    return load_network(folder)


@pytest.mark.parametrize("season", [1, 7, 24])
def test_inputs_know_nothing_of_what_comes_after(season: int) -> None:
    values = gappy(200)
    whole = causally_scaled(values, season)
    assert whole.inputs.shape == (200, N_INPUTS)
    for cut in (1, 2, 29, 34, 60, 199):
        changed = values.copy()
        changed[cut:] = 1e4 * np.random.default_rng(cut).standard_normal(200 - cut)
        for other in (causally_scaled(values[:cut], season), causally_scaled(changed, season)):
            for name in ("inputs", "last", "centre", "scale", "observed"):
                np.testing.assert_allclose(getattr(other, name)[:cut], getattr(whole, name)[:cut], rtol=1e-6, atol=1e-6)


def test_location_and_scale_are_weighted_means_of_the_past() -> None:
    values, season, half_life = gappy(120), 7, 60.0
    found, held = causally_scaled(values, season), carried(values[None])[0]
    for step in (40, 80, 119):
        there = [t for t in range(step + 1) if np.isfinite(values[t])]
        ages = np.arange(len(there))[::-1]  # in values that were seen
        loc = np.average(values[there], weights=0.5 ** (ages / half_life))
        assert found.centre[step] + found.offset == pytest.approx(loc, rel=1e-5)
        pairs = [t for t in there if t >= season and np.isfinite(held[t - season])]
        changes = [abs(values[t] - held[t - season]) for t in pairs]
        scale = np.average(changes, weights=0.5 ** (np.arange(len(pairs))[::-1] / half_life))
        assert found.scale[step] == pytest.approx(scale, rel=1e-5)
        assert found.last[step] + found.offset == pytest.approx(held[step], rel=1e-5)


@pytest.mark.parametrize("season", [1, 7, 24])
@pytest.mark.parametrize("unit", [1e-3, 250.0, -3.0])
def test_inputs_do_not_depend_on_the_unit(season: int, unit: float) -> None:
    values = gappy(150)
    values[:12] = np.nan  # it began later
    one, other = causally_scaled(values, season), causally_scaled(values * unit, season)
    signs = np.array([np.sign(unit)] * 4 + [1.0] * 4 + [np.sign(unit)])
    np.testing.assert_allclose(other.inputs, one.inputs * signs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(other.scale[12:], one.scale[12:] * abs(unit), rtol=1e-4)


@pytest.mark.parametrize(
    "values",
    [np.zeros(40), np.full(40, 7.0), np.full(40, np.nan), np.r_[np.full(39, np.nan), 3.0], np.full(40, 1e12), [5.0]],
    ids=["zeros", "constant", "nothing", "one", "huge", "a single step"],
)
def test_series_that_stand_still_are_read_as_numbers(values: Any) -> None:
    for season in (1, 7, 24):
        found = causally_scaled(np.asarray(values, dtype=float), season)
        for name in ("inputs", "last", "centre", "scale"):
            assert np.isfinite(getattr(found, name)).all(), name
        assert (found.scale > 0).all()


def test_stages_hold_all_parameters(network: WaveNet) -> None:
    assert_stages_hold_all_parameters(network, unread=())
    assert [stage.name for stage in network.stages] == ["input", "dilations 1 to 2", "dilations 4 to 4", "output"]


def test_states_know_nothing_of_what_comes_after(network: WaveNet) -> None:
    values = gappy()
    whole = states_of(network, [Stretch(values, 7)])
    for cut in (1, 20, 33, 70):
        changed = values.copy()
        changed[cut:] = np.nan if cut == 33 else 999.0
        for other in (values[:cut], changed):
            for stage, found in enumerate(states_of(network, [Stretch(other, 7)])):
                np.testing.assert_allclose(found[:, :cut], whole[stage][:, :cut], atol=1e-5)


def test_a_state_depends_on_as_many_steps_as_the_context_says(network: WaveNet) -> None:
    assert network.context == 1 + 1 + 2 + 4
    inputs = network.collate([Stretch(gappy(), 7)])
    moved = {**inputs, "inputs": inputs["inputs"].clone()}
    moved["inputs"][:, 40] += 1
    one, other = (whole_maps(network, some, (3,))[3] for some in (inputs, moved))
    differ = np.flatnonzero((one != other).any(-1)[0].numpy())
    assert differ.min() == 40
    assert differ.max() == 40 + network.context - 1


def test_a_stretch_gives_the_same_in_any_batch(network: WaveNet) -> None:
    items = [Stretch(gappy(n, n), 7) for n in (90, 17, 60, 1)]
    together = states_of(network, items)
    for number, item in enumerate(items):
        for stage, alone in enumerate(states_of(network, [item])):
            np.testing.assert_allclose(together[stage][number, : len(item)], alone[0], atol=1e-5)


def test_a_folder_loads_as_it_was_saved(folder: Path, network: WaveNet) -> None:
    assert network.own is not None
    assert network.own_outlooks == outlooks_of()
    assert network.network.layout == TINY
    for name, one in random_head(outlooks_of()).state_dict().items():
        torch.testing.assert_close(network.own.state_dict()[name], one, rtol=0, atol=0)
    again = load_network(folder)
    assert again.fingerprint == network.fingerprint


def test_a_broken_folder_says_what_to_do(tmp_path: Path) -> None:
    folder = save_network(tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text())
    config["layout"]["width"] = 9
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"holds no WaveNet .* `headstart pretrain"):
        load_network(folder)


def test_dilations_meet_the_season() -> None:
    for season in (4, 7, 12, 24, 168, 365):
        layout = Layout.of_season(season)
        flat = [one for group in layout.dilations for one in group]
        assert season in flat
        assert all(group for group in layout.dilations)
        assert layout.context == 1 + sum(flat)
    assert Layout.of_season(1) == Layout()


@pytest.mark.parametrize("season", [1, 4, 7, 24])
@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("ahead", [1, 5, 30])
def test_what_stands_around_is_gathered_as_by_brute_force(season: int, anchor: str, ahead: int) -> None:
    rng = np.random.default_rng(season)
    n_steps, origins = 60, np.array([[3, 20, 59], [0, 31, 40]])
    series = {name: rng.standard_normal((2, n_steps)).astype(np.float32) for name in ("last", "centre")}
    series["scale"] = rng.uniform(1, 2, (2, n_steps)).astype(np.float32)
    outlooks = outlooks_of(season, ahead, anchor=anchor)
    tensors = {name: torch.from_numpy(one) for name, one in series.items()}
    found = look_around(tensors, torch.from_numpy(origins), outlooks)
    long, seasonal = 7 * season if season >= 24 else season, anchor == SEASON and season > 1
    for row, col in np.ndindex(2, 3):
        last, centre, scale = (series[name][row] for name in ("last", "centre", "scale"))
        origin = int(origins[row, col])
        assert found.scale[row, col] == scale[origin]

        def same_phase(step: int, of: int, origin: int = origin) -> int:
            while step > origin:
                step -= of
            return step

        for h in range(1, ahead + 1):
            step = same_phase(origin + h, season) if seasonal else origin
            value = centre[origin] if anchor == CENTRE else last[max(0, step)]
            assert found.anchor[row, col, h - 1] == value
            assert found.anchored[row, col, h - 1] == max(0, step)
            raw = np.zeros(N_RAW)
            if anchor == CENTRE:
                raw[3] = last[origin] - value
            elif seasonal:
                raw[0] = centre[origin] - value
                raw[1] = last[max(0, same_phase(origin + h, long))] - value
                raw[2] = last[max(0, step - season)] - value
                raw[3] = last[origin] - last[max(0, origin - season)]
            np.testing.assert_allclose(found.raw[row, col, h - 1], raw / scale[origin], rtol=1e-4, atol=1e-5)
        wanted = [max(0, same_phase(origin + h, season)) for h in range(1, outlooks.n_phases + 1)]
        assert found.phases[row, col].tolist() == wanted


def test_pinball_is_that_of_scikit_learn_over_what_is_there() -> None:
    rng = np.random.default_rng(0)
    quantiles, outcomes = rng.standard_normal((4, 3, 5, len(LEVELS))), rng.standard_normal((4, 3, 5))
    there = rng.random((4, 3, 5)) < 0.7
    wanted = [mean_pinball_loss(outcomes[there], quantiles[there][:, q], alpha=a) for q, a in enumerate(LEVELS)]
    found = pinball(*(torch.from_numpy(one) for one in (quantiles, outcomes, there)))
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-6)
    assert float(pinball(torch.zeros(1, 11), torch.ones(1), torch.zeros(1, dtype=torch.bool))) == 0.0


def test_a_head_reads_the_phase_of_each_step_again_in_every_season() -> None:
    outlooks = outlooks_of(4, 10)
    head = random_head(outlooks)
    now, raw = torch.zeros(1, 1, 8), torch.zeros(1, 1, 10, N_RAW)
    then = torch.zeros(1, 1, 4, 8)
    moved = then.clone()
    moved[:, :, 1] = 1.0
    differ = (head(now, then, raw) != head(now, moved, raw)).any(-1)[0, 0]
    assert np.flatnonzero(differ.numpy()).tolist() == [1, 5, 9]
