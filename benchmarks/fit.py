"""`headstart fit` on real data sets, each in a process of its own with an empty feature cache; figures for the README.

    python -m benchmarks.fit [NAME …]      reads ../shared/data when it is there; writes benchmarks/results/fit.json

Beside SST-2, the time of one plain forward pass over the same texts is measured in the same run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "fit.json"
REPEATS = 3

TASKS: dict[str, list[str]] = {  # name: arguments of `headstart`
    "solar cells": ["demo", "image"],
    "chat topics": ["demo", "text"],
    "SST-2": ["fit", str(SHARED / "text_sst2")],
    "CR": ["fit", str(SHARED / "text_cr" / "all.csv")],
    "TREC": ["fit", str(SHARED / "text_trec")],
    "PneumoniaMNIST": ["fit", str(SHARED / "med_pneumoniamnist" / "pneumoniamnist.npz")],
    "hymenoptera": ["fit", str(SHARED / "img_hymenoptera")],
}

PLAIN_PASS = """
import csv, sys, time, torch
from pathlib import Path
from transformers import AutoModel, AutoTokenizer
folder, data, ordered = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "sorted"
texts = [row["text"] for name in ("train", "dev", "test") for row in csv.DictReader((data / f"{name}.csv").open())]
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
if ordered:
    texts.sort(key=len)
start = time.perf_counter()
with torch.inference_mode():
    for i in range(0, len(texts), 32):
        batch = tokenizer(texts[i : i + 32], padding=True, truncation=True, return_tensors="pt")
        model(**batch).last_hidden_state.mean(1)
print(time.perf_counter() - start)
"""


def headstart(arguments: list[str], home: Path, scratch: Path) -> dict:
    """One run in a process of its own: its JSON, and the wall-clock seconds of the whole process."""
    start = time.perf_counter()
    out = scratch / f"run-{time.time_ns()}"
    command = [sys.executable, "-m", "headstart.cli", *arguments, "--out", str(out), "--json"]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "HEADSTART_HOME": str(home)}
    ).stdout
    return {**json.loads(shown), "wall_s": time.perf_counter() - start}


def measure(name: str, scratch: Path) -> dict:
    """Fits with an empty cache (several), and one more with a full one."""
    own = Path(os.environ.get("HEADSTART_HOME", Path.home() / ".cache" / "headstart"))
    cold, warm = [], {}
    for repeat in range(REPEATS):
        home = scratch / f"{name}-{repeat}".replace(" ", "-")
        home.mkdir()
        for shared in ("weights", "demo"):
            (own / shared).mkdir(parents=True, exist_ok=True)
            (home / shared).symlink_to(own / shared)
        cold.append(headstart(TASKS[name], home, scratch))
        warm = headstart(TASKS[name], home, scratch)
    first = cold[0]
    compute = [sum(run["seconds"].values()) for run in cold]
    return {
        "backbone": first["backbone"],
        "n": first["n"],
        "primary": first["primary"],
        "titles": first["titles"],
        "metrics": first["metrics"],
        "baselines": first["baselines"],
        "differences": first["differences"],
        "verdict": first["verdict"],
        "seconds": first["seconds"],
        "compute_s": statistics.median(compute),
        "wall_s": statistics.median(run["wall_s"] for run in cold),
        "again_frozen_pass_s": warm["seconds"]["frozen pass"],
        "again_wall_s": warm["wall_s"],
        "again_compute_s": sum(warm["seconds"].values()),
    }


def plain_pass(order: str) -> float:
    """Seconds of one plain float32 forward pass of MiniLM over SST-2, batches of 32."""
    folder = Path(os.environ.get("HEADSTART_HOME", Path.home() / ".cache" / "headstart")) / "weights" / "minilm"
    command = [sys.executable, "-c", PLAIN_PASS, str(folder), str(SHARED / "text_sst2"), order]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure what was named (default: all that is there), and keep the figures."""
    there = [name for name, arguments in TASKS.items() if arguments[0] == "demo" or Path(arguments[1]).exists()]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in sys.argv[1:] or there:
            results[name] = measure(name, Path(scratch))
            if name == "SST-2":
                for order in ("unsorted", "sorted"):
                    seconds = statistics.median(plain_pass(order) for _ in range(REPEATS))
                    results[name][f"plain_pass_{order}_s"] = seconds
            print(f"{name:16} {json.dumps(results[name]['metrics'][results[name]['primary']])}", flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
