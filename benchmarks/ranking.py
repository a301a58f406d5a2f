"""How well transferability scores rank backbone-stage candidates: weighted Kendall tau with the score on test.

    python -m benchmarks.ranking      reads ../shared/data; writes benchmarks/results/ranking.json

A candidate is one stage of one backbone; its trained score is that of the linear probe on it. Beside it stands the
0.67 that Transfer-Learning-Library's table gives for LogME, the mean over 8 data sets of whole fine-tuned networks.
Where benchmarks/results/regret.json has the cuts of a data set, the scores of the last frozen stage are also held
against the network that was trained above it.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np

import headstart
from benchmarks.fit import ROOT, SHARED
from headstart.evidence.transferability import score_features, weighted_kendall
from headstart.problem import pose
from headstart.progress import Progress
from headstart.strategies.probe import Probe
from headstart.wishes import Wishes
from headstart.workshop import load_backbone, open_workshop

RESULTS = ROOT / "benchmarks" / "results" / "ranking.json"
REGRET = ROOT / "benchmarks" / "results" / "regret.json"
LITE = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
DATA = {
    "hymenoptera": (SHARED / "img_hymenoptera", LITE),
    "CR": (SHARED / "text_cr" / "all.csv", ("minilm",)),
    "TREC": (SHARED / "text_trec", ("minilm",)),
    "SST-2": (SHARED / "text_sst2", ("minilm",)),
}
SCORES = ("logme", "h_score", "transrate", "probe_cv")
PUBLISHED = 0.67


def measure(name: str) -> dict:
    """Every stage of every backbone: its scores on train, and its probe's first metric on test."""
    path, backbones = DATA[name]
    progress = Progress()
    problem = pose(headstart.read(path), 0, progress)
    metric = problem.task.metrics()[0]
    train, test = problem.rows["train"], problem.rows["test"]
    candidates = []
    for backbone in backbones:
        network = load_backbone(backbone, problem.modality, progress)
        shop = open_workshop(problem, network, problem.task.metrics(), Wishes(), 0, progress)
        for k, stage in enumerate(network.stages):
            found = score_features(shop.frozen.stage(k, train), problem.y[train], stage=k, name=stage.name)
            scores = shop.scores(shop.solve(Probe(stages=(k,))), test)
            value = float(metric.compute(problem.y[test], scores, np.ones((1, len(test))))[0])
            candidates.append({"backbone": backbone, **asdict(found), "test": value})
    trained = np.array([one["test"] for one in candidates])
    tau = {s: weighted_kendall(np.array([one[s] for one in candidates]), trained) for s in SCORES}
    return {"metric": metric.name, "n_candidates": len(candidates), "tau": tau, "candidates": candidates}


def trained_above(name: str) -> dict | None:
    """The same against what was trained above each stage in the regret grid; None where there is none."""
    grids = json.loads(REGRET.read_text()) if REGRET.exists() else {}
    if name not in grids:
        return None
    grid = grids[name]
    stages = {one["stage"]: one for one in grid["transferability"]}
    cuts = [cell for cell in grid["cells"] if cell["title"].startswith("partial: ")]
    trained = np.array([cell["test"][grid["metric"]] for cell in cuts])
    frozen = [stages[cell["cut"] - 1] for cell in cuts]
    tau = {score: weighted_kendall(np.array([one[score] for one in frozen]), trained) for score in SCORES}
    return {"n_candidates": len(cuts), "tau": tau}


def main() -> None:
    """Measure what is there, and keep the figures."""
    results = {"published LogME, mean of 8 data sets": PUBLISHED}
    for name, (path, _) in DATA.items():
        if path.exists():
            results[name] = {**measure(name), "trained above the stage": trained_above(name)}
            print(name, results[name]["n_candidates"], "candidates:", results[name]["tau"], flush=True)
            print(f"  trained above the stage: {results[name]['trained above the stage']}", flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
