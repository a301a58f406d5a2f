"""Backbones of sounds: against transformers' own networks, alone and in batches, whole and resumed at every cut."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from headstart import places
from headstart.backbones import catalog, ctranslate, families
from headstart.backbones.changes import Changes
from headstart.backbones.mel import log_mel
from headstart.backbones.resume import Resumable
from headstart.backbones.whisper import Whisper
from headstart.engine import fastest, freeze, ways
from headstart.engine.batching import stacked
from headstart.errors import BackboneError, PlanError
from headstart.progress import Progress
from tests.test_backbones import assert_stages_hold_all_parameters

_WHISPER = {
    "vocab_size": 51_864,
    "num_mel_bins": 8,
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 24,
    "max_source_positions": 60,
    "max_target_positions": 20,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "begin_suppress_tokens": None,
}
_WAVES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8, 8],
    "conv_kernel": [10, 8, 4],
    "conv_stride": [5, 8, 8],
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 4,
}
_STABLE = _WAVES | {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
WAVES: dict[str, Callable[[], Any]] = {
    "wav2vec2": lambda: transformers.Wav2Vec2Config(**_WAVES),
    "wav2vec2, stable": lambda: transformers.Wav2Vec2Config(**_STABLE),
    "mms": lambda: transformers.Wav2Vec2Config(**_STABLE, adapter_attn_dim=4),
    "hubert": lambda: transformers.HubertConfig(**_WAVES),
    "hubert, stable": lambda: transformers.HubertConfig(**_STABLE),
    "hubert, batch norm": lambda: transformers.HubertConfig(
        **_WAVES, feat_extract_norm="layer", conv_pos_batch_norm=True, feat_proj_layer_norm=False
    ),
    "wavlm": lambda: transformers.WavLMConfig(**_WAVES, num_buckets=8, max_bucket_distance=20),
    "wavlm, stable": lambda: transformers.WavLMConfig(**_STABLE, num_buckets=8, max_bucket_distance=20),
}
ALL = ["whisper", "whisper, padded", *WAVES]


def clips() -> list[np.ndarray]:
    """Of several lengths: one is no whole number of frames, one shorter than a frame, one longer than Whisper hears."""
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (8_000, 5_123, 150, 16_000, 20_000)]


def save_tiny(name: str, folder: Path) -> Path:
    """A random network in the hub's layout; its weights are large enough for errors to show."""
    torch.manual_seed(0)
    network: Any
    if name.startswith("whisper"):
        network = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**_WHISPER))
    else:
        network = transformers.AutoModel.from_config(WAVES[name]())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for key, buffer in network.named_buffers():
            if key.endswith("running_mean"):
                buffer.uniform_(-1, 1)
    network.save_pretrained(folder)
    saved = {"sampling_rate": 16_000, "do_normalize": True, "feature_size": 1}
    (folder / "preprocessor_config.json").write_text(json.dumps(saved))
    return folder


def load(name: str, folder: Path) -> Any:
    backbone = catalog.load(str(save_tiny(name, folder)), Progress())
    return backbone.padded() if name.endswith("padded") else backbone  # type: ignore[attr-defined]


@pytest.fixture(scope="module", params=ALL)
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(request.param, tmp_path_factory.mktemp("models") / "model")


# --- against transformers


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_spectrogram_is_that_of_transformers(n_mels: int) -> None:
    extract = transformers.WhisperFeatureExtractor(feature_size=n_mels)
    for clip in [*clips(), np.zeros(3_200, dtype=np.float32)]:
        filled = np.pad(clip, (0, -len(clip) % 320))
        wanted = extract(filled, sampling_rate=16_000, padding="longest", return_tensors="pt").input_features[0]
        torch.testing.assert_close(log_mel(filled, n_mels), wanted, rtol=1e-5, atol=1e-5)
        assert wanted.shape == (n_mels, len(filled) // 160)


@torch.inference_mode()
def test_padded_whisper_is_transformers_own_encoder(tmp_path: Path) -> None:
    folder = save_tiny("whisper", tmp_path / "model")
    backbone: Any = catalog.load(str(folder), Progress())
    padded, clip = backbone.padded(), clips()[0]
    extract = transformers.WhisperFeatureExtractor(feature_size=8)
    inputs = extract(clip, sampling_rate=16_000, max_length=60 * 320, return_tensors="pt").input_features
    whole: Any = transformers.WhisperModel.from_pretrained(folder, dtype=torch.float32)
    result = whole.eval().encoder(inputs, output_hidden_states=True)
    hidden = [*result.hidden_states[:-1], result.last_hidden_state]
    for got, wanted in zip(padded.pooled(padded.collate([clip])), hidden, strict=True):
        torch.testing.assert_close(got, wanted[:, :25].mean(1), rtol=1e-5, atol=1e-5)  # 8000 samples are 25 frames
    full = (0.1 * np.random.default_rng(1).standard_normal(60 * 320)).astype(np.float32)  # nothing is left to pad
    for one, other in zip(
        backbone.pooled(backbone.collate([full])), padded.pooled(padded.collate([full])), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert padded.fingerprint != backbone.fingerprint
    again = catalog.load(padded.provenance.name, Progress())  # what a run folder refers to
    assert again.fingerprint == padded.fingerprint
    assert again.provenance == padded.provenance == padded.padded().provenance


@pytest.mark.parametrize("name", WAVES)
@torch.inference_mode()
def test_waveform_encoders_are_transformers_own(name: str, tmp_path: Path) -> None:
    folder = save_tiny(name, tmp_path / "model")
    backbone: Any = catalog.load(str(folder), Progress())
    whole: Any = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    extract = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    for clip in clips()[:2]:
        result = whole(extract(clip, sampling_rate=16_000, return_tensors="pt").input_values, output_hidden_states=True)
        hidden = [*result.hidden_states[:-1], result.last_hidden_state]
        got = backbone.pooled(backbone.collate([clip]))
        assert backbone.lengths([clip]) == [hidden[0].shape[1]]
        for one, wanted in zip(got, hidden, strict=True):
            torch.testing.assert_close(one, wanted.mean(1), rtol=1e-5, atol=1e-5)


# --- stages, batches, cuts


def test_what_a_clip_gives_does_not_depend_on_its_batch(backbone: Any) -> None:
    items = clips()
    together = backbone.collate(items)
    assert together["attention_mask"].sum(1).tolist() == [
        int(backbone.collate([one])["attention_mask"].sum()) for one in items
    ]
    pooled = backbone.pooled(together)
    whole = backbone.unpad(backbone.activations(together, backbone.n_stages), together)
    for i, item in enumerate(items):
        alone = backbone.collate([item])
        for one, stage in zip(backbone.pooled(alone), pooled, strict=True):
            torch.testing.assert_close(stage[i], one[0], rtol=1e-5, atol=1e-5)
        (own,) = backbone.unpad(backbone.activations(alone, backbone.n_stages), alone)
        torch.testing.assert_close(whole[i], own, rtol=1e-5, atol=1e-5)
        assert len(own) == backbone.lengths([item])[0]


def test_resuming_at_every_cut_gives_the_whole_pass(backbone: Any) -> None:
    items = clips()
    inputs = backbone.collate(items)
    whole = backbone.pooled(inputs)[-1]
    for cut in range(1, backbone.n_stages):
        rows = [row.clone() for row in backbone.unpad(backbone.activations(inputs, cut), inputs)]
        resumable = Resumable(backbone, cut, backbone.collate(items[:1])).eval()
        opened = items if backbone.rereads else [None] * len(items)
        with torch.no_grad():
            resumed = resumable(backbone.placeholders(opened, rows), stacked(rows))
            again = resumable(inputs)
        torch.testing.assert_close(resumed, whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(again, whole, rtol=1e-5, atol=1e-5)


def test_gradients_reach_what_is_above_the_cut_and_nothing_below(backbone: Any) -> None:
    inputs = backbone.collate(clips()[:2])
    for cut in (0, 1, 2):
        upper = Resumable(backbone, cut, inputs)
        upper(inputs).square().sum().backward()
        moved = {name for name, one in upper.network.named_parameters() if one.grad is not None}
        assert moved <= upper.trained_names
        assert any(name.startswith("layers.2.") for name in moved)
        assert any(name.startswith("stem.") for name in moved) == (cut == 0)


def test_an_adapted_network_shares_what_is_below_the_cut(backbone: Any) -> None:
    items = clips()[:3]
    changed = {k: v + 0.1 for k, v in backbone.network.state_dict().items() if k.startswith("layers.2.")}
    adapted = backbone.adapted(Changes(changed))
    wanted = adapted.pooled(adapted.collate(items))[-1]
    upper = Resumable(adapted, 2, adapted.example()).for_predictions(backbone)
    rows = backbone.unpad(backbone.activations(backbone.collate(items), 2), backbone.collate(items))
    for one in (upper, upper.beside(), upper):
        torch.testing.assert_close(one(backbone.placeholders(items, rows), stacked(rows)), wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(wanted, backbone.pooled(backbone.collate(items))[-1])


def test_every_parameter_belongs_to_exactly_one_stage(backbone: Any) -> None:
    assert_stages_hold_all_parameters(backbone, unread=("no",))
    assert [stage.name for stage in backbone.stages] == ["stem", "layer 1", "layer 2", "layer 3"]
    assert not any(one.requires_grad for one in backbone.network.parameters())


def test_other_forms_of_the_same_backbone(backbone: Any) -> None:
    inputs = backbone.collate(clips())
    pooled = backbone.pooled(inputs)
    for one, other in zip(backbone.beside().pooled(inputs), pooled, strict=True):
        assert torch.equal(one, other)
    half = backbone.cast("bfloat16")
    assert half.fingerprint != backbone.fingerprint
    assert torch.cosine_similarity(half.pooled(inputs)[-1], pooled[-1]).min() > 0.98
    fresh = backbone.reinitialised()
    assert fresh.state_dict().keys() == backbone.network.state_dict().keys()
    assert not torch.equal(next(fresh.parameters()), next(backbone.network.parameters()))
    assert getattr(fresh, "padded", False) == getattr(backbone.network, "padded", False)


@pytest.mark.parametrize("name", ["whisper", "wav2vec2"])
def test_an_empty_clip_gives_numbers_and_a_long_one_its_start(name: str, tmp_path: Path) -> None:
    backbone = load(name, tmp_path / "model")
    nothing = np.zeros(0, dtype=np.float32)
    assert backbone.lengths([nothing]) == [1]
    assert all(stage.isfinite().all() for stage in backbone.pooled(backbone.collate([nothing])))
    long = (0.1 * np.random.default_rng(2).standard_normal(backbone.detail + 999)).astype(np.float32)
    one, start = (backbone.collate([clip]) for clip in (long, long[: backbone.detail]))
    assert torch.equal(one["input"], start["input"])
    assert backbone.lengths([long]) == backbone.lengths([long[: backbone.detail]])


class Arrays:
    """Stands in for the modality: a stored item is the opened one."""

    noun: ClassVar = ("sound", "sounds")

    def open(self, item: np.ndarray, detail: int | None = None) -> np.ndarray:
        return item[:detail]

    def outline(self, item: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.float32(0), item.shape)

    def augment(self, item: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return item[int(rng.integers(100)) :]


def test_the_engine_caches_sounds_of_all_lengths(
    backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    items, digests = clips(), [f"{i:064x}" for i in range(5)]
    modality: Any = Arrays()
    found = freeze.features(backbone, modality, items, digests, Progress())
    rows = np.arange(len(items))
    for stage, wanted in enumerate(backbone.pooled(backbone.collate(items))):
        np.testing.assert_allclose(found.stage(stage, rows), wanted, rtol=1e-5, atol=1e-5)
    kept = freeze.activations(backbone, modality, items, digests, 2, Progress()).rows(rows)
    assert [len(one) for one in kept] == backbone.lengths(items)
    seen = freeze.activations(backbone, modality, items, digests, 2, Progress(), view=1).rows(rows)
    assert not torch.equal(seen[0][:3], kept[0][:3])


def test_sounds_are_run_in_light_ways_only(tmp_path: Path) -> None:
    backbone = load("whisper", tmp_path / "model")
    trials = {ways.EXACT: fastest.Trial(way=ways.EXACT, seconds=1.0, cosine=1.0)}
    assert fastest.light_ways(backbone, trials, 9_999) == ["float32", "bfloat16"]
    assert fastest.heavy_ways(backbone, trials, 9_999) == []
    with pytest.raises(PlanError, match="HEADSTART_PRECISION"):
        ways.run_as(backbone, ways.INT8)


# --- files


@pytest.mark.parametrize("how", [{"max_shard_size": "30KB"}, {"dtype": torch.float16}])
def test_whisper_loads_from_shards_and_from_half_precision(how: dict[str, Any], tmp_path: Path) -> None:
    one = catalog.load(str(save_tiny("whisper", tmp_path / "one")), Progress())
    whole: Any = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "one", dtype=torch.float32)
    dtype = how.get("dtype", torch.float32)
    sizes = {"max_shard_size": how["max_shard_size"]} if "max_shard_size" in how else {}
    whole.to(dtype).save_pretrained(tmp_path / "other", **sizes)
    other = catalog.load(str(tmp_path / "other"), Progress())
    assert len(list((tmp_path / "other").glob("*.safetensors"))) > (1 if sizes else 0)
    assert other.dtype == "float32"
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], tensor.to(dtype).float()), name


def test_whispers_weights_have_the_names_of_its_file(tmp_path: Path) -> None:
    folder = save_tiny("whisper", tmp_path / "model")
    backbone = catalog.load(str(folder), Progress())
    saved, named = load_file(folder / "model.safetensors"), backbone.weights(catalog.locate(str(folder), Progress()))
    assert {key for key in saved if ".encoder." in key} == named.keys()
    assert all(torch.equal(saved[key], one) for key, one in named.items())


@pytest.mark.parametrize("name", ["whisper", "wavlm"])
def test_incomplete_or_damaged_weights_are_refused(name: str, tmp_path: Path) -> None:
    folder = save_tiny(name, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    lost = next(key for key in tensors if "encoder.layers.1.fc1.weight" in key or "layers.1.feed_forward" in key)
    del tensors[lost]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lack 1 of .*layers\.1\."):
        catalog.load(str(folder), Progress())
    (folder / "model.safetensors").write_bytes(b"garbage" * 100)
    with pytest.raises(BackboneError, match="cannot be loaded"):
        catalog.load(str(folder), Progress())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("preprocessor_config.json", {"sampling_rate": 8_000}, "hears 8000 samples a second"),
        ("preprocessor_config.json", None, r"needs a readable preprocessor_config\.json"),
        ("config.json", {"model_type": "wav2vec3"}, "type 'wav2vec3'"),
    ],
)
def test_what_does_not_fit_is_refused(file: str, content: Any, message: str, tmp_path: Path) -> None:
    folder = save_tiny("wav2vec2", tmp_path / "model")
    (folder / file).write_text("" if content is None else json.dumps(content))
    with pytest.raises(BackboneError, match=message):
        catalog.load(str(folder), Progress())


def test_only_whisper_has_a_padded_variant(tmp_path: Path) -> None:
    folder = save_tiny("hubert", tmp_path / "model")
    with pytest.raises(BackboneError, match="no variant 'padded'"):
        catalog.load(f"{folder}:padded", Progress())


def test_the_waveform_is_normalised_as_the_preprocessing_says(tmp_path: Path) -> None:
    folder = save_tiny("wav2vec2", tmp_path / "model")
    loud, clip = catalog.load(str(folder), Progress()), clips()[0]
    assert torch.allclose(loud.collate([clip])["input"], loud.collate([5 * clip])["input"], atol=1e-4)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    plain = catalog.load(str(folder), Progress())
    assert torch.equal(plain.collate([clip])["input"][0], torch.from_numpy(clip))
    assert plain.fingerprint != loud.fingerprint


def test_every_family_that_the_catalog_knows_is_tested() -> None:
    kinds = {config().model_type for config in WAVES.values()} | {"whisper"}
    assert kinds == set(families.SOUNDS)


# --- CTranslate2


def _string(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def write_ctranslate(path: Path, variables: dict[str, np.ndarray], spec: str = "WhisperSpec") -> None:
    """A file as CTranslate2's converter writes it."""
    numbers = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    parts = [struct.pack("<I", 6), _string(spec), struct.pack("<II", 3, len(variables))]
    for name, array in variables.items():
        sizes = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        parts += [_string(name), sizes, struct.pack("<BI", numbers[str(array.dtype)], array.nbytes), array.tobytes()]
    parts += [struct.pack("<I", 1), _string("decoder/projection/weight"), _string("decoder/embeddings/weight")]
    path.write_bytes(b"".join(parts))


def as_ctranslate(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The variables that CTranslate2's converter makes of Hugging Face's tensors: projections fused, key biases 0."""
    found: dict[str, np.ndarray] = {}

    def put(name: str, *keys: str, leaf: str) -> None:
        given = [tensors.get(f"model.{key}.{leaf}") for key in keys]
        width = next(len(one) for one in given if one is not None)
        rows = [np.zeros(width, dtype=np.float32) if one is None else one.numpy() for one in given]
        found[name] = np.concatenate(rows)

    for side in ("encoder", "decoder"):
        found[f"{side}/num_heads"] = np.array(_WHISPER[f"{side}_attention_heads"], dtype=np.int16)
        found[f"{side}/activation"] = np.array(1, dtype=np.int8)
        found[f"{side}/position_encodings/encodings"] = tensors[f"model.{side}.embed_positions.weight"].numpy()
        norms = {f"{side}/layer_norm": f"{side}.layer_norm"}
        for i in range(int(str(_WHISPER[f"{side}_layers"]))):
            own, theirs = f"{side}/layer_{i}", f"{side}.layers.{i}"
            blocks = {"self_attention": "self_attn"} | ({"attention": "encoder_attn"} if side == "decoder" else {})
            norms[f"{own}/ffn/layer_norm"] = f"{theirs}.final_layer_norm"
            for block, name in blocks.items():
                norms[f"{own}/{block}/layer_norm"] = f"{theirs}.{name}_layer_norm"
            for leaf in ("weight", "bias"):
                q, k, v, out = (f"{theirs}.self_attn.{part}_proj" for part in ("q", "k", "v", "out"))
                put(f"{own}/self_attention/linear_0/{leaf}", q, k, v, leaf=leaf)
                put(f"{own}/self_attention/linear_1/{leaf}", out, leaf=leaf)
                put(f"{own}/ffn/linear_0/{leaf}", f"{theirs}.fc1", leaf=leaf)
                put(f"{own}/ffn/linear_1/{leaf}", f"{theirs}.fc2", leaf=leaf)
                if side == "decoder":
                    q, k, v, out = (f"{theirs}.encoder_attn.{part}_proj" for part in ("q", "k", "v", "out"))
                    put(f"{own}/attention/linear_0/{leaf}", q, leaf=leaf)
                    put(f"{own}/attention/linear_1/{leaf}", k, v, leaf=leaf)
                    put(f"{own}/attention/linear_2/{leaf}", out, leaf=leaf)
        for own, theirs in norms.items():
            put(f"{own}/gamma", theirs, leaf="weight")
            put(f"{own}/beta", theirs, leaf="bias")
    for number in (1, 2):
        for leaf in ("weight", "bias"):
            put(f"encoder/conv{number}/{leaf}", f"encoder.conv{number}", leaf=leaf)
    found["decoder/embeddings/weight"] = tensors["model.decoder.embed_tokens.weight"].numpy()
    found["decoder/alignment_heads"] = np.zeros((2, 2), dtype=np.int16)
    return found


def test_a_ctranslate2_file_becomes_the_network_that_it_was_made_of(tmp_path: Path) -> None:
    original = save_tiny("whisper", tmp_path / "original")
    folder = tmp_path / "converted"
    folder.mkdir()
    write_ctranslate(folder / "model.bin", as_ctranslate(load_file(original / "model.safetensors")))
    (folder / "config.json").write_text(json.dumps({"suppress_ids": [3], "suppress_ids_begin": [4]}))
    names = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "<|startofprev|>")
    added = [{"content": name, "id": 100 + i} for i, name in enumerate(names)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    ctranslate.keep_in_hub_layout(folder)
    assert not (folder / "model.bin").exists()
    wanted: Any = transformers.WhisperForConditionalGeneration.from_pretrained(original, dtype=torch.float32)
    got: Any = transformers.WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    assert got.state_dict().keys() == wanted.state_dict().keys()
    assert all(torch.equal(got.state_dict()[key], one) for key, one in wanted.state_dict().items())
    assert got.config.decoder_attention_heads == 4
    assert got.generation_config.no_timestamps_token_id == 102
    clip = clips()[0]
    one, other = (catalog.load(str(path), Progress()) for path in (original, folder))
    assert torch.equal(one.pooled(one.collate([clip]))[-1], other.pooled(other.collate([clip]))[-1])


def test_files_that_are_not_whispers_or_are_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    write_ctranslate(path, {"encoder/conv1/bias": np.zeros(4, dtype=np.float32)})
    whole = path.read_bytes()
    assert ctranslate.read(path)["encoder/conv1/bias"].shape == (4,)
    for damaged in (whole[:-3], whole + b"more", whole[:40], b""):
        path.write_bytes(damaged)
        with pytest.raises(BackboneError, match="Fetch it again"):
            ctranslate.read(path)
    write_ctranslate(path, {}, spec="TransformerSpec")
    with pytest.raises(BackboneError, match="TransformerSpec"):
        ctranslate.read(path)
    write_ctranslate(path, {"encoder/layer_0/ffn/linear_0/weight": np.zeros((4, 4), dtype=np.int8)})
    with pytest.raises(BackboneError, match="quantised"):
        ctranslate.whisper_tensors(ctranslate.read(path))


# --- the real weights, where they are on this disk


@pytest.mark.skipif(
    not (places.weights() / "whisper-tiny.en").is_dir(), reason="`headstart models pull whisper-tiny.en` was not run"
)
def test_whisper_tiny_en_is_transformers_own_network() -> None:
    backbone: Any = catalog.load("whisper-tiny.en", Progress())
    assert isinstance(backbone, Whisper)
    assert backbone.provenance.n_parameters == catalog.ENTRIES["whisper-tiny.en"].n_parameters
    assert backbone.detail == 480_000
    whole: Any = transformers.WhisperForConditionalGeneration.from_pretrained(backbone.folder, dtype=torch.float32)
    processor = transformers.AutoProcessor.from_pretrained(backbone.folder)
    assert processor.tokenizer.decode(processor.tokenizer("a word").input_ids, skip_special_tokens=True) == "a word"
    clip = clips()[0]
    mels = processor(clip, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.inference_mode():
        wanted = whole.eval().model.encoder(mels).last_hidden_state[:, :25].mean(1)
    padded = backbone.padded()
    torch.testing.assert_close(padded.pooled(padded.collate([clip]))[-1], wanted, rtol=1e-4, atol=1e-4)
