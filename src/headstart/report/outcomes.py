"""What was right and what was wrong on the test split, as small tables that the template can draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headstart.evidence.base import TestResult
from headstart.evidence.words import wilson
from headstart.tasks.base import LinearTask

MOST_CLASSES = 30  # a larger confusion matrix cannot be read
MOST_PAIRS = 20
MOST_LABELS = 40


@dataclass(frozen=True)
class Confusion:
    """Counts of true against predicted classes."""

    names: tuple[str, ...]
    counts: np.ndarray  # (K, K) int64: row true, column predicted

    @property
    def shares(self) -> np.ndarray:
        """(K, K): each count as a share of its true class; 0 where the class has no test example."""
        return self.counts / np.maximum(1, self.counts.sum(axis=1, keepdims=True))

    @property
    def n_wrong(self) -> int:
        """Wrong answers in all."""
        return int(self.counts.sum() - np.trace(self.counts))

    def pairs(self) -> list[Pair]:
        """The pairs of classes most often taken for each other in one direction, most frequent first."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
        rows, columns = np.unravel_index(order, wrong.shape)
        n = self.counts.sum(axis=1)
        return [
            Pair(self.names[i], self.names[j], int(wrong[i, j]), int(n[i]))
            for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
            if wrong[i, j]
        ]


class Pair(NamedTuple):
    """How often one class was taken for another."""

    truth: str
    predicted: str
    n: int  # mistaken examples
    of: int  # test examples of the true class


class Share(NamedTuple):
    """`n` of `of`, with its 95 % interval."""

    n: int
    of: int

    @property
    def fraction(self) -> float:
        """n / of; 0 when there are none."""
        return self.n / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson interval of the fraction."""
        return wilson(self.n, self.of)


class Label(NamedTuple):
    """One of several labels: how many of its examples were found, and how many of its mentions were right."""

    name: str
    found: Share
    right: Share


def confusion(task: LinearTask, test: TestResult) -> Confusion:
    """One label of several: what was taken for what."""
    names = task.score_names
    index = {name: i for i, name in enumerate(names)}
    predicted = np.array([index[name] for name in task.decode(test.scores)], dtype=np.int64)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (test.y.astype(np.int64), predicted), 1)
    return Confusion(names, counts)


def labels(task: LinearTask, test: TestResult) -> list[Label]:
    """Several labels an example: each label's two shares, the most frequent labels first."""
    truth = test.y.astype(bool)
    said = np.array([[name in chosen for name in task.score_names] for chosen in map(set, task.decode(test.scores))])
    hits, n_true, n_said = (truth & said).sum(axis=0), truth.sum(axis=0), said.sum(axis=0)
    order = np.argsort(-n_true, kind="stable")[:MOST_LABELS]
    return [
        Label(task.score_names[k], Share(int(hits[k]), int(n_true[k])), Share(int(hits[k]), int(n_said[k])))
        for k in order
    ]
