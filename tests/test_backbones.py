"""Stages, pooling and preprocessing of every family, against transformers' own hidden states and photographs."""

from __future__ import annotations

import inspect
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.backbones.pixels import Pixels
from headstart.errors import BackboneError
from headstart.progress import Progress
from headstart.registry import BACKBONES

WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "dogs", "ran", "far", "away", "and", "nobody", "saw", "them"]
TEXTS = ["the cat sat", "dogs ran far away and nobody saw the cat on a mat", "mat", "nobody saw them while the cat ran"]
N_LAYERS, N_POSITIONS = 3, 40

_TEXT = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": N_POSITIONS,
    "pad_token_id": 1,
}
_DEBERTA = _TEXT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
_PATCHES = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}

TEXT_CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**_TEXT),
    "roberta": lambda: transformers.RobertaConfig(**_TEXT),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**_TEXT),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=30, dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=40, pad_token_id=1
    ),
    "electra": lambda: transformers.ElectraConfig(**_TEXT, embedding_size=8),
    "electra, same width": lambda: transformers.ElectraConfig(**_TEXT, embedding_size=16),
    "mpnet": lambda: transformers.MPNetConfig(**_TEXT),
    "deberta": lambda: transformers.DebertaConfig(**_DEBERTA),
    "deberta-v2": lambda: transformers.DebertaV2Config(**_DEBERTA),
    "deberta-v3": lambda: transformers.DebertaV2Config(
        **_DEBERTA, position_buckets=8, share_att_key=True, norm_rel_ebd="layer_norm"
    ),
    "deberta-v2, convolution": lambda: transformers.DebertaV2Config(
        **_DEBERTA, position_buckets=8, conv_kernel_size=3, conv_act="gelu"
    ),
}
IMAGE_CONFIGS: dict[str, Callable[[], Any]] = {
    "vit": lambda: transformers.ViTConfig(**_PATCHES),
    "dinov2": lambda: transformers.Dinov2Config(**{k: v for k, v in _PATCHES.items() if k != "intermediate_size"}),
    "swin": lambda: transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 2, 1], num_heads=[1, 2, 2], window_size=4
    ),
    "convnext": lambda: transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1]),
    "resnet": lambda: transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1], layer_type="bottleneck"
    ),
    "mobilenet_v2": lambda: transformers.MobileNetV2Config(depth_multiplier=0.35),
}
ALL = [*TEXT_CONFIGS, *IMAGE_CONFIGS]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaching for the network fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"tried to reach the network: {args}")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


def save_tiny(name: str, folder: Path) -> Path:
    """A random model of this family in the hub's layout; its weights are large enough for errors to show."""
    torch.manual_seed(0)
    network = transformers.AutoModel.from_config((TEXT_CONFIGS | IMAGE_CONFIGS)[name]())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for key, buffer in network.named_buffers():
            if key.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    network.save_pretrained(folder)
    if name in TEXT_CONFIGS:
        save_tokenizer(folder)
    else:
        saved = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}
        (folder / "preprocessor_config.json").write_text(json.dumps(saved))
    return folder


def save_tokenizer(folder: Path) -> None:
    """One token a word, between <s> and </s>; <pad> is 1, as in RoBERTa."""
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in [(32, 32), (50, 20), (9, 70)]]


def items_for(backbone: Backbone) -> list[Any]:
    return TEXTS if backbone.modality == "text" else pictures()


@torch.inference_mode()
def expected(backbone: Backbone, inputs: dict[str, Tensor]) -> list[Tensor]:
    """What the stages give, from the network's own hidden states; inputs must hold no padding."""
    result = backbone.network(**inputs, output_hidden_states=True)
    hidden, last = list(result.hidden_states), result.last_hidden_state
    match backbone.network.config.model_type:
        case "mobilenet_v2":
            ends = [hidden[i] for i in (1, 4, 8, 11, 14, 15)]
            hidden = [backbone.network.conv_stem(inputs["pixel_values"]), *ends, last]
        case "convnext":  # its final norm comes after the pooling
            hidden[-1] = result.pooler_output
        case _:  # in pre-norm networks the final norm stands after the last hidden state
            hidden[-1] = last
    means = {2: lambda h: h, 3: lambda h: h.mean(1), 4: lambda h: h.mean((2, 3))}
    return [means[h.ndim](h) for h in hidden]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ALL)
def test_pooled_features_are_those_of_the_networks_own_hidden_states(name: str, tmp_path: Path) -> None:
    backbone = catalog.load(str(save_tiny(name, tmp_path / "model")), Progress())
    items = items_for(backbone)
    got = backbone.pooled(backbone.collate(items))
    alone = [expected(backbone, backbone.collate([item])) for item in items]  # one at a time: nothing is padded
    wanted = [torch.cat(stage) for stage in zip(*alone, strict=True)]
    assert len(got) == len(wanted) == backbone.n_stages
    for stage, features, truth in zip(backbone.stages, got, wanted, strict=True):
        assert features.dtype == torch.float32
        torch.testing.assert_close(features, truth, rtol=1e-5, atol=1e-5, msg=lambda m, s=stage: f"{s.name}: {m}")
    early = backbone.pooled(backbone.collate(items), n_frozen=2)
    assert len(early) == 2
    assert all(torch.equal(a, b) for a, b in zip(early, got[:2], strict=True))
    for stage, next_stage in itertools.pairwise(got):  # no stage is counted twice
        assert stage.shape != next_stage.shape or not torch.allclose(stage, next_stage)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ALL)
def test_every_parameter_belongs_to_exactly_one_stage(name: str, tmp_path: Path) -> None:
    backbone = catalog.load(str(save_tiny(name, tmp_path / "model")), Progress())
    assert_stages_hold_all_parameters(backbone, unread=("pooler.",))
    assert not any(p.requires_grad for p in backbone.network.parameters())
    assert not backbone.network.training


def assert_stages_hold_all_parameters(backbone: Backbone, unread: tuple[str, ...]) -> None:
    held = [
        f"{path}.{key}"
        for stage in backbone.stages
        for path in (*stage.modules, *stage.shared)
        for key, _ in backbone.network.get_submodule(path).named_parameters()
    ]
    every = [key for key, _ in backbone.network.named_parameters() if not key.startswith(unread)]
    assert sorted(held) == sorted(every)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("bert", ["embeddings", "layer 1", "layer 2", "layer 3"]),
        ("vit", ["stem", "layer 1", "layer 2", "layer 3"]),
        ("swin", ["stem", "blocks 1", "blocks 2", "blocks 3"]),
        ("mobilenet_v2", ["stem", *(f"blocks {i}" for i in range(1, 7)), "head"]),
    ],
)
def test_stage_names(name: str, names: list[str], tmp_path: Path) -> None:
    backbone = catalog.load(str(save_tiny(name, tmp_path / "model")), Progress())
    assert [stage.name for stage in backbone.stages] == names


@pytest.mark.parametrize(("name", "most"), [("bert", N_POSITIONS), ("roberta", N_POSITIONS - 2)])
def test_long_texts_are_cut_at_the_positions_that_there_are(name: str, most: int, tmp_path: Path) -> None:
    backbone = catalog.load(str(save_tiny(name, tmp_path / "model")), Progress())
    texts = ["cat " * 100, "the cat sat"]
    assert backbone.lengths(texts) == [most, 5]  # with <s> and </s>
    inputs = backbone.collate(texts)
    assert inputs["input_ids"].shape == (2, most)
    assert inputs["attention_mask"].sum(1).tolist() == [most, 5]
    assert all(torch.isfinite(features).all() for features in backbone.pooled(inputs))


def test_every_family_in_the_table_is_tested() -> None:
    from headstart.backbones.transformers import FAMILIES

    tested = {config().model_type for config in (TEXT_CONFIGS | IMAGE_CONFIGS).values()}
    assert tested == set(FAMILIES)


def test_the_fingerprint_tells_weights_and_preprocessing_apart(tmp_path: Path) -> None:
    folder = save_tiny("vit", tmp_path / "model")
    first = catalog.load(str(folder), Progress()).fingerprint
    assert catalog.load(str(folder), Progress()).fingerprint == first
    saved = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(saved | {"image_mean": [0.4] * 3}))
    second = catalog.load(str(folder), Progress()).fingerprint
    torch.manual_seed(1)
    transformers.ViTModel(transformers.ViTConfig(**_PATCHES)).save_pretrained(folder)
    assert len({first, second, catalog.load(str(folder), Progress()).fingerprint}) == 3


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"num_attention_heads": 4}, {"layer_norm_eps": 0.5}])
def test_the_fingerprint_tells_settings_apart(change: dict[str, Any], tmp_path: Path) -> None:
    """The same weights with another activation, number of heads or epsilon give other features."""
    folder = save_tiny("bert", tmp_path / "tiny")
    before = catalog.load(str(folder), Progress()).fingerprint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_version": "5.0.0"}))
    assert catalog.load(str(folder), Progress()).fingerprint == before
    (folder / "config.json").write_text(json.dumps(config | change))
    assert catalog.load(str(folder), Progress()).fingerprint != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "t5"}, "type 't5'.*bert, roberta"),
        ({"model_type": "bert", "is_decoder": True}, "a decoder"),
        ({"model_type": "robert"}, "Did you mean 'roberta'"),
        ({}, "type 'None'"),
    ],
)
def test_what_is_not_a_known_encoder_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BackboneError, match=message):
        catalog.load(str(folder), Progress())


def test_incomplete_weights_are_refused_rather_than_filled_with_random_ones(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_tiny("bert", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lack 1 of .*encoder\.layer\.1\.output\.dense\.weight"):
        catalog.load(str(folder), Progress())


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_damaged_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "model")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(BackboneError, match="cannot be loaded"):
        catalog.load(str(folder), Progress())


def test_a_picture_model_without_its_preprocessing_is_refused(tmp_path: Path) -> None:
    folder = save_tiny("vit", tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(BackboneError, match=r"preprocessor_config\.json"):
        catalog.load(str(folder), Progress())


@pytest.mark.parametrize(
    ("saved", "side"),
    [
        ({"size": 48}, 48),
        ({"size": {"height": 48, "width": 48}}, 48),
        ({"size": {"shortest_edge": 48}, "crop_pct": 0.875}, 48),
        ({"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 48, "width": 48}}, 48),
    ],
)
def test_the_side_of_a_picture_is_the_one_the_network_ends_up_with(
    saved: dict[str, Any], side: int, tmp_path: Path
) -> None:
    folder = save_tiny("resnet", tmp_path / "model")
    saved |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(saved))
    backbone = catalog.load(str(folder), Progress())
    assert backbone.detail == side
    picture = pictures()[0]
    got = backbone.collate([picture])["pixel_values"][0]
    resized = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
    wanted = (resized / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(got.permute(1, 2, 0).numpy(), wanted, atol=1e-5)


def test_the_whole_picture_reaches_the_network() -> None:
    array = np.zeros((100, 400, 3), dtype=np.uint8)
    array[:, :40] = 255  # at the left border, where a centre crop would lose it
    pixels = Pixels(side=20, mean=(0.0,) * 3, std=(1.0,) * 3)
    tensor = pixels.tensor([Image.fromarray(array)])
    assert tensor.shape == (1, 3, 20, 20)
    assert tensor[0, :, :, 0].min() > 0.9
    assert math.isclose(tensor.mean(), 0.1, abs_tol=0.02)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_plug_in_is_a_backbone_that_can_be_loaded(name: str) -> None:
    found = BACKBONES.get(name)
    assert issubclass(found, Backbone)
    assert not inspect.isabstract(found)
    assert inspect.ismethod(found.load)


# --- the real weights; `make test` fetches them before


@pytest.fixture(scope="module")
def lite() -> Any:
    return catalog.load("efficientnet-lite0", Progress())


@pytest.fixture(scope="module")
def minilm() -> Any:
    return catalog.load("minilm", Progress())


@pytest.mark.parametrize(("photograph", "wanted"), [("chelsea", {281, 282, 285}), ("coffee", {504, 967, 968})])
def test_imagenet_predictions_are_right(lite: Any, photograph: str, wanted: set[int]) -> None:
    """Chelsea is a cat (tabby, tiger, Egyptian); the cup holds an espresso."""
    import skimage.data

    picture = Image.fromarray(getattr(skimage.data, photograph)())
    best = lite.classify(lite.collate([picture])).softmax(1)[0].topk(1)
    assert best.indices.item() in wanted
    assert best.values.item() > 0.7


def test_efficientnet_stages(lite: Any) -> None:
    assert [s.name for s in lite.stages] == ["stem", *(f"blocks {i}" for i in range(1, 8)), "head"]
    assert lite.provenance.n_parameters == catalog.ENTRIES["efficientnet-lite0"].n_parameters
    assert lite.detail == 224
    assert_stages_hold_all_parameters(lite, unread=("classifier.",))
    inputs = lite.collate(pictures())
    features = lite.pooled(inputs)
    assert [f.shape[1] for f in features] == [32, 16, 24, 40, 80, 112, 192, 320, 1280]
    with torch.inference_mode():  # the head's pooled features are what the classifier reads
        torch.testing.assert_close(lite.network.classifier(features[-1]), lite.classify(inputs))


def test_efficientnet_refuses_the_weights_of_another_variant(tmp_path: Path, lite: Any) -> None:
    from dataclasses import replace

    from headstart.backbones.efficientnet_lite import EfficientnetLite

    located = catalog.locate("efficientnet-lite0", Progress())
    with pytest.raises(BackboneError, match="do not fit efficientnet-lite2"):
        EfficientnetLite.load(replace(located, name="efficientnet-lite2"))


@pytest.mark.parametrize(("size", "kernel"), [(224, 3), (15, 3), (56, 5), (65, 5), (7, 5)])
def test_strided_convolutions_pad_as_tensorflow_does(size: int, kernel: int) -> None:
    """Brute force: with SAME padding, output i is centred so that the surplus lies right and below."""
    from headstart.backbones.efficientnet_lite import _SameConv2d

    torch.manual_seed(0)
    conv = _SameConv2d(1, 1, kernel, 2, bias=False)
    x = torch.randn(1, 1, size, size)
    n_out = -(-size // 2)
    before = max((n_out - 1) * 2 + kernel - size, 0) // 2
    padded = torch.zeros(size + 2 * kernel, size + 2 * kernel)
    padded[before : before + size, before : before + size] = x[0, 0]
    wanted = torch.stack(
        [(padded[2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel] * conv.weight[0, 0]).sum()
         for i in range(n_out) for j in range(n_out)]
    ).view(n_out, n_out)  # fmt: skip
    torch.testing.assert_close(conv(x)[0, 0], wanted, rtol=1e-4, atol=1e-5)


def test_minilm_is_transformers_own_model_mean_pooled(minilm: Any) -> None:
    located = catalog.locate("minilm", Progress())
    own = transformers.AutoModel.from_pretrained(located.folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(located.folder)
    texts = ["A short one.", "A somewhat longer sentence, so that the first one has to be padded."]
    got = minilm.pooled(minilm.collate(texts))
    assert minilm.n_stages == len(got) == 7
    assert minilm.provenance.n_parameters == catalog.ENTRIES["minilm"].n_parameters
    for i, text in enumerate(texts):
        tokens = tokenizer(text, return_tensors="pt")
        assert minilm.lengths([text]) == [tokens["input_ids"].shape[1]]
        with torch.inference_mode():
            wanted = own(**tokens).last_hidden_state.mean(1)[0]
        torch.testing.assert_close(got[-1][i], wanted, rtol=1e-5, atol=1e-5)


def test_minilm_finds_paraphrases_nearer_than_strangers(minilm: Any) -> None:
    pairs = [
        ("A man is playing a guitar.", "Someone strums a guitar."),
        ("The stock market fell sharply today.", "Share prices dropped a lot this afternoon."),
        ("How do I reset my password?", "I forgot my login, how can I get a new one?"),
    ]
    vectors = minilm.pooled(minilm.collate([text for pair in pairs for text in pair]))[-1]
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    cosine = vectors @ vectors.T
    for i in range(0, 6, 2):
        strangers = [j for j in range(6) if j not in (i, i + 1)]
        assert cosine[i, i + 1] > cosine[i, strangers].max() + 0.2


@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2", "convnext", "swin"])
def test_a_saved_classifier_reads_the_pooled_last_stage(name: str, tmp_path: Path) -> None:
    """LEEP and NCE need the source task's answers: those of the whole network, from our pooled features."""
    torch.manual_seed(0)
    config = IMAGE_CONFIGS[name]()
    config.num_labels = 7
    whole = transformers.AutoModelForImageClassification.from_config(config).eval()
    whole.save_pretrained(save_tiny(name, tmp_path))
    backbone = catalog.load(str(tmp_path), Progress())
    assert backbone.source_head is not None
    weight, bias = backbone.source_head
    inputs = backbone.collate(pictures())
    with torch.inference_mode():
        torch.testing.assert_close(backbone.pooled(inputs)[-1] @ weight.T + bias, whole(**inputs).logits)


def test_a_network_without_a_classifier_has_no_source_head(tmp_path: Path) -> None:
    assert catalog.load(str(save_tiny("resnet", tmp_path)), Progress()).source_head is None


@pytest.mark.parametrize(("name", "of_matrices"), [("bert", True), ("vit", True), ("resnet", False)])
def test_adapters_suit_networks_of_matrices(name: str, of_matrices: bool, tmp_path: Path) -> None:
    assert catalog.load(str(save_tiny(name, tmp_path)), Progress()).is_of_matrices == of_matrices
