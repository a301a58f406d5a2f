"""A task is what goes out: how labels become numbers, the linear head that is solved, its scores and their metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Weights = np.ndarray  # (B, N): how often each example counts in each of B resamples


def one_each(each: Sequence[Any]) -> np.ndarray:
    """One object an example (what a picture holds, what a recording says) as an array (N,) that rows are taken of."""
    array = np.empty(len(each), dtype=object)
    for row, one in enumerate(each):
        array[row] = one
    return array


@dataclass(frozen=True)
class LinearHead:
    """logits = X @ weight.T + bias, for features X (N, D)."""

    weight: np.ndarray  # (K, D) float32
    bias: np.ndarray  # (K,) float32

    def logits(self, features: Any) -> np.ndarray:
        """(N, K) float32; `features` may be a SciPy sparse matrix."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float32)


@dataclass(frozen=True)
class Metric:
    """A number that says how good scores are, computed for many resamples at once."""

    name: str  # "roc_auc"
    title: str  # "ROC AUC"
    better: Literal["higher", "lower"]
    compute: Callable[[np.ndarray, np.ndarray, Weights], np.ndarray]
    # (y, scores (N, K), weights (B, N)) -> (B,); NaN where a resample leaves it undefined
    leans: bool = False  # noise moves it one way only: the bootstrap's bias is taken off its interval
    proportion: bool = False  # a share of examples, so that a binomial interval holds where no resample varies


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What is to be predicted; bound to its class names. One public subclass a file, named after the file.

    Scores are what a model says of N examples, in the form that `metrics` and `decode` take: numbers (N, K), or one
    object an example in an array (N,).
    """

    title: ClassVar[str]  # for people: "one label of several"
    naive_title: ClassVar[str] = "majority guess"  # the guess that looks at no input, for people

    @classmethod
    @abstractmethod
    def from_labels(cls, labels: Sequence[Any]) -> Task:
        """The task that these labels (all splits) pose. DataError when they pose none (one class only)."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs, besides the task's name: {"class_names": [...]}."""

    @classmethod
    @abstractmethod
    def from_json(cls, saved: dict[str, Any]) -> Task:
        """The inverse of `to_json`."""

    @abstractmethod
    def encode(self, labels: Sequence[Any]) -> np.ndarray:
        """Labels as y: (N,) int64 class indices, (N, K) 0/1 float32, (N,) float32 numbers, or (N,) objects."""

    def truth(self, inputs: Sequence[Any], labels: Sequence[Any]) -> np.ndarray:
        """y of examples with these stored inputs; they say nothing that labels do not, but for conversations."""
        return self.encode(labels)

    @abstractmethod
    def naive(self, y: np.ndarray, n: int) -> np.ndarray:
        """Scores of the guess that looks at no input, n times: class frequencies, the median number …"""

    @abstractmethod
    def decode(self, scores: np.ndarray) -> list[Any]:
        """Scores as predictions: a class name, a list of class names, a float, a list of boxes, each."""

    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that apply, the primary one first."""

    @property
    def score_names(self) -> tuple[str, ...]:
        """The class names that the scores speak of, those of the K columns of a linear task; empty for a number."""
        return ()


@dataclass(frozen=True, kw_only=True)
class LinearTask(Task):
    """A task whose head is a linear map of pooled features, and can be solved. Scores are (N, K)."""

    final: ClassVar[Literal["softmax", "sigmoid", "identity"]]  # what makes scores of calibrated logits
    solver_title: ClassVar[str]  # how its heads are solved, for people: "logistic regression"

    @abstractmethod
    def heads(
        self,
        features: Any,
        y: np.ndarray,
        seed: int,
        class_weight: str | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> Iterator[tuple[float, LinearHead]]:
        """(regularisation strength, solved head) along a path of strengths, strongest first.

        `features` (N, D) is a standardised float32 array or a sparse matrix. `class_weight` "balanced" lets every
        class count the same; it means nothing for a number. `sample_weight` (N,), not negative, says how much each
        example counts; only their ratios matter.
        """

    @abstractmethod
    def training_loss(self, logits: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """Loss of each example (N,), of logits (N, K) in `unit` and y on the same device.

        `weight` (K,) says how much each class counts, None is all the same.
        """

    def class_weights(self, y: np.ndarray) -> np.ndarray | None:
        """(K,) float32 weights under which every class of y counts the same; None where there are no classes."""
        return None

    def unit(self, y: np.ndarray) -> tuple[float, float]:
        """(origin, scale) in which a head is trained; (0, 1), but for numbers their mean and standard deviation."""
        return 0.0, 1.0

    @abstractmethod
    def scores(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Logits (N, K) as probabilities (N, K), or as the numbers themselves (N, 1)."""

    @abstractmethod
    def losses(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Loss of each example (N,): what the choice on validation minimises the mean of."""

    @abstractmethod
    def wrongness(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(N,): 0 where the prediction is right, else the probability of the wrong answer, or the absolute error."""

    @property
    def calibrated(self) -> bool:
        """Whether scores are probabilities, so that a temperature can calibrate them."""
        return True
