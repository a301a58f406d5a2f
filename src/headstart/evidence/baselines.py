"""The comparison that keeps a model honest: a classical model of the same data, as strong as validation makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.evidence.calibration import fit_temperature
from headstart.modalities.base import Modality
from headstart.strategies.base import Part
from headstart.strategies.probe import Probe
from headstart.tasks.base import LinearHead, Task


@dataclass(frozen=True)
class Classical:
    """A fitted classical model: its features, then a linear head, both chosen on validation."""

    title: str  # "TF-IDF of words + logistic regression"
    transformer: Any  # fitted scikit-learn transformer
    head: LinearHead
    temperature: float
    val_loss: float

    def scores(self, task: Task, items: Sequence[Any]) -> np.ndarray:
        """Calibrated scores (N, K) of opened items."""
        return task.scores(self.head.logits(self.transformer.transform(items)), self.temperature)


def fit_classical(modality: Modality, task: Task, train: Part, val: Part, seed: int) -> Classical:
    """The best on validation of the modality's classical features; `Part.features` holds the opened items."""
    fitted = []
    for name, transformer in modality.classical_features():
        fitted.append(_fit_one(f"{name} + {task.solver_title}", transformer, task, train, val, seed))
    return min(fitted, key=lambda model: model.val_loss)


def _fit_one(title: str, transformer: Any, task: Task, train: Part, val: Part, seed: int) -> Classical:
    train_features, val_features = transformer.fit_transform(train.features), transformer.transform(val.features)
    adapted = Probe().adapt(task, Part(train_features, train.y), Part(val_features, val.y), seed)
    temperature = fit_temperature(task, adapted.head.logits(val_features), val.y)
    return Classical(title, transformer, adapted.head, temperature, adapted.val_loss)
