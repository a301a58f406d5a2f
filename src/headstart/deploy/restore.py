"""A model out of its run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart import __version__, registry
from headstart.backbones.base import Provenance
from headstart.backbones.changes import Changes
from headstart.deploy import artifact
from headstart.deploy.forecasts import Seer
from headstart.deploy.model import Model
from headstart.deploy.saved import BACKBONE, CLASSICAL, HEAD, TABLE
from headstart.engine.decoder import AdaptedDecoder
from headstart.engine.detector import Detector
from headstart.engine.recognizer import Recognizer
from headstart.engine.talker import Talker
from headstart.errors import RunError
from headstart.evidence.base import Evidence
from headstart.evidence.baselines import Classical
from headstart.evidence.plan import Plan
from headstart.evidence.sliding import Sliding
from headstart.hosted.voice import KIND, HostedTalker
from headstart.tables.mixture import TableModel
from headstart.tasks.base import LinearHead


def load(folder: str | Path, backbone: str | None = None) -> Model:
    """The model of a run folder, or of a run on the hub, named "org/name". RunError when the run is not whole.

    Its backbone is looked for on first use: under its name, or in the folder `backbone` when it has moved.
    """
    folder = artifact.find(folder)
    card = artifact.read_json(folder, artifact.CARD)
    if not isinstance(card, dict) or card.get("format") != artifact.FORMAT:
        raise RunError(
            f"{folder} has another format than the {artifact.FORMAT} that this version ({__version__}) reads. "
            "Install the version of headstart that wrote it, or fit again."
        )
    try:
        return _from_card(folder, card, backbone)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{folder} is damaged: {error!r} in {artifact.CARD}, plan.json or metrics.json. "
            "Copy the run anew, or fit again."
        ) from error


def _head(classical: Classical | None, arrays: Mapping[str, np.ndarray]) -> LinearHead | None:
    """The linear head of a run; None for a model that has none."""
    if classical is not None:
        return classical.head
    weight, bias = arrays.get(f"{HEAD}weight"), arrays.get(f"{HEAD}bias")
    return None if weight is None or bias is None else LinearHead(weight, bias)


def _recognizer(
    saved: Mapping[str, Any],
    head: Mapping[str, torch.Tensor],
    changes: Changes | None,
    arrays: Mapping[str, np.ndarray],
) -> Recognizer | AdaptedDecoder:
    """Of the kind that was saved."""
    if saved.get("kind") == "decoder":
        return AdaptedDecoder.restore(saved, head)
    return Recognizer.restore(saved, head, changes, arrays)


def _from_card(folder: Path, card: dict[str, Any], backbone: str | None) -> Model:
    stands_on, task = dict(card["backbone"] or {}), dict(card["task"])
    modality = registry.modality(card["modality"])
    arrays = artifact.read_weights(folder, card["weights_sha256"])
    changed = {name.removeprefix(BACKBONE): array for name, array in arrays.items() if name.startswith(BACKBONE)}
    classical = None
    if card["classical"] is not None:
        state = {n.removeprefix(CLASSICAL): array for n, array in arrays.items() if n.startswith(CLASSICAL)}
        about = card["classical"]
        classical = Classical.restore(
            modality, about["features"], about["title"], state, about["temperature"], about["val_loss"]
        )
    detector = recognizer = seer = talker = None
    head = {n.removeprefix(HEAD): torch.from_numpy(one) for n, one in arrays.items() if n.startswith(HEAD)}
    tensors = {name: torch.from_numpy(array) for name, array in changed.items()}
    changes = Changes(tensors) if tensors else None
    if card.get("recognizer") is not None:
        recognizer = _recognizer(card["recognizer"], head, changes, arrays)
        changes = None
    if card.get("seer") is not None:
        seer = Seer.restore(card["seer"], head, changes)
        changes = None
    if card.get("talker") is not None:
        hosted = card["talker"].get("kind") == KIND
        talker = HostedTalker.restore(card["talker"]) if hosted else Talker.restore(card["talker"], changes)
        changes = None
    if card.get("detector") is not None:
        detector = Detector.restore(card["detector"], head, changes)
        if card["detector"]["classical"]:
            state = {n.removeprefix(CLASSICAL): array for n, array in arrays.items() if n.startswith(CLASSICAL)}
            detector = replace(detector, classical=Sliding.restore(state))
        changes = None
    table = None
    if card.get("table") is not None:
        state = {n.removeprefix(TABLE): array for n, array in arrays.items() if n.startswith(TABLE)}
        table = TableModel.restore(card["table"], state)
    return Model(
        task=registry.TASKS.get(task.pop("name")).from_json(task),
        modality=modality,
        head=_head(classical, arrays),
        table=table,
        detector=detector,
        recognizer=recognizer,
        seer=seer,
        talker=talker,
        stages=tuple(card["stages"]),
        changes=changes,
        classical=classical,
        plan=Plan.from_json(artifact.read_json(folder, "plan.json")),
        fingerprint=stands_on.pop("fingerprint", ""),
        provenance=Provenance(**stands_on) if stands_on else None,
        evidence=Evidence.from_json(artifact.read_json(folder, "metrics.json")),
        columns=card["columns"],
        seen=artifact.read_seen(folder),
        files={p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name not in artifact.OWN},
        run=folder,
        moved_to=backbone,
    )
