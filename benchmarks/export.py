"""Exports of real runs: do they answer as the model does, and how long do one item and 64 take?

    python -m benchmarks.export [NAME …]      reads ../shared/data; writes benchmarks/results/export.json

Three runs: SST-2 (2,000 sentences, trained above layer 4), TREC (all, a probe) and the demo's solar cells (a probe).
Latency is from a text or an RGB picture to scores, medians of 15 calls by turns, on all cores: the model's own
`predict_proba` with an empty cache, and ONNX Runtime on the exported file.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fit import ROOT, SHARED, headstart
from benchmarks.speed.machine import card
from benchmarks.speed.tasks import prepare
from headstart import places

RESULTS = ROOT / "benchmarks" / "results" / "export.json"
FORMATS = {"SST-2": ("onnx", "int8", "torch", "hf"), "TREC": ("onnx", "int8", "torch", "hf")}
CALLS, MANY = 15, 64


def runs(names: list[str], scratch: Path, home: Path) -> dict[str, Path]:
    """Fit those that were named, or all three."""
    (scratch / "sst2").mkdir()
    prepare("sst2", scratch / "sst2")
    probe = ["--strategy", "probe", "--no-scratch"]
    asked = {
        "SST-2": ["fit", str(scratch / "sst2"), "--strategy", "partial", "--freeze", "5", "--no-scratch"],
        "TREC": ["fit", str(SHARED / "text_trec"), *probe],
        "solar cells": ["fit", str(home / "demo" / "image" / "solar-cells.csv"), "--label", "label", *probe],
    }
    return {
        name: Path(headstart(arguments, home, scratch)["run"])
        for name, arguments in asked.items()
        if name in (names or asked)
    }


def measure(run: Path, scratch: Path, formats: tuple[str, ...]) -> dict[str, Any]:
    """Each export's parity, and latencies in milliseconds."""
    import headstart as hs
    from headstart.deploy.export import export
    from headstart.errors import HeadstartError

    model, found = hs.load(run), {}
    for name in formats:
        kind, folder = ("onnx" if name == "int8" else name), scratch / f"{run.name}-{name}"
        start = time.perf_counter()
        try:
            done = export(model, kind, folder, int8=name == "int8")
        except HeadstartError as error:
            found[name] = {"refused": str(error)}
            continue
        found[name] = {**done.parity.to_json(), "said": str(done.parity), "seconds": time.perf_counter() - start}
    return {"exports": found, "way": model.backbone.way, "latency_ms": latencies(model, scratch, run)}


def latencies(model: Any, scratch: Path, run: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of one item and of 64, by who answers."""
    import onnxruntime

    kept = model.examples.of("val").items[:MANY]
    items = [model.modality.open(item) for item in kept]
    inputs = items if model.backbone.modality == "text" else [np.asarray(item) for item in items]
    answer: dict[str, Callable[[list[Any]], Any]] = {"model": model.predict_proba}
    for name in ("onnx", "int8"):
        file = scratch / f"{run.name}-{name}" / "model.onnx"
        if file.exists():
            session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            answer[name] = lambda some, session=session: _by_onnx(model, session, some)
    timed: dict[str, dict[str, list[float]]] = {name: {"1": [], str(len(items)): []} for name in answer}
    for call in range(CALLS + 2):
        for name, ask in answer.items():
            for n in (1, len(items)):
                given = [inputs[call % len(inputs)]] if n == 1 else inputs
                start = time.perf_counter()
                ask(list(given))
                if call > 1:
                    timed[name][str(n)].append(1000 * (time.perf_counter() - start))
    return {name: {n: statistics.median(times) for n, times in one.items()} for name, one in timed.items()}


def _by_onnx(model: Any, session: Any, items: list[Any]) -> Any:
    if model.backbone.modality == "text":
        inputs = {name: one.numpy() for name, one in model.backbone.collate(items).items()}
        return session.run(["scores"], inputs)[0]
    if len({item.shape for item in items}) == 1:
        return session.run(["scores"], {"pixels": np.stack(items)})[0]
    return [session.run(["scores"], {"pixels": item[None]})[0] for item in items]


def main() -> None:
    """Fit in processes of their own, then export and measure with an empty cache."""
    if sys.argv[1:2] == ["--run"]:
        run, scratch, name = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
        print(json.dumps(measure(run, scratch, FORMATS.get(name, ("onnx", "int8", "torch")))))
        return
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = kept if kept.get("card") == card() else {"card": card()}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name, run in runs(sys.argv[1:], scratch, places.home()).items():
            home = scratch / f"home-{run.name}"
            home.mkdir()
            (home / "weights").symlink_to(places.weights())
            command = [sys.executable, "-m", "benchmarks.export", "--run", str(run), str(scratch), name]
            apart = {**os.environ, "HEADSTART_HOME": str(home)}
            done = subprocess.run(command, cwd=ROOT, env=apart, stdout=subprocess.PIPE, text=True, check=True)
            results[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, json.dumps(results[name], indent=1), flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
