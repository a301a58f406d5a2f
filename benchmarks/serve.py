"""`headstart serve` under load, beside the floor of the machine: ONNX Runtime in a loop, one item at a time.

    python -m benchmarks.serve [--seconds 60] [--examples 600]   writes benchmarks/results/serve.json

Probes are fitted on SST-2 and on hymenoptera. The server is one process, the client another (`benchmarks/load.py`):
32 connections that ask for one item each, and again as soon as they are answered. The floor is the same network and
head exported to ONNX, with tokenising or decoding, called in a loop by one process on all cores. Then ten text models
on one backbone, and more clients than the server takes.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fit import ROOT, SHARED
from benchmarks.growth import texts
from benchmarks.speed.machine import card

RESULTS = ROOT / "benchmarks" / "results" / "serve.json"
N_CLIENTS, N_MODELS, N_BODIES = 32, 10, 2000


class Server:
    """`headstart serve` as a process."""

    def __init__(self, runs: Sequence[Path], *options: str) -> None:
        command = [sys.executable, "-m", "headstart.cli", "serve", *map(str, runs), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r":(\d+):", self.process.stdout.readline())
        assert found, "the server did not start"
        self.port = int(found[1])

    def resident_mb(self) -> float:
        """Memory of the process that belongs to no file."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

    def load(self, path: str, bodies: Path, seconds: float, n_clients: int = N_CLIENTS, *kind: str) -> dict[str, Any]:
        """What the client's process says, and memory before and after."""
        before = self.resident_mb()
        words = [str(self.port), path, str(bodies), str(seconds), str(n_clients), *kind]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        return {**json.loads(done.stdout), "start_mb": before, "end_mb": self.resident_mb()}


@contextmanager
def served(runs: Sequence[Path], *options: str) -> Iterator[Server]:
    """A server that is stopped at the end."""
    server = Server(runs, *options)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0


def fitted(folder: Path, n: int) -> tuple[list[Path], Path]:
    """Ten text runs on one backbone, each of another depth or draw, and one of pictures."""
    import headstart

    data = headstart.read(SHARED / "text_sst2" / "train.csv")
    runs = []
    for i in range(N_MODELS):
        some = data.select(list(range(i * n, (i + 1) * n)))
        runs.append(headstart.fit(some, strategy="probe", scratch=False, seed=i).save(folder / f"texts-{i}"))
    pictures = headstart.fit(SHARED / "img_hymenoptera", strategy="probe", scratch=False).save(folder / "pictures")
    return runs, pictures


def floor(run: Path, items: Sequence[Any], seconds: float) -> dict[str, float]:
    """Items a second that one process answers with ONNX Runtime alone."""
    import onnxruntime

    import headstart
    from headstart.engine.onnx import Pooled, export

    model = headstart.load(run)
    backbone, modality = model.pretrained, model.modality
    file = run.parent / f"{run.name}.onnx"
    stored = [modality.store(item, None) for item in items]
    export(Pooled(backbone, list(model.stages)), backbone.collate([modality.open(stored[0], backbone.detail)]), file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    n, first = 0, time.perf_counter() + 3
    while (now := time.perf_counter()) < first + seconds:
        inputs = backbone.collate([modality.open(stored[n % len(stored)], backbone.detail)])
        features = session.run(None, {name: one.numpy() for name, one in inputs.items()})
        joined = features[0] if len(features) == 1 else np.concatenate(features, axis=1)
        model.task.decode(model.task.scores(model.head.logits(joined), model.plan.temperature))
        n = n + 1 if now >= first else 0
    return {"per_s": n / seconds}


def in_another_process(what: str, *words: str) -> dict[str, Any]:
    """A part of this file, run by itself."""
    command = [sys.executable, "-m", "benchmarks.serve", "--part", what, *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def written(file: Path, bodies: Sequence[bytes]) -> Path:
    """Request bodies as the client reads them."""
    file.write_text(json.dumps([base64.b64encode(body).decode() for body in bodies]))
    return file


def pictures() -> list[bytes]:
    """The files of hymenoptera."""
    return [path.read_bytes() for path in sorted((SHARED / "img_hymenoptera").rglob("*.jpg"))]


def part(words: Sequence[str]) -> dict[str, Any]:
    """What is measured or made apart from the rest."""
    match words:
        case ["fit", folder, n]:
            runs, picture_run = fitted(Path(folder), int(n))
            return {"texts": [str(run) for run in runs], "pictures": str(picture_run)}
        case ["floor", kind, run, seconds]:
            items = texts(N_BODIES) if kind == "texts" else pictures()
            return floor(Path(run), items, float(seconds))
    raise ValueError(words)


def measure(folder: Path, seconds: float, n: int) -> dict[str, Any]:
    """All of it."""
    runs = in_another_process("fit", str(folder), str(n))
    text_runs, picture_run = [Path(run) for run in runs["texts"]], Path(runs["pictures"])
    said = [json.dumps({"items": [text]}).encode() for text in texts(N_BODIES)]
    text_bodies, picture_bodies = written(folder / "t.json", said), written(folder / "p.json", pictures())
    found: dict[str, Any] = {"machine": card(), "examples": n}
    with served(text_runs[:1]) as server:
        found["texts"] = server.load(f"/models/{text_runs[0].name}/predict", text_bodies, seconds)
        one_mb = server.resident_mb()
    with served([picture_run]) as server:
        found["pictures"] = server.load("/predict", picture_bodies, seconds, N_CLIENTS, "image/jpeg")
    for kind, run in (("texts", text_runs[0]), ("pictures", picture_run)):
        found[kind]["floor"] = in_another_process("floor", kind, str(run), str(min(20.0, seconds)))
        found[kind]["of_floor"] = found[kind]["per_s"] / found[kind]["floor"]["per_s"]
    with served(text_runs) as server:
        found["ten"] = server.load("/predict", text_bodies, seconds)
        found["ten"] |= {"mb": server.resident_mb(), "one_mb": one_mb}
    found["ten"]["times_one_by_one"] = found["ten"]["per_s"] / (found["texts"]["per_s"] / N_MODELS)
    with served(text_runs[:1], "--max-waiting", "64") as server:
        found["overload"] = server.load("/predict", text_bodies, min(20.0, seconds), 8 * N_CLIENTS)
    return found


def main() -> None:
    """Measure, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--examples", type=int, default=600)
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(part(given.part)))
        return
    own = Path(os.environ.get("HEADSTART_HOME", Path.home() / ".cache" / "headstart"))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        (home / "weights").symlink_to(own / "weights")
        os.environ["HEADSTART_HOME"] = str(home)
        found = measure(Path(folder), given.seconds, given.examples)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
