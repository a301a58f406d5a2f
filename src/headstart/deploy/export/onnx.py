"""ONNX: one file for ONNX Runtime alone. For pictures it takes raw pixels, and resizes and normalises them itself.

Beside it lie `predict.py`, which needs no more than onnxruntime and numpy, and for texts `tokens.py`.
"""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.deploy.export import candidates
from headstart.deploy.export.tokens import write_tokenizer, write_tokens
from headstart.deploy.export.whole import exportable
from headstart.deploy.model import Model
from headstart.engine.onnx import can_export, export, in_8_bits, quietly
from headstart.errors import MissingExtraError

FILE = "model.onnx"
N_CALIBRATION = 64
HERE = Path(__file__).parent


def write(model: Model, folder: Path, opened: Sequence[Any], int8: bool) -> Any:
    """Write the files; gives what `predict.py` computes: opened items -> scores (N, K)."""
    if not can_export():
        raise MissingExtraError("onnxruntime", "onnx")
    if model.detector is not None:
        return _write_boxes(model, folder)
    what, file = exportable(model), folder / FILE
    export(what.module, what.inputs, file, what.axes, ["scores"])
    is_text = model.backbone.modality == "text"
    if int8:
        with quietly():
            if is_text:
                in_8_bits(file).replace(file)
            else:
                _pictures_in_8_bits(file, _calibration(model, opened))
    if is_text:
        write_tokenizer(model, folder)
        write_tokens(folder)
    example = (HERE / ("predict_text.py.txt" if is_text else "predict_image.py.txt")).read_text()
    (folder / "predict.py").write_text(example)
    return lambda items: answer(folder, items)


def _write_boxes(model: Model, folder: Path) -> Any:
    """Of a detector; gives what `predict.py` computes: opened pictures -> boxes of each."""
    what = candidates.exportable(model)
    export(what.module, what.inputs, folder / FILE, what.axes, what.outputs)
    candidates.write_suppression(model, folder)
    (folder / "predict.py").write_text((HERE / "predict_boxes.py.txt").read_text(encoding="utf-8"))
    return lambda items: _each(folder, items)


def answer(folder: Path, items: Sequence[Any]) -> np.ndarray:
    """Scores (N, K) of N opened items, as the exported folder's own `predict.py` gives them."""
    return np.concatenate(_each(folder, items))


def _each(folder: Path, items: Sequence[Any]) -> list[Any]:
    """What the folder's own `predict` gives for each opened item."""
    import sys

    sys.path.insert(0, str(folder))  # as Python does for a script
    try:
        predict = runpy.run_path(str(folder / "predict.py"))["predict"]
        return [predict(item if isinstance(item, str) else np.asarray(item)) for item in items]
    finally:
        sys.path.remove(str(folder))
        for beside in ("tokens", "suppression"):
            sys.modules.pop(beside, None)


def _calibration(model: Model, opened: Sequence[Any]) -> list[Any]:
    """Opened examples that 8 bits are scaled by: of train, so that validation judges them; else what is there."""
    kept = model.examples.of("train").items[:N_CALIBRATION] if model.examples is not None else []
    readable = [item for item in kept if model.modality.examine(item).problem is None]
    return [model.modality.open(item, model.backbone.detail) for item in readable] or list(opened[:N_CALIBRATION])


def _pictures_in_8_bits(file: Path, opened: Sequence[Any]) -> None:
    """Weights and activations of convolutions in 8 bits, scaled by what the opened pictures show (static)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(opened)

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self.left, None)
            return None if picture is None else {"pixels": np.asarray(picture)[None]}

    whole, small = file.with_name("whole.onnx"), file.with_name("small.onnx")
    quant_pre_process(str(file), str(whole), skip_symbolic_shape=True)
    nodes = onnx.load(str(whole)).graph.node
    first = next((i for i, node in enumerate(nodes) if node.op_type == "Conv"), 0)
    quantize_static(
        str(whole),
        str(small),
        Pictures(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Clip", "Add"],
        nodes_to_exclude=[node.name for node in nodes[:first]],  # the preprocessing
    )
    small.replace(file)
    whole.unlink()
