"""TimesFM and PatchTST beside transformers' own passes; what all backbones of series promise is in another file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from headstart.backbones import catalog
from headstart.backbones.families import family_of
from headstart.data.stretches import LEVELS, MEDIAN, Stretch
from headstart.errors import BackboneError
from headstart.progress import Progress
from tests.patches import PATCHTST, built, save_patched, shaken


def windows(gaps: bool) -> list[Stretch]:
    """As long as the context, shorter, shorter than a patch, longer; with a gap that holds whole patches or without."""
    rng = np.random.default_rng(0)
    found = []
    for n in (64, 37, 3, 90):
        values = 50 + np.cumsum(rng.standard_normal(n))
        if gaps and n > 20:
            values[[1, n // 3]] = np.nan
            values[n // 2 : n // 2 + 13] = np.nan
        found.append(Stretch(values))
    return found


def loaded(name: str, folder: Path) -> Any:
    return catalog.load(str(save_patched(name, folder / "model")), Progress())


def last_of(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    n, n_steps = inputs["values"].shape
    return torch.full((n, 1), n_steps - 1)


def filled(one: Stretch, n_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values (1, n_steps) float32 that end with the stretch, 0 where missing, and whether they are there."""
    values = np.full(n_steps, np.nan)
    own = one.values[-n_steps:]
    values[n_steps - len(own) :] = own
    there = np.isfinite(values)
    return torch.from_numpy(np.where(there, values, 0).astype(np.float32))[None], torch.from_numpy(there)[None]


@pytest.mark.parametrize("name", ["timesfm", "timesfm, positions", "timesfm2_5"])
def test_timesfm_forecasts_what_transformers_does(name: str, tmp_path: Path) -> None:
    backbone, other = loaded(name, tmp_path), built(name)
    assert backbone.own_levels == tuple(i / 10 for i in range(1, 10))
    for one in windows(gaps=False):
        inputs = backbone.collate([one])
        with torch.no_grad():
            wanted = other(past_values=[torch.from_numpy(one.values.astype(np.float32))])
        torch.testing.assert_close(
            backbone.own_block(inputs).float(), wanted.full_predictions[..., 1:], rtol=1e-4, atol=1e-4
        )
        output = backbone.activations(inputs, backbone.n_stages)
        states = backbone.states(output, inputs, last_of(inputs))
        torch.testing.assert_close(states[:, 0], wanted.last_hidden_state[:, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["timesfm", "timesfm, positions"])
def test_timesfm_takes_gaps_as_padding(name: str, tmp_path: Path) -> None:
    backbone, other = loaded(name, tmp_path), built(name)
    for one in windows(gaps=True):
        values, there = filled(one, 64)
        frequency = torch.zeros(1, 1, dtype=torch.long)
        with torch.no_grad():
            found = other.decoder(past_values=values, past_values_padding=(~there).float(), freq=frequency)
            wanted = other._postprocess_output(found.last_hidden_state, (found.loc, found.scale))
        inputs = backbone.collate([one])
        torch.testing.assert_close(inputs["loc"][:, -1], found.loc, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(inputs["scale"][:, -1], found.scale, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(backbone.own_block(inputs).float(), wanted[:, -1, :, 1:], rtol=1e-4, atol=1e-4)


def test_timesfm2_5_takes_gaps_as_padding(tmp_path: Path) -> None:
    backbone, other = loaded("timesfm2_5", tmp_path), built("timesfm2_5")
    one = windows(gaps=False)[1]
    one.values[[9, 10, 11, 22]] = np.nan  # no patch ends with one: transformers would not look at it
    values, there = filled(one, 64)
    with torch.no_grad():
        found = other.model(past_values=values, past_values_padding=(~there).long())
    inputs = backbone.collate([one])
    torch.testing.assert_close(inputs["loc"][:, -1], found.loc, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(inputs["scale"][:, -1], found.scale, rtol=1e-4, atol=1e-5)
    output = backbone.activations(inputs, backbone.n_stages)
    states = backbone.states(output, inputs, last_of(inputs))
    torch.testing.assert_close(states[:, 0], found.last_hidden_state[:, -1], rtol=1e-3, atol=1e-3)


def test_timesfm2_5_keeps_to_the_sign_and_to_what_stands_still(tmp_path: Path) -> None:
    backbone, other = loaded("timesfm2_5", tmp_path), built("timesfm2_5")
    rng = np.random.default_rng(0)
    steps = rng.standard_normal(40)
    signs = [np.abs(steps) / 10, steps, np.full(30, 7.0), np.concatenate([np.full(20, 3.0), steps])]
    for values, rises in zip(signs, (True, False, True, False), strict=True):
        with torch.no_grad():
            wanted = other(past_values=[torch.from_numpy(values.astype(np.float32))]).full_predictions[..., 1:]
        inputs = backbone.collate([Stretch(values)])
        found = backbone.own_block(inputs)
        torch.testing.assert_close(found.float(), wanted, rtol=1e-3, atol=1e-3)
        assert inputs["positive"].tolist() == [rises]
        assert bool((found < 0).any()) != rises


def test_timesfm_goes_on_from_its_medians(tmp_path: Path) -> None:
    backbone, other = loaded("timesfm", tmp_path), built("timesfm")
    (one, *_), length = windows(gaps=False), 6
    inputs = backbone.collate([one])
    past = torch.from_numpy(one.values.astype(np.float32))
    with torch.no_grad():
        first = other(past_values=[past]).full_predictions[0]
        then = other(past_values=[torch.cat([past, first[:, 5]])]).full_predictions[0, :, 1:].sort(-1).values
    found = backbone.own_forecast(inputs, last_of(inputs), 2 * length)[0, 0, length:, 1:-1]
    torch.testing.assert_close(found.float(), then, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["patchtst", "patchtst, token"])
def test_patchtst_forecasts_the_distribution_that_transformers_does(name: str, tmp_path: Path) -> None:
    backbone, other = loaded(name, tmp_path), built(name)
    other.config.num_parallel_samples = 2000
    for one in windows(gaps=True)[1:3]:
        values, there = filled(one, 64)
        mean = values[there].mean()
        past = {"past_values": torch.where(there, values, mean)[..., None], "past_observed_mask": there[..., None]}
        with torch.no_grad():
            output = other(**past)
            assert isinstance(output.prediction_outputs, tuple)
            said = other.distribution_output.distribution(output.prediction_outputs, output.loc, output.scale)
            torch.manual_seed(0)
            samples = other.generate(**past).sequences[0, :, :, 0]
        inputs = backbone.collate([one])
        found = backbone.own_forecast(inputs, last_of(inputs), 6)[0, 0]
        np.testing.assert_allclose(found[:, MEDIAN], said.mean[0, :, 0], rtol=1e-5)  # both are symmetric
        below = (samples[:, :, None] < found).double().mean(0)
        np.testing.assert_allclose(below, np.tile(LEVELS, (6, 1)), atol=0.06)  # 5 standard errors


@pytest.mark.parametrize("way", ["pretrained", "bare", "point"])
def test_patchtst_without_quantiles_is_an_encoder(way: str, tmp_path: Path) -> None:
    backbone, network = loaded(f"patchtst, {way}", tmp_path), built(f"patchtst, {way}")
    other = network if way == "bare" else network.model
    other.do_mask_input, other.masking = False, torch.nn.Identity()
    one = windows(gaps=True)[1]
    values, there = filled(one, 64)
    past = torch.where(there, values, values[there].mean())[..., None]
    with torch.no_grad():
        wanted = other(past_values=past, past_observed_mask=there[..., None]).last_hidden_state[:, 0]
    inputs = backbone.collate([one])
    torch.testing.assert_close(backbone.activations(inputs, backbone.n_stages), wanted, rtol=1e-4, atol=1e-4)
    assert not backbone.has_own_head
    with pytest.raises(BackboneError, match="no forecasting head of its own"):
        backbone.own_forecast(inputs, last_of(inputs), 6)
    located = catalog.locate(str(tmp_path / "model"), Progress())
    saved, named = load_file(located.folder / "model.safetensors"), backbone.weights(located)
    assert named.keys() == {name for name in saved if not name.startswith("head.")}
    assert all(torch.equal(saved[name], tensor) for name, tensor in named.items())


@pytest.mark.parametrize("scaling", ["std", "mean", None])
def test_patchtst_of_several_channels_reads_each_by_itself(scaling: str | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = PATCHTST | {"num_input_channels": 3, "scaling": scaling, "pooling_type": None}
    network: Any = shaken(transformers.PatchTSTForPrediction(transformers.PatchTSTConfig(**settings)))
    network.save_pretrained(tmp_path / "model")
    backbone: Any = catalog.load(str(tmp_path / "model"), Progress())
    values = 5 + np.random.default_rng(0).standard_normal((64, 3)) * [1, 2, 3]
    with torch.no_grad():
        output = network(past_values=torch.from_numpy(values.astype(np.float32))[None])
    said = network.distribution_output.distribution(output.prediction_outputs, output.loc, output.scale)
    inputs = backbone.collate([Stretch(one) for one in values.T])
    found = backbone.own_forecast(inputs, last_of(inputs), 6)[:, 0, :, MEDIAN]
    np.testing.assert_allclose(found.T, said.mean[0], rtol=1e-4, atol=1e-4)


# --- what is refused


def test_networks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for name, change, said in (
        ("timesfm", {"context_length": 62}, "whole patches of 4"),
        ("timesfm", {"hidden_size": 8}, "do not fit"),
        ("timesfm", {"architectures": None, "quantiles": [0.1, 0.9]}, "do not fit"),
        ("patchtst", {"channel_attention": True}, "one series at a time"),
        ("patchtst", {"d_model": 8}, "do not fit"),
    ):
        folder = save_patched(name, tmp_path / name)
        saved = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(saved | change))
        with pytest.raises(BackboneError, match=said):
            catalog.load(str(folder), Progress())


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"architectures": ["Chronos2Model"], "chronos_config": {}}, "Chronos2Model"),
        ({"architectures": ["T5ForConditionalGeneration"], "chronos_config": {}}, "T5ForConditionalGeneration"),
        ({"d_model": 8, "max_seq_len": 512, "patch_sizes": [8]}, "Moirai"),
        ({"model_type": "patchtsmixer"}, "patchtsmixer"),
    ],
)
def test_what_is_run_is_told_of_networks_that_are_not(config: dict[str, Any], what: str, tmp_path: Path) -> None:
    folder = save_patched("timesfm", tmp_path / "model")
    assert family_of(folder) == "timesfm"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=rf"{what}, a network for series.*Chronos-Bolt.*TimesFM.*PatchTST"):
        catalog.load(str(folder), Progress())
