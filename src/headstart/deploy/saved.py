"""What a model writes of itself into its run folder: the card and the arrays. `restore` reads them again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import __version__, registry
from headstart.backbones.changes import Changes
from headstart.deploy import artifact

if TYPE_CHECKING:
    from headstart.deploy.model import Model

# what the arrays of model.safetensors belong to
BACKBONE, CLASSICAL, TABLE, HEAD = "backbone.", "classical.", "table.", "head."


def own_files(model: Model) -> dict[str, bytes]:
    """File name -> content of what is the model's own; the run folder's other files come with it."""
    weights = artifact.weight_bytes(arrays(model))
    return {
        artifact.CARD: artifact.to_bytes(card(model, hashlib.sha256(weights).hexdigest())),
        artifact.WEIGHTS: weights,
        artifact.SEEN: artifact.seen_bytes(model.seen),
        "plan.json": artifact.to_bytes(model.plan.to_json()),
    }


def card(model: Model, weights_sha256: str) -> dict[str, Any]:
    """What the model is, as plain JSON values."""
    own = {
        "table": model.table,
        "detector": model.detector,
        "recognizer": model.recognizer,
        "seer": model.seer,
        "talker": model.talker,
    }
    return {
        "format": artifact.FORMAT,
        "headstart": __version__,
        "task": {"name": registry.plugin_name(model.task), **model.task.to_json()},
        "modality": registry.plugin_name(model.modality),
        "columns": model.columns,
        "backbone": {**vars(model.provenance), "fingerprint": model.fingerprint} if model.provenance else None,
        "stages": list(model.stages),
        "classical": _classical_card(model),
        **{name: one.to_json() for name, one in own.items() if one},
        "weights_sha256": weights_sha256,
    }


def arrays(model: Model) -> dict[str, np.ndarray]:
    """What is new, by name: the classical or the table's model, or the head and the changes of the backbone."""
    if model.table is not None:
        return {f"{TABLE}{name}": array for name, array in model.table.state().items()}
    if model.detector is not None and model.detector.classical is not None:
        return {f"{CLASSICAL}{name}": array for name, array in model.detector.classical.state().items()}
    if model.talker is not None:
        return _changed(model.talker.changes)
    own = model.detector or model.recognizer or model.seer
    if own is not None:
        head = {f"{HEAD}{name}": tensor.numpy() for name, tensor in own.head.items()}
        more = model.recognizer.arrays() if model.recognizer else {}
        return head | more | _changed(own.changes)
    if model.classical is not None:
        return {f"{CLASSICAL}{name}": array for name, array in model.classical.state().items()}
    head = {f"{HEAD}weight": model.linear.weight, f"{HEAD}bias": model.linear.bias}
    return head | _changed(model.changes)


def _changed(changes: Changes | None) -> dict[str, np.ndarray]:
    return {} if changes is None else {f"{BACKBONE}{name}": one.numpy() for name, one in changes.tensors.items()}


def _classical_card(model: Model) -> dict[str, Any] | None:
    if model.classical is None:
        return None
    one = model.classical
    return {
        "title": one.title,
        "features": one.features.title,
        "temperature": one.temperature,
        "val_loss": one.val_loss,
    }
