"""All systems by task and name: where each is written, whose Python runs it, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OURS, PEERS, NEWEST, AUTOGLUON = "headstart", "peers", "peers-newest", "peers-autogluon"  # benchmarks/NAME.txt
REFERENCES = ("headstart, automatic", "headstart, best probe")  # what the others are held against


@dataclass(frozen=True, kw_only=True)
class System:
    """One row of the table."""

    module: str  # in this package: has `learn(case, …)`, or `measure(…)` where there is nothing to learn
    python: str = OURS
    settings: dict[str, Any] = field(default_factory=dict)


def _ours() -> dict[str, System]:
    return {
        REFERENCES[0]: System(module="peers.ours"),
        REFERENCES[1]: System(module="peers.ours", settings={"strategy": "probe"}),
        "headstart, best probe, no test split": System(
            module="peers.ours", settings={"strategy": "probe", "test": False}
        ),
    }


def _floor(network: str, python: str = OURS, **settings: Any) -> System:
    return System(module="floors", python=python, settings={"network": network, **settings})


def _loop(network: str) -> System:
    return System(module="peers.tuned_loop", settings={"network": network, "epochs": 5})


def _trainer(epochs: int, frozen: bool) -> System:
    return System(module="peers.trainer", python=PEERS, settings={"epochs": epochs, "frozen": frozen})


def _tutorial(epochs: int, **settings: bool) -> System:
    return System(module="peers.tutorial", python=NEWEST, settings={"epochs": epochs, **settings})


SYSTEMS: dict[str, dict[str, System]] = {
    "machine": {
        "matrix products, float32": System(module="machine", settings={"dtype": "float32"}),
        "matrix products, bfloat16": System(module="machine", settings={"dtype": "bfloat16"}),
    },
    "sst2": {
        "floor: one pass, float32": _floor("minilm"),
        "floor: one pass, bfloat16": _floor("minilm", dtype="bfloat16", tuned=True),
        **_ours(),
        "tuned loop without cache, frozen, 5 epochs": _loop("minilm"),
        "sentence-transformers + logistic regression": System(module="peers.embeddings", python=PEERS),
        "SetFit, 500 steps": System(module="peers.setfit", python=PEERS, settings={"steps": 500}),
        "Trainer, frozen, 5 epochs": _trainer(5, frozen=True),
        "Trainer, full, 3 epochs": _trainer(3, frozen=False),
    },
    "cells": {
        "floor: one pass, float32": _floor("efficientnet"),
        "floor: one pass, float32, tuned": _floor("efficientnet", tuned=True),
        "floor: one pass, ONNX Runtime": _floor("efficientnet, ONNX Runtime", PEERS),
        **_ours(),
        "tuned loop without cache, frozen, 5 epochs": _loop("efficientnet"),
        "PyTorch tutorial, frozen, 5 epochs": _tutorial(5, frozen=True),
        "PyTorch tutorial, frozen, 5 epochs, our allocator": _tutorial(5, frozen=True, tuned=True),
        "PyTorch tutorial, full, 3 epochs": _tutorial(3, frozen=False),
        "PyTorch tutorial, full, 3 epochs, our allocator": _tutorial(3, frozen=False, tuned=True),
        "fastai, fine_tune(3)": System(module="peers.fastai", python=NEWEST, settings={"epochs": 3}),
        "AutoGluon, 3 epochs": System(module="peers.autogluon", python=AUTOGLUON, settings={"epochs": 3}),
    },
}
