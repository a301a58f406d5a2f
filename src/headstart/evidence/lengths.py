"""How long a network should be made to listen: a clip's own length, or filled up with silence as it was trained.

The clip's own length costs a fraction and gives other features, so that neither is better as such. Probes on both,
cross-validated on some of the examples, say which; what costs thirty times as much must be better beyond chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.backbones.base import Backbone
from headstart.engine import freeze
from headstart.evidence.base import Score
from headstart.evidence.compare import Judge
from headstart.evidence.intervals import resamples
from headstart.modalities.base import Modality
from headstart.progress import Progress
from headstart.strategies.base import Part
from headstart.strategies.probe import Probe
from headstart.tasks.base import LinearTask, Metric

N_COMPARED = 96  # examples
N_RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Probes on both, on the same examples."""

    own: Score  # of the clip's own length, on its best stage
    padded: Score
    pays: bool  # whether padding is better beyond the 95 % interval of the paired difference


def compare_lengths(
    own: Backbone,
    padded: Backbone,
    modality: Modality,
    some: Part,
    digests: Sequence[str],
    asked: tuple[LinearTask, Metric, int],
    progress: Progress,
) -> Lengths:
    """Cross-validated probes on both backbones, of `some` stored items with their labels and groups.

    `asked` is the task, the metric to judge by, and the seed.
    """
    task, metric, seed = asked
    y, groups = some.y, some.groups
    judge = Judge(metric=metric, y=y, weights=resamples(len(y), N_RESAMPLES, seed, groups))
    best = []
    for backbone in (own, padded):
        features = freeze.features(backbone, modality, some.features, digests, progress)
        rows = np.arange(len(y))
        scores = []
        for stage in range(backbone.n_stages):
            _, logits = Probe().cross_adapt(task, Part(features.stage(stage, rows), y, groups=groups), seed)
            scores.append(task.scores(logits))
        best.append(max(scores, key=lambda one: judge.gain(judge.score(one).value)))
    gain, error = judge.gain_over(best[1], best[0])
    return Lengths(own=judge.score(best[0]), padded=judge.score(best[1]), pays=bool(gain > 1.96 * error))
