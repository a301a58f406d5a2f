"""Labels that 90 % of the full accuracy takes: proposed items against random ones, five seeds.

    python -m benchmarks.label_few [NAME …]    reads ../shared/data; writes benchmarks/results/label_few.json

Each seed holds a quarter of the items out to test on, and draws a pool of the rest. Every way orders the pool without a
look at labels; a linear probe on the last stage then learns from the first n of them, for growing n. Full accuracy is
that of the whole pool's labels. The number of labels is read off the line between two budgets, on the logarithm.
"k-centre" (arXiv:1708.00489), "ProbCover" (arXiv:2205.11320) and "TypiClust" (arXiv:2202.02794) are small versions.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.cluster import clinc, solar
from benchmarks.fit import ROOT
from headstart import registry
from headstart.evidence.groups import k_means
from headstart.evidence.propose import propose
from headstart.evidence.space import fit_space
from headstart.items import Items, look, prepared
from headstart.progress import Progress
from headstart.strategies.probe import standardised
from headstart.tasks.logistic import Rotated, path
from headstart.workshop import load_backbone

RESULTS = ROOT / "benchmarks" / "results" / "label_few.json"
SEEDS, MOST_IN_POOL, SHARE = 5, 3000, 0.9
PENALTIES = (100.0, 10.0)  # the second one counts; the first is a start to it
DATA = {
    "clinc150": (clinc, "minilm", (75, 150, 225, 300, 450, 600, 900)),
    "solar cells": (lambda: solar("label"), "efficientnet-lite0", (8, 16, 32, 64, 128, 256, 512)),
}


def at_random(places: np.ndarray, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(places))[:n]


def k_centre(places: np.ndarray, n: int, seed: int) -> np.ndarray:
    chosen = [int((places @ places.mean(axis=0)).argmax())]
    apart = 1 - places @ places[chosen[0]]
    while len(chosen) < n:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, 1 - places @ places[chosen[-1]])
    return np.array(chosen)


def prob_cover(places: np.ndarray, n: int, seed: int, near: float = 0.6) -> np.ndarray:
    """Greedy cover by balls of cosine 0.6; what is left over, in any order."""
    covers, covered, chosen = (places @ places.T) >= near, np.zeros(len(places), bool), list[int]()
    while len(chosen) < n and not covered.all():
        chosen.append(int((covers & ~covered).sum(axis=1).argmax()))
        covered |= covers[chosen[-1]]
    rest = np.setdiff1d(np.random.default_rng(seed).permutation(len(places)), chosen, assume_unique=True)
    return np.array([*chosen, *rest])[:n]


def typi_clust(places: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The most typical item of each k-means group without a choice yet; twice as many groups each round."""
    typical = np.partition(-(places @ places.T), 20, axis=1)[:, :21].mean(axis=1)
    chosen, k = list[int](), 8
    while len(chosen) < n:
        labels = k_means(places, min(k, len(places)), seed).labels_
        done = set(labels[chosen])
        for label in np.argsort(-np.bincount(labels)):
            if label not in done and len(chosen) < n:
                rows = np.flatnonzero(labels == label)
                chosen.append(int(rows[typical[rows].argmin()]))
        k *= 2
    return np.array(chosen)


WAYS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "proposed": propose,
    "random": at_random,
    "k-centre": k_centre,
    "ProbCover": prob_cover,
    "TypiClust": typi_clust,
}


def score(features: np.ndarray, y: np.ndarray, rows: np.ndarray, test: np.ndarray) -> float:
    """Of a probe that learnt from `rows`: accuracy, for two classes ROC AUC; of few labels of one class, chance."""
    known = np.unique(y[rows])
    if len(known) < 2:
        return 0.5 if y.max() == 1 else float(np.mean(y[test] == known[0]))
    *_, (weight, bias) = path(Rotated.of(features[rows]), y[rows], PENALTIES)
    logits = features[test] @ weight.T + bias
    if y.max() == 1:
        return float(roc_auc_score(y[test], logits[:, 0]))
    return float(np.mean(known[logits.argmax(axis=1)] == y[test]))


def labels_needed(budgets: list[int], scores: list[float], goal: float) -> float | None:
    """Where the line through the scores first reaches the goal; None where it does not."""
    if scores[0] >= goal:
        return float(budgets[0])
    for (n, low), (m, high) in pairwise(zip(budgets, scores, strict=True)):
        if low < goal <= high:
            return float(np.exp(np.interp(goal, (low, high), np.log((n, m)))))
    return None


def looked_at(name: str) -> Items:
    read, backbone, _ = DATA[name]
    progress, dataset = Progress(), read()
    network = load_backbone(backbone, registry.modality(dataset.modality), progress)
    return look(prepared(dataset, progress), network, progress)


def measure(name: str) -> dict:
    """Every way, seed and budget; and the labels that the goal takes."""
    items, budgets = looked_at(name), list(DATA[name][2])
    y = np.unique(items.dataset.column("label"), return_inverse=True)[1]
    features = standardised(items.features)[0]
    found: dict[str, list[dict]] = {way: [] for way in WAYS}
    for seed in range(SEEDS):
        mixed = np.random.default_rng(seed).permutation(len(y))
        test, pool = mixed[: len(y) // 4], mixed[len(y) // 4 :][:MOST_IN_POOL]
        places = fit_space(items.features[pool]).places(items.features[pool])
        full = score(features, y, pool, test)
        goal = SHARE * full if y.max() > 1 else 0.5 + SHARE * (full - 0.5)
        for way, choose in WAYS.items():
            start = time.perf_counter()
            order = pool[choose(places, budgets[-1], seed)]
            seconds = time.perf_counter() - start
            scores = [score(features, y, order[:n], test) for n in budgets]
            needed = labels_needed(budgets, scores, goal)
            found[way].append({"full": full, "scores": scores, "needed": needed, "seconds": seconds})
            print(f"{name} {seed} {way}: {needed} labels; {np.round(scores, 3).tolist()}, full {full:.3f}", flush=True)
    return {"budgets": budgets, "pool": len(pool), "n_test": len(test), "ways": found, "needed": summary(found)}


def summary(found: dict[str, list[dict]]) -> dict[str, dict]:
    """Mean and standard deviation of the labels needed, and the paired ratio to random with a 95 % interval of t."""
    from scipy.stats import t

    told = {}
    for way, runs in found.items():
        needed = np.array([np.nan if run["needed"] is None else run["needed"] for run in runs])
        random = np.array([np.nan if run["needed"] is None else run["needed"] for run in found["random"]])
        ratio = np.log(needed / random)
        ratio = ratio[~np.isnan(ratio)]
        half = t.ppf(0.975, len(ratio) - 1) * ratio.std(ddof=1) / np.sqrt(len(ratio)) if len(ratio) > 1 else np.nan
        told[way] = {
            "mean": float(np.nanmean(needed)) if len(ratio) else None,
            "sd": float(np.nanstd(needed, ddof=1)) if len(ratio) > 1 else None,
            "reached": int((~np.isnan(needed)).sum()),
            "ratio_to_random": [float(np.exp(ratio.mean() + side * half)) for side in (0, -1, 1)]
            if len(ratio) > 1
            else None,
        }
    return told


def main() -> None:
    """Measure what was named (default: all), and keep the figures."""
    for name in sys.argv[1:] or DATA:
        found = measure(name)
        for way, one in found["needed"].items():
            print(f"{name}, {way}: {one}", flush=True)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}  # another process may have added to it
        results[name] = found
        RESULTS.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
