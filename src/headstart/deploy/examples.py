"""Some of a run's own examples, kept beside the model: to check exports on, and to show which ones are alike.

`examples.parquet` holds a draw from train and val. Texts are kept whole and pictures by their path (in a bundle, and
where they had none, as encoded bytes), each with its label and its embedding: the pooled last stage of the pretrained
network, centred. Where boxes are learnt, nothing is pooled: embeddings have no width, and no example is like another.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.errors import RunError
from headstart.modalities.base import Modality
from headstart.problem import Problem, some_of_each

FILE = "examples.parquet"
MOST = {"train": 1000, "val": 256}
MOST_BYTES = 32 << 20  # of pictures that have no file of their own


@dataclass(frozen=True)
class Neighbour:
    """A training example that is like what was asked about."""

    item: Any  # stored
    label: Any
    similarity: float  # cosine of the centred embeddings, -1 to 1


@dataclass(frozen=True, kw_only=True)
class Examples:
    """N examples of one run."""

    splits: list[str]
    items: list[Any]  # as the modality stores them
    labels: list[Any]
    embeddings: np.ndarray  # (N, D) float32

    @classmethod
    def from_bytes(cls, content: bytes) -> Examples:
        """The inverse of `to_bytes`. RunError when the file is damaged."""
        try:
            table = pq.read_table(io.BytesIO(content))
            found = {name: table.column(name).to_pylist() for name in ("split", "item", "label", "embedding")}
        except (pa.ArrowException, KeyError) as error:
            raise RunError(f"The run's {FILE} is damaged ({error}). Copy the run anew, or fit again.") from error
        rows = [np.frombuffer(row, dtype=np.float16) for row in found["embedding"]]
        embeddings = np.stack(rows).astype(np.float32) if rows else np.empty((0, 0), dtype=np.float32)
        return cls(splits=found["split"], items=found["item"], labels=found["label"], embeddings=embeddings)

    def to_bytes(self) -> bytes:
        """The content of `examples.parquet`."""
        packed = [row.astype(np.float16).tobytes() for row in self.embeddings]
        table = pa.table({"split": self.splits, "item": self.items, "label": self.labels, "embedding": packed})
        file = io.BytesIO()
        pq.write_table(table, file)
        return file.getvalue()

    def of(self, split: str) -> Examples:
        """Those of one split."""
        return self.take([i for i, name in enumerate(self.splits) if name == split])

    def take(self, rows: Sequence[int]) -> Examples:
        """The examples at these positions."""
        return Examples(
            splits=[self.splits[i] for i in rows],
            items=[self.items[i] for i in rows],
            labels=[self.labels[i] for i in rows],
            embeddings=self.embeddings[list(rows)],
        )

    def shrunk(self, modality: Modality) -> Examples:
        """The same with every picture as a small JPEG of its own, for a machine that lacks the files."""
        return replace(self, items=[modality.small(item) for item in self.items])

    def nearest(self, embedding: np.ndarray, most: int = 5) -> list[Neighbour]:
        """The examples whose embeddings are most like `embedding` (D,), an uncentred pooled last stage; best first."""
        if not self.embeddings.size:
            return []
        directions, centre = self._directions
        likeness = directions @ _unit(embedding - centre)
        best = np.argsort(-likeness, kind="stable")[:most]
        return [Neighbour(self.items[i], self.labels[i], float(likeness[i])) for i in best]

    @cached_property
    def _directions(self) -> tuple[np.ndarray, np.ndarray]:
        centre = self.embeddings.mean(0)
        return _unit(self.embeddings - centre), centre


@lru_cache(maxsize=16)
def read(content: bytes) -> Examples:
    """Those in the content of `examples.parquet`, parsed once for all who ask."""
    return Examples.from_bytes(content)


def draw(problem: Problem, embed: Callable[[np.ndarray], np.ndarray], seed: int) -> Examples:
    """A seeded draw from train and val, every class with its share; `embed` gives the last stage (n, D) of rows."""
    splits: list[str] = []
    rows: list[int] = []
    for split, most in MOST.items():
        own = problem.rows[split] if not (split == "val" and problem.crosswise) else problem.rows[split][:0]
        chosen = own[some_of_each(problem.y[own], most, seed)] if len(own) > most else own
        rows += chosen.tolist()
        splits += [split] * len(chosen)
    rows, splits = _within(problem.dataset.inputs, rows, splits)
    dataset = problem.dataset.select(np.array(rows, dtype=np.int64))
    return Examples(
        splits=splits, items=dataset.inputs, labels=dataset.column("label"), embeddings=embed(np.array(rows, int))
    )


def _within(items: Sequence[Any], rows: list[int], splits: list[str]) -> tuple[list[int], list[str]]:
    """Every n-th of the rows, so that pictures without a file of their own stay within bounds."""
    size = sum(len(items[row].get("bytes") or b"") for row in rows if isinstance(items[row], dict))
    step = -(-size // MOST_BYTES) or 1
    return rows[::step], splits[::step]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (…, D) of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
