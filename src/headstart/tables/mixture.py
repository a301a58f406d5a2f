"""What ships: one model, or a weighted mean of several, each on the target's scale; arrays and JSON, no pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.errors import DataError, listed
from headstart.modalities.tabular import Row
from headstart.tables.base import Learnt
from headstart.tables.calibration import Calibration
from headstart.tables.encoder import Encoder
from headstart.tables.trees import Trees
from headstart.tasks.base import LinearHead, LinearTask


@dataclass(frozen=True)
class Part:
    """One model in the mean."""

    way: str  # the plug-in's name
    settings: dict[str, Any]
    weight: float
    learnt: Learnt
    calibration: Calibration

    def scores(self, task: LinearTask, X: np.ndarray) -> np.ndarray:
        """(N, K) probabilities, or the numbers (N, 1)."""
        return task.scores(self.calibration.apply(self.learnt.logits(X)))


@dataclass(frozen=True)
class Mixture:
    """M models whose probabilities, or numbers, are averaged by their weights."""

    parts: tuple[Part, ...]

    def scores(self, task: LinearTask, X: np.ndarray) -> np.ndarray:
        """(N, K) of encoded rows (N, D)."""
        return np.asarray(sum(part.weight * part.scores(task, X) for part in self.parts))


@dataclass(frozen=True)
class TableModel:
    """How rows become numbers, and what predicts from them: all that a run on tables holds."""

    encoder: Encoder
    mixture: Mixture

    def scores(self, task: LinearTask, rows: Sequence[Row]) -> np.ndarray:
        """(N, K) of rows as the modality opens them. DataError where they have none of the columns learnt from."""
        names = [column.name for column in self.encoder.columns]
        if rows and not any(name in row for row in rows for name in names):
            raise DataError(
                f"The rows have none of the columns that the model learnt from ({listed(names)}), but "
                f"{listed(dict.fromkeys(name for row in rows for name in row))}. Give a table with these columns."
            )
        return self.mixture.scores(task, self.encoder.encode(rows))

    def state(self) -> dict[str, np.ndarray]:
        """Every array of it, by name."""
        return {
            f"{i}.{name}": array
            for i, part in enumerate(self.mixture.parts)
            for name, array in {**_arrays(part.learnt), "shift": part.calibration.shift}.items()
        }

    def to_json(self) -> dict[str, Any]:
        """All of it that is no array."""
        parts = [
            {"way": one.way, "settings": one.settings, "weight": one.weight, "slope": one.calibration.slope}
            for one in self.mixture.parts
        ]
        return {**self.encoder.to_json(), "parts": parts}

    @classmethod
    def restore(cls, saved: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> TableModel:
        """The inverse of `to_json` and `state` together."""
        parts = []
        for i, one in enumerate(saved["parts"]):
            own = {name.removeprefix(f"{i}."): a for name, a in state.items() if name.startswith(f"{i}.")}
            calibration = Calibration(one["slope"], own["shift"])
            parts.append(Part(one["way"], one["settings"], one["weight"], _restored(own), calibration))
        return cls(Encoder.from_json(saved), Mixture(tuple(parts)))


def _arrays(learnt: Learnt) -> dict[str, np.ndarray]:
    if isinstance(learnt, Trees):
        return learnt.state()
    assert isinstance(learnt, LinearHead), "ways learn linear models or trees"
    return {"linear": learnt.weight, "bias": learnt.bias}


def _restored(state: Mapping[str, np.ndarray]) -> Learnt:
    return LinearHead(state["linear"], state["bias"]) if "linear" in state else Trees.restore(state)
