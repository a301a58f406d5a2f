"""TimesFM 2.5: the decoder of `timesfm.py` with rotary positions (Su et al. 2021, arXiv:2104.09864) and a second head.

Layers and outputs are those of transformers. Each patch is normalised by the mean and deviation of all values up to
its end. A forecast is the mean of those of the window and, turned back, of the window upside down; the second head
says how far the other quantiles lie from the median. Of a window without values below 0 no quantile is below 0. There
is no frequency. transformers knows of missing steps at the start only: here they are padding anywhere, and a patch is
looked at if any step of it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones import timesfm
from headstart.backbones.timesfm import causal

TINY = 1e-6  # of the window's deviation: a deviation below it is none
NAMES = {  # start of a tensor's name in the file: here
    "model.input_ff_layer.": "embed.patches.",
    "model.layers.": "layers.",
    "output_projection_point.": "head.point.",
    "output_projection_quantiles.": "head.spread.",
}


class TimesFm25(timesfm.TimesFm):
    """The embedding of the patches, then one stage a layer; two output layers are its own head."""

    names = NAMES
    normalised = "running"

    @classmethod
    def build(cls, saved: Mapping[str, Any]) -> _Network:
        """A network of these settings, with random weights."""
        from transformers import TimesFm2_5Config

        return _Network(TimesFm2_5Config.from_dict(dict(saved)))

    @classmethod
    def here(cls, name: str) -> str:
        """What a tensor of the file is called here; transformers names two layers of the hub's files anew."""
        return super().here(name).replace(".ff0.", ".fc1.").replace(".ff1.", ".fc2.")

    @classmethod
    def there(cls, name: str) -> str:
        """As the hub's files and `save_pretrained` have it."""
        return super().there(name).replace(".fc1.", ".ff0.").replace(".fc2.", ".ff1.")

    def normalise(self, values: np.ndarray, observed: np.ndarray) -> dict[str, Tensor]:
        """As in series.py, but `season`; and `positive` (N,) bool, whether no value is below 0."""
        loc, scale = (np.repeat(one, self.network.patch, axis=1) for one in running(values, self.network.patch))
        known = np.where(observed, values, 0.0)
        spread = np.sqrt(_variance(known, self.context))[:, None]
        safe = np.where(scale > TINY * spread, scale, np.where(spread > 0, spread, 1.0))
        normalised = np.where(observed, (known - loc) / safe, 0.0)
        found = {"values": normalised, "loc": loc, "scale": scale}
        return {name: torch.from_numpy(one.astype(np.float32)) for name, one in found.items()} | {
            "observed": torch.from_numpy(observed),
            "positive": torch.from_numpy((known >= 0).all(1)),
        }

    def own_block(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, horizon_length, Q0), not below 0 where the window is not."""
        found, settings = super().own_block(inputs), self.network.settings
        if not settings.infer_is_positive:
            return found
        return torch.where(inputs["positive"][:, None, None], found.clamp(min=0), found)

    def own_quantiles(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, horizon_length, Q0); the mean, which the network gives first, is left out."""
        point, spread = self._outputs(inputs)
        if self.network.settings.force_flip_invariance:
            other = self._outputs({**inputs, "values": -inputs["values"]})
            point, spread = ((one - two.flip(-1)) / 2 for one, two in zip((point, spread), other, strict=True))
        if not self.network.settings.use_continuous_quantile_head:
            return point
        middle, n_steps = self.own_levels.index(0.5), min(point.shape[1], spread.shape[1])
        spread = (spread - spread[..., middle, None])[:, :n_steps]
        return torch.cat([point[:, :n_steps, middle, None] + spread, point[:, n_steps:]], dim=1)

    def _outputs(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Quantiles of both output layers, (N, horizon_length, Q0) and (N, output_quantile_len, Q0)."""
        last, head = self.last(self.network(**inputs), inputs), self.network.head
        n_each = 1 + len(self.own_levels)
        point, spread = (head[name](last).unflatten(1, (-1, n_each))[..., 1:] for name in ("point", "spread"))
        return point, spread


def running(values: np.ndarray, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (N, P) of values (N, T), NaN where missing, up to each patch's end; 0 before the first."""
    observed = np.isfinite(values)
    n_values = np.maximum(observed.sum(1), 1)
    middle = np.where(observed, values, 0.0).sum(1) / n_values
    moved = np.where(observed, values - middle[:, None], 0.0)  # so that squares do not drown what differs

    def until(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1, patch).sum(2).cumsum(1)

    n, first, second = until(observed.astype(float)), until(moved), until(moved**2)
    some = np.maximum(n, 1)
    mean = first / some
    loc = np.where(n > 0, mean + middle[:, None], 0.0)
    return loc, np.sqrt(np.maximum(second / some - mean**2, 0.0))


def _variance(known: np.ndarray, n_steps: int) -> np.ndarray:
    """(N,) of windows filled up with zeros to n_steps, as transformers normalises them first."""
    total, squares = known.sum(1), (known**2).sum(1)
    found: np.ndarray = np.maximum(squares - total**2 / n_steps, 0.0) / (n_steps - 1)
    return found


class _Network(timesfm.Network):
    """The decoder in stages; the heads are there for whoever calls them."""

    def __init__(self, config: Any) -> None:
        nn.Module.__init__(self)
        from transformers import TimesFm2_5ModelForPrediction

        config._attn_implementation = "eager"
        built: Any = TimesFm2_5ModelForPrediction(config)
        self.config = self.settings = config
        self.patch = int(config.patch_length)
        self.embed = timesfm.Embed(built.model.input_ff_layer, self.patch)
        self.rotary = [built.model.rotary_emb]  # in a list: its frequencies must stay float32 when the weights do not
        self.layers = built.model.layers
        self.head = nn.ModuleDict({"point": built.output_projection_point, "spread": built.output_projection_quantiles})

    def forward(self, values: Tensor, observed: Tensor, n_patches: Tensor, **unread: Tensor) -> Tensor:
        """Windows (N, T) to (N, P, C)."""
        x = self.embed(values, observed, n_patches)
        mask = causal((~self.attended(observed, n_patches)).to(x.dtype))
        places = self.rotary[0](x, torch.arange(x.shape[1], device=x.device)[None])
        for layer in self.layers:
            x = layer(x, position_embeddings=places, attention_mask=mask)
        out: Tensor = x
        return out
