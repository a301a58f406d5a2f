"""Time and memory of the frozen pass as the data grow: 1 k, 10 k, 100 k and 300 k texts.

    python -m benchmarks.growth [N …]      reads ../shared/data/text_sst2; writes benchmarks/results/growth.json

The training sentences of SST-2 are repeated with a number behind each, so that every text is another. Each size is a
process of its own with an empty cache: seconds to run MiniLM over all texts and keep the features of every stage, the
resident memory when the texts are read, and the most that the pass took on top of that. Sizes that are not named keep
their last figures.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.fit import ROOT, SHARED

RESULTS = ROOT / "benchmarks" / "results" / "growth.json"
SIZES = (1_000, 10_000, 100_000, 300_000)


def texts(n: int) -> list[str]:
    """n texts, no two alike."""
    with (SHARED / "text_sst2" / "train.csv").open(newline="", encoding="utf-8") as file:
        known = [row["text"] for row in csv.DictReader(file)]
    return [f"{known[i % len(known)]} {i // len(known)}" for i in range(n)]


def resident() -> int:
    """Bytes of this process that are in memory and belong to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


class Peak(threading.Thread):
    """The most resident memory until it is stopped, looked at every 50 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.ended = 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.05):
            self.most = max(self.most, resident())


def run(n: int) -> dict[str, float]:
    """Features of n texts at every stage, kept on disk."""
    from headstart import places, registry
    from headstart.engine import freeze
    from headstart.engine.fastest import fastest
    from headstart.progress import Progress
    from headstart.workshop import load_backbone

    modality, progress = registry.modality("text"), Progress()
    network = load_backbone("minilm", modality, progress)
    items = texts(n)
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in items]
    runner = fastest(network, modality, items, progress)  # warms up too
    before, peak = resident(), Peak()
    peak.start()
    start = time.perf_counter()
    freeze.features(runner, modality, items, digests, progress)
    seconds = time.perf_counter() - start
    peak.ended.set()
    peak.join()
    kept = sum(file.stat().st_size for file in places.features().rglob("*.npy"))
    return {
        "texts": n,
        "way": runner.way,
        "seconds": seconds,
        "ms_a_text": 1000 * seconds / n,
        "before_mb": before / 2**20,
        "peak_mb": (peak.most - before) / 2**20,
        "kept_mb": kept / 2**20,
    }


def main() -> None:
    """Each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(run(given.run)))
        return
    own = Path(os.environ.get("HEADSTART_HOME", Path.home() / ".cache" / "headstart"))
    found = {one["texts"]: one for one in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    for n in given.sizes:
        with tempfile.TemporaryDirectory() as home:
            (Path(home) / "weights").symlink_to(own / "weights")
            command = [sys.executable, "-m", "benchmarks.growth", "--run", str(n)]
            apart = {**os.environ, "HEADSTART_HOME": home}
            done = subprocess.run(command, cwd=ROOT, env=apart, stdout=subprocess.PIPE, text=True, check=True)
        found[n] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(found[n]), flush=True)
        RESULTS.write_text(json.dumps([found[n] for n in sorted(found)], indent=1) + "\n")


if __name__ == "__main__":
    main()
