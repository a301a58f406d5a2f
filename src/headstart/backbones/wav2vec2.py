"""Encoders of the raw waveform: wav2vec 2.0 (arXiv:2006.11477), HuBERT (arXiv:2106.07447), WavLM (arXiv:2110.13900).

MMS (arXiv:2305.13516) and XLS-R are wav2vec 2.0. Convolutions give 50 frames a second. Where they are normalised over
the whole clip (`feat_extract_norm` "group"), padding would count, and clips run through them one at a time.
"""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils import parametrize

from headstart.backbones.base import Located, Provenance, Stage, tensor_of
from headstart.backbones.mel import RATE
from headstart.backbones.sounds import Sounds, attended, mask_of
from headstart.backbones.tokens import quietly
from headstart.backbones.transformers import config_sha256, read_json
from headstart.errors import BackboneError, MissingExtraError, did_you_mean, listed

FAMILIES = ("wav2vec2", "hubert", "wavlm")  # config.json's model_type
UNREAD = ("masked_spec_embed", "adapter.")  # of the loaded network, what is not run here
MOST_SAMPLES = 30 * RATE  # of a longer clip only the start is looked at, as Whisper does
BUDGET = 1500  # frames a batch, padding counted


class Wav2Vec2(Sounds):
    """The convolutions and the positions they give are the stem; then one stage a layer."""

    detail = MOST_SAMPLES
    network: Encoder

    @classmethod
    def load(cls, located: Located) -> Wav2Vec2:
        """Build the network of a folder in the hub's layout, in float32."""
        kind = str(read_json(located, "config.json").get("model_type"))
        if kind not in FAMILIES:
            raise BackboneError(
                f"{located.name} is of the type {kind!r}; these encoders of waveforms are known: {listed(FAMILIES)}."
                f"{did_you_mean(kind, FAMILIES)}"
            )
        saved = read_json(located, "preprocessor_config.json")
        if saved.get("sampling_rate", RATE) != RATE:
            raise BackboneError(
                f"{located.name} hears {saved['sampling_rate']} samples a second; Headstart gives {RATE}. "
                f"Use a network that was trained on {RATE}."
            )
        whole = _loaded(located, kind)
        network = Encoder(whole.config, whole)
        seen = {
            "rate": RATE,
            "normalised": bool(saved.get("do_normalize", True)),
            "most": MOST_SAMPLES,
            "config": config_sha256(network),
        }
        return cls(network, _stages(network), Provenance.of(located, network), seen, located.folder)

    @property
    def batch_budget(self) -> int:
        """Frames, padding counted."""
        return BUDGET

    def frames(self, n_samples: int) -> int:
        """About one for 20 ms; at least one."""
        return self.network.frames(min(n_samples, MOST_SAMPLES))

    def collate(self, items: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """`input` (N, samples), `attention_mask` (N, T) over frames and `n_samples` (N,), each clip's own."""
        waves = [self._wave(item) for item in items]
        return {
            "input": nn.utils.rnn.pad_sequence(waves, batch_first=True),
            "attention_mask": mask_of([self.network.frames(len(wave)) for wave in waves]),
            "n_samples": torch.tensor([len(wave) for wave in waves]),
        }

    def _wave(self, item: np.ndarray) -> Tensor:
        """The clip's start, of mean 0 and variance 1 if it was trained so; filled up to one frame."""
        own = np.asarray(item, dtype=np.float32)[:MOST_SAMPLES]
        if self.preprocessing["normalised"] and len(own):
            own = (own - own.mean()) / np.sqrt(own.var() + 1e-7)
        return torch.tensor(np.pad(own, (0, max(0, self.network.least - len(own)))))


class Encoder(nn.Module):
    """Hugging Face's modules in their order, with masks over frames; WavLM's position bias is made anew each pass."""

    def __init__(self, config: Any, whole: Any = None) -> None:
        super().__init__()
        if whole is None:
            from transformers import AutoModel

            whole = AutoModel.from_config(config, attn_implementation=_attention(config.model_type))
        self.config, inner = config, whole.encoder
        before = not config.do_stable_layer_norm  # the norm stands before the layers, or after them
        self.stem = _Stem(whole, inner.layer_norm if before else nn.Identity())
        self.layers = inner.layers
        self.layer_norm = nn.Identity() if before else inner.layer_norm
        if config.model_type == "wavlm":
            for layer in self.layers:
                attention = layer.attention
                attention.torch_multi_head_self_attention = types.MethodType(_attend, attention)

    @property
    def least(self) -> int:
        """Samples that make one frame."""
        strides = [1, *np.cumprod(self.config.conv_stride)]
        return 1 + sum(int((k - 1) * s) for k, s in zip(self.config.conv_kernel, strides, strict=False))

    def frames(self, n_samples: int) -> int:
        """How many frames so many samples give; at least one."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            n_samples = (n_samples - kernel) // stride + 1
        return max(1, n_samples)

    def forward(self, input: Tensor, attention_mask: Tensor, n_samples: Tensor | None = None) -> Tensor:
        """Samples (N, S) to frames (N, T, D)."""
        frames = self.stem(input, attention_mask, n_samples)
        more: dict[str, Any] = {"attention_mask": attended(attention_mask)}
        if self.config.model_type == "wavlm":  # the first layer's embedding, also where that layer is not run
            bias = self.layers[0].attention.compute_bias(frames.shape[1], frames.shape[1])
            more["position_bias"] = bias.repeat(len(frames), 1, 1)
        for layer in self.layers:
            frames = tensor_of(layer(frames, **more))
        return self.layer_norm(frames)


class _Stem(nn.Module):
    """Convolutions, projection, and positions by a convolution over frames."""

    def __init__(self, whole: Any, norm: nn.Module) -> None:
        super().__init__()
        self.feature_extractor, self.feature_projection = whole.feature_extractor, whole.feature_projection
        self.feature_extractor._requires_grad = False  # nothing asks for gradients of samples
        self.positions, self.norm, self.dropout = whole.encoder.pos_conv_embed, norm, whole.encoder.dropout
        if parametrize.is_parametrized(self.positions.conv):
            parametrize.remove_parametrizations(self.positions.conv, "weight")
        over_time = getattr(self.positions, "batch_norm", None) is not None
        self.alone = over_time or whole.config.feat_extract_norm == "group"

    def forward(self, samples: Tensor, mask: Tensor, n_samples: Tensor | None) -> Tensor:
        """(N, S) to (N, T, D); one at a time where a norm would see the padding."""
        if not self.alone or len(samples) == 1:
            return self._frames(samples, mask)
        assert n_samples is not None, "the samples of each clip are needed to run it alone"
        own = zip(samples, n_samples.tolist(), mask.sum(1).tolist(), strict=True)
        rows = [self._frames(one[None, :n], mask.new_ones(1, t))[0] for one, n, t in own]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def _frames(self, samples: Tensor, mask: Tensor) -> Tensor:
        found = self.feature_extractor(samples).transpose(1, 2)
        frames = tensor_of(self.feature_projection(found)) * mask[..., None]  # the convolution below looks around
        return self.dropout(self.norm(frames + self.positions(frames)))


def _loaded(located: Located, kind: str) -> Any:
    """Hugging Face's network with its weights. BackboneError unless all that is run here are there."""
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "audio") from None
    with quietly():
        try:
            whole, report = transformers.AutoModel.from_pretrained(
                located.folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation=_attention(kind),
                output_loading_info=True,
            )
        except (ImportError, OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
            raise BackboneError(f"{located.name} cannot be loaded from {located.folder}: {error}") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(UNREAD))
    if missing:
        raise BackboneError(
            f"The weights in {located.folder} lack {len(missing)} of the network's tensors: {listed(missing, 3)}. "
            "Fetch them again, or give the folder of a complete model."
        )
    return whole


def _attend(self: Any, frames: Tensor, mask: Tensor | None, bias: Tensor) -> tuple[Tensor, None]:
    """WavLM's attention by torch's fused kernel; transformers' own call makes all weights, and torch warns of it.

    (N, T, D), (N, 1, 1, T) or None, (N * heads, T, T) to (N, T, D).
    """
    n, t, _ = frames.shape
    query, key, value = (
        project(frames).view(n, t, self.num_heads, -1).transpose(1, 2)
        for project in (self.q_proj, self.k_proj, self.v_proj)
    )
    biased = bias.view(n, self.num_heads, t, t).to(query.dtype)
    if mask is not None:
        biased = biased.masked_fill(~mask, -math.inf)
    dropout = self.dropout if self.training else 0.0
    found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=biased, dropout_p=dropout)
    return self.out_proj(found.transpose(1, 2).reshape(n, t, -1)), None


def _attention(kind: str) -> str:
    """Which of transformers' implementations is loaded: WavLM has one only, and is given ours."""
    return "eager" if kind == "wavlm" else "sdpa"


def _stages(network: Encoder) -> list[Stage]:
    layers = [[f"layers.{i}"] for i in range(len(network.layers))]
    layers[-1].append("layer_norm")
    stem = Stage(name="stem", modules=("stem",))
    return [stem, *(Stage(name=f"layer {i + 1}", modules=tuple(paths)) for i, paths in enumerate(layers))]
