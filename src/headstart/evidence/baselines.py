"""The comparison that keeps a model honest: a classical model of the same data, as strong as validation makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.evidence.calibration import fit_temperature
from headstart.modalities.base import ClassicalFeatures, Modality
from headstart.strategies.base import Part
from headstart.strategies.probe import Probe
from headstart.tasks.base import LinearHead, LinearTask

FEATURES = "features."  # before the names of the features' own arrays


@dataclass(frozen=True)
class Classical:
    """A fitted classical model: its features, then a linear head, both chosen on validation."""

    title: str  # "TF-IDF of words + logistic regression"
    features: ClassicalFeatures  # fitted
    head: LinearHead
    temperature: float
    val_loss: float
    val_scores: np.ndarray | None = None  # (n_val, K) calibrated; not kept with the model

    def scores(self, task: LinearTask, items: Sequence[Any]) -> np.ndarray:
        """Calibrated scores (N, K) of opened items."""
        return task.scores(self.head.logits(self.features.transform(items)), self.temperature)

    def state(self) -> dict[str, np.ndarray]:
        """Every array of it, by name, as safetensors can hold them; with the fields that are no arrays, all of it."""
        learnt = {f"{FEATURES}{name}": array for name, array in self.features.state().items()}
        return {**learnt, "head.weight": self.head.weight, "head.bias": self.head.bias}

    @classmethod
    def restore(
        cls,
        modality: Modality,
        features_title: str,
        title: str,
        tensors: Mapping[str, np.ndarray],
        temperature: float,
        val_loss: float,
    ) -> Classical:
        """The inverse of `state`. RegistryError when the modality has no features of that title."""
        features = modality.classical(features_title)
        features.restore({n.removeprefix(FEATURES): array for n, array in tensors.items() if n.startswith(FEATURES)})
        head = LinearHead(tensors["head.weight"], tensors["head.bias"])
        return cls(title, features, head, temperature, val_loss)


def fit_classical(modality: Modality, task: LinearTask, train: Part, val: Part, seed: int) -> Classical:
    """The best on validation of the modality's classical features; `Part.features` holds the opened items.

    Where train and val are the same part, labels are few, and validation is cross-validation.
    """
    fitted = []
    for features in modality.classical_features():
        fitted.append(_fit_one(features, task, train, val, seed))
    return min(fitted, key=lambda model: model.val_loss)


def _fit_one(features: ClassicalFeatures, task: LinearTask, train: Part, val: Part, seed: int) -> Classical:
    train_features, val_features = features.fit_transform(train.features), features.transform(val.features)
    if train is val:
        adapted, logits = Probe().cross_adapt(task, Part(train_features, train.y, groups=train.groups), seed)
    else:
        adapted = Probe().adapt(task, Part(train_features, train.y), Part(val_features, val.y), seed)
        logits = adapted.head.logits(val_features)
    temperature = fit_temperature(task, logits, val.y)
    title = f"{features.title} + {task.solver_title}"
    val_scores = task.scores(logits, temperature)
    return Classical(title, features, adapted.head, temperature, adapted.val_loss, val_scores)
