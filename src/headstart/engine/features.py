"""Features: outputs of the frozen stages, kept on disk, one row for each distinct item.

A store belongs to one backbone fingerprint (weights, preprocessing, stages, way) and is addressed by content: a row
is found by the sha256 of its item, so new splits, labels, or a few more files run the backbone only over what is new.

    features/<fingerprint>/shard-<random>/          pooled, every stage
        digests.npy    (n,) ascii sha256 of each item
        stage_00.npy   (n, D_0) float32 … one file per stage
        seal.json      sha256 of every file above
    features/<fingerprint>/cut-03/shard-<random>/   whole activations at a cut, unpadded
        digests.npy
        values.npy     (sum of sizes,) float32, or the bits of bfloat16 as uint16, item after item
        shapes.npy     (n, axes) int64 of each item
        seal.json

A shard is written in a temporary folder, sealed last and renamed into place: it is whole or not there. A file whose
sha256 is not the sealed one is never read: its shard is thrown away, and its items are computed again.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headstart.backbones.fetch import sha256_of
from headstart.errors import RunError

SEAL = "seal.json"
A_DAY_S = 24 * 3600.0
BITS = np.dtype(np.uint16)  # NumPy has no bfloat16: its bits are kept instead


@dataclass(frozen=True)
class Shard:
    """Features of some items at every stage, memory-mapped."""

    folder: Path

    @cached_property
    def digests(self) -> np.ndarray:
        """(n,) ascii digests, in row order."""
        return np.load(self.folder / "digests.npy")

    def stage(self, index: int) -> np.ndarray:
        """(n, D) float32, memory-mapped."""
        return np.load(self.folder / f"stage_{index:02d}.npy", mmap_mode="r")

    def activation(self, row: int) -> np.ndarray:
        """One item's whole activation, memory-mapped: float32, or the bits of bfloat16 as uint16."""
        values, shapes, ends = self._activations
        return values[ends[row] - np.prod(shapes[row]) : ends[row]].reshape(shapes[row])

    @cached_property
    def _activations(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shapes = np.load(self.folder / "shapes.npy")
        return np.load(self.folder / "values.npy", mmap_mode="r"), shapes, shapes.prod(axis=1).cumsum()

    def is_whole(self) -> bool:
        """Whether every file is there and has the sealed sha256."""
        try:
            sealed = json.loads((self.folder / SEAL).read_text())
            return bool(sealed) and all(sha256_of(self.folder / name) == sha for name, sha in sealed.items())
        except (OSError, ValueError, AttributeError):
            return False


@dataclass(frozen=True)
class Features:
    """Pooled features of N items at every frozen stage."""

    shards: Sequence[Shard]
    shard_of: np.ndarray  # (N,) which shard holds the item
    row_of: np.ndarray  # (N,) its row there

    def stage(self, index: int, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32: stage `index` (from 0 at the input) of the items at `rows`."""
        shard_of, row_of = self.shard_of[rows], self.row_of[rows]
        out = np.empty((len(rows), self.shards[0].stage(index).shape[1]), dtype=np.float32)
        for number in np.unique(shard_of):
            here = shard_of == number
            out[here] = self.shards[number].stage(index)[row_of[here]]
        return out


@dataclass(frozen=True)
class Activations:
    """Whole outputs of the stage below a cut, of N items: what is above goes on from there."""

    shards: Sequence[Shard]
    shard_of: np.ndarray  # (N,)
    row_of: np.ndarray  # (N,)

    def rows(self, rows: Sequence[int] | np.ndarray) -> list[Tensor]:
        """The activation of each of these items, float32: (T, D) for a text, (C, H, W) for a picture."""
        kept = (np.array(self.shards[self.shard_of[row]].activation(int(self.row_of[row]))) for row in rows)
        return [from_array(array) for array in kept]


@dataclass
class FeatureStore:
    """The sealed shards of one backbone; `folder` is made when the first one is added."""

    folder: Path
    thrown_away: int = 0  # damaged shards met so far
    _shards: list[Shard] = field(default_factory=list, repr=False)
    _checked: set[Path] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self._shards = [Shard(folder) for folder in sorted(self.folder.glob("shard-*"))]
        for unfinished in self.folder.glob("making-*"):  # of a pass that was killed
            with suppress(FileNotFoundError):  # another process has just finished it
                if time.time() - unfinished.stat().st_mtime > A_DAY_S:
                    shutil.rmtree(unfinished, ignore_errors=True)

    def find(self, digests: Sequence[str]) -> tuple[Features, list[int]]:
        """Features of the items, and the positions of those that must be computed first (then call again)."""
        index = self._index(set(digests))
        missing = [i for i, digest in enumerate(digests) if digest not in index]
        at = np.array([index.get(digest, (-1, -1)) for digest in digests], dtype=np.int64).reshape(-1, 2)
        return Features(tuple(self._shards), at[:, 0], at[:, 1]), missing

    def add(self, digests: Sequence[str], stages: Sequence[np.ndarray]) -> None:
        """Keep the features (n, D_s) of n items at every stage, as one sealed shard."""
        named = {f"stage_{i:02d}.npy": np.asarray(stage, dtype=np.float32) for i, stage in enumerate(stages)}
        self._keep(digests, named)

    def add_activations(self, digests: Sequence[str], activations: Sequence[np.ndarray]) -> None:
        """Keep the whole activation of each of n items, all with as many axes and of one type, as one sealed shard."""
        values = np.concatenate([one.ravel() for one in activations])
        shapes = np.array([one.shape for one in activations], dtype=np.int64)
        self._keep(digests, {"values.npy": values, "shapes.npy": shapes})

    def _keep(self, digests: Sequence[str], arrays: dict[str, np.ndarray]) -> None:
        name = uuid.uuid4().hex
        making, done = self.folder / f"making-{name}", self.folder / f"shard-{name}"
        files = {"digests.npy": np.array(digests, dtype="S64"), **arrays}
        try:
            making.mkdir(parents=True)
            for file, array in files.items():
                np.save(making / file, array)
            seal = {file: sha256_of(making / file) for file in files}
            (making / SEAL).write_text(json.dumps(seal))
            making.rename(done)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            raise self._unwritable(error) from error
        self._shards.append(Shard(done))
        self._checked.add(done)

    def check_writable(self) -> None:
        """RunError when nothing can be kept here: to be asked before a long pass, not after it."""
        probe = self.folder / f"making-{uuid.uuid4().hex}"
        try:
            probe.mkdir(parents=True)
            probe.rmdir()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(
            f"Features cannot be kept in {self.folder}: {error.strerror or error}. "
            "Set HEADSTART_HOME to a folder that can be written to and has room."
        )

    def _index(self, wanted: set[str]) -> dict[str, tuple[int, int]]:
        """Wanted digest -> (shard, row), from shards that are proved whole; damaged ones leave the disk."""
        index: dict[str, tuple[int, int]] = {}
        whole: list[Shard] = []
        for shard in self._shards:
            rows = self._wanted_rows(shard, wanted - index.keys())
            if rows is None:
                shutil.rmtree(shard.folder, ignore_errors=True)
                self.thrown_away += 1
                continue
            index |= {digest: (len(whole), row) for digest, row in rows.items()}
            whole.append(shard)
        self._shards = whole
        return index

    def _wanted_rows(self, shard: Shard, wanted: set[str]) -> dict[str, int] | None:
        """Wanted digest -> row in this shard; None when the shard is damaged. Only shards in use are proved, once."""
        try:
            digests = shard.digests.astype(str).tolist()
        except (OSError, ValueError, EOFError):
            return None
        rows = {digest: row for row, digest in enumerate(digests) if digest in wanted}
        if rows and shard.folder not in self._checked:
            if not shard.is_whole():
                return None
            self._checked.add(shard.folder)
        return rows


def array_of(tensor: Tensor) -> np.ndarray:
    """A tensor as it is kept: float32, or the bits of bfloat16 as uint16."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy(force=True)


def from_array(array: np.ndarray) -> Tensor:
    """The inverse, in float32."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16).float() if array.dtype == BITS else tensor
