"""Training above a cut from cached activations beside the same training without: measured, and as the planner counts.

    python -m benchmarks.cache [text] [image]      writes benchmarks/results/cache.json

MiniLM on SST-2 (../shared/data) and EfficientNet-Lite0 on the solar cells, 256 training and 64 validation examples,
three epochs, at every second cut. Both are timed by turns, the cached one with its own pass; medians of three.
"Counted" is the ratio by which the planner decides whether to cache.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from dataclasses import replace

import headstart
from benchmarks.fit import ROOT, SHARED
from headstart import places
from headstart.demo import demo_data
from headstart.engine.train import train
from headstart.problem import pose
from headstart.progress import Progress
from headstart.strategies.partial import Partial
from headstart.wishes import Wishes
from headstart.workshop import Workshop, load_backbone, open_workshop

RESULTS = ROOT / "benchmarks" / "results" / "cache.json"
N_TRAIN, N_VAL, EPOCHS, REPEATS = 256, 64, 3, 3


def workshop(name: str) -> Workshop:
    """The data and their default backbone."""
    source, label = (str(SHARED / "text_sst2"), None) if name == "text" else demo_data("image", Progress())
    problem = pose(headstart.read(source, label=label), 0, Progress())
    rows = {"train": problem.rows["train"][:N_TRAIN], "val": problem.rows["val"][:N_VAL]}
    problem = replace(problem, rows={**problem.rows, **rows})
    network = load_backbone(None, problem.modality, Progress())
    return open_workshop(problem, network, problem.task.metrics(), Wishes(), 0, Progress())


def seconds(shop: Workshop, way: Partial, cache: bool) -> tuple[float, float]:
    """(what its own pass took, what training took), nothing being cached before."""
    shutil.rmtree(places.features() / shop.runner.fingerprint / f"cut-{way.freeze:02d}", ignore_errors=True)
    start = time.perf_counter()
    lesson = shop.lesson(way, cache=cache)
    own = time.perf_counter() - start
    return own, train(way, lesson).seconds


def main() -> None:
    """Every cut of what was named, default both."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[1:] or ("text", "image"):
        shop = workshop(name)
        _ = shop.probed, shop.work  # the frozen pass over all stages, and the first head
        rows = []
        for cut in range(1, shop.backbone.n_stages, 2):
            way = Partial(freeze=cut, epochs=EPOCHS, patience=EPOCHS)
            runs = [(seconds(shop, way, True), seconds(shop, way, False)) for _ in range(REPEATS)]
            own, cached, plain = (
                statistics.median(run) for run in zip(*((a[0], a[1], sum(b)) for a, b in runs), strict=True)
            )
            counted = [shop.work.passes(way, N_TRAIN, cache=cache) for cache in (False, True)]
            row = {
                "cut": cut,
                "own_pass_s": own,
                "cached_s": cached,
                "without_s": plain,
                "measured": plain / (own + cached),
                "counted": counted[0] / counted[1],
                "caches": shop.work.caches(way, N_TRAIN),
            }
            rows.append(row)
            print(name, json.dumps(row), flush=True)
        results[name] = {"backbone": shop.backbone.provenance.name, "way": shop.runner.way, "cuts": rows}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
