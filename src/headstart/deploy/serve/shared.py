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
from headstart.deploy.model import Model
from headstart.deploy.serve.members import Making, Member, Trunk
from headstart.engine.detector import OnPyramid, found_in, found_on, sized
from headstart.engine.freeze import plan_batches
from headstart.engine.maps import whole_maps
from headstart.engine.recordings import Ear, hear
from headstart.modalities.base import Modality
from headstart.progress import Progress
from headstart.tasks.base import one_each
from headstart.tasks.boxes import Detections

Scored = Iterator[tuple[Member, Sequence[int], np.ndarray]]  # positions of the items, their scores (n, K)


class Pass(ABC):
    """What is run for some items, in a lane."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.names = frozenset(one.name for one in members)
        self.modality: Modality = members[0].model.modality
        self.examine = members[0].model.examine

    @property
    def looks_first(self) -> bool:
        """Whether an item is examined before it is opened: decoders make something of a sound that is of no use."""
        return registry.plugin_name(self.modality) == "audio"

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


class SpeechPass(Pass):
    """Recognisers on one trunk."""

    def __init__(self, trunk: Trunk, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.trunk = trunk

    def open(self, stored: Any) -> Any:
        """As it is: a recording is decoded bit by bit while it is heard."""
        return stored

    def run(self, lane: int, items: Sequence[Any], asked: Sequence[AbstractSet[str]]) -> Scored:
        """Each recording by those that are asked about any."""
        wanted = [one for one in self.members if any(one.name in names for names in asked)]
        if not wanted:
            return
        ears = [Ear(one.model.recognizer, one.networks[lane]) for one in wanted if one.model.recognizer]
        heard = hear(ears, self.trunk.lanes[lane], items, Progress().bar, in_turn=True)
        for one, each in zip(wanted, heard, strict=True):
            rows = [row for row, names in enumerate(asked) if one.name in names]
            yield one, rows, each[rows]


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


def _kind_of_pass(model: Model) -> Any:
    if model.recognizer is not None:
        return SpeechPass
    return SharedPass if model.detector is None else BoxPass


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
        making = Making(n_lanes, dict(before.trunks) if before else {})
        members = {
            name: known[name] if name in known and known[name].model is model else making.member(name, model)
            for name, model in models.items()
        }
        used = {id(one.trunk) for one in members.values()}
        return cls(members, {key: trunk for key, trunk in making.trunks.items() if id(trunk) in used})

    @cached_property
    def passes(self) -> list[Pass]:
        """What is run: one for each trunk, and for each classical model."""
        on: dict[tuple[int, Any], list[Member]] = {}
        for one in self.members.values():
            if one.trunk is not None:
                on.setdefault((id(one.trunk), _kind_of_pass(one.model)), []).append(one)
        shared = [kind(some[0].trunk, some) for (_, kind), some in on.items()]
        alone = [one for one in self.members.values() if one.trunk is None and one.takes_items]
        return [*shared, *(ClassicalPass([one]) for one in alone)]

    def taking(self, modality: str) -> frozenset[str]:
        """Names of the models that take such items."""
        fit = (name for name, one in self.members.items() if one.modality == modality and one.takes_items)
        return frozenset(fit)
