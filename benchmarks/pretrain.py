"""Going on with pretraining, and what 50 and 200 labels then give: with and without, five draws, paired interval.

    python -m benchmarks.pretrain [texts] [pictures]      writes benchmarks/results/pretrain.json

texts      MiniLM, the Amazon reviews of ../shared/data (four domains mixed, copies taken out)
pictures   EfficientNet-Lite0, the solar cells of `headstart demo image`

Learnt from is what is neither test nor held out, without its labels; the test is the fifth that `fit --seed 0` holds
out, of which TEST examples are measured on. Probes of the best depth, which is chosen without the test. BUDGET bounds
the training alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import headstart
from benchmarks.fit import ROOT, SHARED
from headstart.data.dataset import Dataset
from headstart.demo import demo_data
from headstart.progress import Progress

RESULTS = ROOT / "benchmarks" / "results" / "pretrain.json"
BUDGET, LABELS, DRAWS, TEST = "10m", (50, 200), 5, 1000


class Said(Progress):
    """Progress as lines."""

    def say(self, text: str) -> None:
        print(text, flush=True)


def texts() -> Dataset:
    return headstart.read(SHARED / "da_amazon_reviews_text" / "reviews.csv.gz", input="text", label="label")


def pictures() -> Dataset:
    path, label = demo_data("image", Progress())
    return headstart.read(path, label=label)


def main() -> None:
    """What was named, default both."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[1:] or ("texts", "pictures"):
        progress = Said()
        with tempfile.TemporaryDirectory() as scratch:
            told = headstart.pretrain(
                {"texts": texts, "pictures": pictures}[name](),
                out=Path(scratch) / "backbone",
                budget=BUDGET,
                labels=LABELS,
                draws=DRAWS,
                most_test=TEST,
                progress=progress,
            )
        results[name] = {**told.to_json(), "seconds_of_steps": progress.seconds}
        print(f"{name}: {told.verdict}", flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
