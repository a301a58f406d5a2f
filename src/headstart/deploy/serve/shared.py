"""Several models on one pass: what they share of a backbone is held once, and run once for an input.

A probe reads pooled features on the way. A network that is changed above a cut goes on from the activation at its cut.
Only what is changed from the first stage on runs by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart import registry
from headstart.backbones.base import Backbone
from headstart.backbones.changes import DOWN, UP, Changes
from headstart.backbones.resume import Resumable
from headstart.deploy.model import Model
from headstart.engine.detector import Detector, OnPyramid, found_in, found_on, sized
from headstart.engine.freeze import plan_batches
from headstart.engine.maps import whole_maps
from headstart.engine.ways import in_float32, light, run_as
from headstart.errors import PlanError
from headstart.modalities.base import Modality
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Detections

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
    networks: tuple[Any, ...] = ()  # of a detector, for each lane

    @property
    def modality(self) -> str:
        """The kind of items that it takes."""
        return registry.plugin_name(self.model.modality)

    @property
    def n_shared(self) -> int:
        """Stages that it reads of the pretrained network, which others may read too."""
        detector = self.model.detector
        if detector is not None and detector.levels is not None and detector.changes is None:
            return max(detector.levels.stages) + 1
        return self.cut if self.uppers else max(self.model.stages, default=-1) + 1

    def scores(self, features: Tensor) -> np.ndarray:
        """Calibrated scores (N, K) of features (N, D)."""
        logits = self.model.linear.logits(features.numpy(force=True))
        return self.model.linear_task.scores(logits, self.model.plan.temperature)

    def answers(self, scores: np.ndarray) -> list[Answer]:
        """Scores (N, K), or what is found (N,), as N answers."""
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


Scored = Iterator[tuple[Member, Sequence[int], np.ndarray]]  # positions of the items, their scores (n, K)


class Pass(ABC):
    """What is run for some items, in a lane."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.names = frozenset(one.name for one in members)
        self.modality: Modality = members[0].model.modality

    @abstractmethod
    def open(self, stored: Any) -> Any:
        """A stored item as `run` takes it; raises what a decoder raises."""

    @abstractmethod
    def run(self, lane: int, items: Sequence[Any], asked: Sequence[AbstractSet[str]]) -> Scored:
        """Scores of opened items by those members that are asked about each."""


class SharedPass(Pass):
    """Models on one trunk."""

    def __init__(self, trunk: Trunk, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.trunk = trunk

    def open(self, stored: Any) -> Any:
        """In as much detail as the backbone looks at."""
        return self.modality.open(stored, self.trunk.backbone.detail)

    @torch.inference_mode()
    def run(self, lane: int, items: Sequence[Any], asked: Sequence[AbstractSet[str]]) -> Scored:
        """Batches of like length, within the backbone's budget."""
        backbone = self.trunk.lanes[lane]
        for positions in plan_batches(backbone, items):
            inputs = backbone.collate([items[i] for i in positions])
            for member, rows, scores in self._batch(lane, inputs, [asked[i] for i in positions]):
                yield member, positions[rows].tolist(), scores

    def _batch(self, lane: int, inputs: dict[str, Tensor], asked: Sequence[AbstractSet[str]]) -> Scored:
        rows_of = {one: [i for i, names in enumerate(asked) if one.name in names] for one in self.members}
        wanted = {one: rows for one, rows in rows_of.items() if rows}
        pooled = {stage for one in wanted if not one.uppers for stage in one.model.stages}
        cuts = {one.cut for one in wanted if one.uppers}
        features, activations = _outputs(self.trunk.lanes[lane], inputs, pooled, cuts)
        for one, rows in wanted.items():
            if one.uppers:
                some = {name: tensor[rows] for name, tensor in inputs.items()}
                read = one.uppers[lane](some, activations[one.cut][rows])
            else:
                read = torch.cat([features[stage][rows] for stage in one.model.stages], dim=1)
            yield one, rows, one.scores(read)


class BoxPass(Pass):
    """Detectors on one trunk: heads on the same maps, or one ready-made network."""

    def __init__(self, trunk: Trunk, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.trunk = trunk

    def open(self, stored: Any) -> Any:
        """The picture in as much detail as the backbone looks at, and its size in pixels, which boxes are told in."""
        return self.modality.open(stored, self.trunk.backbone.detail), registry.modality("image").size(stored)

    @torch.inference_mode()
    def run(self, lane: int, items: Sequence[Any], asked: Sequence[AbstractSet[str]]) -> Scored:
        """Batches within the backbone's budget."""
        backbone, pictures = self.trunk.lanes[lane], [picture for picture, _ in items]
        for positions in plan_batches(backbone, pictures):
            inputs = backbone.collate([pictures[i] for i in positions])
            for member, found in self._batch(lane, inputs, [asked[i] for i in positions]):
                detector = member.model.detector
                assert detector is not None, "a member of this pass is a detector"
                calibrated = [
                    detector.calibrated(one) for one in sized(one_each(found), [items[i][1] for i in positions])
                ]
                wanted = [row for row, i in enumerate(positions) if member.name in asked[i]]
                yield member, positions[wanted].tolist(), one_each([calibrated[row] for row in wanted])

    def _batch(
        self, lane: int, inputs: dict[str, Tensor], asked: Sequence[AbstractSet[str]]
    ) -> Iterator[tuple[Member, list[Detections]]]:
        """What each member that is asked finds in all pictures of the batch, in relative boxes."""
        wanted = {one: one.networks[lane] for one in self.members if any(one.name in names for names in asked)}
        read = {
            stage for network in wanted.values() if isinstance(network, OnPyramid) for stage in network.levels.stages
        }
        whole = whole_maps(self.trunk.lanes[lane], inputs, sorted(read)) if read else {}
        for one, network in wanted.items():
            on_maps = isinstance(network, OnPyramid)
            yield one, found_on(network, whole) if on_maps else found_in(network, self.trunk.lanes[lane], inputs)


class ClassicalPass(Pass):
    """A classical model."""

    def open(self, stored: Any) -> Any:
        """As the classical features take it."""
        return self.modality.classical_item(stored)

    def run(self, lane: int, items: Sequence[Any], asked: Sequence[AbstractSet[str]]) -> Scored:
        """All at once."""
        (one,) = self.members
        if items and one.model.classical is not None:
            yield one, range(len(items)), one.model.classical.scores(one.model.linear_task, items)


def _outputs(
    backbone: Backbone, inputs: dict[str, Tensor], pooled: set[int], cuts: set[int]
) -> tuple[Mapping[int, Tensor], Mapping[int, Tensor]]:
    if backbone.runtime is not None:  # of probes alone: changed networks are run by torch
        return dict(enumerate(backbone.pooled(inputs, max(pooled) + 1))), {}
    return backbone.outputs(inputs, pooled, cuts)


@dataclass(frozen=True, eq=False)
class Fleet:
    """The models that are served at one time; another set is another fleet, which shares what stays."""

    members: Mapping[str, Member]
    trunks: Mapping[tuple[str, str], Trunk] = field(default_factory=dict)  # (fingerprint, way): what is shared

    @classmethod
    def of(cls, models: Mapping[str, Model], n_lanes: int, before: Fleet | None = None) -> Fleet:
        """Models by name, ready to run in so many lanes; those of the fleet before that stay are not made again.

        BackboneError or RunError for a model whose backbone is not here.
        """
        known = before.members if before else {}
        making = _Making(n_lanes, dict(before.trunks) if before else {})
        members = {
            name: known[name] if name in known and known[name].model is model else making.member(name, model)
            for name, model in models.items()
        }
        used = {id(one.trunk) for one in members.values()}
        return cls(members, {key: trunk for key, trunk in making.trunks.items() if id(trunk) in used})

    @cached_property
    def passes(self) -> list[Pass]:
        """What is run: one for each trunk, and for each classical model."""
        on: dict[tuple[int, bool], list[Member]] = {}
        for one in self.members.values():
            if one.trunk is not None:
                on.setdefault((id(one.trunk), bool(one.networks)), []).append(one)
        shared = [
            (BoxPass if some[0].networks else SharedPass)(some[0].trunk, some)
            for some in on.values()
            if some[0].trunk is not None
        ]
        return [*shared, *(ClassicalPass([one]) for one in self.members.values() if one.trunk is None)]

    def taking(self, modality: str) -> frozenset[str]:
        """Names of the models that take such items."""
        return frozenset(name for name, one in self.members.items() if one.modality == modality)


class _Making:
    """Members being made; the pretrained networks that it loads are kept no longer than it is."""

    def __init__(self, n_lanes: int, trunks: dict[tuple[str, str], Trunk]) -> None:
        self.n_lanes, self.trunks = n_lanes, trunks
        self.pretrained: dict[str, Backbone] = {}

    def member(self, name: str, model: Model) -> Member:
        """A model with what it needs to run."""
        if model.classical is not None:
            return Member(name=name, model=model)
        if model.detector is not None and model.detector.classical is not None:
            raise PlanError(
                f"{name} ships the classical detector, which is not served. Use `headstart predict`, or fit again with "
                "--strategy auto to ship the network all the same."
            )
        if model.detector is not None:
            return self._finds_boxes(name, model, model.detector)
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
