"""The run folder on disk: complete or not there; data, never code.

headstart.json       what the model is: backbone (by name and sha256), task, modality, columns, sha256 of the head
model.safetensors    only what is new: the head, and what changed in the backbone; or the classical model
seen.safetensors     sha256 of the examples that it was fitted on, so that `evaluate` can leave them out
plan.json            what was decided, and why: cut, strength, temperature
metrics.json         scores with intervals, baselines, what the audit found, seconds
predictions.parquet  the test examples: truth, prediction, probabilities; or true boxes, and all that was found
history.parquet      the last steps of each series, where the run forecasts
examples.parquet     some of the train and val examples, to check exports on and to show which are alike
report.html          the same for people
README.md            a model card
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from headstart import places
from headstart.errors import RunError, did_you_mean

FORMAT = 2
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
RUNS = "runs"  # where `headstart fit` puts runs unless it is told otherwise
CARD, WEIGHTS, SEEN = "headstart.json", "model.safetensors", "seen.safetensors"
OWN = {CARD, WEIGHTS, SEEN, "plan.json"}  # what a Model writes of itself; the rest is carried along


def find(run: str | Path) -> Path:
    """The folder of a run: itself, or the hub's own copy where there is no such folder and it is named ORG/NAME."""
    folder = Path(run)
    if folder.exists() or not HUB_NAME.fullmatch(str(run)) or folder.parent.exists() or folder.parts[0] == RUNS:
        return folder
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(
            str(run),
            allow_patterns=["*.json", "*.safetensors", "*.md"],
            local_files_only=places.offline(),
            etag_timeout=5,
        )
    except Exception as error:  # network, HTTP and hub errors share no base class
        beside = [path.parent.name for path in Path().glob(f"*/{CARD}")]
        raise RunError(
            f"There is no folder {run}, and no run of that name on the hub can be reached ({type(error).__name__}). "
            f"Give a folder that `headstart fit` wrote.{did_you_mean(str(run), beside)}"
        ) from error
    return Path(found)


def check_writable(folder: Path) -> None:
    """RunError unless a new run can be put at `folder`; nothing there is touched."""
    if folder.resolve() == Path.cwd():
        raise RunError("A run cannot take the place of the current folder. Choose a new folder with --out.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is there already, and nothing was overwritten. Choose another --out, or remove it.")
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    probe = parent / f".headstart-{uuid.uuid4().hex}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"No run can be written to {folder}: {parent} is not writable ({error.strerror}). "
            "Choose another folder with --out."
        ) from error


def free_folder(parent: Path, name: str) -> Path:
    """parent/NAME, or the first of parent/NAME-2, parent/NAME-3 … that is not there."""
    candidates = (parent / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def write_run(folder: Path, files: Mapping[str, bytes]) -> None:
    """All files at once: they are written beside `folder`, and renamed into place."""
    check_writable(folder)
    making = folder.absolute().parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    try:
        making.mkdir(parents=True)
        for name, content in files.items():
            (making / name).parent.mkdir(exist_ok=True)
            (making / name).write_bytes(content)
        os.replace(making, folder)  # an empty folder may stand there
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise RunError(f"The run could not be written to {folder}: {error.strerror}. Choose another --out.") from error


def weight_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as the content of `model.safetensors`."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def seen_bytes(digests: Iterable[str]) -> bytes:
    """Digests as the content of `seen.safetensors`: 32 bytes each, sorted."""
    return save({"sha256": np.array([list(bytes.fromhex(d)) for d in sorted(digests)], dtype=np.uint8).reshape(-1, 32)})


def read_seen(folder: Path) -> frozenset[str]:
    """Digests of the examples that a run was fitted on; RunError when the file is missing or damaged."""
    try:
        return frozenset(row.tobytes().hex() for row in load_file(folder / SEEN)["sha256"])
    except (OSError, KeyError, SafetensorError) as error:
        raise RunError(f"{folder / SEEN} is missing or damaged ({error}). Copy the run anew, or fit again.") from error


def read_weights(folder: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of a run; RunError when the file is missing or damaged."""
    try:
        if hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() != sha256:
            raise KeyError("its sha256 is not the one in headstart.json")
        return load_file(folder / WEIGHTS)
    except (OSError, KeyError, SafetensorError) as error:
        raise RunError(
            f"{folder / WEIGHTS} is missing or damaged ({error}). Fit the model again, or copy the run anew."
        ) from error


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run; RunError when the run or the file is missing or damaged."""
    if folder.suffix.lower() == ".zip" and folder.is_file():
        raise RunError(f"{folder} is packed. Unpack it, and give the folder that comes out.")
    if not folder.is_dir():
        near = sorted(p.parent.name for p in folder.absolute().parent.glob(f"*/{CARD}"))
        raise RunError(
            f"There is no run at {folder}. A run is a folder that `headstart fit` wrote"
            + (f"; beside it are: {', '.join(near)}." if near else "; make one with `headstart fit DATA`.")
        )
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} is not a complete run: {name} is missing or damaged ({error}). "
            "Give the folder that `headstart fit` wrote."
        ) from error


def to_bytes(value: Any) -> bytes:
    """JSON for people: indented, UTF-8."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_line(value: Any) -> str:
    """JSON on a line of its own."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
