"""Whisper models out of CTranslate2's files, kept in the hub's layout; the reader is our own, and runs nothing.

A `model.bin` holds, little-endian: its version (uint32), the name of its specification, a revision (uint32), the
number of variables (uint32), and for each its name, rank (uint8), sizes (uint32 each), number type (uint8), size in
bytes (uint32) and bytes; then the number of aliases (uint32), and of each its name and that of its variable. A name is
its size (uint16) and its characters, the last one 0.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart.backbones.mel import HOP, RATE, WINDOW
from headstart.errors import BackboneError

BINARY, SPEC = "model.bin", "WhisperSpec"
VERSION = 6
TYPES = {
    0: torch.float32,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.float16,
    5: torch.bfloat16,
}
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
N_ENGLISH = 51_864  # tokens of the models for English alone


@dataclass
class _Reader:
    """Bytes, and how many were read."""

    data: memoryview
    at: int = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def bytes(self, size: int) -> memoryview:
        if self.at + size > len(self.data):
            raise ValueError("it ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        return bytes(self.bytes(self.number("H"))).rstrip(b"\0").decode()

    def variable(self) -> tuple[str, Tensor]:
        name, rank = self.name(), self.number("B")
        shape = [self.number("I") for _ in range(rank)]
        kind = TYPES[self.number("B")]
        data = bytearray(self.bytes(self.number("I")))
        return name, torch.frombuffer(data, dtype=kind).reshape(shape)


def read(path: Path) -> dict[str, Tensor]:
    """The variables of a CTranslate2 file for Whisper, aliases left out. BackboneError when it is none or damaged."""
    reader = _Reader(memoryview(path.read_bytes()))
    try:
        version, spec, _revision = reader.number("I"), reader.name(), reader.number("I")
        if version != VERSION or spec != SPEC:
            raise ValueError(f"version {version} of {spec!r}, where version {VERSION} of {SPEC!r} is read")
        variables = dict(reader.variable() for _ in range(reader.number("I")))
        for _ in range(reader.number("I")):
            reader.name(), reader.name()
        if reader.at != len(reader.data):
            raise ValueError("it goes on after its end")
    except (struct.error, ValueError, KeyError, RuntimeError) as error:
        raise BackboneError(f"{path} is no CTranslate2 file that can be read ({error}). Fetch it again.") from error
    return variables


def whisper_tensors(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By the names of Hugging Face's `WhisperForConditionalGeneration`; the output projection is the embedding.

    BackboneError where weights are not floating-point numbers.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in variables.items():
        if name.endswith("weight_scale") or (tensor.ndim == 2 and tensor.dtype not in FLOATS and "weight" in name):
            raise BackboneError(
                f"{name} is kept in {tensor.dtype}: the weights were quantised. Give a file that holds float16 or "
                "float32, such as `ct2-transformers-converter --quantization float16` writes."
            )
        side, _, path = name.partition("/")
        if tensor.ndim == 0 or path == "alignment_heads":  # settings
            continue
        found |= {f"model.{side}.{key}": one for key, one in _renamed(path, tensor).items()}
    return found


def _renamed(path: str, tensor: Tensor) -> dict[str, Tensor]:
    """What a tensor of the encoder or the decoder is there; fused projections are taken apart."""
    layer, _, rest = path.partition("/")
    if not layer.startswith("layer_") or layer == "layer_norm":
        name = path.replace("/", ".").replace("embeddings.weight", "embed_tokens.weight")
        name = name.replace("position_encodings.encodings", "embed_positions.weight")
        return {_norm(name): tensor}
    start = f"layers.{layer.removeprefix('layer_')}."
    part, _, rest = rest.partition("/")
    kind, _, leaf = rest.partition("/")
    if part == "ffn":
        name = "final_layer_norm" if kind == "layer_norm" else {"linear_0": "fc1", "linear_1": "fc2"}[kind]
        return {_norm(f"{start}{name}.{leaf}"): tensor}
    owner = "self_attn" if part == "self_attention" else "encoder_attn"
    if kind == "layer_norm":
        return {_norm(f"{start}{owner}_layer_norm.{leaf}"): tensor}
    projections = _PROJECTIONS[part, kind]
    pieces = zip(projections, tensor.chunk(len(projections)), strict=True)
    return {  # keys have no bias: CTranslate2 writes zeros
        f"{start}{owner}.{name}.{leaf}": piece for name, piece in pieces if (name, leaf) != ("k_proj", "bias")
    }


_PROJECTIONS = {
    ("self_attention", "linear_0"): ("q_proj", "k_proj", "v_proj"),
    ("self_attention", "linear_1"): ("out_proj",),
    ("attention", "linear_0"): ("q_proj",),
    ("attention", "linear_1"): ("k_proj", "v_proj"),
    ("attention", "linear_2"): ("out_proj",),
}


def _norm(name: str) -> str:
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")


def keep_in_hub_layout(folder: Path) -> None:
    """Turn a folder's `model.bin`, `config.json` and `tokenizer.json` of an English Whisper into the hub's layout."""
    from safetensors.torch import save_file

    variables = read(folder / BINARY)
    tensors = whisper_tensors(variables)
    spoken = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    tokens = {token["content"]: int(token["id"]) for token in added}
    heads = {side: int(variables[f"{side}/num_heads"]) for side in ("encoder", "decoder")}
    config = _config(tensors, heads, tokens)
    if config["vocab_size"] != N_ENGLISH:
        raise BackboneError(f"{folder} holds a Whisper of {config['vocab_size']} tokens; only English ones are read.")
    written = {
        "config.json": config,
        "generation_config.json": _generation(config, spoken, tokens),
        "preprocessor_config.json": _PREPROCESSOR | {"feature_size": config["num_mel_bins"]},
        "tokenizer_config.json": _TOKENIZER,
    }
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / BINARY).unlink()


def _config(tensors: Mapping[str, Tensor], heads: Mapping[str, int], tokens: Mapping[str, int]) -> dict[str, Any]:
    """`config.json`, read off the shapes."""
    found: dict[str, Any] = {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}
    for side, n_heads in heads.items():
        found[f"{side}_attention_heads"] = n_heads
        found[f"{side}_layers"] = sum(key.startswith(f"model.{side}.") and key.endswith(".fc1.bias") for key in tensors)
        found[f"{side}_ffn_dim"] = len(tensors[f"model.{side}.layers.0.fc1.bias"])
    vocab_size, d_model = tensors["model.decoder.embed_tokens.weight"].shape
    return found | {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "num_hidden_layers": found["encoder_layers"],
        "num_mel_bins": tensors["model.encoder.conv1.weight"].shape[1],
        "max_source_positions": len(tensors["model.encoder.embed_positions.weight"]),
        "max_target_positions": len(tensors["model.decoder.embed_positions.weight"]),
        "activation_function": "gelu",
        "tie_word_embeddings": True,
        "dtype": str(tensors["model.encoder.conv1.weight"].dtype).removeprefix("torch."),
        **_ids(tokens),
    }


def _ids(tokens: Mapping[str, int]) -> dict[str, int]:
    start, end = tokens["<|startoftranscript|>"], tokens["<|endoftext|>"]
    return {"bos_token_id": start, "decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end}


def _generation(config: Mapping[str, Any], spoken: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, Any]:
    """`generation_config.json`: what `generate` needs, from CTranslate2's `config.json`."""
    return {
        **_ids(tokens),
        "alignment_heads": spoken.get("alignment_heads"),
        "begin_suppress_tokens": spoken.get("suppress_ids_begin"),
        "suppress_tokens": spoken.get("suppress_ids"),
        "is_multilingual": False,
        "max_length": config["max_target_positions"],
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "prev_sot_token_id": tokens["<|startofprev|>"],
        "return_timestamps": False,
    }


_PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "processor_class": "WhisperProcessor",
    "sampling_rate": RATE,
    "hop_length": HOP,
    "n_fft": WINDOW,
    "chunk_length": 30,
    "padding_side": "right",
    "padding_value": 0.0,
}
_TOKENIZER = {
    "tokenizer_class": "WhisperTokenizer",
    "processor_class": "WhisperProcessor",
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "model_max_length": 1024,
}
