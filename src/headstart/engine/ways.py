"""The ways to run a frozen backbone: in which floating type, with batch norms folded, by which runtime.

A way is a few words, the floating type last: "float32" (as loaded), "bfloat16", "folded float32", "compiled bfloat16".
It is part of the fingerprint of what was run in it, and of the plan.
"""

from __future__ import annotations

import copy

import torch

from headstart.backbones.base import DTYPES, Backbone
from headstart.backbones.fold import folded
from headstart.errors import PlanError, listed

EXACT = "float32"
FOLDED, COMPILED = "folded", "compiled"


def run_as(backbone: Backbone, way: str) -> Backbone:
    """The backbone, run in this way; itself where that is how it is run. PlanError when the way is not known."""
    *how, dtype = way.split() or [""]
    if dtype not in DTYPES or not set(how) <= {FOLDED, COMPILED}:
        known = [f"[{COMPILED}] [{FOLDED}] {dtype}" for dtype in DTYPES]
        raise PlanError(f"{way!r} is no way to run a backbone: {listed(known)}.")
    if way == backbone.way:
        return backbone
    other = folded(backbone) if FOLDED in how else backbone
    other = copy.copy(other.cast(dtype))
    other.way = way
    return compiled(other) if COMPILED in how else other


def heavy(way: str) -> dict[str, float]:
    """The ways that take seconds to prepare, on top of this one, and how many seconds: measured on two cores."""
    return {f"{COMPILED} {way}": 25.0}


def light(way: str) -> str:
    """The way without what takes seconds to prepare; its features differ by rounding alone."""
    return way.removeprefix(f"{COMPILED} ")


def in_float32(way: str) -> str:
    """The exact counterpart of a way, for networks whose small changes bfloat16 would lose."""
    return f"{FOLDED} {EXACT}" if FOLDED in way else EXACT


def compiled(backbone: Backbone) -> Backbone:
    """The backbone with each stage's modules compiled by TorchInductor, for batches of any size."""
    other = backbone.beside()
    for stage in other.stages:
        for path in stage.modules:
            module = other.network.get_submodule(path)
            module.forward = torch.compile(module.forward, dynamic=True)  # hooks stay outside
    return other
