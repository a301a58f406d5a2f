"""TimesFM: a decoder on patches of a series (Das et al. 2024, arXiv:2310.10688), versions 1 and 2 of transformers.

Layers and output are those of transformers. A window is normalised by the mean and deviation of its first patch that
holds three values. Patches end at the origin; within a batch they begin at position 0 and are padded at the end, which
changes nothing, since no patch looks at a later one. The frequency is always 0, "high", transformers' default. A
missing step is padding to the network: told beside the values, and a patch without any value is not looked at. The
network was trained with padding at the start only, so that gaps are new to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from headstart.backbones.base import Located, Provenance, Stage, tensor_of
from headstart.backbones.chronos import aligned
from headstart.backbones.series import SeriesBackbone, check_last, ends_together, renamed, saved_tensors, seasons, whole
from headstart.backbones.transformers import config_sha256, read_json
from headstart.data.stretches import Stretch
from headstart.errors import BackboneError, MissingExtraError

BUDGET = 4096  # patches a batch, padding counted
FEWEST = 3  # values that a patch is normalised by
NAMES = {  # start of a tensor's name in the file: here
    "decoder.input_ff_layer.": "embed.patches.",
    "decoder.freq_emb.": "embed.frequency.",
    "decoder.position_emb.": "embed.position.",
    "decoder.layers.": "layers.",
    "horizon_ff_layer.": "head.",
}


class TimesFm(SeriesBackbone):
    """The embedding of the patches, then one stage a layer; the output layer is its own head."""

    names: Mapping[str, str] = NAMES
    normalised = "first patch"
    network: Network

    @classmethod
    def build(cls, saved: Mapping[str, Any]) -> Network:
        """A network of these settings, with random weights."""
        from transformers import TimesFmConfig

        return Network(TimesFmConfig.from_dict(dict(saved)))

    @classmethod
    def load(cls, located: Located) -> TimesFm:
        """Build the network of a folder in the hub's layout, in float32."""
        saved = read_json(located, "config.json")
        try:
            network = cls.build(saved)
            tensors = {cls.here(name): one for name, one in saved_tensors(located).items()}
            network.load_state_dict(tensors)
        except ImportError:
            raise MissingExtraError("transformers", "forecasting") from None
        except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackboneError(f"The weights in {located.folder} do not fit its config.json: {error}") from error
        _check(network.settings, located)
        network.float()
        seen = {"normalised": cls.normalised, "config": config_sha256(network)}
        stages = [Stage(name="embedding", modules=("embed",))]
        stages += [Stage(name=f"layer {i + 1}", modules=(f"layers.{i}",)) for i in range(len(network.layers))]
        made = cls(network, stages, Provenance.of(located, network), seen)
        made.detail = made.context
        return made

    @property
    def context(self) -> int:
        """2048 steps in version 2."""
        return int(self.network.settings.context_length)

    @property
    def own_horizon(self) -> int:  # type: ignore[override]
        """128 steps in the published ones."""
        return int(self.network.settings.horizon_length)

    @property
    def own_levels(self) -> tuple[float, ...]:  # type: ignore[override]
        """From .1 to .9 in the published ones."""
        return tuple(self.network.settings.quantiles)

    @property
    def batch_budget(self) -> int:
        """Patches, padding counted."""
        return BUDGET

    def lengths(self, items: Sequence[Stretch]) -> list[int]:
        """Patches of each stretch, from its first value on."""
        return [self._patches(self._looked_at(item)) for item in items]

    def collate(self, items: Sequence[Stretch]) -> dict[str, Tensor]:
        """T is that of the longest stretch in whole patches; `n_patches` (N,) are each one's own. See series.py."""
        looked_at = [self._looked_at(item) for item in items]
        n_patches = [self._patches(item) for item in looked_at]
        values, observed = ends_together(looked_at, max(n_patches) * self.network.patch)
        given = {"season": seasons(items), "n_patches": torch.tensor(n_patches)}
        return self.normalise(values, observed) | given

    def normalise(self, values: np.ndarray, observed: np.ndarray) -> dict[str, Tensor]:
        """Values, NaN where missing, and whether they are there, both (N, T), as in series.py, but `season`."""
        loc, scale = first_patch(values, self.network.patch, self.network.settings.tolerance)
        return whole(values, observed, loc, scale)

    def unpad(self, activation: Tensor, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(T_i, C): each stretch's own patches."""
        return [row[:n] for row, n in zip(activation, inputs["n_patches"].tolist(), strict=True)]

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, P, C) to the mean (N, C) over the patches that hold a value, zeros where there is none."""
        mask = self.network.attended(inputs["observed"], inputs["n_patches"]).unsqueeze(-1).float()
        return (tensor_of(output).float() * mask).sum(1) / mask.sum(1).clamp(min=1)

    def states(self, output: Tensor, inputs: Mapping[str, Tensor], origins: Tensor) -> Tensor:
        """(N, 1, C): the last patch."""
        check_last(inputs, origins)
        return self.last(output, inputs)[:, None]

    def own_quantiles(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, horizon_length, Q0); the mean, which the network gives first, is left out."""
        found: Tensor = self.network.head(self.last(self.network(**inputs), inputs))
        return found.unflatten(1, (self.own_horizon, 1 + len(self.own_levels)))[..., 1:]

    def last(self, output: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, C) the last patch of (N, P, C)."""
        return output[torch.arange(len(output)), inputs["n_patches"] - 1]

    def weights(self, located: Located) -> dict[str, Tensor]:
        """By the names of the hub's files."""
        return {self.there(name): one.contiguous() for name, one in self.network.state_dict().items()}

    @classmethod
    def here(cls, name: str) -> str:
        """What a tensor of the file is called here."""
        return renamed(name, cls.names)

    @classmethod
    def there(cls, name: str) -> str:
        """The inverse of `here`."""
        return renamed(name, {here: there for there, here in cls.names.items()})

    def _looked_at(self, item: Stretch) -> Stretch:
        """The context's part of a stretch, from its first value on."""
        values = item.values[-self.context :]
        known = np.flatnonzero(np.isfinite(values))
        return Stretch(values[known[0] if len(known) else len(values) :], item.season)

    def _patches(self, looked_at: Stretch) -> int:
        return max(1, -(-len(looked_at) // self.network.patch))


def first_patch(values: np.ndarray, patch: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (N,) of the first patch of values (N, T) with `FEWEST` of them, else of the last patch."""
    patches = values.reshape(len(values), -1, patch)
    enough = np.isfinite(patches).sum(2) >= FEWEST
    index = np.where(enough.any(1), enough.argmax(1), patches.shape[1] - 1)
    chosen = patches[np.arange(len(patches)), index]
    there = np.isfinite(chosen)
    n = np.maximum(there.sum(1), 1)
    loc = np.where(there, chosen, 0.0).sum(1) / n
    deviation = np.sqrt((np.where(there, chosen - loc[:, None], 0.0) ** 2).sum(1) / n)
    return loc, np.maximum(deviation, tolerance)


class Network(nn.Module):
    """The decoder in stages; the head is there for whoever calls it."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers import TimesFmModelForPrediction

        config._attn_implementation = "eager"
        built: Any = TimesFmModelForPrediction(config)
        self.config = self.settings = config
        self.patch = int(config.patch_length)
        core, position = built.decoder, getattr(built.decoder, "position_emb", None)
        self.embed = Embed(core.input_ff_layer, self.patch, core.freq_emb, position)
        self.layers, self.head = core.layers, built.horizon_ff_layer

    def forward(self, values: Tensor, observed: Tensor, n_patches: Tensor, **unread: Tensor) -> Tensor:
        """Windows (N, T) to (N, P, C)."""
        x = self.embed(values, observed, n_patches)
        empty = (~self.attended(observed, n_patches)).to(x.dtype)
        for layer in self.layers:
            x = layer(x, attention_mask=causal(empty), paddings=empty)
        out: Tensor = x
        return out

    def attended(self, observed: Tensor, n_patches: Tensor) -> Tensor:
        """(N, P) bool: patches that hold a value."""
        return aligned(observed, n_patches, self.patch).any(-1)


def causal(empty: Tensor) -> Tensor:
    """(N, 1, P, P) added to attention so that no patch looks at a later one, or at one that is `empty` (N, P)."""
    n_patches = empty.shape[1]
    unseen = torch.maximum(empty[:, None], empty.new_ones(n_patches, n_patches).triu(1))
    return torch.finfo(empty.dtype).min * unseen[:, None]


class Embed(nn.Module):
    """Values of a patch, and which of them are missing, to (N, P, C), with what stands for position and frequency."""

    def __init__(self, patches: nn.Module, patch: int, frequency: Any = None, position: Any = None) -> None:
        super().__init__()
        self.patch, self.patches, self.frequency, self.position = patch, patches, frequency, position

    def forward(self, values: Tensor, observed: Tensor, n_patches: Tensor) -> Tensor:
        """Windows (N, T) to (N, P, C)."""
        seen = aligned(observed, n_patches, self.patch).to(values.dtype)
        x: Tensor = self.patches(torch.cat([aligned(values, n_patches, self.patch) * seen, 1 - seen], dim=-1))
        if self.position is not None:
            x = x + self.position(x.shape[1]).to(x.dtype)
        return x if self.frequency is None else x + self.frequency.weight[0]


def _check(config: Any, located: Located) -> None:
    """BackboneError for settings that no published network has."""
    if config.context_length % config.patch_length or 0.5 not in config.quantiles:
        raise BackboneError(
            f"{located.name} has a context of {config.context_length} steps, which must be whole patches of "
            f"{config.patch_length}, and quantiles {list(config.quantiles)}, which must hold the median. "
            "Give one such as 'google/timesfm-2.0-500m-pytorch'."
        )
