"""ONNX: one file for ONNX Runtime alone. For pictures it takes raw pixels, and resizes and normalises them itself.

Beside it lie `predict.py`, which needs no more than onnxruntime and numpy, and for texts `tokens.py`. ONNX Runtime's
antialiased Resize of 8-bit pixels follows Pillow's to the digit but for a few pixels.
"""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.deploy.export.tokens import write_tokenizer, write_tokens
from headstart.deploy.export.whole import Whole
from headstart.deploy.model import Model
from headstart.engine.onnx import can_export, export, in_8_bits, quietly
from headstart.errors import MissingExtraError, PlanError

FILE, OPSET, IR = "model.onnx", 18, 10
FILTERS = {2: "linear", 3: "cubic"}  # PIL's number: ONNX's name
HERE = Path(__file__).parent


def write(model: Model, folder: Path, opened: Sequence[Any], int8: bool) -> Any:
    """Write the files; gives what `predict.py` computes: opened items -> scores (N, K)."""
    if not can_export():
        raise MissingExtraError("onnxruntime", "onnx")
    backbone = model.backbone
    file = folder / FILE
    export(Whole(model), backbone.collate(list(opened[:2])), file, ["scores"])
    is_text = model.backbone.modality == "text"
    if int8:
        with quietly():
            (_text_in_8_bits if is_text else _pictures_in_8_bits)(model, file, opened)
    if is_text:
        write_tokenizer(model, folder)
        write_tokens(folder)
    else:
        _take_raw_pixels(file, backbone.preprocessing)
    example = (HERE / ("predict_text.py.txt" if is_text else "predict_image.py.txt")).read_text()
    (folder / "predict.py").write_text(example)
    return lambda items: answer(folder, items)


def answer(folder: Path, items: Sequence[Any]) -> np.ndarray:
    """Scores (N, K) of N opened items, as the exported folder's own `predict.py` gives them."""
    import sys

    sys.path.insert(0, str(folder))  # as Python does for a script
    try:
        predict = runpy.run_path(str(folder / "predict.py"))["predict"]
        return np.concatenate([predict(item if isinstance(item, str) else np.asarray(item)) for item in items])
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("tokens", None)


def _take_raw_pixels(file: Path, preprocessing: dict[str, Any]) -> None:
    """Put the preprocessing before the network: `pixels` (N, H, W, 3) uint8, of any height and width."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    side, mean, std = preprocessing["side"], preprocessing["mean"], preprocessing["std"]
    if preprocessing["resample"] not in FILTERS:
        raise PlanError(
            f"This backbone resizes pictures with PIL's filter {preprocessing['resample']}, and ONNX knows only "
            f"bilinear (2) and bicubic (3). Use --format torch."
        )
    graph = onnx.load(str(file))
    constants: dict[str, np.ndarray] = {
        "hw": np.array([side, side], dtype=np.int64),
        "mean": 255 * np.array(mean, dtype=np.float32).reshape(3, 1, 1),
        "std": 255 * np.array(std, dtype=np.float32).reshape(3, 1, 1),
    }
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["pixels_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Shape", ["pixels_nchw"], ["pixels_nc"], start=0, end=2),
        helper.make_node("Concat", ["pixels_nc", "pixels_hw"], ["pixels_sizes"], axis=0),
        helper.make_node(
            "Resize",
            ["pixels_nchw", "", "", "pixels_sizes"],
            ["pixels_resized"],
            mode=FILTERS[preprocessing["resample"]],
            antialias=1,
            cubic_coeff_a=-0.5,
        ),
        helper.make_node("Cast", ["pixels_resized"], ["pixels_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels_float", "pixels_mean"], ["pixels_centred"]),
        helper.make_node("Div", ["pixels_centred", "pixels_std"], ["pixel_values"]),
    ]
    body = graph.graph
    examples = body.input[0].type.tensor_type.shape.dim[0].dim_param or "examples"
    old = list(body.node)
    del body.node[:]
    body.node.extend([*nodes, *old])
    del body.input[:]
    body.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, [examples, "height", "width", 3]))
    body.initializer.extend(numpy_helper.from_array(array, f"pixels_{name}") for name, array in constants.items())
    onnx.checker.check_model(graph)
    onnx.save(graph, str(file))


def _text_in_8_bits(model: Model, file: Path, opened: Sequence[Any]) -> None:
    """Weights of matrix products in 8 bits, their inputs scaled as they are met (dynamic)."""
    small = in_8_bits(file)
    small.replace(file)


def _pictures_in_8_bits(model: Model, file: Path, opened: Sequence[Any]) -> None:
    """Weights and activations of convolutions in 8 bits, scaled by what the opened pictures show (static)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(opened)

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self.left, None)
            return (
                None if picture is None else {"pixel_values": model.backbone.collate([picture])["pixel_values"].numpy()}
            )

    whole, small = file.with_name("whole.onnx"), file.with_name("small.onnx")
    quant_pre_process(str(file), str(whole), skip_symbolic_shape=True)
    quantize_static(
        str(whole),
        str(small),
        Pictures(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Clip", "Add"],
        extra_options={"ActivationSymmetric": False},
    )
    small.replace(file)
    whole.unlink()
