"""Eight labelled sentences a class of CR, ten draws: Headstart, SetFit, and embeddings with logistic regression.

    python -m venv /tmp/setfit-venv
    /tmp/setfit-venv/bin/pip install "torch>=2.6,<2.14" setfit "transformers<5"
    python -m benchmarks.few_labels --peer /tmp/setfit-venv/bin/python [SYSTEM …]

Reads ../shared/data/text_cr and the MiniLM weights of `$HEADSTART_HOME`; writes benchmarks/results/few_labels.json.
Every system sees the same draws and starts from the same weights, in a process of its own with an empty cache. The
seconds of a draw are learning and predicting all of the test rows; Headstart and the embeddings keep what the frozen
network said of a text, so that their first draw pays for all ten. "SetFit" has the 20 iterations of its paper, "SetFit,
default pairs" the pairs that the package makes where nothing is said. What is done is kept when a system is stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks.fit import ROOT, SHARED

RESULTS = ROOT / "benchmarks" / "results" / "few_labels.json"
A_CLASS, SEEDS = 8, 10
PUBLISHED = {"system": "SetFit, MiniLM-L6, 8 a class, 10 draws of its own", "mean": 71.6, "sd": 3.9}
Rows = list[tuple[str, str]]  # (text, label)
Draws = Iterator[tuple[int, Rows, Rows]]  # (seed, train, test)
Answer = dict[str, float | str]


def draws() -> Draws:
    """For every seed the labelled examples, and all the rest to test on."""
    with (SHARED / "text_cr" / "all.csv").open(newline="", encoding="utf-8") as file:
        rows = list({row["text"]: (row["text"], row["label_name"]) for row in csv.DictReader(file)}.values())
    labels = sorted({label for _, label in rows})
    for seed in range(SEEDS):
        mixed = random.Random(seed).sample(rows, len(rows))
        train = [row for label in labels for row in [row for row in mixed if row[1] == label][:A_CLASS]]
        chosen = {text for text, _ in train}
        yield seed, train, [row for row in mixed if row[0] not in chosen]


def headstart(weights: Path, strategy: str | None = None) -> Iterator[Answer]:
    from headstart import fit, read
    from headstart.progress import Progress

    for seed, train, test in draws():
        with tempfile.TemporaryDirectory() as folder:
            for name, rows in (("train", train), ("test", test)):
                with (Path(folder) / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerows([("text", "label"), *rows])
            start, progress = time.perf_counter(), Progress()
            model = fit(read(folder), strategy=strategy, scratch=False, seed=seed, progress=progress)
        yield {
            "accuracy": 100 * model.evidence.metrics["accuracy"].value,
            "seconds": time.perf_counter() - start,
            "frozen_pass_s": progress.seconds.get("frozen pass", 0.0),
            "shipped": f"{model.plan.ships}: {model.plan.strategy}",
        }


def encoder(weights: Path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    network = Transformer(str(weights))
    return SentenceTransformer(
        modules=[network, Pooling(network.get_word_embedding_dimension(), pooling_mode="mean")], device="cpu"
    )


def setfit(weights: Path, **settings: int) -> Iterator[Answer]:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    for seed, train, test in draws():
        start = time.perf_counter()
        model = SetFitModel(model_body=encoder(weights), model_head=LogisticRegression())
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                batch_size=16,
                num_epochs=1,
                seed=seed,
                save_strategy="no",
                report_to="none",
                **settings,
            )
            learnt = Dataset.from_list([{"text": text, "label": label} for text, label in train])
            Trainer(model=model, args=arguments, train_dataset=learnt).train()
        learning = time.perf_counter() - start
        said = model.predict([text for text, _ in test])
        yield {
            "accuracy": share_right(said, test),
            "seconds": time.perf_counter() - start,
            "learning_s": learning,
        }


def embeddings(weights: Path) -> Iterator[Answer]:
    from sklearn.linear_model import LogisticRegression

    known: dict = {}
    for _, train, test in draws():
        start = time.perf_counter()
        new = [text for text, _ in train + test if text not in known]
        if new:
            known.update(zip(new, encoder(weights).encode(new), strict=True))
        head = LogisticRegression(max_iter=1000).fit([known[text] for text, _ in train], [label for _, label in train])
        said = head.predict([known[text] for text, _ in test])
        yield {"accuracy": share_right(said, test), "seconds": time.perf_counter() - start}


def share_right(said, rows: Rows) -> float:
    return 100 * statistics.mean(str(one) == label for one, (_, label) in zip(said, rows, strict=True))


SYSTEMS: dict[str, tuple[str, Callable[[Path], Iterator[Answer]]]] = {  # name: (its package, what runs it)
    "headstart": ("headstart", headstart),
    "headstart, probe": ("headstart", lambda weights: headstart(weights, "probe")),
    "embeddings + logistic regression": ("sentence-transformers", embeddings),
    "SetFit": ("setfit", lambda weights: setfit(weights, num_iterations=20)),
    "SetFit, default pairs": ("setfit", setfit),
}


def measure(name: str, python: str) -> Iterator[dict]:
    """What is known of the system after every draw."""
    own = Path(os.environ.get("HEADSTART_HOME", Path.home() / ".cache" / "headstart"))
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "weights").symlink_to(own / "weights")
        apart = {**os.environ, "HEADSTART_HOME": home, "HF_HUB_OFFLINE": "1"}
        command = [python, "-m", "benchmarks.few_labels", "--run", name]
        with subprocess.Popen(command, cwd=ROOT, env=apart, stdout=subprocess.PIPE, text=True) as process:
            runs: list[dict] = []
            for line in process.stdout or ():
                if not line.startswith('{"package"'):
                    continue
                runs.append(json.loads(line))
                accuracy = [run["accuracy"] for run in runs]
                yield {
                    "mean": statistics.mean(accuracy),
                    "sd": statistics.stdev(accuracy) if len(runs) > 1 else 0.0,
                    "first_s": runs[0]["seconds"],
                    "median_s": statistics.median(run["seconds"] for run in runs),
                    "runs": runs,
                }
    if process.returncode:
        raise SystemExit(f"{name} failed: exit status {process.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}; default: all")
    parser.add_argument("--peer", default=sys.executable, help="the Python that has setfit")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        package, run = SYSTEMS[given.run]
        for answer in run(Path(os.environ["HEADSTART_HOME"]) / "weights" / "minilm"):
            print(json.dumps({"package": f"{package} {version(package)}", **answer}), flush=True)
        return
    _, train, test = next(draws())
    for name in given.systems or SYSTEMS:
        python = sys.executable if SYSTEMS[name][0] == "headstart" else given.peer
        for found in measure(name, python):
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results |= {"published": PUBLISHED, "n": {"train": len(train), "test": len(test)}}
            results["systems"] = {**results.get("systems", {}), name: found}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{name}: {found['mean']:.1f} ± {found['sd']:.1f} %, {found['first_s']:.1f} s, {found['median_s']:.1f} s")


if __name__ == "__main__":
    main()
