"""How much of the machine's matrix-product peak the frozen pass reaches, and where the rest of its time goes.

    python -m benchmarks.peak      reads ../shared/data/text_sst2; writes benchmarks/results/peak.json

The peak is measured in the same run and in the type that the backbone runs in. The pass is that of `headstart fit`:
reading, decoding and tokenising count. The profile is that of the forward passes alone, one batch at a time.
"""

from __future__ import annotations

import csv
import json
import statistics
import time

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import headstart
from benchmarks.fit import ROOT, SHARED
from benchmarks.speed import machine
from headstart import registry
from headstart.demo import demo_data
from headstart.engine import freeze
from headstart.engine.fastest import fastest
from headstart.progress import Progress
from headstart.workshop import load_backbone

RESULTS = ROOT / "benchmarks" / "results" / "peak.json"
N, REPEATS, MOST_ROWS = 512, 3, 8


def measure(name: str) -> dict[str, object]:
    """The default backbone of "text" or "image" on the benchmark's data."""
    modality, progress = registry.modality(name), Progress()
    if name == "text":
        with (SHARED / "text_sst2" / "train.csv").open(newline="", encoding="utf-8") as file:
            items = [row["text"] for row in csv.DictReader(file)][:N]
    else:
        path, label = demo_data("image", progress)
        items = headstart.read(path, label=label).inputs[:N]
    network = load_backbone(None, modality, progress)
    runner = fastest(network, modality, items, progress)
    opened = [modality.open(item, network.detail) for item in items]
    inputs = [network.collate([opened[row] for row in rows]) for rows in freeze.plan_batches(network, opened)]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        for batch in inputs:
            network.network(**batch)  # as loaded: kernels that fuse are not counted
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in freeze.run(runner, modality, items, lambda net, batch: [s.numpy() for s in net.pooled(batch)]):
            pass
        seconds.append(time.perf_counter() - start)
    dtype = runner.dtype
    peak = statistics.median(machine.measure(dtype)["tflops"] for _ in range(REPEATS))
    rate = counter.get_total_flops() / statistics.median(seconds) / 1e12
    return {
        "backbone": network.provenance.name,
        "way": runner.way,
        "ms_an_item": 1000 * statistics.median(seconds) / len(items),
        "gflop_an_item": counter.get_total_flops() / len(items) / 1e9,
        "tflops": rate,
        "peak_tflops": peak,
        "share_of_peak": rate / peak,
        "profile": shares(runner, inputs[: max(1, len(inputs) // 4)]),
    }


def shares(runner, inputs) -> dict[str, float]:
    """The operations that took most of the time, as shares."""
    runner.pooled(inputs[0])
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for batch in inputs:
            runner.pooled(batch)
    spent = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(spent.values())
    return {key: spent[key] / total for key in sorted(spent, key=lambda key: -spent[key])[:MOST_ROWS]}


def main() -> None:
    """Both modalities."""
    found = {name: measure(name) for name in ("text", "image")}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
