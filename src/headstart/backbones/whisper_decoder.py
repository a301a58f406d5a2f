"""Whisper's decoder (Radford et al. 2022, arXiv:2212.04356): tokens after tokens and an encoder's frames, by its files.

It is read from the folder of a backbone when it is wanted, and never for the encoder alone. transformers' own layers
run; what is added is a mask over the frames, so that clips of several lengths can be in a batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from headstart.backbones.base import Backbone
from headstart.backbones.changes import Changes
from headstart.backbones.spelling import Spelling
from headstart.backbones.whisper import Whisper
from headstart.errors import BackboneError, PlanError, listed

PREFIXES = ("model.decoder.", "decoder.")  # of the decoder's tensors in a weight file
ADAPTED = ("q_proj", "k_proj", "v_proj", "out_proj")  # of self- and cross-attention


class Decoder(nn.Module):
    """The layers, and the embedding of tokens that is also the output projection."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers.models.whisper.modeling_whisper import WhisperDecoder

        config._attn_implementation = "sdpa"
        whole = WhisperDecoder(config)
        self.embed_tokens, self.embed_positions = whole.embed_tokens, whole.embed_positions
        self.layers, self.layer_norm, self.scale = whole.layers, whole.layer_norm, whole.embed_scale

    def forward(self, tokens: Tensor, frames: Tensor, there: Tensor, cache: Any = None) -> Tensor:
        """Tokens (N, S), frames (N, T, D) and which of them count (N, T) to (N, S, D); after those in the `cache`."""
        before, size = (cache.get_seq_length() if cache is not None else 0), tokens.shape[1]
        states = self.embed_tokens(tokens) * self.scale + self.embed_positions.weight[before : before + size]
        causal = torch.ones(size, before + size, dtype=torch.bool, device=tokens.device).tril(before)[None, None]
        heard = None if bool(there.all()) else there[:, None, None, :].bool()
        for layer in self.layers:
            states = layer(
                states,
                causal,
                frames,
                encoder_attention_mask=heard,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        return torch.as_tensor(self.layer_norm(states))

    def logits(self, states: Tensor) -> Tensor:
        """(…, D) to (…, V): how likely each token is next."""
        return states @ self.embed_tokens.weight.T

    @property
    def matrices(self) -> list[str]:
        """Paths of the linear layers that get adapters."""
        return [name for name, one in self.named_modules() if name.endswith(ADAPTED) and isinstance(one, nn.Linear)]


def decoder_of(backbone: Backbone, changes: Mapping[str, Tensor] | None = None) -> Decoder:
    """The decoder beside a backbone's encoder, in float32 and frozen, with what training changed in it.

    PlanError for a backbone that has none by its kind; BackboneError where its folder has none.
    """
    folder = _folder(backbone)
    try:
        from transformers import WhisperConfig

        network = Decoder(WhisperConfig.from_dict(_config(folder)))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise BackboneError(f"The settings in {folder} make no decoder: {error}") from error
    _fill(network, folder, backbone.provenance.name)
    if changes:
        Changes(changes).apply(network)
    return network.eval().requires_grad_(False)


def spelling_of(backbone: Backbone) -> Spelling:
    """How that decoder writes. Errors as there."""
    folder = _folder(backbone)
    return Spelling.of(folder, int(_config(folder)["max_target_positions"]))


def _folder(backbone: Backbone) -> Path:
    if not isinstance(backbone, Whisper):
        raise PlanError(
            f"{backbone.provenance.name} has no decoder that writes texts; Whisper models have. Use one of them as "
            "--backbone, such as 'whisper-tiny.en', or another --strategy."
        )
    return backbone.folder


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {"max_target_positions": 448} | dict(found)
    except (OSError, ValueError) as error:
        raise BackboneError(f"{folder / 'config.json'} cannot be read: {error}. Fetch the model again.") from error


def _fill(network: Decoder, folder: Path, name: str) -> None:
    """The decoder's tensors out of the weight files, of any floating type. BackboneError unless all are there."""
    found: dict[str, Tensor] = {}
    try:
        for file in sorted(folder.glob("model*.safetensors")):
            with safe_open(file, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118  (no mapping)
                    prefix = next((one for one in PREFIXES if key.startswith(one)), None)
                    if prefix is not None:
                        found[key.removeprefix(prefix)] = tensors.get_tensor(key).float()
        missing = sorted(network.state_dict().keys() - found.keys())
        if not missing:
            network.load_state_dict(found)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise BackboneError(f"The decoder of {name} cannot be loaded from {folder}: {error}") from error
    if not found:
        raise BackboneError(
            f"{folder} holds no decoder, as the folders of encoders that were trained further do not. Adapt the "
            "complete model that it came from, or use another --strategy: those write characters without a decoder."
        )
    if missing:
        raise BackboneError(
            f"The weights in {folder} lack {len(missing)} of the decoder's tensors: {listed(missing, 3)}. Fetch them "
            "again, or give the folder of a complete model."
        )
