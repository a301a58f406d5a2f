"""The fastest way to run a frozen backbone on this machine that agrees with float32; tried on the user's own items.

Weights in bfloat16 halve the memory that a pass moves, and processors with AMX or AVX-512 bf16 multiply them at twice
to eight times the rate; elsewhere they are slower. So every way is measured, once for a backbone on a machine, and the
answers are kept: the same data give the same features the next time. What takes seconds to prepare is tried only where
there is so much to run that it can earn them back. `HEADSTART_PRECISION=float32` allows nothing but float32 as loaded,
`int8` asks for weights in 8 bits, whether they agree or not.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart import places
from headstart.backbones.base import DTYPES, Backbone
from headstart.backbones.fold import find_chains
from headstart.engine import freeze, ways
from headstart.engine.allocator import keep_memory
from headstart.errors import PlanError, listed
from headstart.modalities.base import Modality
from headstart.progress import Progress

FEWEST = 256  # items: fewer are run in float32 before a trial pays
TRIED, MOST_TRIED, TRIED_SHARE = 16, 256, 1 / 96  # items of a trial
REPEATS = 2
LEAST_COSINE = 0.999  # of an example's features at any stage with those in float32
MOST_DEVIATION = 0.05  # root mean square of the difference, in standard deviations of the features at a stage
PRECISIONS = ("auto", "float32", "int8")
FASTER = 0.9  # of the time of the best way before it, or a way is not worth taking
Trials = dict[str, "Trial"]  # by way


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How one way did beside float32 on the same items."""

    way: str
    seconds: float = 0.0  # an item
    cosine: float = 0.0  # the least over stages and examples
    deviation: float = 0.0  # the most over stages, in standard deviations of the stage's features
    problem: str = ""  # why it cannot be run here

    @property
    def agrees(self) -> bool:
        """Whether its features may stand for those in float32."""
        return not self.problem and self.cosine >= LEAST_COSINE and self.deviation <= MOST_DEVIATION

    def beside(self, exact: Trial) -> str:
        """What was found, for people."""
        if self.problem:
            return f"{self.way} cannot be run ({self.problem})"
        found = f"cosine at least {self.cosine:.4f}, difference {self.deviation:.3f} standard deviations"
        if not self.agrees:
            return f"{self.way} does not agree ({found})"
        return f"{self.way} is {exact.seconds / self.seconds:.1f} times as fast and agrees ({found})"


def fastest(backbone: Backbone, modality: Modality, items: Sequence[Any], progress: Progress) -> Backbone:
    """The backbone in the way to run N stored items in: as it is, or another that agrees and is faster.

    PlanError when `HEADSTART_PRECISION` holds an unknown word.
    """
    allowed = allowed_precision()
    if allowed == "float32" or (allowed == "auto" and len(items) < FEWEST):
        return backbone
    trials = _read(backbone)
    for candidates in (light_ways, heavy_ways) if allowed == "auto" else (eight_bits,):
        lacking = [way for way in candidates(backbone, trials, len(items)) if way not in trials]
        if lacking:
            n_tried = min(max(TRIED, int(len(items) * TRIED_SHARE)), MOST_TRIED)
            some = items[:: max(1, len(items) // n_tried)][:n_tried]
            trials |= try_out(backbone, modality, some, lacking)
            _write(backbone, trials)
            found = "; ".join(trials[way].beside(trials[ways.EXACT]) for way in lacking if way != ways.EXACT)
            way = ways.INT8 if allowed == "int8" else best(trials).way
            progress.say(f"  the frozen network runs in {way}. Beside float32: {found}.")
    return ways.run_as(backbone, ways.INT8 if allowed == "int8" else best(trials).way)


def light_ways(backbone: Backbone, trials: Trials, n: int) -> list[str]:
    """Ways that take next to nothing to prepare."""
    fold = f"{ways.FOLDED} " if find_chains(backbone) else ""
    return [ways.EXACT, *(f"{fold}{dtype}" for dtype in DTYPES if fold or dtype != ways.EXACT)]


def heavy_ways(backbone: Backbone, trials: Trials, n: int) -> list[str]:
    """Ways that take seconds to prepare, where making a pass over n items that much faster would save as many.

    None for sounds and for language models: compilers and exporters were not tried on them.
    """
    if not backbone.compiles:
        return []
    taken = best({way: one for way, one in trials.items() if ways.is_light(way)})
    saved = (1 - FASTER) * n * taken.seconds
    return [way for way, seconds in ways.heavy(taken.way).items() if seconds < saved]


def eight_bits(backbone: Backbone, trials: Trials, n: int) -> list[str]:
    """What the user asked for: it is taken whether it agrees or not, and said how well."""
    return [ways.EXACT, ways.INT8]


def best(trials: Trials) -> Trial:
    """The way to take: each in turn must agree, and be enough faster than the best before it."""
    taken = trials[ways.EXACT]
    for one in trials.values():
        if one.way != ways.INT8 and one.agrees and one.seconds < FASTER * taken.seconds:
            taken = one
    return taken


def allowed_precision() -> str:
    """What the user allows in `HEADSTART_PRECISION`, one of PRECISIONS; PlanError for another word."""
    wished = os.environ.get("HEADSTART_PRECISION", "auto")
    if wished not in PRECISIONS:
        raise PlanError(f"HEADSTART_PRECISION={wished!r} is not known. Set it to {listed(PRECISIONS)}.")
    return wished


def try_out(backbone: Backbone, modality: Modality, items: Sequence[Any], wanted: Sequence[str]) -> Trials:
    """Run the items in float32 and in each wanted way; compare their features, and their time by turns."""
    keep_memory()
    opened = [modality.open(item, backbone.detail) for item in items]
    inputs = [backbone.collate([opened[row] for row in rows]) for rows in freeze.plan_batches(backbone, opened)]

    def features(network: Backbone) -> list[Tensor]:
        return [torch.cat(stage) for stage in zip(*(network.pooled(batch) for batch in inputs), strict=True)]

    exact = features(backbone)
    found = {ways.EXACT: Trial(way=ways.EXACT, cosine=1.0)}
    networks = {ways.EXACT: backbone}
    for way in wanted:
        if way == ways.EXACT:
            continue
        try:
            network = ways.run_as(backbone, way)
            cosine, deviation = agreement(exact, features(network))
            found[way] = Trial(way=way, cosine=cosine, deviation=deviation)
            if found[way].agrees:
                networks[way] = network
        except Exception as error:  # compilers and runtimes fail in ways of their own; float32 is there in any case
            found[way] = Trial(way=way, problem=f"{type(error).__name__}: {str(error).strip()[:200]}")
    for way, network in list(networks.items()) * REPEATS:
        start = time.perf_counter()
        features(network)
        seconds = (time.perf_counter() - start) / len(items)
        found[way] = replace(found[way], seconds=min(found[way].seconds or seconds, seconds))
    return found


def agreement(exact: Sequence[Tensor], other: Sequence[Tensor]) -> tuple[float, float]:
    """(least cosine, greatest deviation) over stages of (N, D_s) features; NaN anywhere is no agreement."""
    cosines, deviations = [], []
    for one, two in zip(exact, other, strict=True):
        cosines.append(torch.nn.functional.cosine_similarity(one, two, dim=1).min().item())
        spread = (one - one.mean(0)).square().mean().sqrt()
        deviations.append(((one - two).square().mean().sqrt() / spread.clamp_min(1e-12)).item())
    cosine, deviation = float(np.min(cosines)), float(np.max(deviations))
    return (cosine, deviation) if np.isfinite([cosine, deviation]).all() else (0.0, float("inf"))


def _read(backbone: Backbone) -> Trials:
    """What earlier runs on this machine found, in the order in which it was tried."""
    try:
        return {one["way"]: Trial(**one) for one in json.loads(_file(backbone).read_text())}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _write(backbone: Backbone, trials: Trials) -> None:
    """Keep them; where that cannot be done, they are made again the next time."""
    with suppress(OSError):
        _file(backbone).parent.mkdir(parents=True, exist_ok=True)
        _file(backbone).write_text(json.dumps([asdict(one) for one in trials.values()]))


def _file(backbone: Backbone) -> Path:
    """Where the trials of this backbone on this machine are kept."""
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
