"""What a run proves: scores with their intervals, beside the baselines, on the same test examples."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Score:
    """A value with its 95 % bootstrap interval, in the metric's own unit (fractions, not per cent)."""

    value: float
    low: float
    high: float


Scores = dict[str, Score]  # metric name -> score


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """Predictions on the test split, row by row."""

    __test__ = False  # not for pytest

    y: np.ndarray  # encoded labels
    scores: np.ndarray  # (N, K) calibrated, of the model that the run ships
    naive: np.ndarray  # (N, K) of the majority guess
    classical: np.ndarray  # (N, K) of the classical model
    transfer: np.ndarray | None = None  # (N, K) of the adapted backbone; None: it is what the run ships
    scratch: np.ndarray | None = None  # (N, K) of the same network from random weights, where it was trained
    scratch_epochs: int | None = None  # how long that one was trained
    pretrained: np.ndarray | None = None  # (N,) of a network that does this task without being adapted
    ships_classical: bool = False


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is claimed of a model. JSON through `to_json` / `from_json`."""

    primary: str  # name of the metric that the verdict speaks of
    titles: dict[str, str]  # metric name -> title for people
    better: dict[str, str]  # metric name -> "higher" or "lower"
    metrics: Scores
    baselines: dict[str, Scores]  # "majority guess", "TF-IDF + logistic regression"
    differences: dict[str, Scores]  # baseline -> metric -> model minus baseline, paired
    verdict: str  # one sentence
    paid: bool | None  # transfer beat the classical model beyond the interval; False: it lost; None: cannot be told
    n_resamples: int = 1000

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Evidence:
        """The inverse of `to_json`; keys that are not evidence are passed over."""
        own = {f.name: saved[f.name] for f in fields(cls)}
        own["metrics"] = _scores(own["metrics"])
        own["baselines"] = {name: _scores(scores) for name, scores in own["baselines"].items()}
        own["differences"] = {name: _scores(scores) for name, scores in own["differences"].items()}
        return cls(**own)


def _scores(saved: dict[str, dict[str, float]]) -> Scores:
    return {name: Score(**score) for name, score in saved.items()}
