"""torch.export: one file that `torch.export.load` runs, without Headstart and without the network's code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.deploy.export.tokens import write_tokenizer
from headstart.deploy.export.whole import Whole
from headstart.deploy.model import Model
from headstart.engine.onnx import MOST_TOKENS, dynamic_axes, quietly

FILE = "model.pt2"
HERE = Path(__file__).parent


def write(model: Model, folder: Path, opened: Sequence[Any], int8: bool) -> Any:
    """Write the program; gives what it computes when it is loaded again: opened items -> scores (N, K)."""
    backbone = model.backbone
    inputs = backbone.collate(list(opened[:1]) * 2)
    if backbone.modality == "text":
        write_tokenizer(model, folder)
    most_tokens = backbone.preprocessing.get("max_tokens", MOST_TOKENS)
    with quietly(), torch.no_grad():
        program = torch.export.export(
            Whole(model).eval(),
            (),
            kwargs=inputs,
            dynamic_shapes={name: dynamic_axes(name, most_tokens) for name in inputs},
        )
        torch.export.save(program, folder / FILE)
        loaded = torch.export.load(folder / FILE).module()

    def scores(items: Sequence[Any]) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([loaded(**backbone.collate([item])).numpy() for item in items])

    return scores
