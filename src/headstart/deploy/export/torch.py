"""torch.export: one file that `torch.export.load` runs, without Headstart and without the network's code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.deploy.export.tokens import write_tokenizer
from headstart.deploy.export.whole import exportable
from headstart.deploy.model import Model
from headstart.engine.onnx import quietly

FILE = "model.pt2"


def write(model: Model, folder: Path, opened: Sequence[Any], int8: bool) -> Any:
    """Write the program; gives what it computes when it is loaded again: opened items -> scores (N, K)."""
    what = exportable(model)
    if model.backbone.modality == "text":
        write_tokenizer(model, folder)
    with quietly(), torch.no_grad():
        program = torch.export.export(what.module, (), kwargs=what.inputs, dynamic_shapes=what.axes)
        torch.export.save(program, folder / FILE)
        loaded = torch.export.load(folder / FILE).module()

    def scores(items: Sequence[Any]) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([loaded(**as_inputs(model, item)).numpy() for item in items])

    return scores


def as_inputs(model: Model, item: Any) -> dict[str, torch.Tensor]:
    """One opened item as the program takes it."""
    if model.backbone.modality == "text":
        return model.backbone.collate([item])
    return {"pixels": torch.from_numpy(np.array(item)[None])}
