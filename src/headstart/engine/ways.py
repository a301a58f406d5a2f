"""The ways to run a frozen backbone: in which floating type, with batch norms folded, by which runtime.

A way is a few words, the number type last: "float32" (as loaded), "bfloat16", "folded float32", "compiled bfloat16",
"onnx float32", "onnx int8". It is part of the fingerprint of what was run in it, and of the plan.
"""

from __future__ import annotations

import copy

import torch

from headstart.backbones.base import DTYPES, Backbone
from headstart.backbones.fold import folded
from headstart.engine.onnx import can_export, in_onnx_runtime
from headstart.errors import PlanError, listed

EXACT, INT8 = "float32", "onnx int8"
ONNX = {"onnx float32": False, INT8: True}  # way: whether in 8 bits
FOLDED, COMPILED = "folded", "compiled"
COMPILE_S, EXPORT_S = 25.0, 8.0  # what each takes here


def run_as(backbone: Backbone, way: str) -> Backbone:
    """The backbone, run in this way; itself where that is how it is run. PlanError when the way is not known."""
    if way == backbone.way:
        return backbone
    *how, dtype = way.split() or [""]
    if way in ONNX:
        other = in_onnx_runtime(backbone, ONNX[way])
    elif dtype in DTYPES and set(how) <= {FOLDED, COMPILED}:
        other = copy.copy((folded(backbone) if FOLDED in how else backbone).cast(dtype))
        other = compiled(other) if COMPILED in how else other
    else:
        known = [*(f"[{COMPILED}] [{FOLDED}] {dtype}" for dtype in DTYPES), *ONNX]
        raise PlanError(f"{way!r} is no way to run a backbone: {listed(known)}.")
    other.way = way
    return other


def heavy(light: str) -> dict[str, float]:
    """The ways that take seconds to prepare, beside a light one that agrees, and how many seconds."""
    return {f"{COMPILED} {light}": COMPILE_S, **({"onnx float32": EXPORT_S} if can_export() else {})}


def is_light(way: str) -> bool:
    """Whether it takes next to nothing to prepare."""
    return COMPILED not in way and way not in ONNX


def light(way: str) -> str:
    """What gives the same features, but for rounding, and needs no preparation; for predictions."""
    return EXACT if way == "onnx float32" else way.removeprefix(f"{COMPILED} ")


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
