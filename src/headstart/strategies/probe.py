"""A linear probe: every stage stays as it was, and a linear head is solved on the features of one, or of several.

Alain & Bengio 2016 (arXiv:1610.01644) read off with such probes what each layer knows; Kornblith et al. 2018
(arXiv:1805.08974) measured with them how well ImageNet networks transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from headstart.errors import DataError, PlanError
from headstart.strategies.base import Adapted, Part, Strategy
from headstart.tasks.base import LinearHead, LinearTask

N_FOLDS = 5  # of cross-validation, where labels are few
PATIENCE = 2  # strengths in a row that may be no better on validation before the path is left

Path = Iterator[tuple[float, LinearHead]]  # regularisation strengths, strongest first, and their heads


@dataclass(frozen=True, kw_only=True)
class Probe(Strategy):
    """Freeze every stage below the cut, drop those above it, solve a linear head on frozen ones."""

    title: ClassVar = "linear probe"

    freeze: int | None = None  # how many stages are frozen and run, counted from the input; None is all
    stages: tuple[int, ...] | None = None  # indices of the stages whose features stand side by side; None is the last
    class_weight: str | None = None  # "balanced": every class counts the same
    variants: int = 0  # other forms of each example that teach too

    def cut(self, n_stages: int) -> int:
        """How many stages run. PlanError when `freeze` or `stages` is out of range."""
        freeze = n_stages if self.freeze is None else self.freeze
        if self.stages:
            freeze = max(self.stages) + 1
        if not 1 <= freeze <= n_stages:
            raise PlanError(
                f"freeze={freeze}, but this backbone has {n_stages} stages. Pass a value from 1 to {n_stages}."
            )
        return freeze

    def read(self, n_stages: int) -> tuple[int, ...]:
        """Indices of the stages that the head reads."""
        return tuple(self.stages) if self.stages else (self.cut(n_stages) - 1,)

    def adapt(self, task: LinearTask, train: Part, val: Part, seed: int) -> Adapted:
        """The head of the strength that does best on validation; it takes raw features. DataError when val is empty."""
        if len(val.y) == 0:
            raise DataError("The val split is empty, so no regularisation can be chosen. Give it some examples.")
        return best_on_path(task, self._path(task, train, seed), val)

    def cross_adapt(self, task: LinearTask, part: Part, seed: int) -> tuple[Adapted, np.ndarray]:
        """(the head on all examples, logits (N, K) of each example from a head that has not seen it).

        For so few labels that none can be spared to choose by: the strength is the best of five-fold
        cross-validation. DataError when there are fewer than two examples.
        """
        folds = _folds(part.y, seed, part.groups)
        rests = [np.setdiff1d(np.arange(len(part.y)), fold) for fold in folds]
        paths = [list(self._path(task, _rows(part, rest), seed)) for rest in rests]
        n_steps = min(len(path) for path in paths)
        best_loss, best_step, best_logits = np.inf, 0, np.empty((0, 0), dtype=np.float32)
        for step in range(n_steps):
            heads = [path[step][1] for path in paths]
            logits = np.empty((len(part.y), len(heads[0].bias)), dtype=np.float32)
            for head, fold in zip(heads, folds, strict=True):
                logits[fold] = head.logits(part.features[fold])
            loss = float(task.losses(part.y, task.scores(logits)).mean())
            if loss < best_loss:
                best_loss, best_step, best_logits = loss, step, logits
        strength, head = list(self._path(task, part, seed))[best_step]
        return Adapted(head, strength, best_loss), best_logits

    def _path(self, task: LinearTask, part: Part, seed: int) -> Path:
        """(strength, head on raw features), strongest first."""
        part = _with_variants(part)
        features, unfold = standardised(part.features)
        for strength, head in task.heads(features, part.y, seed, self.class_weight, part.weights):
            yield strength, unfold(head)


def best_on_path(task: LinearTask, path: Path, val: Part) -> Adapted:
    """The head of the strength that does best on validation; the path is left where it only gets worse."""
    best, n_worse = None, 0
    for strength, head in path:
        loss = float(task.losses(val.y, task.scores(head.logits(val.features))).mean())
        if best is None or loss < best.val_loss:
            best, n_worse = Adapted(head, strength, loss), 0
        else:
            n_worse += 1
        if n_worse == PATIENCE:
            break
    assert best is not None, f"{type(task).__name__}.heads gave no head at all"
    return best


def _rows(part: Part, rows: np.ndarray) -> Part:
    weights = None if part.weights is None else part.weights[rows]
    return Part(part.features[rows], part.y[rows], weights, tuple(one[rows] for one in part.variants))


def _with_variants(part: Part) -> Part:
    """Its variants as examples of their own."""
    if not part.variants:
        return part
    n = 1 + len(part.variants)
    weights = None if part.weights is None else np.tile(part.weights, n)
    return Part(np.concatenate([part.features, *part.variants]), np.concatenate([part.y] * n), weights)


def _folds(y: np.ndarray, seed: int, groups: np.ndarray | None = None) -> list[np.ndarray]:
    """Rows of each of up to five folds, every class spread over them; groups (N,) of two or more stay whole."""
    if len(y) < 2:
        raise DataError(f"{len(y)} labelled examples are too few to learn from. Give more.")
    if groups is not None and (n_groups := len(np.unique(groups))) > 1:
        divide: Any = GroupKFold if y.dtype.kind != "i" else StratifiedGroupKFold
        folds = divide(min(N_FOLDS, n_groups), shuffle=True, random_state=seed)
        return [fold for _, fold in folds.split(y, y, groups) if len(fold)]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    if y.dtype.kind == "i":
        order = order[np.argsort(y[order], kind="stable")]
    n_folds = min(N_FOLDS, len(y))
    return [np.sort(order[k::n_folds]) for k in range(n_folds)]


def standardised(features: Any) -> tuple[Any, Callable[[LinearHead], LinearHead]]:
    """Features (N, D) with mean 0 and variance 1 a column, and what turns a head on them into one on raw features.

    Sparse features stay as they are.
    """
    if sparse.issparse(features):
        return features, lambda head: head
    mean, scale = (moment.astype(np.float32) for moment in column_scales(features))

    def unfold(head: LinearHead) -> LinearHead:
        weight = head.weight / scale.astype(np.float64)
        return LinearHead(weight.astype(np.float32), (head.bias - weight @ mean).astype(np.float32))

    ready = features - mean
    ready /= scale
    return ready, unfold


def column_scales(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, scale) (D,) float64 that standardise the columns of (N, D).

    A column that does not vary, beyond float32 rounding of itself or of the widest one, is only centred: MiniLM has one
    that holds nothing above 1e-32, which would be blown up to the size of the others.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    scale[scale <= 1e-6 * np.maximum(np.abs(mean), scale.max())] = 1.0
    return mean, scale
