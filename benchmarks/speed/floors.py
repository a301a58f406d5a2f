"""One forward pass over train and validation: reading and decoding count, loading the network does not.

Texts go by length, 32 at a time. "Tuned" is what Headstart does too: memory is kept, and convolutions run
channels-last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.speed.networks import SIDE, chunks, efficientnet, pixels
from benchmarks.speed.tasks import Case
from headstart.engine.allocator import keep_memory

SIZE = 32
Pass = Callable[[Sequence[str]], object]  # what runs a batch of texts or paths


def measure(case: Case, network: str, dtype: str = "float32", tuned: bool = False) -> dict[str, float]:
    """Seconds of a pass of "minilm", "efficientnet" or "efficientnet, ONNX Runtime"."""
    if tuned:
        keep_memory()
    run = {"minilm": _minilm, "efficientnet": _efficientnet, "efficientnet, ONNX Runtime": _onnx}[network](
        case, getattr(torch, dtype), torch.channels_last if tuned else torch.contiguous_format
    )
    start = time.perf_counter()
    inputs = [item for split in ("train", "val") for item in case.read(split).inputs]
    with torch.inference_mode():
        for batch in chunks(sorted(inputs, key=len), SIZE):
            run(batch)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "saved_s": seconds}


def _minilm(case: Case, dtype: torch.dtype, _: torch.memory_format) -> Pass:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(case.weights / "minilm")
    model = AutoModel.from_pretrained(case.weights / "minilm").eval().to(dtype)

    def run(texts: Sequence[str]) -> Tensor:
        inputs = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return model(**inputs).last_hidden_state.mean(1)

    return run


def _efficientnet(case: Case, dtype: torch.dtype, layout: torch.memory_format) -> Pass:
    network = efficientnet(case).eval().to(dtype).to(memory_format=layout)
    return lambda paths: network(pixels(paths).to(dtype, memory_format=layout))


def _onnx(case: Case, *_: object) -> Pass:
    from onnxruntime import InferenceSession

    network: nn.Module = efficientnet(case).eval()
    batch = torch.export.Dim("batch", min=1, max=SIZE)
    file = case.out / "network.onnx"
    example = torch.zeros(2, 3, SIDE, SIDE)
    torch.onnx.export(network, (example,), file, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    session = InferenceSession(file)
    name = session.get_inputs()[0].name
    return lambda paths: session.run(None, {name: pixels(paths).numpy()})
