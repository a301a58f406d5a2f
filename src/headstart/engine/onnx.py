"""A frozen backbone as ONNX Runtime runs it: exported once, kept on disk, then loaded in a moment.

ONNX Runtime plans the whole network ahead, folds and fuses what it can and lays convolutions out for the processor.
An export takes seconds, so it is for those who have much to run (`engine/fastest.py`), or who ask for 8-bit weights.
"""

from __future__ import annotations

import copy
import io
import logging
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart import places
from headstart.backbones.base import Backbone, tensor_of
from headstart.errors import MissingExtraError, PlanError

MOST_TOKENS = 1 << 15
_exporting = threading.Lock()  # lanes ask for the same file at the same time, and the exporter is not made for threads


def can_export() -> bool:
    """Whether what an export and its use need is installed."""
    return all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def in_onnx_runtime(backbone: Backbone, int8: bool = False) -> Backbone:
    """The backbone with its forward passes done by ONNX Runtime, in float32 or with weights of matrices in 8 bits.

    MissingExtraError without the extra `onnx`; PlanError for a backbone of sounds.
    """
    if backbone.modality == "audio":
        raise PlanError(
            f"{backbone.provenance.name} takes sounds, which are not run by ONNX Runtime here. "
            "Set HEADSTART_PRECISION to auto or float32."
        )
    if not can_export():
        raise MissingExtraError("onnxruntime", "onnx")
    other = copy.copy(backbone)
    other.runtime = OnnxRuntime(backbone, int8)
    return other


class OnnxRuntime:
    """The runtime of one backbone: a session for each depth that is asked for."""

    def __init__(self, backbone: Backbone, int8: bool) -> None:
        self.backbone, self.int8 = backbone, int8

    def pooled(self, inputs: Mapping[str, Tensor], n_frozen: int) -> list[Tensor]:
        """Pooled features (N, D_s) of the first stages."""
        return self._run(inputs, f"pooled-{n_frozen:02d}", Pooled(self.backbone, range(n_frozen)))

    def activations(self, inputs: Mapping[str, Tensor], cut: int) -> Tensor:
        """The whole output of the stage below the cut."""
        return self._run(inputs, f"cut-{cut:02d}", Outputs(self.backbone, [cut - 1]))[0]

    def _run(self, inputs: Mapping[str, Tensor], name: str, network: Outputs) -> list[Tensor]:
        file = places.exports() / self.backbone.fingerprint / f"{name}-torch-{torch.__version__}.onnx"
        with _exporting:
            if not file.exists():
                export(network, inputs, file)
            if self.int8:
                file = in_8_bits(file)
        found = _session(file, torch.get_num_threads()).run(None, {name: one.numpy() for name, one in inputs.items()})
        return [torch.from_numpy(np.ascontiguousarray(one)) for one in found]


class Outputs(nn.Module):
    """A backbone's network that gives the outputs of some of its stages. What runs after them is not exported."""

    def __init__(self, backbone: Backbone, stages: range | list[int]) -> None:
        super().__init__()
        self.network, self.backbone = backbone.network, [backbone]  # in a list: not a submodule
        self.ends = [backbone.stages[stage].modules[-1] for stage in stages]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Keyword arguments by name, since the exporter reads the signature."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixel_values}
        inputs = {name: one for name, one in given.items() if one is not None}
        found: list[Tensor] = []
        modules = [self.network.get_submodule(end) for end in self.ends]
        hooks = [
            m.register_forward_hook(lambda _m, _a, output: found.append(self.look(output, inputs))) for m in modules
        ]
        try:
            self.network(**inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(found)

    def look(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """What is wanted of a stage's output."""
        return tensor_of(output)


class Pooled(Outputs):
    """Pooled."""

    def look(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, D)."""
        return self.backbone[0].pool(output, inputs).float()


def export(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    file: Path,
    axes: dict[str, Any] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write the network as ONNX; `inputs` are an example of one or more.

    `axes` says which ones of each input may differ; default: the number of examples, and of tokens.
    """
    several = axes is None or all(0 in one for one in axes.values())
    example = {name: torch.cat([one, one])[:2] if several else one for name, one in inputs.items()}
    making = file.with_name(f"making-{uuid.uuid4().hex}.onnx")
    making.parent.mkdir(parents=True, exist_ok=True)
    with quietly(), torch.no_grad():
        program: Any = torch.onnx.export(
            network.eval(),
            (),
            kwargs=example,
            dynamo=True,
            dynamic_shapes=axes or {name: _dynamic(name) for name in example},
            input_names=list(example),
            output_names=output_names,
            verbose=False,
            custom_translation_table={torch.ops.aten._is_all_true.default: _all_true},
        )
        program.save(making)
    making.rename(file)


def _all_true(values: Any) -> Any:
    """What networks ask when they check shapes, which torch's exporter has no translation of."""
    import onnxscript

    ops: Any = onnxscript.opset18
    return ops.Cast(ops.ReduceMin(ops.Cast(values, to=7), keepdims=0), to=9)  # bool to int64 and back


def _dynamic(name: str) -> dict[int, Any]:
    """The axes of an input that differ from batch to batch."""
    tokens = {} if name == "pixel_values" else {1: torch.export.Dim("tokens", max=MOST_TOKENS)}
    return {0: torch.export.Dim("examples"), **tokens}


def in_8_bits(file: Path) -> Path:
    """The same network with the weights of its matrix products in 8 bits, scaled as they are met (dynamic)."""
    small = file.with_name(file.name.replace(".onnx", "-int8.onnx"))
    if not small.exists():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        making = small.with_name(f"making-{uuid.uuid4().hex}.onnx")
        with quietly():
            quantize_dynamic(file, making, weight_type=QuantType.QInt8)
        making.rename(small)
    return small


@cache
def _session(file: Path, n_threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = n_threads, 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


@contextmanager
def quietly() -> Iterator[None]:
    """Without the exporter's own remarks."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
