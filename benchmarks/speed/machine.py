"""What the machine is, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import time
from pathlib import Path

SIDES, N_PRODUCTS = (2048, 3072, 4096), 5


def card() -> dict[str, str | int | float]:
    """Processor, what it can do with bfloat16, cores and memory."""
    said = dict(
        (part.strip() for part in line.split(":", 1))
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if ":" in line
    )
    known = [flag for flag in said.get("flags", "").split() if flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": f"{said.get('model name', 'unknown')}, family {said.get('cpu family')}, model {said.get('model')}",
        "flags": " ".join(known),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory / 1e9, 1),
    }


def measure(dtype: str) -> dict[str, float]:
    """The best rate of multiplying two square matrices over several sizes, in TFLOP/s."""
    import torch

    best = {"tflops": 0.0, "side": 0}
    for side in SIDES:
        a, b = (torch.randn(side, side).to(getattr(torch, dtype)) for _ in range(2))
        for _ in range(2):
            a @ b
        for _ in range(N_PRODUCTS):
            start = time.perf_counter()
            a @ b
            tflops = 2 * side**3 / (time.perf_counter() - start) / 1e12
            best = max(best, {"tflops": tflops, "side": side}, key=lambda one: one["tflops"])
    return best
