"""Source only, the automatic choice and every way across, on all pairs of domains: did we notice when adapting hurts?

    python -m benchmarks.domains amazon pacs        # or one pair: amazon:books,kitchen

Every run is `headstart.fit(SOURCE, to=TARGET, target_labels="auto")`: the target's labels are looked at after the
choice. Beside it the classical model (TF-IDF or HOG) that learnt on the source. Results: results/domains.json.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

import headstart

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results"
DOMAINS = {
    "amazon": ("books", "dvd", "electronics", "kitchen"),
    "pacs": ("photo", "art_painting", "cartoon", "sketch"),
}


def data(name: str, folder: Path) -> dict[str, Path]:
    """Where each domain lies on this disk: a table of reviews, or a folder of class folders."""
    if name == "pacs":
        return {domain: SHARED / "da_pacs_small" / domain for domain in DOMAINS[name]}
    table = pd.read_csv(SHARED / "da_amazon_reviews_text" / "reviews.csv.gz")
    paths = {}
    for domain in DOMAINS[name]:
        paths[domain] = folder / f"{domain}.csv"
        table[table.domain == domain][["text", "label"]].to_csv(paths[domain], index=False)
    return paths


def one(source: Path, target: Path) -> dict[str, object]:
    """A pair, as the run tells it."""
    start = time.perf_counter()
    model = headstart.fit(str(source), to=str(target), target_labels="auto")
    seconds = time.perf_counter() - start
    told = json.loads(model.files["metrics.json"])
    found = told["adaptation"]
    classical = [name for name in told["baselines"] if "+" in name]
    return {
        "seconds": round(seconds, 1),
        "chosen": next(way["title"] for way in found["ways"] if way["chosen"]),
        "gap": found["gap"],
        "ways": [
            {k: way[k] for k in ("title", "strategy", "votes", "estimate", "measured", "seconds", "chosen")}
            for way in found["ways"]
        ],
        "classical": {"title": classical[0], **told["baselines"][classical[0]]["accuracy"]},
        "paid": told["paid"],
        "verdict": told["verdict"],
    }


def main(asked: list[str]) -> None:
    file = RESULTS / "domains.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for what in asked:
            name, _, pair = what.partition(":")
            paths = data(name, Path(folder))
            pairs = [tuple(pair.split(","))] if pair else list(itertools.permutations(DOMAINS[name], 2))
            for source, target in pairs:
                found = one(paths[source], paths[target])
                kept.setdefault(name, {})[f"{source} > {target}"] = found
                file.write_text(json.dumps(kept, indent=1) + "\n")
                first = found["ways"][0]["measured"]["value"]
                chosen = next(way for way in found["ways"] if way["chosen"])
                best = max(found["ways"], key=lambda way: way["measured"]["value"])
                print(
                    f"{name} {source} > {target}: source only {first:.3f}, chosen {chosen['measured']['value']:.3f} "
                    f"({chosen['title']}), best {best['measured']['value']:.3f} ({best['title']}), "
                    f"{found['classical']['title']} {found['classical']['value']:.3f}, {found['seconds']} s",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:] or ["amazon", "pacs"])
