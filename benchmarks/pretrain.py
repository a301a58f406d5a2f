"""Going on with pretraining, and what 50 and 200 labels then give: with and without, five draws, paired interval.

    python -m benchmarks.pretrain [texts] [pictures] [develop]      writes benchmarks/results/pretrain.json

texts      MiniLM, the Amazon reviews of ../shared/data (four domains mixed, copies taken out)
pictures   EfficientNet-Lite0, the solar cells of `headstart demo image`

Learnt from is what is neither test nor held out, without its labels; the test is the fifth that `fit --seed 0` holds
out, of which TEST examples are measured on. Probes of the best depth, which is chosen without the test. BUDGET bounds
the training alone.

develop    what the defaults were chosen by, on other data: customer reviews (text_cr) and the sketches of PACS
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import headstart
from benchmarks.fit import ROOT, SHARED
from headstart.data.dataset import Dataset
from headstart.demo import demo_data
from headstart.evidence.continued import Continued
from headstart.losses.base import Loss
from headstart.losses.mlm import Mlm
from headstart.losses.simcse import Simcse
from headstart.losses.vicreg import Vicreg
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


def reviews() -> Dataset:
    return headstart.read(SHARED / "text_cr" / "all.csv")


def sketches() -> Dataset:
    return headstart.read(SHARED / "da_pacs_small" / "sketch")


DATA: dict[str, Callable[[], Dataset]] = {"texts": texts, "pictures": pictures}
DEVELOP: dict[str, tuple[Callable[[], Dataset], list[Loss]]] = {
    "customer reviews": (
        reviews,
        [
            Mlm(),
            Mlm(freeze=0, learning_rate=5e-5),
            Mlm(freeze=1, learning_rate=1e-4),
            Mlm(freeze=1, learning_rate=1e-4, anchor=5.0),
            Simcse(),
        ],
    ),
    "sketches": (sketches, [Vicreg(), Vicreg(learning_rate=1e-5), Vicreg(epochs=30), Vicreg(freeze=4)]),
}


def run(data: Dataset, scratch: Path, progress: Progress, **how: Any) -> Continued:
    out = scratch / "backbone"
    return headstart.pretrain(data, out=out, labels=LABELS, draws=DRAWS, most_test=TEST, progress=progress, **how)


def develop() -> dict[str, Any]:
    """Each candidate on data that no figure is reported on."""
    found: dict[str, Any] = {}
    for name, (data, losses) in DEVELOP.items():
        for loss in losses:
            with tempfile.TemporaryDirectory() as scratch:
                told = run(data(), Path(scratch), Said(), loss=loss)
            key = f"{told.loss} {json.dumps(told.settings)}"
            kept = ("held_out", "downstream", "n", "n_steps", "seconds")
            found.setdefault(name, {})[key] = {field: told.to_json()[field] for field in kept}
            print(f"{name}, {key}: {told.verdict}", flush=True)
    return found


def main() -> None:
    """What was named, default both."""
    for name in sys.argv[1:] or DATA:
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        if name == "develop":
            results[name] = develop()
        else:
            progress = Said()
            with tempfile.TemporaryDirectory() as scratch:
                told = run(DATA[name](), Path(scratch), progress, budget=BUDGET)
            results[name] = {**told.to_json(), "seconds_of_steps": progress.seconds}
            print(f"{name}: {told.verdict}", flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
