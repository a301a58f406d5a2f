"""Align, solve the head where source and target meet, and fold what was done to the target into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from headstart.alignments.base import Affine, Alignment, Outlook
from headstart.errors import DataError
from headstart.strategies.base import Part
from headstart.strategies.probe import best_on_path, column_scales
from headstart.tasks.base import LinearHead, LinearTask

FEWEST = 2  # rows of a domain: one has no spread


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A head on raw target features, with what can be seen of it without target labels."""

    head: LinearHead  # on raw target features (n, D)
    strength: float  # of the regularisation, chosen on source validation
    val_loss: float
    val_logits: np.ndarray  # (m, K) of the held-out source examples, where source and target meet
    outlook: Outlook


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Labelled source and unlabelled target, as raw features."""

    train: Part  # (N_s, D) source examples to learn from
    val: Part  # (m, D) source examples to choose by
    target: np.ndarray  # (N_t, D)


def solve(alignment: Alignment, task: LinearTask, sides: Sides, seed: int, class_weight: str | None = None) -> Solution:
    """The alignment's head, its regularisation chosen on source validation. DataError when a domain is too small."""
    _check(sides)
    scale = common_scale(sides.train.features, sides.target)
    train = replace(sides.train, features=scale(sides.train.features))
    aligned = alignment.align(train, scale(sides.target), seed)
    mapped = aligned.source(train.features)
    lesson = aligned.lesson or Part(mapped, train.y, aligned.weights)
    val = Part(_float32(aligned.source(scale(sides.val.features))), sides.val.y)
    # No column is scaled on its own any more: in a projection, those of small variance hold noise.
    path = task.heads(_float32(lesson.features), lesson.y, seed, class_weight, lesson.weights)
    adapted = best_on_path(task, path, val)
    target = _float32(aligned.target(scale(sides.target)))
    val_logits = adapted.head.logits(val.features)
    outlook = Outlook(
        train=_float32(mapped),
        y_train=train.y,
        val=val.features,
        y_val=val.y,
        val_probabilities=task.scores(val_logits),
        target=target,
        target_probabilities=task.scores(adapted.head.logits(target)),
    )
    assert adapted.strength is not None, "a probe has a strength"
    return Solution(
        head=fold(fold(adapted.head, aligned.target), scale),
        strength=adapted.strength,
        val_loss=adapted.val_loss,
        val_logits=val_logits,
        outlook=outlook,
    )


def fold(head: LinearHead, before: Affine) -> LinearHead:
    """The head (K, d) on what `before` makes of D columns, as one (K, D) on those columns themselves."""
    weight = head.weight.astype(np.float64)
    return LinearHead(
        (weight @ before.matrix.T).astype(np.float32), (weight @ before.offset + head.bias).astype(np.float32)
    )


def mean_of(heads: Sequence[LinearHead]) -> LinearHead:
    """The head whose logits are the mean of those of several heads on the same features.

    Candidates err in different places, so that their mean hurts less often than any of them (the ensemble by which Hu
    et al. 2024, "EnsV", judge them); here it is a linear head like each of them, and costs no more.
    """
    weight = np.mean([head.weight.astype(np.float64) for head in heads], axis=0)
    bias = np.mean([head.bias.astype(np.float64) for head in heads], axis=0)
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32))


def common_scale(source: np.ndarray, target: np.ndarray) -> Affine:
    """What standardises the columns of both domains together: an alignment then knows no units."""
    mean, scale = column_scales(np.concatenate([source, target]))
    return Affine(np.diag(1 / scale), -mean / scale)


def _check(sides: Sides) -> None:
    sizes = {"source": len(sides.train.y), "target": len(sides.target)}
    for name, n in sizes.items():
        if n < FEWEST:
            raise DataError(f"The {name} holds {n} examples to align by; it takes at least {FEWEST}. Give more.")
    if len(sides.val.y) == 0:
        raise DataError("The val split is empty, so no regularisation can be chosen. Give it some examples.")


def _float32(features: np.ndarray) -> np.ndarray:
    return np.asarray(features, dtype=np.float32)
