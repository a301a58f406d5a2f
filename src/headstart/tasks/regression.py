"""A number: ridge regression (Hoerl & Kennard 1970) in the label's own unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.errors import DataError
from headstart.tasks import linear, metrics
from headstart.tasks.base import LinearHead, LinearTask, Metric, Weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Regression(LinearTask):
    """Each example has a number. y is (N,) float32, scores are the predicted numbers (N, 1)."""

    title = "a number"
    naive_title = "median guess"
    final = "identity"
    solver_title = "ridge regression"

    @classmethod
    def from_labels(cls, labels: Sequence[float]) -> Regression:
        """The task; DataError when a label is no finite number or all are equal."""
        task = cls()
        y = task.encode(labels)
        if len(y) == 0 or y.min() == y.max():
            raise DataError(
                f"Every example has the same number ({labels[0] if len(y) else 'none'}), so there is nothing to learn. "
                "Give numbers that differ."
            )
        return task

    def to_json(self) -> dict[str, Any]:
        """{}: there is nothing to keep."""
        return {}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Regression:
        """The inverse of `to_json`."""
        return cls()

    def encode(self, labels: Sequence[float]) -> np.ndarray:
        """The numbers (N,) float32; DataError for a label that is no finite number."""
        return np.array([_number(label) for label in labels], dtype=np.float32)

    def heads(
        self,
        features: Any,
        y: np.ndarray,
        seed: int,
        class_weight: str | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> Iterator[tuple[float, LinearHead]]:
        """(alpha, head) of ridge regression, strongest regularisation (largest alpha) first, in the label's unit."""
        mean, scale = y.mean(dtype=np.float64), y.std(dtype=np.float64) or 1.0
        for alpha, (weight, bias) in linear.ridge_path(features, (y - mean) / scale, sample_weight):
            yield alpha, LinearHead((weight * scale).astype(np.float32), (bias * scale + mean).astype(np.float32))

    def training_loss(self, logits: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """Squared error (N,); there are no classes to weigh."""
        return (logits[:, 0] - y) ** 2

    def unit(self, y: np.ndarray) -> tuple[float, float]:
        """Mean and standard deviation, so that a learning rate means the same for metres and millimetres."""
        return float(y.mean(dtype=np.float64)), float(y.std(dtype=np.float64)) or 1.0

    def scores(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """The numbers themselves (N, 1) float64; a temperature means nothing here."""
        return logits.astype(np.float64)

    def losses(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Squared error (N,)."""
        return (scores[:, 0] - y) ** 2

    def wrongness(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Absolute error (N,)."""
        return np.abs(scores[:, 0] - y)

    def naive(self, y: np.ndarray, n: int) -> np.ndarray:
        """The median number, (n, 1): no constant has a smaller mean absolute error."""
        return np.full((n, 1), np.median(y.astype(np.float64)))

    def decode(self, scores: np.ndarray) -> list[float]:
        """The numbers as Python floats."""
        return [float(score) for score in scores[:, 0]]

    def metrics(self) -> tuple[Metric, ...]:
        """Mean absolute error first."""
        return (
            metrics.metric("mae", "mean absolute error", "lower", _mae),
            metrics.metric("rmse", "root mean squared error", "lower", self._rmse),
            metrics.metric("r2", "R²", "higher", _r2),
        )

    @property
    def calibrated(self) -> bool:
        """False: a number is no probability."""
        return False

    def _rmse(self, y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
        return np.sqrt(metrics.weighted_mean(self.losses(y, scores), weights))


def _number(label: Any) -> float:
    try:
        value = float(label)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"The label {label!r} is not a finite number. Correct or drop it, or pass another --task.")
    return value


def _mae(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.weighted_mean(np.abs(scores[:, 0] - y), weights)


def _r2(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.r_squared(y, scores[:, 0], weights)
