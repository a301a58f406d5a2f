"""Models as they are served: what each needs to run, on backbones that several of them may share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from headstart import registry
from headstart.backbones.base import Backbone
from headstart.backbones.changes import DOWN, UP, Changes
from headstart.backbones.resume import Resumable
from headstart.deploy.model import Model
from headstart.engine.detector import Detector
from headstart.engine.recognizer import Reads
from headstart.engine.ways import in_float32, light, run_as
from headstart.errors import PlanError

Answer = dict[str, Any]  # what one model says of one item, as JSON


class Trunk:
    """A backbone as it is run, and a copy of it over the same tensors for each lane."""

    def __init__(self, backbone: Backbone, n_lanes: int) -> None:
        self.backbone, self.lanes = backbone, [backbone.beside() for _ in range(n_lanes)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A model that is served."""

    name: str
    model: Model
    trunk: Trunk | None = None  # None for a classical model
    uppers: tuple[Resumable, ...] = ()  # its changed stages, for each lane; none where it reads pooled features
    cut: int = 0  # where they go on from
    networks: tuple[Any, ...] = ()  # of a detector or recogniser, for each lane

    @property
    def modality(self) -> str:
        """The kind of items that it takes."""
        return registry.plugin_name(self.model.modality)

    @property
    def takes_items(self) -> bool:
        """Whether it predicts for single items, in the lanes."""
        return self.model.seer is None and self.model.talker is None

    @property
    def n_shared(self) -> int:
        """Stages that it reads of the pretrained network, which others may read too."""
        detector, recognizer = self.model.detector, self.model.recognizer
        if recognizer is not None and recognizer.changes is None:
            return max(recognizer.stages) + 1
        if detector is not None and detector.levels is not None and detector.changes is None:
            return max(detector.levels.stages) + 1
        return self.cut if self.uppers else max(self.model.stages, default=-1) + 1

    def scores(self, features: Tensor) -> np.ndarray:
        """Calibrated scores (N, K) of features (N, D)."""
        logits = self.model.linear.logits(features.numpy(force=True))
        return self.model.linear_task.scores(logits, self.model.plan.temperature)

    def answers(self, scores: np.ndarray) -> list[Answer]:
        """Scores (N, K), or what is found or heard (N,), as N answers."""
        if self.model.recognizer is not None:
            return [one.to_json() for one in scores]
        if self.networks:
            shown = self.model.shown(scores)
            each = zip(shown, self.model.task.decode(shown), strict=True)
            return [{"width": one.size[0], "height": one.size[1], "boxes": boxes} for one, boxes in each]
        names = self.model.task.score_names
        found = []
        for row, prediction in zip(scores.tolist(), self.model.task.decode(scores), strict=True):
            if not names:
                found.append({"value": prediction})
            elif isinstance(prediction, list):
                found.append({"labels": prediction, "probabilities": dict(zip(names, row, strict=True))})
            else:
                chances = dict(zip(names, row, strict=True))
                found.append({"label": prediction, "confidence": max(row), "probabilities": chances})
        return found


class Making:
    """Members being made; the pretrained networks that it loads are kept no longer than it is."""

    def __init__(self, n_lanes: int, trunks: dict[tuple[str, str], Trunk]) -> None:
        self.n_lanes, self.trunks = n_lanes, trunks
        self.pretrained: dict[str, Backbone] = {}

    def member(self, name: str, model: Model) -> Member:
        """A model with what it needs to run."""
        if model.seer is not None and model.seer.network is not None:
            _ = model.backbone  # loaded now, not at the first request
        if model.talker is not None:
            model.voice()
        if model.classical is not None or model.seer is not None or model.talker is not None:
            return Member(name=name, model=model)
        if model.detector is not None and model.detector.classical is not None:
            raise PlanError(
                f"{name} ships the classical detector, which is not served. Use `headstart predict`, or fit again with "
                "--strategy auto to ship the network all the same."
            )
        if model.detector is not None:
            return self._finds_boxes(name, model, model.detector)
        if model.recognizer is not None:
            return self._hears_words(name, model, model.recognizer)
        if model.changes is None:
            return Member(name=name, model=model, trunk=self._trunk(model, light(model.plan.way)))
        pretrained, way = self._pretrained(model), in_float32(model.plan.way)
        adapted, cut = run_as(pretrained.adapted(model.changes), way), first_changed(pretrained, model.changes)
        if cut == 0 or model.stages != (pretrained.n_stages - 1,):
            return Member(name=name, model=model, trunk=Trunk(adapted, self.n_lanes))
        trunk = self._trunk(model, way)
        upper = Resumable(adapted, cut, adapted.example()).for_predictions(trunk.backbone)
        uppers = (upper, *(upper.beside() for _ in range(self.n_lanes - 1)))
        return Member(name=name, model=model, trunk=trunk, uppers=uppers, cut=cut)

    def _finds_boxes(self, name: str, model: Model, detector: Detector) -> Member:
        """A detector, on maps that others may share where training left the backbone as it was."""
        way, changes = model.plan.way, detector.changes
        if detector.levels is not None and changes is None:
            trunk = self._trunk(model, light(way))
        else:
            pretrained = self._pretrained(model)
            own = pretrained if changes is None else pretrained.adapted(changes)
            trunk = Trunk(own if detector.levels is None else run_as(own, in_float32(way)), self.n_lanes)
        network = detector.network(trunk.backbone)
        if detector.levels is not None:  # the lanes' own backbones run; a head has no state
            return Member(name=name, model=model, trunk=trunk, networks=(network,) * self.n_lanes)
        networks = (network, *(network.beside() for _ in range(self.n_lanes - 1)))
        return Member(name=name, model=model, trunk=trunk, networks=networks)

    def _hears_words(self, name: str, model: Model, recognizer: Reads) -> Member:
        """A recogniser, on frames that others may share where training left the backbone as it was."""
        if recognizer.changes is None:
            trunk = self._trunk(model, light(model.plan.way))
        else:
            adapted = self._pretrained(model).adapted(recognizer.changes)
            trunk = Trunk(run_as(adapted, in_float32(model.plan.way)), self.n_lanes)
        return Member(
            name=name, model=model, trunk=trunk, networks=(recognizer.network(trunk.backbone),) * self.n_lanes
        )

    def _trunk(self, model: Model, way: str) -> Trunk:
        key = model.fingerprint, way
        if key not in self.trunks:
            self.trunks[key] = Trunk(run_as(self._pretrained(model), way), self.n_lanes)
        return self.trunks[key]

    def _pretrained(self, model: Model) -> Backbone:
        if model.fingerprint not in self.pretrained:
            exact = self.trunks.get((model.fingerprint, "float32"))
            self.pretrained[model.fingerprint] = exact.backbone if exact else model.load_pretrained()
        return self.pretrained[model.fingerprint]


def first_changed(backbone: Backbone, changes: Changes) -> int:
    """Index of the first stage that holds a changed tensor; 0 where one belongs to no stage."""
    stage_of = {
        f"{path}.": index for index, stage in enumerate(backbone.stages) for path in (*stage.modules, *stage.shared)
    }
    names = [name.removesuffix(DOWN).removesuffix(UP) for name in changes.tensors]
    return min(next((i for path, i in stage_of.items() if name.startswith(path)), 0) for name in names)
