"""Whether pictures have an up: if no probe can tell them from themselves upside down, they may be learnt from so too.

Photographs have one; what lies under a microscope or on a conveyor belt has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.backbones.base import Backbone
from headstart.engine import freeze
from headstart.modalities.base import Modality
from headstart.modalities.frames import PLAIN, Frame
from headstart.strategies.base import Part
from headstart.strategies.probe import Probe
from headstart.tasks.classification import Classification

MOST = 100  # pictures that are asked
TOLD = 0.75  # ROC AUC of a probe from which up is told from down


@dataclass(frozen=True)
class Up:
    """What a probe says."""

    roc_auc: float  # cross-validated: of pictures as they are against themselves upside down
    told: bool


def has_an_up(backbone: Backbone, modality: Modality, items: Sequence[Any], seed: int) -> Up:
    """Ask a linear probe on the last stage, cross-validated over pictures."""
    some = items[:: max(1, -(-len(items) // MOST))]
    plain, turned = (last_stage(backbone, modality, some, frame) for frame in (PLAIN, Frame(flipped=True)))
    order = np.random.default_rng(seed).permutation(len(some))
    folds = [order[k::2] for k in range(2)]
    task = Classification(class_names=("as it is", "turned"), positive="turned")
    roc_auc = next(metric for metric in task.metrics() if metric.name == "roc_auc")
    found = []
    for learnt, asked in ((folds[0], folds[1]), (folds[1], folds[0])):
        train, test = (
            Part(np.concatenate([plain[rows], turned[rows]]), np.repeat([0, 1], len(rows))) for rows in (learnt, asked)
        )
        head = Probe().cross_adapt(task, train, seed)[0].head
        found.append(roc_auc.compute(test.y, task.scores(head.logits(test.features)), np.ones((1, len(test.y))))[0])
    mean = float(np.mean(found))
    return Up(mean, mean >= TOLD)


def last_stage(backbone: Backbone, modality: Modality, items: Sequence[Any], frame: Frame) -> np.ndarray:
    """Pooled last stage (N, D) of pictures in a frame."""

    def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
        return [backbone.pooled(inputs)[-1].numpy(force=True)]

    def change(position: int, opened: Any) -> Any:
        return frame.of(opened)

    pieces = list(freeze.run(backbone, modality, items, look, change=change))
    features = np.concatenate([one for _, (one,) in pieces])
    return features[np.argsort(np.concatenate([rows for rows, _ in pieces]))]
