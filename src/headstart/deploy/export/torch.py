"""torch.export: one file that `torch.export.load` runs, without Headstart and without the network's code."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.deploy.export import candidates
from headstart.deploy.export.tokens import write_tokenizer
from headstart.deploy.export.whole import exportable
from headstart.deploy.model import Model
from headstart.engine.onnx import quietly

FILE = "model.pt2"


def write(model: Model, folder: Path, opened: Sequence[Any], int8: bool) -> Any:
    """Write the program; gives what it computes when it is loaded again: opened items -> scores (N, K)."""
    what = exportable(model) if model.detector is None else candidates.exportable(model)
    if model.backbone.modality == "text":
        write_tokenizer(model, folder)
    with quietly(), torch.no_grad():
        program = torch.export.export(what.module, (), kwargs=what.inputs, dynamic_shapes=what.axes)
        torch.export.save(program, folder / FILE)
        loaded = torch.export.load(folder / FILE).module()

    if model.detector is not None:
        candidates.write_suppression(model, folder)
        return lambda pictures: boxes(loaded, folder, pictures)

    def scores(items: Sequence[Any]) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([loaded(**as_inputs(model, item)).numpy() for item in items])

    return scores


def boxes(program: Any, folder: Path, pictures: Sequence[Any]) -> list[list[dict[str, Any]]]:
    """Boxes in each opened picture, by a loaded program and the suppression that lies beside it."""
    boxes_of = runpy.run_path(str(folder / candidates.SUPPRESSION))["boxes_of"]
    found = []
    with torch.no_grad():
        for one in pictures:
            places, scores = program(pixels=torch.from_numpy(np.array(one)[None]))
            found.append(boxes_of(places[0].numpy(), scores[0].numpy(), *one.size))
    return found


def as_inputs(model: Model, item: Any) -> dict[str, torch.Tensor]:
    """One opened item as the program takes it."""
    if model.backbone.modality == "text":
        return model.backbone.collate([item])
    return {"pixels": torch.from_numpy(np.array(item)[None])}
