"""Heart disease in four hospitals: each as the target with 0, 20, 50 and 100 labels, the other three as the source.

    python -m benchmarks.heart [--peer /tmp/adapt-venv/bin/python] [--only HOSPITAL …] [--seeds 10]

Reads ../shared/data/tab_heart_4hospitals; writes benchmarks/results/heart.json. A cholesterol of 0 is a missing value.
Labelled rows are drawn by seed, in the hospital's own shares but with at least one of each class; all other rows of the
hospital are the test, and their columns (not their labels) are what is known of the target besides. The automatic
choice and every way by itself (its settings weighed the same way) learn from the same rows. Intervals are t-intervals
over the seeds, whose draws overlap: they speak of the draw of labels, not of other hospitals.

`--peer` is a Python with `adapt` (pip install adapt tensorflow-cpu); skada is in the extra `align`. Peers get the very
matrices that our ways learn from, and the same base learners.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.fit import ROOT, SHARED
from headstart import registry
from headstart.strategies.base import Part
from headstart.tables.base import Domains
from headstart.tables.encoder import learn_encoder
from headstart.tables.planner import Planned, as_it_is, begin, plan, ship

RESULTS = ROOT / "benchmarks" / "results" / "heart.json"
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va_long_beach")
BUDGETS = (0, 20, 50, 100)
# well-filled in all four but chol: these give the figures of SOURCE.md
NINE = ("age", "sex", "cp", "trestbps", "fbs", "restecg", "thalach", "exang", "oldpeak")
PUBLISHED = {"hungarian": 0.876, "switzerland": 0.716, "va_long_beach": 0.732}  # SOURCE.md, logistic regression
AUTO, TARGET_ONLY = "automatic", "target_only"
PEER_SEEDS = 3
MARGIN = 0.01  # of AUC: how far below the best fixed way the automatic choice may be on average

Table = dict[str, list[dict[str, float]]]


def read() -> tuple[Table, dict[str, np.ndarray]]:
    """(rows, labels) of each hospital; what is empty, and a cholesterol of 0, is not in the row."""
    rows: Table = {name: [] for name in HOSPITALS}
    labels: dict[str, list[int]] = {name: [] for name in HOSPITALS}
    with (SHARED / "tab_heart_4hospitals" / "heart.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            hospital, ill = line.pop("hospital"), int(line.pop("target_binary"))
            line.pop("target")
            row = {name: float(cell) for name, cell in line.items() if cell}
            if row.get("chol") == 0:
                del row["chol"]
            rows[hospital].append(row)
            labels[hospital].append(ill)
    return rows, {name: np.array(found) for name, found in labels.items()}


def drawn(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Sorted positions of n labelled rows, each class with its share and at least one."""
    rng = np.random.default_rng(seed)
    n_ill = min(max(round(n * y.mean()), 1), n - 1) if n else 0
    parts = [rng.permutation(np.flatnonzero(y == k))[:m] for k, m in ((0, n - n_ill), (1, n_ill))]
    return np.sort(np.concatenate(parts)).astype(int)


def sides(rows: Table, labels: dict[str, np.ndarray], target: str) -> tuple[np.ndarray, np.ndarray, Part]:
    """(X, y) of the target, and the source, encoded."""
    others = [name for name in HOSPITALS if name != target]
    source = [row for name in others for row in rows[name]]
    encoder = learn_encoder(rows[target], source)
    y = np.concatenate([labels[name] for name in others])
    return encoder.encode(rows[target]), labels[target], Part(encoder.encode(source), y)


def cell(X: np.ndarray, y: np.ndarray, source: Part, n: int, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """(test AUC by way, weight by way) for one draw of n labels."""
    task = registry.TASKS.get("classification").from_labels(["0", "1"])
    teach = drawn(y, n, seed)
    test = np.setdiff1d(np.arange(len(y)), teach)
    domains = Domains(task=task, target=X, source=source, seed=seed)
    ways = begin(domains)
    target = Part(X[teach], y[teach])
    planned = plan(domains, ways, target)

    def auc(some: Planned) -> float:
        return float(roc_auc_score(y[test], ship(domains, some, target).scores(task, X[test])[:, 1]))

    found = {AUTO: auc(planned)} | {name: auc(planned.only([name])) for name in planned.names}
    found["source as it is"] = float(
        roc_auc_score(y[test], as_it_is(ways, "source_only", domains).scores(task, X[test])[:, 1])
    )
    return found, {name: planned.of(name) for name in planned.names}


def mean_and_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean with its 95 % t-interval."""
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else float("nan")
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def run(hospitals: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """Every cell: hospital, labels, and for each way the AUC of every seed."""
    rows, labels = read()
    found = []
    for hospital in hospitals:
        X, y, source = sides(rows, labels, hospital)
        for n in BUDGETS:
            start = time.perf_counter()
            draws = [cell(X, y, source, n, seed) for seed in range(seeds)]
            auc = {name: [one[0][name] for one in draws] for name in draws[0][0]}
            weights = {name: round(float(np.mean([one[1][name] for one in draws])), 3) for name in draws[0][1]}
            seconds = (time.perf_counter() - start) / seeds
            found.append(
                {"hospital": hospital, "labels": n, "auc": auc, "weights": weights, "seconds": round(seconds, 2)}
            )
            print(hospital, n, {name: round(float(np.mean(v)), 3) for name, v in auc.items()}, flush=True)
    return found


def summary(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means with intervals, the regret to the best fixed way, and the paired differences to target-only."""
    told: dict[str, Any] = {"cells": [], "regret": {}, "paired_with_target_only": []}
    for one in cells:
        means = {name: mean_and_interval(values) for name, values in one["auc"].items()}
        told["cells"].append({key: one[key] for key in ("hospital", "labels", "weights", "seconds")} | {"auc": means})
        if one["labels"]:
            gaps = np.subtract(one["auc"][AUTO], one["auc"][TARGET_ONLY]).tolist()
            gap = mean_and_interval(gaps)
            told["paired_with_target_only"].append(
                {"hospital": one["hospital"], "labels": one["labels"], **gap, "significantly_below": gap["high"] < 0}
            )
    for title, kept in (
        ("with labels", [one for one in cells if one["labels"]]),
        *((f"{n} labels", [one for one in cells if one["labels"] == n]) for n in BUDGETS),
    ):
        if not kept:
            continue
        names = [name for name in kept[0]["auc"] if name != "source as it is" or kept[0]["labels"] == 0]
        average = {name: float(np.mean([np.mean(one["auc"][name]) for one in kept])) for name in names}
        best = max((name for name in names if name != AUTO), key=average.__getitem__)
        told["regret"][title] = {
            "average": {name: round(value, 4) for name, value in sorted(average.items(), key=lambda pair: -pair[1])},
            "best_fixed": best,
            "regret": round(average[best] - average[AUTO], 4),
            "within": bool(average[best] - average[AUTO] <= MARGIN),
        }
    told["significantly_below_target_only"] = sum(p["significantly_below"] for p in told["paired_with_target_only"])
    return told


def check() -> dict[str, Any]:
    """Logistic regression on nine attributes, Cleveland to the others, as SOURCE.md has it."""
    rows, labels = read()
    medians = {name: float(np.median([row[name] for row in rows["cleveland"] if name in row])) for name in NINE}

    def matrix(hospital: str) -> np.ndarray:
        return np.array([[row.get(name, medians[name]) for name in NINE] for row in rows[hospital]])

    X = matrix("cleveland")
    mean, scale = X.mean(0), X.std(0)
    model = LogisticRegression(max_iter=1000).fit((X - mean) / scale, labels["cleveland"])
    return {
        name: {
            "auc": round(float(roc_auc_score(labels[name], model.decision_function((matrix(name) - mean) / scale))), 3),
            "source_md": published,
        }
        for name, published in PUBLISHED.items()
    }


def peers(python: str | None) -> list[dict[str, Any]]:
    """The same methods by skada and adapt on the same matrices: AUC and seconds of learning and predicting."""
    rows, labels = read()
    told = []
    for hospital in HOSPITALS:
        X, y, source = sides(rows, labels, hospital)
        for seed in range(PEER_SEEDS):
            teach = drawn(y, 50, seed)
            arrays = {"X": X, "y": y, "Xs": source.features, "ys": source.y, "teach": teach, "seed": np.array(seed)}
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "cell.npz"
                np.savez(path, **arrays)
                for interpreter in filter(None, (sys.executable, python)):
                    told += _asked(interpreter, path, hospital, seed)
    return told


def _asked(interpreter: str, path: Path, hospital: str, seed: int) -> list[dict[str, Any]]:
    command = [interpreter, str(ROOT / "benchmarks" / "heart_peers.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [{"hospital": hospital, "seed": seed, **one} for one in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(HOSPITALS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--peer", help="a Python with adapt")
    parser.add_argument("--merge", nargs="*", type=Path, default=[], help="results of runs with --only")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    cells = [one for path in given.merge for one in json.loads(path.read_text())["draws"]]
    cells = cells or run(given.only, given.seeds)
    told = {"seeds": given.seeds, "check": check(), **summary(cells), "draws": cells}
    if given.peer:
        told["peers"] = peers(given.peer)
    given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
