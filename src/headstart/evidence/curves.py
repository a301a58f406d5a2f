"""Learning curves: what each way to learn scores with how many labels, and how many labels transfer saved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One way to learn with one number of labels, over several seeds, on the same test examples."""

    system: str  # "probe", "full", "scratch", "TF-IDF of words + logistic regression"
    n_labels: int  # train and validation together
    scores: tuple[float, ...]  # of the metric on test, one a seed
    seconds: float  # mean over the seeds

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.scores))

    @property
    def sd(self) -> float:
        """Standard deviation over the seeds (n - 1); 0 for a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `headstart compare` found."""

    data: str  # name of the data set
    backbone: str
    metric: str
    metric_title: str
    better: str  # "higher" or "lower"
    n_test: int
    points: tuple[CurvePoint, ...]
    saved: tuple[str, ...]  # sentences: how many labels each rival would need for the same score

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)
