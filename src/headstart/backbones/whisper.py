"""Whisper's encoder on the clip's own length (Radford et al. 2022, arXiv:2212.04356).

Whisper was trained on 30 seconds, shorter clips filled up with silence. Here a clip is filled up to a whole number of
encoder frames (20 ms, two mel frames) and no further, and the positions are cut to as many. What is seen then differs
from what it was trained on; `Whisper.padded` is the same network on 30 seconds, so that both can be compared. Only the
first 30 seconds of a longer clip are looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from headstart.backbones.base import Located, Provenance, Stage
from headstart.backbones.mel import HOP, RATE, log_mel
from headstart.backbones.sounds import Sounds, attended, mask_of
from headstart.backbones.transformers import config_sha256, read_json
from headstart.errors import BackboneError, MissingExtraError, listed

FRAME = 2 * HOP  # samples: the second convolution takes every second mel frame
BUDGET = 1500  # frames a batch, padding counted
PREFIXES = ("model.encoder.", "encoder.")  # of the encoder's tensors in a weight file
STEM = ("conv1.", "conv2.", "embed_positions.")


class Whisper(Sounds):
    """The encoder in stages; its decoder stays in `folder`, in the layout of the hub."""

    network: Encoder

    @classmethod
    def load(cls, located: Located) -> Whisper:
        """Build the encoder from a folder in the hub's layout, in float32; the decoder's weights are not read."""
        try:
            from transformers import WhisperConfig
        except ImportError:
            raise MissingExtraError("transformers", "audio") from None
        try:
            network = Encoder(WhisperConfig.from_dict(read_json(located, "config.json")))
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise BackboneError(f"{located.name} has settings that make no network: {error}") from error
        _fill(network, located)
        layers = [[f"layers.{i}"] for i in range(len(network.layers))]
        layers[-1].append("layer_norm")
        stages = [Stage(name="stem", modules=("stem",))]
        stages += [Stage(name=f"layer {i + 1}", modules=tuple(paths)) for i, paths in enumerate(layers)]
        seen = {"rate": RATE, "n_mels": network.config.num_mel_bins, "config": config_sha256(network), "padded": False}
        made = cls(network, stages, Provenance.of(located, network), seen, located.folder)
        made.detail = FRAME * network.n_positions  # samples from the start
        return made.padded() if located.variant else made

    def padded(self) -> Whisper:
        """The same network on 30 seconds, as it was trained; the features are still those of a clip's own frames.

        All frames attend to the silence, so that `unpad` hands on all of them, and the items are read again above a
        cut to know their lengths.
        """
        other = copy.copy(self)
        other.network = self.beside().network  # type: ignore[assignment]
        other.network.padded = True
        other.preprocessing = self.preprocessing | {"padded": True}
        name = self.provenance.name.removesuffix(":padded")
        other.variant, other.provenance = "padded", replace(self.provenance, name=f"{name}:padded")
        return other

    @property
    def dear(self) -> bool:
        """The padded variant is: thirty times as much to hear a second."""
        return bool(self.network.padded)

    @property
    def rereads(self) -> bool:
        """Whether the items must be opened to resume a pass."""
        return self.network.padded

    @property
    def batch_budget(self) -> int:
        """Frames, padding counted."""
        return BUDGET

    def frames(self, n_samples: int) -> int:
        """One for 20 ms, rounded up; all positions in the padded variant."""
        return self.network.n_positions if self.network.padded else self._own_frames(n_samples)

    def _own_frames(self, n_samples: int) -> int:
        return min(max(1, -(-n_samples // FRAME)), self.network.n_positions)

    def collate(self, items: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """`input` (N, mels, 2 T) and `attention_mask` (N, T): which of the frames are the clip's own."""
        own = [self._own_frames(len(item)) for item in items]
        mels = [self._mel(item, self.frames(len(item)) * FRAME) for item in items]
        longest = max(mel.shape[1] for mel in mels)
        # zeros, as the convolutions see beyond the end of a clip that is alone
        batch = torch.stack([nn.functional.pad(mel, (0, longest - mel.shape[1])) for mel in mels])
        mask = mask_of(own)
        return {"input": batch, "attention_mask": nn.functional.pad(mask, (0, longest // 2 - mask.shape[1]))}

    def unpad(self, activation: Tensor, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(T_i, D) of each clip; in the padded variant all frames, since those of the silence are attended to."""
        return list(activation) if self.network.padded else self.own(activation, inputs)

    def own(self, activation: Tensor, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(T_i, D): each clip's own frames, in the padded variant too."""
        return super().unpad(activation, inputs)

    def reinitialised(self) -> nn.Module:
        """A network of the same settings, initialised as its authors do."""
        return Encoder(self.network.config, self.network.padded)

    def weights(self, located: Located) -> dict[str, Tensor]:
        """By the names of the hub's files."""
        own = self.network.state_dict()
        return {PREFIXES[0] + name.removeprefix("stem."): one.contiguous() for name, one in own.items()}

    def _mel(self, item: np.ndarray, n_samples: int) -> Tensor:
        """(mels, frames) of the clip, cut or filled up with silence to so many samples."""
        own = np.asarray(item, dtype=np.float32)[:n_samples]
        return log_mel(np.pad(own, (0, n_samples - len(own))), self.network.config.num_mel_bins)


class Encoder(nn.Module):
    """Hugging Face's encoder for any length up to its positions; `padded` attends to the silence after a clip too."""

    def __init__(self, config: Any, padded: bool = False) -> None:
        super().__init__()
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        config._attn_implementation = "sdpa"
        whole = WhisperEncoder(config)
        self.config, self.padded = config, padded
        self.stem = _Stem(whole.conv1, whole.conv2, whole.embed_positions, config.dropout)
        self.layers, self.layer_norm = whole.layers, whole.layer_norm

    @property
    def n_positions(self) -> int:
        """The most frames: 1500, or 30 seconds."""
        return int(self.config.max_source_positions)

    def forward(self, input: Tensor, attention_mask: Tensor) -> Tensor:
        """Mel frames (N, mels, 2 T) to (N, T, D)."""
        frames = self.stem(input)
        mask = None if self.padded else attended(attention_mask)
        for layer in self.layers:
            frames = layer(frames, mask)
        return self.layer_norm(frames)


class _Stem(nn.Module):
    """Two convolutions, the second of stride 2, and the positions.

    The last frame of a clip of an even number of mel frames ends where the clip does, so that the second convolution
    reads nothing of what the first one makes of the padding.
    """

    def __init__(self, conv1: nn.Module, conv2: nn.Module, embed_positions: nn.Embedding, dropout: float) -> None:
        super().__init__()
        self.conv1, self.conv2, self.embed_positions, self.dropout = conv1, conv2, embed_positions, dropout

    def forward(self, mels: Tensor) -> Tensor:
        """(N, mels, 2 T) to (N, T, D)."""
        gelu = nn.functional.gelu
        frames = gelu(self.conv2(gelu(self.conv1(mels)))).transpose(1, 2)
        frames = frames + self.embed_positions.weight[: frames.shape[1]]
        return nn.functional.dropout(frames, self.dropout, self.training)


def _fill(network: Encoder, located: Located) -> None:
    """The encoder's tensors out of the weight files, of any floating type. BackboneError unless all are there."""
    found: dict[str, Tensor] = {}
    try:
        for file in sorted(located.folder.glob("model*.safetensors")):
            with safe_open(file, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118  (no mapping)
                    prefix = next((one for one in PREFIXES if key.startswith(one)), None)
                    if prefix is not None:
                        name = key.removeprefix(prefix)
                        found[f"stem.{name}" if name.startswith(STEM) else name] = tensors.get_tensor(key).float()
        missing = sorted(network.state_dict().keys() - found.keys())
        if not missing:
            network.load_state_dict(found)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise BackboneError(f"{located.name} cannot be loaded from {located.folder}: {error}") from error
    if missing:
        raise BackboneError(
            f"The weights in {located.folder} lack {len(missing)} of the encoder's tensors: {listed(missing, 3)}. "
            "Fetch them again, or give the folder of a complete model."
        )
