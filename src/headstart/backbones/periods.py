"""The periods of a series by its normalised periodogram, and what positions are described by.

Ported from TinyCast (arXiv:2608.15767, raws-labs/tinycast) as Fracast-0 uses it (ztxtech/fracast-0), both Apache-2.0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

N_RECENCY = 5  # channels of `recency`


@torch.no_grad()
def significant_periods(x: Tensor, shortest: int, n_periods: int, alpha: float) -> Tensor:
    """The strongest periods (N, K) int64 of series (N, T) float32 without gaps, in steps; 0 where no more is certain.

    A period is a peak of the spectrum whose share of the power is beyond what white noise gives at level `alpha`, all
    bins counted (Bonferroni).
    """
    n_fft = 1 << math.ceil(math.log2(max(2, x.shape[1])))
    spectrum = torch.fft.rfft(x - x.mean(dim=1, keepdim=True), n=n_fft)
    power = (spectrum * spectrum.conj()).real[:, 1:]  # without the mean
    share = power / power.sum(dim=1, keepdim=True).clamp(min=1e-12)
    n_bins = share.shape[1]
    peak = nn.functional.pad((share[:, 1:-1] > share[:, :-2]) & (share[:, 1:-1] > share[:, 2:]), (1, 1))
    first = max(0, n_fft // max(2, x.shape[1] // 2) - 1)
    last = min(n_bins - 1, max(0, n_fft // max(2, shortest) - 1))
    eligible = torch.zeros(n_bins, dtype=torch.bool, device=x.device)
    if last > first:
        eligible[first : last + 1] = True
    threshold = math.log(max(2, n_bins) / max(min(alpha, 1.0), 1e-12)) / max(2, n_bins)
    scored = torch.where(peak & eligible & (share >= threshold), share, -torch.inf)
    scores, bins = scored.topk(min(n_periods, n_bins), dim=1)
    periods = torch.round(n_fft / (bins + 1).float()).long()  # rounded: a truncated 7 would be a 6
    return torch.where(torch.isfinite(scores), periods, 0)


def filled_with_mean(x: Tensor, observed: Tensor) -> Tensor:
    """(N, T) with the mean of what is observed where nothing is."""
    mean = torch.where(observed, x, 0.0).sum(1, keepdim=True) / observed.sum(1, keepdim=True).clamp(min=1)
    return torch.where(observed, x, mean)


def phases(positions: Tensor, periods: Tensor, n_harmonics: int) -> Tensor:
    """Sines and cosines (N, T, 2 K n_harmonics) of positions (T,) in periods (N, K); zeros for a period of 0."""
    turn = 2.0 * math.pi * positions[None, :, None].float() / periods.clamp(min=1)[:, None].float()  # (N, T, K)
    turns = turn.unsqueeze(-1) * torch.arange(1, n_harmonics + 1, device=turn.device, dtype=turn.dtype)
    pairs = torch.stack([turns.sin(), turns.cos()], dim=-1) * (periods > 0)[:, None, :, None, None]
    return pairs.flatten(2)


def recency(positions: Tensor, n_steps: int) -> Tensor:
    """How far positions (T,) are from the last of `n_steps` steps, in windows, as (T, 5) bounded channels."""
    delta = (positions.float() - float(n_steps - 1)) / float(n_steps)  # negative before the origin, positive after
    far = delta.abs()
    log = torch.sign(delta) * torch.log1p(far) / math.log(2.0)
    return torch.stack([delta, log, torch.exp(-0.5 * far), torch.exp(-2.0 * far), torch.exp(-8.0 * far)], dim=-1)


def seasonal_means(x: Tensor, observed: Tensor, periods: Tensor, positions: Tensor, n_bins: int) -> Tensor:
    """What to expect (N, H) at positions (H,) after series (N, T): the mean of what was observed at their phase.

    A phase is one of `n_bins` parts of the period (N,); where nothing was observed at it, the mean of all stands.
    """
    length = periods.clamp(min=1)[:, None].float()

    def bins(where: Tensor) -> Tensor:
        return torch.clamp(where[None].float() % length / length * n_bins, max=n_bins - 1).long()

    weights = observed.to(x.dtype)
    of = nn.functional.one_hot(bins(torch.arange(x.shape[1], device=x.device)), n_bins).to(x.dtype) * weights[..., None]
    counts, totals = of.sum(1), torch.einsum("ntb,nt->nb", of, torch.where(observed, x, 0.0))
    mean = torch.where(observed, x, 0.0).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1.0)
    return torch.where(counts > 0, totals / counts.clamp(min=1.0), mean).gather(1, bins(positions))
