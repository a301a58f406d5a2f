"""What all backbones of series share: values in units of their own, origins, and forecasts by the pretrained head.

An opened item is a `Stretch`. `collate` gives, besides what a family's network needs of its own:

    values    (N, T)  float32, normalised; 0 where missing
    observed  (N, T)  bool: where there is a value, padding not counted
    loc       (N, T)  float32: a forecast made at step t is put back with loc[:, t] + scale[:, t] × output
    scale     (N, T)  float32
    season    (N,)    int64

Where a backbone is `dense`, a stretch begins at step 0 and its batch is padded at the end, and every step of it can be
an origin. Else a window is normalised as a whole, so that its last step alone is an origin, and stretches end together
at step T - 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from headstart.backbones.base import DTYPES, Backbone, Located, tensor_of
from headstart.backbones.quantile_head import Outlooks
from headstart.data.stretches import LEVELS, Stretch
from headstart.errors import BackboneError

EXAMPLE = Stretch(np.tile(np.arange(7.0), 8), 7)


class SeriesBackbone(Backbone):
    """A backbone of stretches of series. Values cost little to read, so that a resumed pass collates them again."""

    modality = "series"
    dense = False  # whether one pass gives the states of every origin in a stretch
    own_horizon: int | None = None  # steps that its pretrained head forecasts at once; None without such a head
    own_levels: tuple[float, ...] = ()  # quantiles that it gives
    network: Any

    @property
    @abstractmethod
    def context(self) -> int:
        """Steps that one forecast looks back on at most, the origin counted."""

    @abstractmethod
    def collate(self, items: Sequence[Stretch]) -> dict[str, Tensor]:
        """Stretches as the network's keyword arguments; see the top of this file."""

    @abstractmethod
    def states(self, output: Tensor, inputs: Mapping[str, Tensor], origins: Tensor) -> Tensor:
        """What a head reads (N, K, C) of a stage's whole output at the origins (N, K); K is 1 unless `dense`.

        C is the family's own affair, and may be more than the width of the stage.
        """

    @property
    def own_outlooks(self) -> Outlooks | None:
        """What its pretrained head reads and writes, where that is a `QuantileHead`."""
        return None

    @property
    def has_own_head(self) -> bool:
        """Whether `own_forecast` gives something."""
        return self.own_horizon is not None

    @property
    def rereads(self) -> bool:
        """Always."""
        return True

    def lengths(self, items: Sequence[Stretch]) -> list[int]:
        """Steps of each stretch that are looked at."""
        return [max(1, len(item) if self.dense else min(len(item), self.context)) for item in items]

    def example(self) -> dict[str, Tensor]:
        """Eight weeks of days that differ by the day of the week alone."""
        return self.collate([EXAMPLE])

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, T, C) to the mean (N, C) over the observed steps, zeros where there is none."""
        mask = inputs["observed"].unsqueeze(-1).float()
        return (tensor_of(output).float() * mask).sum(1) / mask.sum(1).clamp(min=1)

    def reinitialised(self) -> nn.Module:
        """A network of the same settings, initialised as its authors do."""
        made: nn.Module = type(self.network)(self.network.settings)
        return made

    def own_forecast(self, inputs: Mapping[str, Tensor], origins: Tensor, horizon: int) -> Tensor:
        """Quantiles (N, K, horizon, Q) at LEVELS by the pretrained head, in the series' own unit, sorted.

        Levels that the head lacks are filled in by `at_levels`; beyond its own horizon it goes on from what it said.
        """
        self.check_own_head()
        check_last(inputs, origins)
        block = self.own_block(inputs)
        blocks, stretches = [block], stretches_of(inputs)
        while sum(one.shape[1] for one in blocks) < horizon:
            block, stretches = self.next_block(block, stretches)
            blocks.append(block)
        found = at_levels(torch.cat(blocks, dim=1)[:, :horizon], self.own_levels)
        return found.unsqueeze(1)

    def own_block(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, own_horizon, Q0) by the pretrained head at the last step, at `own_levels`, in the series' own unit."""
        with torch.no_grad():
            raw = self.own_quantiles(
                {k: v.to(DTYPES[self.dtype]) if v.is_floating_point() else v for k, v in inputs.items()}
            )
        loc, scale = (inputs[name][:, -1, None, None].double() for name in ("loc", "scale"))
        return loc + scale * raw.double()

    def own_quantiles(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, own_horizon, Q0) by the pretrained head at the last step, as the network gives them."""
        raise self.no_own_head

    def next_block(self, block: Tensor, stretches: list[Stretch]) -> tuple[Tensor, list[Stretch]]:
        """The block (N, H0, Q0) after this one, and the stretches that it was made from: the medians are appended."""
        medians = block[:, :, self.own_levels.index(0.5)]
        longer = [continued(one, more) for one, more in zip(stretches, medians, strict=True)]
        return self.own_block(self.collate(longer)), longer

    def check_own_head(self) -> None:
        """BackboneError where there is no pretrained head."""
        if not self.has_own_head:
            raise self.no_own_head

    @property
    def no_own_head(self) -> BackboneError:
        """What is said where there is none."""
        return BackboneError(
            f"{self.provenance.name} has no forecasting head of its own. Put a head on it with `headstart fit`."
        )


def check_last(inputs: Mapping[str, Tensor], origins: Tensor) -> None:
    """That the last step is the only origin: for backbones that are not dense."""
    n, n_steps = inputs["values"].shape
    assert origins.shape == (n, 1), f"one origin a window, not {tuple(origins.shape)} of {n} windows"
    assert bool((origins == n_steps - 1).all()), "a window's only origin is its last step"


def stretches_of(inputs: Mapping[str, Tensor]) -> list[Stretch]:
    """What was collated, in its own unit again, NaN where nothing was observed."""
    values = inputs["loc"].double() + inputs["scale"].double() * inputs["values"].double()
    known = torch.where(inputs["observed"], values, torch.nan).numpy()
    return [Stretch(row, season) for row, season in zip(known, inputs["season"].tolist(), strict=True)]


def continued(stretch: Stretch, more: Tensor) -> Stretch:
    """The stretch with (H,) steps more."""
    return Stretch(np.concatenate([stretch.values, more.double().numpy()]), stretch.season)


def ends_together(items: Sequence[Stretch], n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The last steps of each stretch as values (N, n_steps) float64, NaN before its start; whether they are there."""
    values = np.full((len(items), n_steps), np.nan)
    for row, item in zip(values, items, strict=True):
        if own := min(n_steps, len(item)):
            row[-own:] = item.values[-own:]
    return values, np.isfinite(values)


def whole(values: np.ndarray, observed: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> dict[str, Tensor]:
    """Values, observed (N, T) and the window's own loc and scale (N,) as the shared keyword arguments, but season."""
    normalised = np.where(observed, (values - loc[:, None]) / scale[:, None], 0.0)
    n_steps = values.shape[1]
    return {
        "values": torch.from_numpy(normalised.astype(np.float32)),
        "observed": torch.from_numpy(observed),
        "loc": torch.from_numpy(loc.astype(np.float32))[:, None].expand(-1, n_steps),
        "scale": torch.from_numpy(scale.astype(np.float32))[:, None].expand(-1, n_steps),
    }


def seasons(items: Sequence[Stretch]) -> Tensor:
    """(N,) int64."""
    return torch.tensor([item.season for item in items], dtype=torch.int64)


def saved_tensors(located: Located) -> dict[str, Tensor]:
    """Those of the weight file or its shards."""
    found: dict[str, Tensor] = {}
    for path in sorted(located.folder.glob("model*.safetensors")):
        found |= load_file(path)
    return found


def renamed(name: str, names: Mapping[str, str]) -> str:
    """A tensor's name with its start, one of `names`, put otherwise. KeyError where it starts with none of them."""
    start = next((start for start in names if name.startswith(start)), None)
    if start is None:
        raise KeyError(f"{name} belongs to no part of the network")
    return names[start] + name.removeprefix(start)


def at_levels(quantiles: Tensor, own: Sequence[float], levels: Sequence[float] = LEVELS) -> Tensor:
    """Quantiles (…, Q0) at the levels `own` as quantiles (…, Q) at `levels`, sorted.

    Between two levels they are interpolated, along the normal quantile z. Beyond the outermost one the tail is that of
    a normal distribution through it and the median: q.5 + (q.9 - q.5) × z(.975) / z(.9).
    """
    ordered = quantiles.sort(dim=-1).values
    middle = ordered @ _mixing(own, (0.5,)).to(ordered)
    return (middle + (ordered - middle) @ _mixing(own, levels).to(ordered)).sort(dim=-1).values


def _mixing(own: Sequence[float], levels: Sequence[float]) -> Tensor:
    """(Q0, Q) float64: the share of each own quantile's distance from the median in that of each level."""
    normal = NormalDist()
    known = np.array([normal.inv_cdf(level) for level in own])
    mixed = np.zeros((len(own), len(levels)))
    for column, z in enumerate(normal.inv_cdf(level) for level in levels):
        inside = float(np.clip(z, known[0], known[-1]))
        shares = np.array([np.interp(inside, known, row) for row in np.eye(len(own))])
        mixed[:, column] = shares * (z / inside if inside else 1.0)
    return torch.from_numpy(mixed)
