"""The fastest way to run a frozen backbone on this machine that agrees with float32; tried on the user's own items.

Weights in bfloat16 halve the memory that a pass moves, and processors with AMX or AVX-512 bf16 multiply them at twice
to eight times the rate; elsewhere they are slower. So it is measured, once for a backbone on a machine, and kept: the
same data give the same features the next time. `HEADSTART_PRECISION=float32` forbids it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart import places
from headstart.backbones.base import Backbone
from headstart.engine import freeze
from headstart.errors import PlanError
from headstart.modalities.base import Modality
from headstart.progress import Progress

FEWEST = 256  # items: fewer are run in float32 before a trial pays
TRIED = 48  # items of a trial
REPEATS = 2
LEAST_COSINE = 0.999  # of an example's features at any stage with those in float32
MOST_DEVIATION = 0.05  # root mean square of the difference, in standard deviations of the features at a stage
FASTER = 0.9  # of float32's time, or it is not worth another way


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How one way did beside float32 on the same items."""

    dtype: str
    speedup: float  # of float32's seconds over its own
    cosine: float  # the least over stages and examples
    deviation: float  # the most over stages, in standard deviations of the stage's features

    @property
    def agrees(self) -> bool:
        """Whether its features may stand for those in float32."""
        return self.cosine >= LEAST_COSINE and self.deviation <= MOST_DEVIATION

    @property
    def pays(self) -> bool:
        """Whether it is enough faster."""
        return self.speedup * FASTER > 1

    def __str__(self) -> str:
        """What was decided, for people."""
        taken = self.dtype if self.agrees and self.pays else "float32"
        agreement = f"cosine at least {self.cosine:.4f}, difference {self.deviation:.3f} standard deviations"
        return (
            f"the frozen network runs in {taken}: {self.dtype} is {self.speedup:.1f} times as fast here, its features "
            f"{'agree' if self.agrees else 'do not agree'} ({agreement})"
        )


def fastest(backbone: Backbone, modality: Modality, items: Sequence[Any], progress: Progress) -> Backbone:
    """The backbone in the floating type to run N stored items in: its own, or bfloat16 where that agrees and pays.

    PlanError when `HEADSTART_PRECISION` holds an unknown word.
    """
    if allowed_precision() == "float32" or len(items) < FEWEST:
        return backbone
    file = _file(backbone)
    try:
        found = Trial(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        found = trial(backbone, modality, items[:: len(items) // TRIED][:TRIED])
        progress.say(f"  {found}")  # not again for every draw of a comparison
        with suppress(OSError):  # then it is made again the next time
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(asdict(found)))
    return backbone.cast("bfloat16") if found.agrees and found.pays else backbone


def allowed_precision() -> str:
    """What the user allows: "auto" or "float32"; PlanError for another word in `HEADSTART_PRECISION`."""
    wished = os.environ.get("HEADSTART_PRECISION", "auto")
    if wished not in ("auto", "float32"):
        raise PlanError(f"HEADSTART_PRECISION={wished!r} is not known. Set it to 'auto' or 'float32'.")
    return wished


def trial(backbone: Backbone, modality: Modality, items: Sequence[Any]) -> Trial:
    """Run the items in float32 and in bfloat16 by turns, and compare time and features."""
    opened = [modality.open(item, backbone.detail) for item in items]
    inputs = [backbone.collate([opened[row] for row in rows]) for rows in freeze.plan_batches(backbone, opened)]
    networks = (backbone, backbone.cast("bfloat16"))
    seconds = np.full((2, REPEATS + 1), np.inf)
    features: list[list[torch.Tensor]] = [[], []]
    for repeat in range(REPEATS + 1):  # the first warms up
        for which, network in enumerate(networks):
            start = time.perf_counter()
            found = [network.pooled(batch) for batch in inputs]
            seconds[which, repeat] = time.perf_counter() - start
            features[which] = [torch.cat(stage) for stage in zip(*found, strict=True)]
    cosine, deviation = agreement(*features)
    plain, cast = seconds[:, 1:].min(axis=1)
    return Trial(dtype="bfloat16", speedup=float(plain / cast), cosine=cosine, deviation=deviation)


def agreement(exact: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> tuple[float, float]:
    """(least cosine, greatest deviation) over stages of (N, D_s) features; NaN anywhere is no agreement."""
    cosines, deviations = [], []
    for one, two in zip(exact, other, strict=True):
        cosines.append(torch.nn.functional.cosine_similarity(one, two, dim=1).min().item())
        spread = (one - one.mean(0)).square().mean().sqrt()
        deviations.append(((one - two).square().mean().sqrt() / spread.clamp_min(1e-12)).item())
    cosine, deviation = float(np.min(cosines)), float(np.max(deviations))
    return (cosine, deviation) if np.isfinite([cosine, deviation]).all() else (0.0, float("inf"))


def _file(backbone: Backbone) -> Path:
    """Where the trial of this backbone on this machine is kept."""
    machine = (platform.processor(), platform.machine(), _processor(), torch.__version__, torch.get_num_threads())
    name = hashlib.sha256(json.dumps([backbone.fingerprint, *map(str, machine)]).encode()).hexdigest()[:24]
    return places.fastest() / f"{name}.json"


def _processor() -> str:
    """The processor's name and what it can do, where Linux says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
