"""The planner against the whole grid of strategies × cuts: how much worse its choice is, at what share of the time.

    python -m benchmarks.regret [NAME …]             reads ../shared/data; writes benchmarks/results/regret.json
    python -m benchmarks.regret --planner [NAME …]   the planner anew, beside the kept grid; only its best cell is run

Texts learn from at most 2,000 examples, pictures from at most 1,000 (PneumoniaMNIST, whose validation split is large,
from 400). Every cell of the grid and every trial of the planner is timed on its own in the same process; nothing is run
twice. All cuts of texts are in the grid, and every second one of pictures.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import headstart
from benchmarks.fit import ROOT, SHARED
from headstart import adapt, registry
from headstart.adapt import title_of
from headstart.demo import demo_data
from headstart.engine.trials import Trials
from headstart.evidence import planner
from headstart.evidence.compare import Judge
from headstart.evidence.transferability import score_features
from headstart.evidence.weigh import Scales
from headstart.problem import pose, some_of_each
from headstart.progress import Progress
from headstart.strategies.full import Full
from headstart.strategies.lora import Lora
from headstart.strategies.partial import Partial
from headstart.strategies.probe import Probe
from headstart.strategies.scratch import Scratch
from headstart.wishes import Wishes
from headstart.workshop import load_backbone, open_workshop

RESULTS = ROOT / "benchmarks" / "results" / "regret.json"
DATA = {
    "SST-2": SHARED / "text_sst2",
    "CR": SHARED / "text_cr" / "all.csv",
    "TREC": SHARED / "text_trec",
    "hymenoptera": SHARED / "img_hymenoptera",
    "solar cells": None,
    "PneumoniaMNIST": SHARED / "med_pneumoniamnist" / "pneumoniamnist.npz",
}
MOST = {"text": 2000, "image": 1000, "PneumoniaMNIST": 400}  # training examples, of a modality or a data set


def posed(name: str) -> Any:
    """The problem with its train split cut down, each class keeping its share."""
    path, label = (DATA[name], None) if DATA[name] else demo_data("image", Progress())
    problem = pose(headstart.read(path, label=label), 0, Progress())
    train = problem.rows["train"]
    most = MOST.get(name, MOST[problem.dataset.modality])
    if len(train) > most:
        train = train[some_of_each(problem.y[train], most, 0)]
    return replace(problem, rows={**problem.rows, "train": train})


def grid(shop: Any) -> list[Any]:
    """Every strategy at every cut (of pictures every second)."""
    n, shared = shop.backbone.n_stages, planner.common(shop.work.n_train)
    cuts = list(range(1, n)) if shop.problem.dataset.modality == "text" else [2, 4, 5, 7]
    ways: list[Any] = [Partial(freeze=cut, **shared) for cut in cuts]
    ways += [Lora(freeze=cut, **shared) for cut in (round(n * 0.25), round(n * 0.5))]
    return [*ways, Full(**shared), Scratch(**shared)]


def measure(name: str, folder: Path, kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """The whole grid, or the best cell of a kept one, and the planner's choice, on the primary metric and accuracy."""
    problem, progress = posed(name), Progress()
    metrics = problem.task.metrics()
    network = load_backbone(None, problem.modality, progress)
    shop = open_workshop(problem, network, metrics, Wishes(), 0, progress)
    shop.trials = Trials(folder)
    names = [stage.name for stage in network.stages]
    test = problem.rows["test"]
    weights = Scales(metrics=metrics).resamples(len(test))
    judge = Judge(metric=shop.metric, y=problem.y[test], weights=weights)
    said: dict[str, np.ndarray] = {}
    cells = []

    def tell(strategy: Any, solved: Any, seconds: float, val: float) -> None:
        scores = shop.scores(solved, test)
        title = f"{registry.plugin_name(strategy)}: {title_of(strategy, names)}"
        said[title] = scores
        one = np.ones((1, len(test)))
        values = {m.name: float(m.compute(problem.y[test], scores, one)[0]) for m in metrics[:3]}
        cells.append({"title": title, "cut": strategy.cut(len(names)), "seconds": seconds, "val": val, "test": values})
        print(f"  {name}: {title}: {values}, {seconds:.0f} s", flush=True)

    assert shop.frozen is not None
    for probed in shop.probed:
        if len(probed.point.stages) == 1:
            solved = shop.solve(Probe(stages=probed.point.stages))
            tell(Probe(stages=probed.point.stages), solved, 0.0, probed.point.score.value)
    for way in grid(shop):
        if kept and f"{registry.plugin_name(way)}: {title_of(way, names)}" != kept["best"]:
            continue
        before = time.perf_counter()
        tried = shop.train(way)
        tell(way, tried.solved, time.perf_counter() - before, tried.score.value)
    shared = progress.seconds["frozen pass"] + progress.seconds["depth profile"]
    chosen = adapt.choose(shop, Wishes())
    final = shop.scores(chosen.solved, test)
    best = max(said, key=lambda title: judge.gain(judge.score(said[title]).value))
    regret, error = judge.gain_over(said[best], final)
    searched = sum(one.seconds for one in chosen.candidates if one.round > 0)
    rows = problem.rows["train"]
    transferability = [
        score_features(shop.frozen.stage(k, rows), problem.y[rows], stage=k, name=names[k]).to_json()
        for k in range(len(names))
    ]
    return {
        "metric": shop.metric.name,
        "n_train": len(rows),
        "n_test": len(test),
        "grid_s": kept["grid_s"] if kept else shared + sum(cell["seconds"] for cell in cells),
        "planner_s": shared + searched,
        "best": best,
        "best_value": judge.score(said[best]).value,
        "chosen": chosen.reason,
        "chosen_value": judge.score(final).value,
        "regret": regret,
        "standard_error": error,
        "cells": kept["cells"] if kept else cells,
        "candidates": [
            [c.title, c.round, c.n_train, c.score.value if c.score else None, c.seconds, c.outcome]
            for c in chosen.candidates
        ],
        "transferability": transferability,
    }


def main() -> None:
    """Measure what was named (default: all that is there), and keep the figures."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    planner_only = "--planner" in sys.argv
    named = [name for name in sys.argv[1:] if name != "--planner"]
    for name in named or [n for n, path in DATA.items() if path is None or path.exists()]:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, Path(folder), results[name] if planner_only else None)
        one = results[name]
        print(
            f"{name:16} best {one['best_value']:.3f} ({one['best']}), chosen {one['chosen_value']:.3f} "
            f"({one['chosen']}), regret {one['regret']:.4f} ± {one['standard_error']:.4f}, "
            f"time {one['planner_s'] / one['grid_s']:.2f} of the grid's",
            flush=True,
        )
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
