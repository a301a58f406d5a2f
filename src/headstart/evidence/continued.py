"""What going on with pretraining did: to the loss on what was held out, and to what so many labels give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.evidence.intervals import PERCENTILES, resamples

N_RESAMPLES = 1000
NORMAL = 1.959964


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A loss on examples that were not learnt from: once its head had learnt, and in the end, with 95 % intervals."""

    title: str  # of the loss
    unit: str  # what it is a mean over: "masked token"
    n: int  # units that the intervals resample: texts, or batches of pictures
    before: Score
    after: Score
    difference: Score  # after minus before, paired


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What so many labels give on the same test examples, with the pretrained backbone and with the continued one."""

    n_labels: int
    before: tuple[float, ...]  # a draw of labels each
    after: tuple[float, ...]
    difference: Score  # after minus before, the mean over the draws, turned so that more is better


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """What going on was worth to a probe of the best depth."""

    data: str
    metric: str
    metric_title: str
    better: str
    n_test: int
    gains: tuple[Gain, ...]

    @property
    def helped(self) -> bool | None:
        """True where some number of labels gains beyond its interval, False where one loses, None where none tells."""
        if any(gain.difference.high < 0 for gain in self.gains):
            return False
        return True if any(gain.difference.low > 0 for gain in self.gains) else None

    @property
    def verdict(self) -> str:
        """One sentence."""
        head = {True: "It helped", False: "It did not help", None: "It cannot be told whether it helped"}[self.helped]
        said = [f"{words.number(g.difference.value, 3, signed=True)} ({_span(g.difference)})" for g in self.gains]
        parts = [f"{one} with {words.count(gain.n_labels)} labels" for one, gain in zip(said, self.gains, strict=True)]
        return (
            f"{head}: {self.metric_title} of a probe on {self.data} changes by {' and '.join(parts)}, "
            f"on {words.count(self.n_test)} test examples, plus meaning better."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "helped": self.helped, "verdict": self.verdict}


def _span(score: Score) -> str:
    return f"{words.number(score.low, 3, signed=True)} to {words.number(score.high, 3, signed=True)}"


def ratio(sums: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) means of units (U,) under weights (B, U)."""
    return (weights @ sums) / np.maximum(weights @ counts, 1e-12)


def held_out(
    title: str, unit: str, before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray], seed: int
) -> HeldOut:
    """Both losses, given as sums (U,) and counts (U,) over the same units, and their paired difference."""
    n = len(before[0])
    drawn = np.concatenate([np.ones((1, n)), resamples(n, N_RESAMPLES, seed)])
    first, second = ratio(*before, drawn), ratio(*after, drawn)
    scores = (
        Score(float(v[0]), *map(float, np.percentile(v[1:], PERCENTILES))) for v in (first, second, second - first)
    )
    old, new, difference = scores
    return HeldOut(title=title, unit=unit, n=n, before=old, after=new, difference=difference)


def over_draws(differences: Sequence[float], resampled: np.ndarray) -> Score:
    """The mean of differences (S,) over draws of labels, with a 95 % interval.

    Two things vary, and their half widths add up as squares: which labels were drawn (Student's t over the draws) and
    which examples the test holds (`resampled` (B,): the mean over the draws on each resample). One draw says nothing
    of the first.
    """
    value, n = float(np.mean(differences)), len(differences)
    drawn = float(t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    half = float(np.hypot(drawn, NORMAL * np.nanstd(resampled)))
    return Score(value, value - half, value + half)


@dataclass(frozen=True, kw_only=True)
class Continued:
    """A backbone that went on pretraining: what it comes from, how it went on, and what that was worth."""

    what: str  # "masked language modelling on 8,000 texts of reviews"
    family: str  # the file in `headstart.backbones` that loads it
    variant: str  # which network of the family, where the files do not say it
    parent: dict[str, Any]  # the provenance of what it was before
    sha256: str  # of its weight file
    modality: str
    data: str
    n: int  # distinct items that it learnt from
    n_pieces: int  # what they were learnt as: long texts are parted
    n_held: int  # items that the loss was measured on
    n_kept_out: int  # items of a test split, never looked at
    loss: str
    settings: dict[str, Any]  # of the loss
    cut: int
    stage_names: tuple[str, ...]
    seed: int
    n_steps: int
    epochs: float
    held_out: HeldOut
    seconds: float
    created: str
    versions: dict[str, str]
    downstream: Downstream | None = None
    not_measured: str = ""  # why nothing was measured downstream

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "downstream": self.downstream.to_json() if self.downstream else None}

    @property
    def verdict(self) -> str:
        """What going on was worth, in one sentence."""
        return self.downstream.verdict if self.downstream else f"Nothing was measured downstream: {self.not_measured}."
