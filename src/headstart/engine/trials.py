"""Trials that were run, kept until the fit that they belong to is done: one that was killed does not run them again.

    trials/<key>.safetensors   head, logits on validation, and what changed in the backbone
    trials/<key>.json          losses, seconds, and a sha256 of these and of that file; written last
    trials/<key>.ckpt          of a training that is under way

The key covers all that decides the outcome: backbone, strategy, examples, labels, seed, arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from headstart import __version__, registry
from headstart.backbones.changes import Changes
from headstart.backbones.fetch import sha256_of
from headstart.engine.dialogues import Dialogues
from headstart.engine.histories import DRAWN, PIECE, SCALED_AWAY, Histories
from headstart.engine.lesson import Learnt, Lesson, precision
from headstart.engine.scenes import Scenes
from headstart.engine.utterances import Utterances
from headstart.strategies.base import Adapted, Trained
from headstart.tasks.base import LinearHead
from headstart.tasks.pyramid import Levels

CHANGE, SOURCE_CHANGE, HEAD = "change.", "source-change.", "head."


def key_of(strategy: Trained, lesson: Lesson, digests: Sequence[str]) -> str:
    """sha256 (hex) of all that decides what training gives; `digests` are those of the lesson's items."""
    decides = {
        "backbone": lesson.backbone.fingerprint,
        "strategy": [registry.plugin_name(strategy), strategy.settings()],
        "task": [registry.plugin_name(lesson.task), lesson.task.to_json()],
        "seed": lesson.seed,
        "versions": [__version__, torch.__version__],
        "precision": str(precision(lesson.backbone)),
        "cached": bool(lesson.views),
    }
    sha = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for rows in (lesson.train, lesson.val):
        sha.update("\n".join(digests[row] for row in rows).encode())
        sha.update(np.ascontiguousarray(lesson.y[rows]).tobytes())
    if lesson.target is not None:
        sha.update("\n".join(["target", *(digests[row] for row in lesson.target)]).encode())
    if lesson.head is not None:
        sha.update(lesson.head.weight.tobytes() + lesson.head.bias.tobytes())
    return sha.hexdigest()


def detector_key(strategy: Trained, scenes: Scenes, class_names: Sequence[str], levels: Levels | None) -> str:
    """The same for a detector."""
    decides = {
        "backbone": scenes.backbone.fingerprint,
        "strategy": [registry.plugin_name(strategy), strategy.settings()],
        "boxes": [list(class_names), levels.to_json() if levels else None],
        "looks": [list(scenes.looks.stages), scenes.looks.upside_down],
        "seed": scenes.seed,
        "versions": [__version__, torch.__version__],
        "cached": len(scenes.views),
    }
    sha = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for name, one in sorted((scenes.head or {}).items()):
        sha.update(name.encode() + one.float().numpy().tobytes())
    for row in scenes.train:
        own = scenes.y[row]
        sha.update(scenes.digests[row].encode() + own.boxes.tobytes() + own.classes.tobytes() + own.ignored.tobytes())
    return sha.hexdigest()


def recognizer_key(strategy: Trained, utterances: Utterances, texts: Sequence[Any]) -> str:
    """The same for a recogniser; `texts` is what it writes in and how, as plain JSON values."""
    decides = {
        "backbone": utterances.backbone.fingerprint,
        "strategy": [registry.plugin_name(strategy), strategy.settings()],
        "texts": list(texts),
        "seed": utterances.seed,
        "versions": [__version__, torch.__version__],
        "precision": str(precision(utterances.backbone)),
        "cached": len(utterances.views),
    }
    sha = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for name, one in sorted((utterances.head or {}).items()):
        sha.update(name.encode() + one.float().numpy().tobytes())
    for row in utterances.train:
        sha.update(f"{utterances.digests[row]} {utterances.y[row]}\n".encode())
    return sha.hexdigest()


def dialogues_key(strategy: Trained, dialogues: Dialogues) -> str:
    """The same for a language model that is taught conversations."""
    decides = {
        "backbone": dialogues.backbone.fingerprint,
        "strategy": [registry.plugin_name(strategy), strategy.settings()],
        "seed": dialogues.seed,
        "versions": [__version__, torch.__version__],
        "precision": str(precision(dialogues.backbone)),
        "cached": dialogues.maps is not None,
    }
    sha = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for row in dialogues.train:
        sha.update(f"{dialogues.digests[row]}\n".encode())
    return sha.hexdigest()


def histories_key(strategy: Trained, histories: Histories) -> str:
    """The same for a forecaster."""
    covariates = histories.covariates
    decides = {
        "backbone": histories.backbone.fingerprint,
        "strategy": [registry.plugin_name(strategy), strategy.settings()],
        "outlooks": histories.outlooks.to_json(),
        "pieces": [[p.series, p.start, int(p.origins[0]), int(p.origins[-1])] for p in histories.pieces],
        "train": histories.train.tolist(),
        "towards": histories.towards is not None,
        "recipe": [DRAWN, PIECE, SCALED_AWAY],
        "seed": histories.seed,
        "versions": [__version__, torch.__version__],
        "precision": str(precision(histories.backbone)),
        "cached": len(histories.views),
    }
    sha = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    sha.update(np.ascontiguousarray(histories.panel.values[:, : histories.end]).tobytes())
    for array in () if covariates is None else (covariates.known, covariates.static):
        sha.update(np.ascontiguousarray(array).tobytes())
    for name, one in sorted((histories.head or {}).items()):
        sha.update(name.encode() + one.float().numpy().tobytes())
    return sha.hexdigest()


@dataclass(frozen=True)
class Trainee:
    """What training a head that cannot be solved gives: the head's tensors, and what changed in the backbone."""

    head: Mapping[str, torch.Tensor]
    changes: Changes | None
    seconds: float


@dataclass
class Trials:
    """The trials of one machine; those that a fit asked for are forgotten when it is done."""

    folder: Path
    _asked: set[str] = field(default_factory=set, repr=False)

    def checkpoint(self, key: str) -> Path:
        """Where a training under way keeps its state. OSError when the folder cannot be made."""
        self._asked.add(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{key}.ckpt"

    def get(self, key: str) -> Learnt | None:
        """A trial that was run to its end, None when there is none or its files are damaged."""
        kept = self._read(key)
        return None if kept is None else _learnt(*kept)

    def put(self, key: str, learnt: Learnt) -> None:
        """Keep a trial; where the disk refuses, it is only not kept."""
        about: dict[str, Any] = {
            "val_loss": learnt.adapted.val_loss,
            "strength": learnt.adapted.strength,
            "losses": list(learnt.val_losses),
            "seconds": learnt.seconds,
            "changed": learnt.adapted.changes is not None,
            "source_changed": learnt.adapted.source_changes is not None,
        }
        self._write(key, _tensors(learnt), about)

    def trainee(self, key: str) -> Trainee | None:
        """A head that was trained to its end, None when there is none or its files are damaged."""
        kept = self._read(key)
        if kept is None:
            return None
        tensors, about = kept
        head = {name.removeprefix(HEAD): one for name, one in tensors.items() if name.startswith(HEAD)}
        changes = {name.removeprefix(CHANGE): one for name, one in tensors.items() if name.startswith(CHANGE)}
        return Trainee(head, Changes(changes) if about["changed"] else None, about["seconds"])

    def put_trainee(self, key: str, trainee: Trainee) -> None:
        """Keep a trained head; where the disk refuses, it is only not kept."""
        changes = trainee.changes.tensors if trainee.changes else {}
        tensors = {f"{HEAD}{name}": one.contiguous() for name, one in trainee.head.items()}
        tensors |= {f"{CHANGE}{name}": one.contiguous() for name, one in changes.items()}
        self._write(key, tensors, {"seconds": trainee.seconds, "changed": trainee.changes is not None})

    def _read(self, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """(tensors, what is said of them), None when there are none or the files are damaged."""
        self._asked.add(key)
        try:
            about = json.loads((self.folder / f"{key}.json").read_text())
            file = self.folder / f"{key}.safetensors"
            if about.pop("sha256") != _seal(file, about):
                return None
            return load_file(file), about
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
            return None

    def _write(self, key: str, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
        """Keep both, the seal last; the checkpoint is no longer needed."""
        making = self.folder / f"{uuid.uuid4().hex}.making"
        with suppress(OSError, SafetensorError):
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, making)
            about["sha256"] = _seal(making, about)
            os.replace(making, self.folder / f"{key}.safetensors")
            making.write_text(json.dumps(about))
            os.replace(making, self.folder / f"{key}.json")
            (self.folder / f"{key}.ckpt").unlink(missing_ok=True)
        with suppress(OSError):
            making.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what was asked for: the fit is done."""
        for key in self._asked:
            for suffix in ("safetensors", "json", "ckpt"):
                (self.folder / f"{key}.{suffix}").unlink(missing_ok=True)
        self._asked.clear()


def _seal(file: Path, about: Mapping[str, Any]) -> str:
    """sha256 (hex) of a file and what is said of it."""
    return hashlib.sha256(f"{sha256_of(file)} {json.dumps(about, sort_keys=True)}".encode()).hexdigest()


def _tensors(learnt: Learnt) -> dict[str, torch.Tensor]:
    head = learnt.adapted.head
    found = {
        "weight": torch.from_numpy(np.ascontiguousarray(head.weight)),
        "bias": torch.from_numpy(np.ascontiguousarray(head.bias)),
        "val_logits": torch.from_numpy(np.ascontiguousarray(learnt.val_logits)),
    }
    for prefix, changes in ((CHANGE, learnt.adapted.changes), (SOURCE_CHANGE, learnt.adapted.source_changes)):
        found |= {f"{prefix}{name}": t.contiguous() for name, t in (changes.tensors if changes else {}).items()}
    return found


def _learnt(tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> Learnt:
    def changes(prefix: str) -> Changes:
        return Changes({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})

    adapted = Adapted(
        head=LinearHead(tensors["weight"].numpy(), tensors["bias"].numpy()),
        strength=about["strength"],
        val_loss=about["val_loss"],
        changes=changes(CHANGE) if about["changed"] else None,
        source_changes=changes(SOURCE_CHANGE) if about["source_changed"] else None,
    )
    return Learnt(adapted, tensors["val_logits"].numpy(), tuple(about["losses"]), about["seconds"])
