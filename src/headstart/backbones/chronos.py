"""Chronos-Bolt: T5's encoder on patches of a series (Ansari et al. 2024, arXiv:2403.07815, and its successor).

The layers are those of transformers; what is around them is ported from the package `chronos-forecasting` 2.3
(Apache-2.0). A window is normalised to mean 0 and variance 1 as a whole. Patches end at the origin; within a batch they
begin at position 0 and are padded at the end, which changes nothing, since T5's positions are relative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from headstart.backbones.base import Located, Provenance, Stage, tensor_of
from headstart.backbones.families import BOLT, RUN
from headstart.backbones.series import (
    SeriesBackbone,
    check_last,
    continued,
    ends_together,
    renamed,
    saved_tensors,
    seasons,
    whole,
)
from headstart.backbones.transformers import config_sha256, read_json
from headstart.data.stretches import Stretch
from headstart.errors import BackboneError, MissingExtraError

EPSILON = 1e-5  # the deviation of a constant window, as its authors have it
BUDGET = 4096  # patches a batch, padding counted
BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
NAMES = {  # start of a tensor's name in the file: here
    BIAS: "bias.table.weight",
    "input_patch_embedding.": "embed.patches.",
    "encoder.block.": "layers.",
    "encoder.final_layer_norm.": "norm.",
    "decoder.": "head.decoder.",
    "output_patch_embedding.": "head.out.",
}
TOKENS, DECODER_TOKENS = "shared.weight", "head.decoder.embed_tokens.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")  # of `shared.weight`; unread


class Chronos(SeriesBackbone):
    """The embedding of the patches, then one stage a layer of the encoder; decoder and output are its own head."""

    network: Network

    @classmethod
    def load(cls, located: Located) -> Chronos:
        """Build the network of a folder in the hub's layout, in float32."""
        saved = read_json(located, "config.json")
        _check(saved, located)
        try:
            from transformers import T5Config
        except ImportError:
            raise MissingExtraError("transformers", "forecasting") from None
        try:
            network = Network(T5Config.from_dict(saved))
            network.load_state_dict(_tensors(located))
        except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackboneError(f"The weights in {located.folder} do not fit its config.json: {error}") from error
        network.float()
        seen = {"normalised": "mean and deviation", "config": config_sha256(network)}
        made = cls(network, _stages(len(network.layers)), Provenance.of(located, network), seen)
        made.detail = made.context
        return made

    @property
    def context(self) -> int:
        """2048 steps in the published ones."""
        return int(self.network.bolt["context_length"])

    @property
    def own_horizon(self) -> int:  # type: ignore[override]
        """64 steps in the published ones."""
        return int(self.network.bolt["prediction_length"])

    @property
    def own_levels(self) -> tuple[float, ...]:  # type: ignore[override]
        """From .1 to .9 in the published ones."""
        return tuple(self.network.bolt["quantiles"])

    @property
    def batch_budget(self) -> int:
        """Patches, padding counted."""
        return BUDGET

    def lengths(self, items: Sequence[Stretch]) -> list[int]:
        """Patches of each stretch, and one for the token after them."""
        return [self._patches(item) + self.network.has_token for item in items]

    def collate(self, items: Sequence[Stretch]) -> dict[str, Tensor]:
        """T is that of the longest stretch in whole patches; `n_patches` (N,) are each one's own. See series.py."""
        n_patches = [self._patches(item) for item in items]
        values, observed = ends_together(
            [_last(item, self.context) for item in items], max(n_patches) * self.network.patch
        )
        known = np.where(observed, values, 0.0)
        n = np.maximum(observed.sum(1), 1)
        loc = known.sum(1) / n
        deviation = np.sqrt((np.where(observed, values - loc[:, None], 0.0) ** 2).sum(1) / n)
        scale = np.where(observed.any(1), np.where(deviation == 0, EPSILON, deviation), 1.0)
        given = {"season": seasons(items), "n_patches": torch.tensor(n_patches)}
        return whole(values, observed, loc, scale) | given

    def unpad(self, activation: Tensor, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(T_i, C): each stretch's own patches and the token after them."""
        n_tokens = inputs["n_patches"] + self.network.has_token
        return [row[:n] for row, n in zip(activation, n_tokens.tolist(), strict=True)]

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, P, C) to the mean (N, C) over the patches that hold a value, and the token after them."""
        mask = self.network.attended(inputs["observed"], inputs["n_patches"]).unsqueeze(-1).float()
        return (tensor_of(output).float() * mask).sum(1) / mask.sum(1).clamp(min=1)

    def states(self, output: Tensor, inputs: Mapping[str, Tensor], origins: Tensor) -> Tensor:
        """(N, 1, C): the token after the patches, or the last patch where there is none."""
        check_last(inputs, origins)
        last = inputs["n_patches"] + self.network.has_token - 1
        return output[torch.arange(len(output)), last][:, None]

    def own_quantiles(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, prediction_length, Q0)."""
        keys = self.network.attended(inputs["observed"], inputs["n_patches"])
        out: Tensor = self.network.head(self.network(**inputs), keys)
        return out.unflatten(1, (len(self.own_levels), self.own_horizon)).transpose(1, 2)

    def next_block(self, block: Tensor, stretches: list[Stretch]) -> tuple[Tensor, list[Stretch]]:
        """As its authors go on: from each of the Q0 quantiles; of the Q0 × Q0 that come of it, the quantiles."""
        n, _, n_levels = block.shape
        if len(stretches) == n:
            stretches = [one for one in stretches for _ in range(n_levels)]
        paths = block.transpose(1, 2).flatten(0, 1)  # (N Q0, H0)
        longer = [_last(continued(one, path), self.context) for one, path in zip(stretches, paths, strict=True)]
        branched = self.own_block(self.collate(longer)).unflatten(0, (n, n_levels)).transpose(1, 2).flatten(2)
        levels = torch.tensor(self.own_levels, dtype=branched.dtype)
        return torch.quantile(branched, levels, dim=2).movedim(0, 2), longer

    def weights(self, located: Located) -> dict[str, Tensor]:
        """By the names of the hub's files."""
        own = self.network.state_dict()
        tokens = own.pop(DECODER_TOKENS)
        if self.network.has_token:
            tokens = torch.cat([tokens[:1], own.pop("embed.token")[None]])
        hub = {here: there for there, here in NAMES.items()}
        return {TOKENS: tokens} | {renamed(name, hub): one.contiguous() for name, one in own.items()}

    def _patches(self, item: Stretch) -> int:
        return max(1, -(-min(len(item), self.context) // self.network.patch))


class Network(nn.Module):
    """The encoder in stages; the head is there for whoever calls it."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers.models.t5.modeling_t5 import T5Stack

        self.config = self.settings = config
        self.bolt = config.chronos_config
        self.patch = int(self.bolt["input_patch_size"])
        self.has_token = int(bool(self.bolt.get("use_reg_token", False)))
        encoder: Any = T5Stack(_part(config, self.has_token))
        self.embed = _Embed(config, self.patch, self.has_token)
        self.bias = _Bias(encoder.block[0].layer[0].SelfAttention)
        self.layers, self.norm = encoder.block, encoder.final_layer_norm
        self.head = _Head(config, self.has_token, len(self.bolt["quantiles"]) * int(self.bolt["prediction_length"]))

    def forward(self, values: Tensor, observed: Tensor, n_patches: Tensor, **unread: Tensor) -> Tensor:
        """Windows (N, T) to (N, P, C)."""
        x = self.embed(values, observed, n_patches)
        unseen = ~self.attended(observed, n_patches)
        bias = self.bias(x.shape[1]) + (unseen.to(x.dtype) * torch.finfo(x.dtype).min)[:, None, None]
        for layer in self.layers:
            x = tensor_of(layer(x, position_bias=bias))
        out: Tensor = self.norm(x)
        return out

    def attended(self, observed: Tensor, n_patches: Tensor) -> Tensor:
        """(N, P) bool: patches that hold a value, and the token after them."""
        seen = aligned(observed, n_patches, self.patch).any(-1)
        if not self.has_token:
            return seen
        return nn.functional.pad(seen, (0, 1)).scatter(1, n_patches[:, None], True)


def aligned(x: Tensor, n_patches: Tensor, patch: int) -> Tensor:
    """Steps (N, T) that end together as patches (N, P, patch) that begin together; zeros after a stretch's own."""
    patches = x.unflatten(1, (-1, patch))
    n, most, _ = patches.shape
    place = torch.arange(most)[None]
    moved = patches[torch.arange(n)[:, None], (place + most - n_patches[:, None]).clamp(max=most - 1)]
    return moved * (place < n_patches[:, None])[..., None]


class _Embed(nn.Module):
    def __init__(self, config: Any, patch: int, has_token: int) -> None:
        super().__init__()
        self.patch = patch
        self.patches = _Residual(config, 2 * patch, config.d_model)
        self.token = nn.Parameter(torch.randn(config.d_model)) if has_token else None
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, values: Tensor, observed: Tensor, n_patches: Tensor) -> Tensor:
        seen = aligned(observed, n_patches, self.patch).to(values.dtype)
        x = self.patches(torch.cat([aligned(values, n_patches, self.patch) * seen, seen], dim=-1))
        if self.token is not None:
            x = nn.functional.pad(x, (0, 0, 0, 1))
            here = (torch.arange(x.shape[1])[None] == n_patches[:, None])[..., None]
            x = torch.where(here, self.token, x)
        out: Tensor = self.dropout(x)
        return out


class _Bias(nn.Module):
    """What attention adds for the distance of two positions; taken out of the first layer, since all layers read it."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.table = attention.relative_attention_bias
        self.n_buckets, self.most = attention.relative_attention_num_buckets, attention.relative_attention_max_distance
        self.bucket = attention._relative_position_bucket
        del attention.relative_attention_bias
        attention.has_relative_attention_bias = False

    def forward(self, n_positions: int) -> Tensor:
        """(1, heads, P, P)."""
        place = torch.arange(n_positions, device=self.table.weight.device)
        bucket = self.bucket(place[None] - place[:, None], num_buckets=self.n_buckets, max_distance=self.most)
        out: Tensor = self.table(bucket).permute(2, 0, 1)[None]
        return out


class _Head(nn.Module):
    """The decoder looks at the patches once, and its one output is all quantiles of all steps."""

    def __init__(self, config: Any, has_token: int, width: int) -> None:
        super().__init__()
        from transformers.models.t5.modeling_t5 import T5Stack

        self.first = config.decoder_start_token_id
        self.decoder = T5Stack(_part(config, has_token, is_decoder=True))
        self.out = _Residual(config, config.d_model, width)

    def forward(self, states: Tensor, keys: Tensor) -> Tensor:
        """States (N, P, C), whether each may be looked at (N, P), to (N, Q0 × horizon)."""
        first = torch.full((len(states), 1), self.first, device=states.device)
        looked = self.decoder(input_ids=first, encoder_hidden_states=states, encoder_attention_mask=keys.long())
        out: Tensor = self.out(looked.last_hidden_state[:, 0])
        return out


class _Residual(nn.Module):
    """Two layers beside one."""

    def __init__(self, config: Any, width: int, out: int) -> None:
        super().__init__()
        from transformers.activations import ACT2FN

        self.dropout, self.act = nn.Dropout(config.dropout_rate), ACT2FN[config.dense_act_fn]
        self.hidden_layer, self.output_layer = nn.Linear(width, config.d_ff), nn.Linear(config.d_ff, out)
        self.residual_layer = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.output_layer(self.act(self.hidden_layer(x)))) + self.residual_layer(x)
        return out


def _part(config: Any, has_token: int, is_decoder: bool = False) -> Any:
    """The settings of the encoder or of the decoder."""
    own = type(config).from_dict(config.to_dict())
    own.is_decoder, own.use_cache, own.vocab_size = is_decoder, False, 1 + has_token
    own.num_layers = config.num_decoder_layers if is_decoder else config.num_layers
    own._attn_implementation = "eager"
    return own


def _stages(n_layers: int) -> list[Stage]:
    last = [("norm",) if i == n_layers - 1 else () for i in range(n_layers)]
    layers = [
        Stage(name=f"layer {i + 1}", modules=(f"layers.{i}", *last[i]), shared=() if i else ("bias",))
        for i in range(n_layers)
    ]
    return [Stage(name="embedding", modules=("embed",)), *layers]


def _last(item: Stretch, most: int) -> Stretch:
    return Stretch(item.values[-most:], item.season)


def _tensors(located: Located) -> dict[str, Tensor]:
    """Those of the file or its shards, by their names here."""
    found = saved_tensors(located)
    tokens = found.pop(TOKENS)
    own = {renamed(name, NAMES): one for name, one in found.items() if name not in COPIES}
    return own | {DECODER_TOKENS: tokens} | ({"embed.token": tokens[1]} if len(tokens) > 1 else {})


def _check(saved: Mapping[str, Any], located: Located) -> None:
    """BackboneError for any other network of series."""
    bolt = saved.get("chronos_config")
    what = next(iter(saved.get("architectures") or ()), saved.get("model_type")) or "Moirai"
    if what != BOLT or not isinstance(bolt, dict):
        raise BackboneError(
            f"{located.name} is a {what}, a network for series that Headstart does not run. It runs Fracast "
            f"('fracast-0'), Chronos-Bolt (such as 'amazon/chronos-bolt-tiny'), {RUN}."
        )
    if bolt.get("input_patch_stride") != bolt.get("input_patch_size") or 0.5 not in bolt.get("quantiles", ()):
        raise BackboneError(
            f"{located.name} has patches that overlap, or no median; no published Chronos-Bolt has. "
            "Give one such as 'amazon/chronos-bolt-tiny'."
        )
