"""One label of several: a softmax over linear logits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from headstart.errors import DataError, did_you_mean, listed
from headstart.tasks import linear, metrics
from headstart.tasks.base import LinearHead, LinearTask, Metric, Weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Classification(LinearTask):
    """Each example has exactly one of K class names. y is (N,) int64, scores are (N, K) probabilities."""

    title = "one label of several"
    final = "softmax"
    solver_title = "logistic regression"

    class_names: tuple[str, ...]
    positive: str  # the class that average precision speaks of when there are two: the rarer, or else the last

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Classification:
        """The distinct labels in natural order; DataError when there are fewer than two."""
        counts = Counter(labels)
        class_names = natural_order(counts)
        if len(class_names) < 2:
            raise DataError(
                f"Every example has the same label ({listed(class_names) or 'none'}), so there is nothing to learn. "
                "Give labels with at least two different values."
            )
        rarest_last = sorted(class_names, key=lambda name: -counts[name])  # stable: of equals, the last stays last
        return cls(class_names=class_names, positive=rarest_last[-1])

    def to_json(self) -> dict[str, Any]:
        """{"class_names": [...], "positive": "..."}."""
        return {"class_names": list(self.class_names), "positive": self.positive}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Classification:
        """The inverse of `to_json`."""
        return cls(class_names=tuple(saved["class_names"]), positive=saved["positive"])

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """Class indices (N,) int64; DataError for a label that is not one of the class names."""
        return class_indices(labels, self.class_names)

    def heads(
        self,
        features: Any,
        y: np.ndarray,
        seed: int,
        class_weight: str | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> Iterator[tuple[float, LinearHead]]:
        """(C, head) of multinomial logistic regression, strongest regularisation (smallest C) first.

        A class that train does not hold gets a constant logit that amounts to half an example. DataError when train
        holds one class only.
        """
        features, y, sample_weight = linear.counted(features, y, sample_weight)
        present = np.unique(y)
        if len(present) < 2:
            raise DataError(
                f"The train split holds only the class {self.class_names[present[0]]!r}; it needs at least two. "
                "Give other splits, or more examples."
            )
        for strength, (weight, bias) in linear.logistic_path(features, y, class_weight, sample_weight):
            if len(present) == 2:  # one logit z; the softmax of (-z/2, z/2) is its sigmoid
                weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
            # The solver's logits sum to 0, so the largest is never below 0.
            head = LinearHead(
                np.zeros((len(self.class_names), weight.shape[1]), dtype=np.float32),
                np.full(len(self.class_names), np.log(0.5 / len(y)), dtype=np.float32),
            )
            head.weight[present], head.bias[present] = weight, bias
            yield strength, head

    def training_loss(self, logits: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """Cross-entropy (N,); with `weight` that of the true class, relative to the mean over all examples."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, y, weight=weight, reduction="none")

    def class_weights(self, y: np.ndarray) -> np.ndarray:
        """N / (K n_k), as scikit-learn's "balanced"; 0 for a class that y does not hold."""
        counts = np.bincount(y, minlength=len(self.class_names))
        present = counts > 0
        return np.where(present, len(y) / (present.sum() * np.maximum(counts, 1)), 0.0).astype(np.float32)

    def scores(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Probabilities (N, K) float64: softmax of logits / temperature."""
        return softmax(logits.astype(np.float64) / temperature, axis=1)

    def losses(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """-log p (N,) of the true class, p clipped to what its type can tell from 0 and 1."""
        true = scores[np.arange(len(y)), y]
        eps = np.finfo(scores.dtype).eps
        return -np.log(np.clip(true, eps, 1 - eps))

    def wrongness(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Probability (N,) of the class that was wrongly decided on; 0 where the decision is right."""
        confidence, correct = metrics.decisions(y, scores)
        return np.where(correct, 0.0, confidence)

    def naive(self, y: np.ndarray, n: int) -> np.ndarray:
        """Class frequencies, n times; a class that y does not hold counts as half an example."""
        counts = np.maximum(np.bincount(y, minlength=len(self.class_names)), 0.5)
        return np.tile(counts / counts.sum(), (n, 1))

    def decode(self, scores: np.ndarray) -> list[str]:
        """The most probable class name of each example."""
        return [self.class_names[k] for k in scores.argmax(axis=1)]

    def metrics(self) -> tuple[Metric, ...]:
        """ROC AUC first for two classes, accuracy first for more."""
        first: tuple[Metric, ...]
        accuracy = metrics.metric("accuracy", "accuracy", "higher", _accuracy, proportion=True)
        roc_auc = metrics.metric("roc_auc", "ROC AUC", "higher", _roc_auc)
        if len(self.class_names) == 2:
            title = f"average precision ({self.positive})"
            first = (roc_auc, metrics.metric("average_precision", title, "higher", self._average_precision), accuracy)
        else:
            first = (accuracy, roc_auc)
        return (
            *first,
            metrics.metric("balanced_accuracy", "balanced accuracy", "higher", _balanced_accuracy),
            metrics.metric("macro_f1", "macro F1", "higher", _macro_f1),
            metrics.metric("log_loss", "log-loss", "lower", self._log_loss),
            metrics.metric("ece", "expected calibration error", "lower", _calibration_error, leans=True),
        )

    @property
    def score_names(self) -> tuple[str, ...]:
        """The class names."""
        return self.class_names

    def _average_precision(self, y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
        k = self.class_names.index(self.positive)
        return metrics.macro_average_precision((y == k)[:, None], scores[:, [k]], weights)

    def _log_loss(self, y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
        return metrics.weighted_mean(self.losses(y, scores), weights)


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names sorted as people do: numbers by value and before words, "2" before "10", "grade 2" before "grade 10"."""

    def key(name: str) -> tuple[float, list[str | int], str]:
        is_number = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", name)
        pieces = [int(p) if i % 2 else p.casefold() for i, p in enumerate(re.split(r"(\d+)", name))]
        return (float(name) if is_number else float("inf"), pieces, name)

    return tuple(sorted(names, key=key))


def class_indices(labels: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """Where each label stands in the class names, (N,) int64; DataError for the first that is not one of them."""
    index = {name: k for k, name in enumerate(class_names)}
    for label in labels:
        if label not in index:
            raise DataError(
                f"The label {label!r} is not one of the {len(class_names)} known classes: {listed(class_names)}."
                f"{did_you_mean(str(label), class_names)} Rename or drop it, or fit again on data that hold it."
            )
    return np.array([index[label] for label in labels], dtype=np.int64)


def _accuracy(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.weighted_mean(scores.argmax(axis=1) == y, weights)


def _roc_auc(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """Two classes: of the last one (the first gives the same); more: each against the rest, averaged."""
    truth = metrics.one_hot(y, scores.shape[1])
    first = 1 if scores.shape[1] == 2 else 0
    return metrics.macro_roc_auc(truth[:, first:], scores[:, first:], weights)


def _balanced_accuracy(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.balanced_accuracy(*_truth_and_predicted(y, scores), weights)


def _macro_f1(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.macro_f1(*_truth_and_predicted(y, scores), weights)


def _calibration_error(y: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    return metrics.expected_calibration_error(*metrics.decisions(y, scores), weights)


def _truth_and_predicted(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n_classes = scores.shape[1]
    return metrics.one_hot(y, n_classes), metrics.one_hot(scores.argmax(axis=1), n_classes)
