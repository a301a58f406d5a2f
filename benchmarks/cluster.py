"""Groups against labels that were not used: adjusted Rand index and NMI, with the number of groups given and found.

    python -m benchmarks.cluster [NAME …]      reads ../shared/data; writes benchmarks/results/cluster.json

Beside the groups stands k-means, with the same number, on what the classical models see: TF-IDF of texts, HOG and small
pixels of pictures. The solar cells come with three labels (defective or not, kind of cell, both). "transfer" groups
five domains of clinc150 in the plain space and in that which the labels of the other five shape.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

import headstart
from benchmarks.fit import ROOT, SHARED
from headstart import registry
from headstart.clustering import best_count, cluster
from headstart.data.dataset import Dataset
from headstart.demo import demo_data
from headstart.evidence.agreement import agreement
from headstart.evidence.clusters import Clusters
from headstart.evidence.groups import group
from headstart.evidence.space import fit_space, shape_of
from headstart.items import look, prepared
from headstart.progress import Progress
from headstart.workshop import load_backbone

RESULTS = ROOT / "benchmarks" / "results" / "cluster.json"
N_SPLITS = 3  # of clinc150's domains into source and target


def clinc_rows() -> list[dict[str, str]]:
    """The train split, without what is out of scope."""
    with (SHARED / "intent_clinc150" / "train.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["label"] != "oos"]


def clinc(label: str = "label") -> Dataset:
    rows = clinc_rows()
    return headstart.read([row["text"] for row in rows], [row[label] for row in rows])


def hymenoptera() -> Dataset:
    return headstart.read(SHARED / "img_hymenoptera")


def solar(label: str) -> Dataset:
    path, _ = demo_data("image", Progress())
    return headstart.read(path, label=label)


DATA: dict[str, Callable[[], Dataset]] = {
    "hymenoptera": hymenoptera,
    "solar cells, defective or not": lambda: solar("label"),
    "solar cells, kind of cell": lambda: solar("cell"),
    "clinc150, 150 intents": clinc,
    "clinc150, 10 domains": lambda: clinc("domain"),
}


def told(found: Clusters, seconds: float) -> dict:
    """What is kept of one clustering."""
    assert found.measured is not None, "there are groups, and labels"
    return {
        "n": found.n,
        "truth": found.measured.n_classes,
        "groups": len(found.groups),
        "count": asdict(found.count),
        "scores": {who: {n: asdict(s) for n, s in own.items()} for who, own in found.measured.scores.items()},
        "differences": {who: {n: asdict(s) for n, s in own.items()} for who, own in found.measured.differences.items()},
        "stable": float(np.mean([one.stability.value >= 0.75 for one in found.groups])),
        "n_outliers": found.n_outliers,
        "n_near_duplicates": found.n_duplicates,
        "seconds": seconds,
    }


def measure(dataset: Dataset) -> dict:
    """With the number of groups found, and with the true one given."""
    results = {}
    for name, k in (("found", None), ("given", len(set(dataset.column("label"))))):
        start, progress = time.perf_counter(), Progress()
        found = cluster(dataset, groups=k, progress=progress)
        results[name] = told(found, time.perf_counter() - start) | {"steps": progress.seconds}
    return results


def transfer() -> dict:
    """Five domains grouped, with and without the labels of the other five; the true number of groups is given."""
    dataset, progress = clinc(), Progress()
    domains = np.array([row["domain"] for row in clinc_rows()])
    network = load_backbone(None, registry.modality("text"), progress)
    splits = []
    for seed in range(N_SPLITS):
        own = np.random.default_rng(seed).permutation(np.unique(domains))[:5]
        is_source = np.isin(domains, own)
        items = look(prepared(dataset.select(np.flatnonzero(~is_source)), progress), network, progress)
        source = look(prepared(dataset.select(np.flatnonzero(is_source)), progress), network, progress)
        shape = shape_of(source.features, np.array(source.dataset.column("label")))
        y, found, counts = np.array(items.dataset.column("label")), {}, {}
        for name, given in (("plain", None), ("shaped", shape)):
            found[name] = group(fit_space(items.features, given).places(items.features), 75, seed).labels
            counts[name] = asdict(best_count(items, given, 75, seed, progress)[1].best)
        scores, differences = agreement(y, found, "shaped", seed)
        splits.append(
            {
                "source": sorted(own.tolist()),
                "scores": {who: {n: asdict(s) for n, s in one.items()} for who, one in scores.items()},
                "difference": {n: asdict(s) for n, s in differences["plain"].items()},
                "stability": counts,
            }
        )
        print(f"transfer {seed}: {[round(scores[one]['ari'].value, 3) for one in ('plain', 'shaped')]}", flush=True)
    return {"splits": splits}


def main() -> None:
    """Measure what was named (default: all), and keep the figures."""
    for name in sys.argv[1:] or [*DATA, "transfer"]:
        found = transfer() if name == "transfer" else measure(DATA[name]())
        for how, one in found.items() if name != "transfer" else ():
            count, ari = one["count"], {who: round(own["ari"]["value"], 3) for who, own in one["scores"].items()}
            print(
                f"{name}, {how}: {count['k']} ({count['low']} to {count['high']}), truth {one['truth']}; {ari}",
                flush=True,
            )
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}  # another process may have added to it
        results[name] = found
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
