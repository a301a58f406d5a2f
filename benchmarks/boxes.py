"""Object detection on BCCD (blood cells): the official split, three forms of the same data, the cache, fewer pictures.

    python -m benchmarks.boxes [official forms cache labels]    reads ../shared/data; writes results/boxes.json

Each fit is a process of its own with an empty feature cache. Pictures for fewer labels are seeded draws from train;
validation and test stay whole.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.fit import ROOT, SHARED, headstart

BCCD = SHARED / "det_bccd"
RESULTS = ROOT / "benchmarks" / "results" / "boxes.json"
SIZES = (50, 100, 205)  # training pictures
SHORT = ("--strategy", "frozen", "--budget", "20s", "--no-scratch")


def home(scratch: Path, name: str) -> Path:
    """An empty feature cache with the machine's weights."""
    own = Path(os.environ.get("HEADSTART_HOME", Path.home() / ".cache" / "headstart"))
    folder = scratch / f"home-{name}"
    folder.mkdir()
    (folder / "weights").symlink_to(own / "weights")
    return folder


def told(run: dict) -> dict:
    """What is kept of a run."""
    names = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    plan = json.loads((Path(run["run"]) / "plan.json").read_text())
    return {
        "n": run["n"],
        "wall_s": run["wall_s"],
        "seconds": run["seconds"],
        "metrics": {name: run["metrics"][name] for name in names if name in run["metrics"]},
        "baselines": {
            who: {name: scores[name] for name in names if name in scores} for who, scores in run["baselines"].items()
        },
        "differences": {who: scores.get("map") for who, scores in run["differences"].items()},
        "boxes": run["boxes"],
        "verdict": run["verdict"],
        "strategy": run["strategy"],
        "cut": run["cut"],
        "candidates": [
            {key: one[key] for key in ("title", "cost_passes", "seconds", "score", "outcome")} | one["settings"]
            for one in plan["candidates"]
        ],
        "scratch_epochs": plan["scratch"].get("epochs"),
    }


def official(scratch: Path) -> dict:
    """The default fit on the official split."""
    return told(headstart(["fit", str(BCCD)], home(scratch, "official"), scratch))


def forms(scratch: Path) -> dict:
    """The same data as COCO, Pascal VOC and YOLO files: one short plan, from an empty cache each time."""
    first = headstart(["fit", str(BCCD), *SHORT], home(scratch, "plan"), scratch)
    again = ["--plan", str(Path(first["run"]) / "plan.json")]
    folders = {"COCO": BCCD, "Pascal VOC": BCCD / "annotations_voc", "YOLO": as_yolo(scratch / "yolo")}
    found = {}
    for name, folder in folders.items():
        run = headstart(["fit", str(folder), *again], home(scratch, name.replace(" ", "-")), scratch)
        found[name] = {key: told(run)[key] for key in ("n", "metrics", "wall_s")}
    return found


def as_yolo(folder: Path) -> Path:
    """BCCD in YOLO's layout."""
    names: list[str] = []
    for split in ("train", "val", "test"):
        data = json.loads((BCCD / f"coco_{split}.json").read_text())
        names = [one["name"] for one in data["categories"]]
        place = {one["id"]: k for k, one in enumerate(data["categories"])}
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for picture in data["images"]:
            shutil.copy(BCCD / "images" / picture["file_name"], folder / "images" / split)
            rows = []
            for one in data["annotations"]:
                if one["image_id"] == picture["id"]:
                    x, y, w, h = one["bbox"]
                    size = (picture["width"], picture["height"]) * 2
                    shares = [value / side for value, side in zip((x + w / 2, y + h / 2, w, h), size, strict=True)]
                    rows.append(" ".join([str(place[one["category_id"]]), *(f"{share:.8f}" for share in shares)]))
            text = folder / "labels" / split / f"{Path(picture['file_name']).stem}.txt"
            text.write_text("\n".join(rows))
    lines = ["path: .", *(f"{split}: images/{split}" for split in ("train", "val", "test")), f"names: {names}"]
    (folder / "data.yaml").write_text("\n".join(lines))
    return folder


def cache(scratch: Path) -> dict:
    """The head alone, trained from cached maps and from pictures: weights, and seconds, by turns."""
    os.environ["HEADSTART_HOME"] = str(home(scratch, "cache"))
    os.environ["HEADSTART_PRECISION"] = "float32"
    from dataclasses import replace

    from headstart import detection, problem
    from headstart.backbones import catalog
    from headstart.progress import Progress
    from headstart.wishes import Wishes

    quiet = Progress()
    posed = problem.pose(problem.read(str(BCCD)), 0, quiet, crosswise=False)
    network = catalog.load("efficientnet-lite0", quiet)
    shop = detection.open_shop(posed, network, posed.task.metrics(), Wishes(), 0, quiet)
    way = replace(shop.at_cut(network.n_stages), epochs=3, views=1)
    start = time.perf_counter()
    cached = shop.lesson_for(way, posed.rows["train"], cache=True)
    making = time.perf_counter() - start
    plain = replace(shop.lesson_for(way, posed.rows["train"], cache=False), checkpoint=None)
    seconds: dict[str, list[float]] = {"cached": [], "uncached": []}
    heads = {}
    for _ in range(3):
        for name, scenes in (("cached", cached), ("uncached", plain)):
            trainee = shop.teach(way, scenes)
            seconds[name].append(trainee.seconds)
            heads[name] = trainee.head
    apart = max(float((one - heads["uncached"][name]).abs().max()) for name, one in heads["cached"].items())
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "epochs": way.epochs,
        "seconds": seconds,
        "making_the_cache_s": making,
        "largest_difference_of_weights": apart,
        "ratio": middle["uncached"] / middle["cached"],
        "ratio_in_40_epochs": 40 * middle["uncached"] / (40 * middle["cached"] + way.epochs * making),
    }


def labels(scratch: Path) -> dict:
    """Fewer training pictures: what the head alone, and the network from scratch, find on the whole test split."""
    found = {}
    for size in SIZES:
        folder = subset(scratch / f"bccd-{size}", size)
        found[str(size)] = told(
            headstart(["fit", str(folder), "--strategy", "frozen"], home(scratch, f"labels-{size}"), scratch)
        )
    return found


def subset(folder: Path, size: int, seed: int = 0) -> Path:
    """BCCD with so many training pictures, drawn at random."""
    folder.mkdir()
    (folder / "images").symlink_to(BCCD / "images")
    for split in ("train", "val", "test"):
        data = json.loads((BCCD / f"coco_{split}.json").read_text())
        if split == "train":
            kept = np.random.default_rng(seed).permutation(len(data["images"]))[:size]
            data["images"] = [data["images"][row] for row in sorted(kept)]
            ids = {one["id"] for one in data["images"]}
            data["annotations"] = [one for one in data["annotations"] if one["image_id"] in ids]
        (folder / f"coco_{split}.json").write_text(json.dumps(data))
    return folder


PARTS = {"official": official, "forms": forms, "cache": cache, "labels": labels}


def main() -> None:
    """Measure what was named (default: all), and keep the figures."""
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as scratch:
            found = PARTS[name](Path(scratch))
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = found
        RESULTS.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
        print(name, json.dumps(found, indent=1)[:3000], flush=True)


if __name__ == "__main__":
    main()
