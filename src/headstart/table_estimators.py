"""Learn a table with another's help as scikit-learn estimators: `fit(X, y, X_source=…, y_source=…)`.

The same ways, weighed the same way, as `headstart.fit(table, source=…)`, without the run folder and its evidence.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from headstart import registry
from headstart.errors import DataError
from headstart.modalities.tabular import Row, plain
from headstart.strategies.base import Part
from headstart.tables.base import Domains
from headstart.tables.encoder import learn_encoder
from headstart.tables.mixture import TableModel
from headstart.tables.planner import begin, plan, ship
from headstart.tasks.base import LinearTask


class _TableTransfer(BaseEstimator):
    """What both estimators share. X is an array or a data frame (N, D) of numbers, words and gaps."""

    def __init__(self, strategy: str | None = None, *, repeats: int | None = None, seed: int = 0) -> None:
        self.strategy = strategy
        self.repeats = repeats
        self.seed = seed

    def _fit(self, X: Any, labels: Any, X_source: Any, source_labels: Any, task: LinearTask) -> Self:
        """Labels are as the task encodes them; none of the target's is None."""
        self.task_ = task
        rows = self._rows(X, reset=True)
        source = None if X_source is None else self._rows(X_source, reset=False)
        encoder = learn_encoder(rows, source)
        encoded = encoder.encode(rows)
        part = None if source is None else Part(encoder.encode(source), _as_long(source_labels, source))
        target = Part(encoded[:0], np.asarray(source_labels)[:0]) if labels is None else Part(encoded, labels)
        domains = Domains(task=task, target=encoded, source=part, seed=self.seed)
        planned = plan(
            domains, begin(domains, None if self.strategy is None else [self.strategy]), target, self.repeats
        )
        self.weights_ = {name: planned.of(name) for name in planned.names}
        self.model_ = TableModel(encoder, ship(domains, planned, target))
        return self

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "model_")
        return self.model_.scores(self.task_, self._rows(X, reset=False))

    def _rows(self, X: Any, reset: bool) -> list[Row]:
        """Rows by column; columns are called as in the data frame, or x0, x1, … ."""
        cells = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False)
        if cells.dtype.kind not in "OUS":
            check_array(cells, ensure_all_finite="allow-nan")
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(cells.shape[1])])
        return [
            {str(name): value for name, cell in zip(names, row, strict=True) if (value := plain(cell)) is not None}
            for row in cells
        ]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


class TableTransferClassifier(ClassifierMixin, _TableTransfer):
    """Classes of rows. Fitted: `classes_` (K,) of both sides, `weights_` of the ways that have a say."""

    def fit(self, X: Any, y: Any = None, X_source: Any = None, y_source: Any = None) -> Self:
        """Learn from N labelled rows, or from a labelled source and N rows without labels (y is None).

        DataError when there is one class only, or neither side has labels.
        """
        sides = [_known(labels) for labels in (y, y_source) if labels is not None]
        if not sides:
            raise DataError("There are no labels: give y, or X_source and y_source, or both.")
        self.classes_, codes = np.unique(np.concatenate(sides), return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"There is one class only ({self.classes_[0]!r}). Give labels of at least two.")
        task = registry.TASKS.get("classification").from_labels([str(code) for code in codes])
        own = None if y is None else codes[: len(sides[0])]
        return self._fit(X, own, X_source, None if y_source is None else codes[-len(sides[-1]) :], task)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, K), columns in the order of `classes_`."""
        return self._scores(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class (N,) of each row."""
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]


class TableTransferRegressor(RegressorMixin, _TableTransfer):
    """Numbers of rows. Fitted: `weights_` of the ways that have a say."""

    def fit(self, X: Any, y: Any = None, X_source: Any = None, y_source: Any = None) -> Self:
        """Learn from N labelled rows, or from a labelled source and N rows without labels (y is None)."""
        sides = [_known(labels).astype(np.float64) for labels in (y, y_source) if labels is not None]
        if not sides:
            raise DataError("There are no labels: give y, or X_source and y_source, or both.")
        task = registry.TASKS.get("regression").from_labels(np.concatenate(sides).tolist())
        return self._fit(X, None if y is None else sides[0], X_source, None if y_source is None else sides[-1], task)

    def predict(self, X: Any) -> np.ndarray:
        """A number (N,) for each row."""
        return self._scores(X)[:, 0]


def _known(labels: Any) -> np.ndarray:
    """(N,) labels, none of them missing."""
    return column_or_1d(check_array(labels, ensure_2d=False, dtype=None), warn=True)


def _as_long(labels: Any, rows: list[Row]) -> np.ndarray:
    if labels is None or len(labels) != len(rows):
        n = 0 if labels is None else len(labels)
        raise DataError(f"The source has {len(rows):,} rows but {n:,} labels. Give y_source one label a row.")
    return np.asarray(labels)
