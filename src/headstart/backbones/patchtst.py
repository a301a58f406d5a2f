"""PatchTST: an encoder on patches of a series (Nie et al. 2023, arXiv:2211.14730), as transformers has it.

A window is as long as the network's context, and normalised as a whole. What is missing, or lies before a short
series, is left out of mean and deviation, and then 0, as masked patches are in pretraining; transformers itself takes
the caller's filling, so that this is what it gives when missing steps are filled with the window's mean. All channels
are read by the same weights, so that networks of several channels run on one series at a time.

A network with a distribution as its output (`loss` "nll") is its own head. One with a point forecast (`loss` "mse")
is not: one number a step says nothing of how far off it may be, and no band would stand on anything. Its encoder is
used without it, as are those of networks that were pretrained on masked patches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from headstart.backbones.base import Located, Provenance, Stage, tensor_of
from headstart.backbones.series import SeriesBackbone, check_last, ends_together, saved_tensors, seasons, whole
from headstart.backbones.transformers import config_sha256, read_json
from headstart.data.stretches import LEVELS, Stretch
from headstart.errors import BackboneError, MissingExtraError

BUDGET = 4096  # patches a batch
DISTRIBUTIONS = ("normal", "student_t")  # whose quantiles can be put into the unit of the series
LEAST = {"std": 1e-5, "mean": 1e-10}  # of the variance, added; of the scale


class PatchTst(SeriesBackbone):
    """The embedding of the patches with their positions, then one stage a layer."""

    network: Network

    @classmethod
    def load(cls, located: Located) -> PatchTst:
        """Build the network of a folder in the hub's layout, in float32."""
        saved = read_json(located, "config.json")
        try:
            from transformers import PatchTSTConfig
        except ImportError:
            raise MissingExtraError("transformers", "forecasting") from None
        try:
            config = PatchTSTConfig.from_dict(saved)
            _check(config, located)
            network = Network(config)
            tensors = {_here(name): one for name, one in saved_tensors(located).items()}
            if network.head is None:
                tensors = {name: one for name, one in tensors.items() if not name.startswith("head.")}
            network.load_state_dict(tensors)
        except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackboneError(f"The weights in {located.folder} do not fit its config.json: {error}") from error
        network.float()
        seen = {"normalised": str(config.scaling), "config": config_sha256(network)}
        stages = [Stage(name="embedding", modules=("embed",))]
        stages += [Stage(name=f"layer {i + 1}", modules=(f"layers.{i}",)) for i in range(len(network.layers))]
        made = cls(network, stages, Provenance.of(located, network), seen)
        made.detail = made.context
        return made

    @property
    def context(self) -> int:
        """512 steps in the published ones."""
        return int(self.network.settings.context_length)

    @property
    def own_horizon(self) -> int | None:  # type: ignore[override]
        """What it was trained for; None without a distribution."""
        return None if self.network.head is None else int(self.network.settings.prediction_length)

    @property
    def own_levels(self) -> tuple[float, ...]:  # type: ignore[override]
        """All of them, since a distribution has every quantile."""
        return () if self.network.head is None else LEVELS

    @property
    def batch_budget(self) -> int:
        """Patches."""
        return BUDGET

    def lengths(self, items: Sequence[Stretch]) -> list[int]:
        """The window's patches, however little of it a stretch fills."""
        return [self.network.n_tokens] * len(items)

    def collate(self, items: Sequence[Stretch]) -> dict[str, Tensor]:
        """T is the context; see series.py."""
        values, observed = ends_together(items, self.context)
        return whole(values, observed, *_scaled(values, self.network.settings)) | {"season": seasons(items)}

    def unpad(self, activation: Tensor, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """(P, C) of each window: all patches are looked at, empty ones too."""
        return list(activation)

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, P, C) to the mean (N, C) over the patches that hold a value, and the token before them."""
        seen = self.network.embed.patched(inputs["observed"].float()).amax(-1)
        mask = nn.functional.pad(seen, (self.network.n_tokens - seen.shape[1], 0), value=1.0).unsqueeze(-1)
        return (tensor_of(output).float() * mask).sum(1) / mask.sum(1).clamp(min=1)

    def states(self, output: Tensor, inputs: Mapping[str, Tensor], origins: Tensor) -> Tensor:
        """(N, 1, C): the last patch."""
        check_last(inputs, origins)
        return output[:, -1:]

    def own_quantiles(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, prediction_length, Q) of the distribution, normal or Student's t."""
        from scipy import stats

        parameters = self.network.head(self.network(**inputs)[:, None])  # each (N, prediction_length, 1)
        *freedom, loc, scale = (one.double().numpy() for one in parameters)
        levels = np.array(LEVELS)
        unit = stats.t.ppf(levels, freedom[0]) if freedom else stats.norm.ppf(levels)
        return torch.from_numpy(loc + scale * unit)

    def weights(self, located: Located) -> dict[str, Tensor]:
        """By the names of the hub's files."""
        prefix = "" if _what(self.network.settings) == "PatchTSTModel" else "model."
        own = self.network.state_dict().items()
        return {_there(name, prefix): one.contiguous() for name, one in own}


class Network(nn.Module):
    """The encoder in stages; the head, where its output is a distribution, is there for whoever calls it."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers import PatchTSTForPrediction

        config = type(config).from_dict(config.to_dict() | {"do_mask_input": False, "num_input_channels": 1})
        config._attn_implementation = "eager"
        built: Any = PatchTSTForPrediction(config)
        self.config = self.settings = config
        self.embed = _Embed(built.model)
        self.layers = nn.ModuleList(_Layer(layer) for layer in built.model.encoder.layers)
        self.head: Any = built.head if _has_quantiles(config) else None
        self.n_tokens = built.model.patchifier.num_patches + int(config.use_cls_token)

    def forward(self, values: Tensor, **unread: Tensor) -> Tensor:
        """Windows (N, T) to (N, P, C); the first of P is the token, where there is one."""
        x: Tensor = self.embed(values)
        for layer in self.layers:
            x = layer(x)
        return x


class _Embed(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.patchify = model.patchifier
        self.patches, self.position = model.encoder.embedder, model.encoder.positional_encoder

    def patched(self, x: Tensor) -> Tensor:
        """Steps (N, T) as patches (N, P, patch), which may overlap."""
        patches: Tensor = self.patchify(x[..., None])[:, 0]
        return patches

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.position(self.patches(self.patched(values)[:, None]))[:, 0]
        return out


class _Layer(nn.Module):
    """A layer for one channel: (N, P, C) instead of (N, 1, P, C)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x[:, None])[0][:, 0]
        return out


def _scaled(values: np.ndarray, config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where windows (N, T) are moved to and what they are divided by, each (N,)."""
    observed = np.isfinite(values)
    known, n = np.where(observed, values, 0.0), np.maximum(observed.sum(1), 1)
    scaling = "mean" if config.scaling is True else config.scaling
    least = getattr(config, "minimum_scale", LEAST.get(scaling, 0.0))
    zeros, ones = np.zeros(len(values)), np.ones(len(values))
    if scaling == "std":
        loc = known.sum(1) / n
        variance = (np.where(observed, values - loc[:, None], 0.0) ** 2).sum(1) / n
        return loc, np.sqrt(variance + least)
    if scaling == "mean":
        return zeros, np.where(observed.any(1), np.maximum(np.abs(known).sum(1) / n, least), ones)
    return zeros, ones


def _what(config: Any) -> str:
    return str(next(iter(config.architectures or ()), ""))


def _has_quantiles(config: Any) -> bool:
    """Whether it forecasts a distribution, by weights that all channels share."""
    return (
        _what(config) == "PatchTSTForPrediction"
        and config.loss != "mse"
        and config.distribution_output in DISTRIBUTIONS
        and config.share_projection
        and config.prediction_length > 1
    )


def _here(name: str) -> str:
    """A tensor's name in the file, as it is called here."""
    name = name.removeprefix("model.").replace("encoder.embedder.", "embed.patches.")
    name = name.replace("encoder.positional_encoder.", "embed.position.")
    return re.sub(r"^encoder\.layers\.(\d+)\.", r"layers.\1.inner.", name)


def _there(name: str, prefix: str) -> str:
    """The inverse of `_here`."""
    if name.startswith("head."):
        return name
    name = name.replace("embed.patches.", "encoder.embedder.").replace("embed.position.", "encoder.positional_encoder.")
    return prefix + re.sub(r"^layers\.(\d+)\.inner\.", r"encoder.layers.\1.", name)


def _check(config: Any, located: Located) -> None:
    """BackboneError for networks that read several series together."""
    if config.channel_attention or not config.share_embedding:
        raise BackboneError(
            f"{located.name} reads {config.num_input_channels} channels together (channel_attention="
            f"{config.channel_attention}, share_embedding={config.share_embedding}); Headstart forecasts one series at "
            "a time. Give a PatchTST with channel_attention=False and share_embedding=True, as the published ones are."
        )
