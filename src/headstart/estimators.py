"""The same as scikit-learn estimators, for pipelines, `clone`, `cross_val_score` and grid search.

Features are cached by content, so that the folds of a cross-validation run the backbone once over each example.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from headstart import registry
from headstart.backbones.base import Backbone
from headstart.data.read import Reading, read
from headstart.data.split import split_train_val
from headstart.engine.freeze import features as run_frozen
from headstart.engine.freeze import side_by_side
from headstart.errors import DataError
from headstart.evidence.planner import Solved
from headstart.problem import Problem
from headstart.progress import Progress
from headstart.strategies.probe import Probe
from headstart.wishes import Wishes
from headstart.workshop import load_backbone, open_workshop


class _Transfer(BaseEstimator):
    """What both estimators share. X is a sequence of N texts, file names, PIL images or arrays."""

    _task = ""

    def __init__(self, backbone: str | None = None, *, freeze: int | None = None, seed: int = 0) -> None:
        self.backbone = backbone
        self.freeze = freeze
        self.seed = seed

    def _fit(self, X: Any, labels: list[Any]) -> None:
        """Solve the head on four fifths of the data; the rest chooses its regularisation and calibrates it."""
        dataset = read(list(X), labels, reading=Reading(task=self._task))
        self.modality_ = registry.modality(dataset.modality)
        digests = self._digests(dataset.inputs)
        dataset = split_train_val(dataset, self.seed)
        self.task_ = registry.TASKS.get(self._task).from_labels(dataset.column("label"))
        network = load_backbone(self.backbone, self.modality_, Progress())
        problem = Problem(
            dataset=dataset,
            digests=digests,
            findings=(),
            modality=self.modality_,
            task=self.task_,
            y=self.task_.encode(dataset.column("label")),
            rows={name: dataset.rows(name) for name in ("train", "val")},
        )
        shop = open_workshop(problem, network, self.task_.metrics(), Wishes(), self.seed, Progress())
        self.network_: Backbone = shop.runner
        self.solved_: Solved = shop.solve(Probe(freeze=self.freeze))

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "solved_")
        items = [self.modality_.store(item, None) for item in X]
        frozen = run_frozen(self.network_, self.modality_, items, self._digests(items), Progress())
        logits = self.solved_.adapted.head.logits(side_by_side(frozen, self.solved_.stages, np.arange(len(items))))
        return self.task_.scores(logits, self.solved_.temperature)

    def _digests(self, items: list[Any]) -> list[str]:
        examined = [self.modality_.examine(item) for item in items]
        for number, one in enumerate(examined):
            if one.problem is not None:
                raise DataError(f"Item number {number} cannot be read: {one.problem}. Leave it out, or mend it.")
        return [one.digest for one in examined]


class TransferClassifier(ClassifierMixin, _Transfer):
    """A linear probe on a pretrained backbone. Fitted: `classes_` (K,) in sorted order, as scikit-learn has them."""

    _task = "classification"

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to N items and their N labels. DataError when an item cannot be read or there is one class only."""
        self.classes_, indices = np.unique(np.asarray(y), return_inverse=True)
        self._fit(X, [str(index) for index in indices])
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Calibrated probabilities (N, K), columns in the order of `classes_`."""
        return self._scores(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class (N,) of each item."""
        return self.classes_[self._scores(X).argmax(axis=1)]


class TransferRegressor(RegressorMixin, _Transfer):
    """Ridge regression on the features of a pretrained backbone."""

    _task = "regression"

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to N items and their N numbers. DataError when an item cannot be read."""
        self._fit(X, [float(number) for number in y])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """A number (N,) for each item."""
        return self._scores(X)[:, 0]
