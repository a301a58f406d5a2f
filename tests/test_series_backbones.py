"""Backbones of series: alone and in batches, whole and resumed at every cut, and what their own heads forecast."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from scipy.stats import norm

from headstart import places, registry
from headstart.backbones import catalog, chronos, fracast
from headstart.backbones.base import Located, Provenance
from headstart.backbones.costs import stage_costs
from headstart.backbones.fracast_head import Settings
from headstart.backbones.periods import phases, recency, seasonal_means, significant_periods
from headstart.backbones.resume import Resumable
from headstart.backbones.series import at_levels, stretches_of
from headstart.data.stretches import LEVELS, Stretch
from headstart.engine import freeze
from headstart.engine.batching import stacked
from headstart.engine.maps import cached_maps
from headstart.errors import BackboneError
from headstart.progress import Progress
from tests.patches import PATCHED, save_patched
from tests.test_backbones import assert_stages_hold_all_parameters

OWN = tuple(i / 10 for i in range(1, 10))
_FRACAST = {
    "family": "fracast",
    "W": 64,
    "d_model": 12,
    "n_stages": 4,
    "quantiles": list(OWN),
    "horizon": 6,
    "head_d_ff": 16,
    "head_future_conv_layers": 2,
    "head_future_conv_seed": 16,
    "level_widths": [64],
    "n_heads": 8,  # of an older network; unread
}
_BOLT = {
    "context_length": 64,
    "prediction_length": 6,
    "input_patch_size": 4,
    "input_patch_stride": 4,
    "quantiles": list(OWN),
}
_T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": None,
}
ALL = ["fracast", "chronos", "chronos, token", *PATCHED]


def series() -> list[Stretch]:
    """Of several lengths, some with gaps: shorter than a patch, of no whole number of them, longer than the window."""
    rng = np.random.default_rng(0)
    found = []
    for n in (64, 37, 3, 90, 12):
        values = 50 + np.cumsum(rng.standard_normal(n)) + 3 * np.sin(np.arange(n) * 2 * np.pi / 8)
        if n > 20:
            values[rng.random(n) < 0.1] = np.nan
            values[n // 2 : n // 2 + 6] = np.nan
        found.append(Stretch(values, 8))
    return found


def save_tiny(name: str, folder: Path) -> Path:
    """A random network in the hub's layout; its weights are large enough for errors to show."""
    if name in PATCHED:
        return save_patched(name, folder)
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    network: Any
    if name == "fracast":
        known = {key: value for key, value in _FRACAST.items() if key in Settings.__annotations__}
        network = fracast.Network(Settings(**known))
        config: dict[str, Any] = {"model": _FRACAST, "pyramid": {"ratios": []}}
    else:
        told = transformers.T5Config(**_T5, chronos_config=_BOLT | {"use_reg_token": name.endswith("token")})
        network = chronos.Network(told)
        config = told.to_dict() | {"architectures": ["ChronosBoltModelForForecasting"]}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    kind = fracast.Fracast if name == "fracast" else chronos.Chronos
    origin = Provenance(name="", source="", licence="", sha256="", n_parameters=0)
    named = kind(network, (), origin, {}).weights(
        Located(name="", family="", folder=folder, source="", licence="", sha256="")
    )
    save_file({key: one.clone() for key, one in named.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module", params=ALL)
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_tiny(request.param, tmp_path_factory.mktemp("models") / "model")
    return catalog.load(str(folder), Progress())


def last_of(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    n, n_steps = inputs["values"].shape
    return torch.full((n, 1), n_steps - 1)


# --- batches, stages, cuts


def test_the_shared_keyword_arguments_give_back_what_was_collated(backbone: Any) -> None:
    items = series()
    inputs = backbone.collate(items)
    assert inputs["season"].tolist() == [8] * len(items)
    for name in ("loc", "scale", "observed"):
        assert inputs[name].shape == inputs["values"].shape
    for item, again in zip(items, stretches_of(inputs), strict=True):
        n = min(len(item), len(again))
        np.testing.assert_allclose(again.values[-n:], item.values[-n:], rtol=1e-5)
        assert np.isnan(again.values[:-n]).all()


def test_what_a_stretch_gives_does_not_depend_on_its_batch(backbone: Any) -> None:
    items = series()
    together = backbone.collate(items)
    pooled, output = backbone.pooled(together), backbone.activations(together, backbone.n_stages)
    states = backbone.states(output, together, last_of(together))
    forecast = backbone.own_forecast(together, last_of(together), 15)
    for i, item in enumerate(items):
        alone = backbone.collate([item])
        for one, stage in zip(backbone.pooled(alone), pooled, strict=True):
            torch.testing.assert_close(stage[i], one[0], rtol=1e-5, atol=1e-5)
        own = backbone.activations(alone, backbone.n_stages)
        torch.testing.assert_close(states[i], backbone.states(own, alone, last_of(alone))[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            backbone.unpad(output, together)[i], backbone.unpad(own, alone)[0], rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(
            forecast[i], backbone.own_forecast(alone, last_of(alone), 15)[0], rtol=1e-4, atol=1e-4
        )
        assert len(backbone.unpad(own, alone)[0]) == backbone.lengths([item])[0]


def test_resuming_at_every_cut_gives_the_whole_pass(backbone: Any) -> None:
    items = series()
    inputs = backbone.collate(items)
    whole = backbone.activations(inputs, backbone.n_stages)
    wanted = backbone.states(whole, inputs, last_of(inputs))
    for cut in range(1, backbone.n_stages):
        rows = [row.clone() for row in backbone.unpad(backbone.activations(inputs, cut), inputs)]
        resumable = Resumable(backbone, cut, backbone.example()).eval()
        placed = backbone.placeholders(items, rows)
        with torch.no_grad():
            resumed = resumable.last_stage(placed, stacked(rows))
            torch.testing.assert_close(resumable(inputs), backbone.pooled(inputs)[-1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(backbone.states(resumed, placed, last_of(placed)), wanted, rtol=1e-5, atol=1e-5)


def test_gradients_reach_what_is_above_the_cut_and_nothing_below(backbone: Any) -> None:
    inputs = backbone.collate(series()[:2])
    for cut in range(backbone.n_stages):
        upper = Resumable(backbone, cut, inputs)
        upper(inputs).square().sum().backward()
        moved = {name for name, one in upper.network.named_parameters() if one.grad is not None}
        assert moved == upper.trained_names
        assert moved


def test_every_parameter_but_the_heads_belongs_to_one_stage(backbone: Any) -> None:
    assert_stages_hold_all_parameters(backbone, unread=("head.",))
    assert backbone.n_stages == (2 if isinstance(backbone, fracast.Fracast) else 4)
    assert registry.modality("series").default_backbone in catalog.ENTRIES


def test_other_forms_of_the_same_backbone(backbone: Any, tmp_path: Path) -> None:
    inputs = backbone.collate(series())
    pooled = backbone.pooled(inputs)
    for one, other in zip(backbone.beside().pooled(inputs), pooled, strict=True):
        assert torch.equal(one, other)
    half = backbone.cast("bfloat16")
    assert half.fingerprint != backbone.fingerprint
    assert torch.cosine_similarity(half.pooled(inputs)[-1], pooled[-1]).min() > 0.98
    assert half.own_forecast(inputs, last_of(inputs), 6).isfinite().all()
    fresh = backbone.reinitialised()
    assert fresh.state_dict().keys() == backbone.network.state_dict().keys()
    assert not torch.equal(next(fresh.parameters()), next(backbone.network.parameters()))
    located = catalog.locate(backbone.provenance.name, Progress())
    saved, named = load_file(located.folder / "model.safetensors"), backbone.weights(located)
    assert all(torch.equal(saved[name], one) for name, one in named.items())
    catalog.copy(located, tmp_path / "copy")
    assert catalog.load_copy(tmp_path / "copy").fingerprint == backbone.fingerprint


def test_nothing_observed_gives_numbers(backbone: Any) -> None:
    empty = [Stretch(np.zeros(0)), Stretch(np.full(9, np.nan)), Stretch(np.full(20, 7.0))]
    inputs = backbone.collate(empty)
    assert all(stage.isfinite().all() for stage in backbone.pooled(inputs))
    assert backbone.own_forecast(inputs, last_of(inputs), 6).isfinite().all()
    assert inputs["loc"][2, -1] == 7


# --- the engine


@dataclass(frozen=True)
class Plain:
    """Stretches as they are."""

    stages: tuple[int, ...]
    suffix: str = ""

    def change(self, digest: str, opened: Stretch) -> Stretch:
        return opened


def test_the_engine_caches_stretches_of_all_lengths(
    backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    modality, items, rows = registry.modality("series"), series(), np.arange(5)
    digests = [modality.examine(item).digest for item in items]
    inputs = backbone.collate(items)
    found = freeze.features(backbone, modality, items, digests, Progress())
    for stage, wanted in enumerate(backbone.pooled(inputs)):
        np.testing.assert_allclose(found.stage(stage, rows), wanted, rtol=1e-5, atol=1e-5)
    stages = tuple(range(backbone.n_stages))
    kept = cached_maps(backbone, modality, items, digests, Plain(stages), Progress()).rows(rows)
    for stage in stages:
        wanted = backbone.unpad(backbone.activations(inputs, stage + 1), inputs)
        assert [len(one) for one in kept[stage]] == backbone.lengths(items)
        for one, other in zip(kept[stage], wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    shares, moves = stage_costs(backbone, items[:2])
    assert len(shares) == len(moves) == backbone.n_stages
    assert sum(shares) == pytest.approx(1)
    assert shares[-1] > shares[0] or backbone.n_stages > 2  # the ladder is dearer than what it stands on


# --- forecasts


def test_levels_that_a_head_has_are_kept_and_tails_are_normal() -> None:
    mean, deviation = torch.tensor([[2.0], [-1.0]]), torch.tensor([[3.0], [0.5]])
    z = torch.tensor(norm.ppf(OWN), dtype=torch.float32)
    found = at_levels(mean + deviation * z, OWN)
    wanted = mean + deviation * torch.tensor(norm.ppf(LEVELS), dtype=torch.float32)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    skewed = torch.tensor([0.0, 1, 2, 3, 4, 6, 8, 10, 20])
    found = at_levels(skewed, OWN)
    torch.testing.assert_close(found[1:-1], skewed)
    assert found[-1].item() == pytest.approx(4 + 16 * norm.ppf(0.975) / norm.ppf(0.9), rel=1e-5)
    assert found[0].item() == pytest.approx(4 - 4 * norm.ppf(0.975) / norm.ppf(0.9), rel=1e-5)
    assert torch.equal(at_levels(skewed.flip(0), OWN), found)  # crossed quantiles are sorted
    mixed = at_levels(torch.tensor([0.0, 1.0, 3.0]), (0.1, 0.5, 0.9), (0.1, 0.7, 0.9))
    assert mixed[1].item() == pytest.approx(1 + 2 * norm.ppf(0.7) / norm.ppf(0.9), rel=1e-5)


def test_a_forecast_is_in_the_unit_of_the_series_and_goes_on(backbone: Any) -> None:
    items = series()[:3]
    inputs = backbone.collate(items)
    short, long = (backbone.own_forecast(inputs, last_of(inputs), horizon) for horizon in (4, 20))
    assert long.shape == (3, 1, 20, len(LEVELS))
    torch.testing.assert_close(short, long[:, :, :4])
    assert bool((long.diff(dim=-1) >= 0).all())
    moved = backbone.collate([Stretch(1000 + 10 * item.values, item.season) for item in items])
    torch.testing.assert_close(backbone.own_forecast(moved, last_of(moved), 4), 1000 + 10 * short, rtol=1e-4, atol=1e-2)
    if isinstance(backbone, fracast.Fracast):  # goes on from its medians
        medians = backbone.own_block(inputs)[:, :, OWN.index(0.5)].numpy()
        told = [np.concatenate([one.values, more]) for one, more in zip(items, medians, strict=True)]
        again = backbone.collate([Stretch(one) for one in told])
        found = backbone.own_forecast(again, last_of(again), 6)
        torch.testing.assert_close(found, long[:, :, 6:12], rtol=1e-3, atol=1e-3)


# --- the parts of Fracast


def test_periods_are_found_and_noise_has_none() -> None:
    t = torch.arange(256.0)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 256)).astype(np.float32))
    periods = significant_periods(torch.stack([torch.sin(t * 2 * np.pi / 32), torch.cos(t * np.pi / 4)]), 2, 4, 0.05)
    assert periods[:, 0].tolist() == [32, 8]
    assert (significant_periods(noise, 2, 4, 0.05) > 0).any(1).sum() <= 4  # one in twenty by chance
    told = phases(torch.arange(10), torch.tensor([[8, 0]]), 2)
    angle = 2 * np.pi * np.arange(10) / 8
    wanted = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle), *np.zeros((4, 10))], axis=1)
    np.testing.assert_allclose(told[0], wanted, atol=1e-5)
    assert recency(torch.tensor([9]), 10).tolist() == [[0, 0, 1, 1, 1]]  # the origin


def test_seasonal_means_are_those_of_what_was_observed() -> None:
    x = torch.tensor([[1.0, 2, 3, 5, 0, 7, 9, 0, 11]])
    observed = torch.tensor([[True, True, True, True, False, True, True, False, True]])
    found = seasonal_means(x, observed, torch.tensor([3]), torch.arange(9, 13), 16)
    assert found.tolist() == [[5.0, 2.0, 7.0, 5.0]]  # (1 + 5 + 9) / 3, 2, (3 + 7 + 11) / 3
    nothing = seasonal_means(x, observed, torch.tensor([0]), torch.arange(9, 11), 16)
    torch.testing.assert_close(nothing, torch.full((1, 2), 38 / 7))


# --- what is refused


@pytest.mark.parametrize("kind", ["autoformer", "time_moe", "informer"])
def test_other_networks_of_series_are_named(kind: str, tmp_path: Path) -> None:
    folder = save_tiny("chronos", tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(BackboneError, match=f"{kind}, a network for series.*chronos-bolt-tiny"):
        catalog.load(str(folder), Progress())


def test_settings_that_were_not_ported_are_refused(tmp_path: Path) -> None:
    folder = save_tiny("fracast", tmp_path / "model")
    for change, said in (({"share_stages": False}, "share_stages"), ({"d_model": 8}, "do not fit")):
        (folder / "config.json").write_text(json.dumps({"model": _FRACAST | change}))
        with pytest.raises(BackboneError, match=said):
            catalog.load(str(folder), Progress())
    other = save_tiny("chronos", tmp_path / "other")
    saved = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(saved | {"chronos_config": _BOLT | {"input_patch_stride": 2}}))
    with pytest.raises(BackboneError, match="overlap"):
        catalog.load(str(other), Progress())


# --- the real weights

RECORDED = [  # of `fracast` 0.1.0 in float32, steps 1, 11, 48 and 60 at .1, .5 and .9
    [105.95833587646484, 109.48287200927734, 112.73690032958984],
    [118.85538482666016, 124.52156066894531, 129.96664428710938],
    [107.73242950439453, 111.73194885253906, 117.33497619628906],
    [123.55152893066406, 128.87503051757812, 133.83041381835938],
]


@pytest.mark.skipif(not (places.weights() / "fracast-0").exists(), reason="headstart models pull fracast-0")
def test_fracast_forecasts_what_its_own_package_did() -> None:
    backbone: Any = catalog.load("fracast-0", Progress())
    assert backbone.provenance.n_parameters == 85_001
    t = np.arange(400.0)
    values = 100 + 0.05 * t + 10 * np.sin(2 * np.pi * t / 24) + 3 * np.cos(2 * np.pi * t / 168)
    values[50:60] = np.nan
    inputs = backbone.collate([Stretch(values, 24)])
    found = backbone.own_forecast(inputs, last_of(inputs), 60)[0, 0]
    np.testing.assert_allclose(found[[0, 10, 47, 59]][:, [1, 5, 9]], RECORDED, rtol=1e-5)
