"""Several labels at once: a yes or no for each label, one logistic regression each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from headstart.errors import DataError
from headstart.tasks import linear, metrics
from headstart.tasks.base import LinearHead, LinearTask, Metric, Weights
from headstart.tasks.classification import class_indices, natural_order

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Multilabel(LinearTask):
    """Each example has any number of K class names. y is (N, K) 0/1 float32, scores are (N, K) probabilities."""

    title = "several labels at once"
    final = "sigmoid"
    solver_title = "logistic regression"

    class_names: tuple[str, ...]

    @classmethod
    def from_labels(cls, labels: Sequence[Sequence[str]]) -> Multilabel:
        """The distinct labels in natural order; DataError when no example has any."""
        class_names = natural_order({name for names in labels for name in names})
        if not class_names:
            raise DataError(
                "No example has a label, so there is nothing to learn. Give lists of labels, some of them not empty."
            )
        return cls(class_names=class_names)

    def to_json(self) -> dict[str, Any]:
        """{"class_names": [...]}."""
        return {"class_names": list(self.class_names)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Multilabel:
        """The inverse of `to_json`."""
        return cls(class_names=tuple(saved["class_names"]))

    def encode(self, labels: Sequence[Sequence[str]]) -> np.ndarray:
        """0/1 (N, K) float32; DataError for a label that is not one of the class names."""
        y = np.zeros((len(labels), len(self.class_names)), dtype=np.float32)
        for row, names in zip(y, labels, strict=True):
            row[class_indices(names, self.class_names)] = 1
        return y

    def heads(
        self,
        features: Any,
        y: np.ndarray,
        seed: int,
        class_weight: str | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> Iterator[tuple[float, LinearHead]]:
        """(C, head) of one logistic regression a label, strongest regularisation (smallest C) first.

        A label that all or no train examples have gets a constant logit, half an example away from certainty.
        """
        features, y, sample_weight = linear.counted(features, y, sample_weight)
        varying = np.flatnonzero(y.min(axis=0) < y.max(axis=0))
        for strength, (weight, bias) in linear.logistic_path(features, y[:, varying], class_weight, sample_weight):
            head = LinearHead(
                np.zeros((y.shape[1], features.shape[1]), dtype=np.float32), logit(_frequencies(y)).astype(np.float32)
            )
            head.weight[varying], head.bias[varying] = weight, bias
            yield strength, head

    def training_loss(self, logits: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """Binary cross-entropy (N,), averaged over the labels; a yes counts `weight` times."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits, y, pos_weight=weight, reduction="none").mean(1)

    def class_weights(self, y: np.ndarray) -> np.ndarray:
        """How many times more often each label is absent than present."""
        p = _frequencies(y)
        return ((1 - p) / p).astype(np.float32)

    def scores(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Probabilities (N, K) float64 of each label by itself: sigmoid of logits / temperature."""
        return expit(logits.astype(np.float64) / temperature)

    def losses(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Binary cross-entropy (N,), averaged over the labels; p clipped to what its type can tell from 0 and 1."""
        eps = np.finfo(scores.dtype).eps
        p = np.clip(scores, eps, 1 - eps)
        return -np.where(y > 0, np.log(p), np.log1p(-p)).mean(axis=1)

    def wrongness(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Probability (N,) of the surest wrong yes or no; 0 where all labels are right."""
        confidence, correct = metrics.decisions(y, scores)
        return np.where(correct, 0.0, confidence).max(axis=1)

    def naive(self, y: np.ndarray, n: int) -> np.ndarray:
        """How frequent each label is, n times; never nearer to 0 or 1 than half an example."""
        return np.tile(_frequencies(y), (n, 1))

    def decode(self, scores: np.ndarray) -> list[list[str]]:
        """The class names with a probability of at least one half, of each example."""
        return [[self.class_names[k] for k in np.flatnonzero(row >= 0.5)] for row in scores]

    def metrics(self) -> tuple[Metric, ...]:
        """Macro average precision first."""
        return (
            metrics.metric("average_precision", "average precision", "higher", _average_precision),
            metrics.metric("roc_auc", "ROC AUC", "higher", _roc_auc),
            metrics.metric("macro_f1", "macro F1", "higher", _macro_f1),
            metrics.metric("micro_f1", "micro F1", "higher", _micro_f1),
            metrics.metric("subset_accuracy", "all labels right", "higher", _subset_accuracy),
            metrics.metric("log_loss", "log-loss", "lower", self._log_loss),
            metrics.metric("ece", "expected calibration error", "lower", _calibration_error, leans=True),
        )

    @property
    def score_names(self) -> tuple[str, ...]:
        """The class names."""
        return self.class_names

    def _log_loss(self, y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
        return metrics.weighted_mean(self.losses(y, scores), weights)


def _frequencies(y: np.ndarray) -> np.ndarray:
    """How frequent each label is, (K,) float64, kept half an example away from 0 and 1."""
    return np.clip(y.sum(axis=0, dtype=np.float64), 0.5, len(y) - 0.5) / len(y)


def _average_precision(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.macro_average_precision(y > 0, scores, weights)


def _roc_auc(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.macro_roc_auc(y > 0, scores, weights)


def _macro_f1(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.macro_f1(y > 0, scores >= 0.5, weights)


def _micro_f1(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.micro_f1(y > 0, scores >= 0.5, weights)


def _subset_accuracy(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.weighted_mean(((scores >= 0.5) == (y > 0)).all(axis=1), weights)


def _calibration_error(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.expected_calibration_error(*metrics.decisions(y, scores), weights)
