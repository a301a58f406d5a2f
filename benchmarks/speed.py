"""Seconds and accuracy on 2,000 sentences of SST-2, ours beside the peers', on the same weights, rows and test split.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install "torch>=2.6,<2.14" sentence-transformers accelerate datasets "transformers<5"
    python -m benchmarks.speed --peer /tmp/peers/bin/python [SYSTEM …]

Reads ../shared/data/text_sst2 and the MiniLM weights of `$HEADSTART_HOME`; writes benchmarks/results/speed.json. Every
system is a process of its own with an empty feature cache, used as its own documentation says; its seconds go from
reading the data to a saved model and the answers on the test split, imports left out. Medians of several runs, taken
by turns, so that a machine that slows down slows all. The floor is one forward pass over train and validation, sorted
by length, batches of 32, in bfloat16 weights; "matrix products" is the rate at which this machine multiplies.
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
from collections.abc import Callable
from pathlib import Path

from benchmarks.fit import ROOT, SHARED

RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
N_TRAIN, REPEATS = 2000, 3
Rows = list[tuple[str, int]]
Answer = dict[str, float]


def rows(split: str) -> Rows:
    """(text, label) of a split; of train a seeded draw."""
    with (SHARED / "text_sst2" / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        found = [(row["text"], int(row["label"])) for row in csv.DictReader(file)]
    return random.Random(0).sample(found, N_TRAIN) if split == "train" else found


def headstart(weights: Path, **how) -> Answer:
    from headstart import fit, read
    from headstart.engine import train as _  # noqa: F401  (imports are left out for all)
    from headstart.progress import Progress

    with tempfile.TemporaryDirectory() as folder:
        for name in ("train", "dev", "test"):
            with (Path(folder) / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("text", "label"), *rows(name)])
        start, progress = time.perf_counter(), Progress()
        model = fit(read(folder), scratch=False, progress=progress, out=Path(folder) / "run", **how)
        seconds = time.perf_counter() - start
    steps = {f"{step.replace(' ', '_')}_s": spent for step, spent in progress.seconds.items()}
    return {"seconds": seconds, "accuracy": 100 * model.evidence.metrics["accuracy"].value, **steps}


def trainer(weights: Path, epochs: int, frozen: bool) -> Answer:
    """The Hugging Face Trainer as its course has it: dynamic padding, batches of 16."""
    import numpy as np
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForSequenceClassification.from_pretrained(weights, num_labels=2)
    if frozen:
        for parameter in model.bert.encoder.parameters():
            parameter.requires_grad = False
        for parameter in model.bert.embeddings.parameters():
            parameter.requires_grad = False
    parts = {}
    for name in ("train", "test"):
        part = Dataset.from_list([{"text": text, "label": label} for text, label in rows(name)])
        parts[name] = part.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=16,
            num_train_epochs=epochs,
            learning_rate=1e-3 if frozen else 5e-5,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        learner = Trainer(
            model=model,
            args=arguments,
            train_dataset=parts["train"],
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        learner.train()
        learner.save_model(folder)
        said = learner.predict(parts["test"])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "accuracy": 100 * float(np.mean(said.predictions.argmax(1) == said.label_ids))}


def embeddings(weights: Path) -> Answer:
    import joblib
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from sklearn.linear_model import LogisticRegression

    start = time.perf_counter()
    network = Transformer(str(weights))
    pooling = Pooling(network.get_word_embedding_dimension(), pooling_mode="mean")
    encoder = SentenceTransformer(modules=[network, pooling], device="cpu")
    train, test = rows("train"), rows("test")
    found = encoder.encode([text for text, _ in train])
    head = LogisticRegression(max_iter=1000).fit(found, [label for _, label in train])
    with tempfile.TemporaryDirectory() as folder:
        joblib.dump(head, Path(folder) / "head.joblib")
        said = head.predict(encoder.encode([text for text, _ in test]))
    right = statistics.mean(int(one) == label for one, (_, label) in zip(said, test, strict=True))
    return {"seconds": time.perf_counter() - start, "accuracy": 100 * right}


def floor(weights: Path, dtype: str) -> Answer:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModel.from_pretrained(weights).eval().to(getattr(torch, dtype))
    texts = sorted((text for name in ("train", "dev") for text, _ in rows(name)), key=len)
    start = time.perf_counter()
    with torch.inference_mode():
        for i in range(0, len(texts), 32):
            batch = tokenizer(texts[i : i + 32], padding=True, truncation=True, return_tensors="pt")
            model(**batch).last_hidden_state.mean(1)
    return {"seconds": time.perf_counter() - start}


def matrix_products(dtype: str) -> Answer:
    """Floating-point operations a second (in thousand millions) of a product of matrices of 2,048 a side."""
    import torch

    side, n = 2048, 20
    a, b = (torch.randn(side, side).to(getattr(torch, dtype)) for _ in range(2))
    for _ in range(3):
        a @ b
    start = time.perf_counter()
    for _ in range(n):
        a @ b
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "gflops": 2 * side**3 * n / seconds / 1e9}


OURS = "headstart"
SYSTEMS: dict[str, tuple[str, Callable[[Path], Answer]]] = {  # name: (whose Python, what runs)
    "floor: one pass, bfloat16": (OURS, lambda weights: floor(weights, "bfloat16")),
    "floor: one pass, float32": (OURS, lambda weights: floor(weights, "float32")),
    "matrix products, bfloat16": (OURS, lambda weights: matrix_products("bfloat16")),
    "matrix products, float32": (OURS, lambda weights: matrix_products("float32")),
    "headstart, best probe": (OURS, lambda weights: headstart(weights, strategy="probe")),
    "headstart, automatic": (OURS, headstart),
    "embeddings + logistic regression": ("peer", embeddings),
    "Trainer, frozen, 5 epochs": ("peer", lambda weights: trainer(weights, 5, frozen=True)),
    "Trainer, full, 3 epochs": ("peer", lambda weights: trainer(weights, 3, frozen=False)),
}


def measure(name: str, python: str) -> Answer:
    """One run in a process of its own with an empty cache."""
    own = Path(os.environ.get("HEADSTART_HOME", Path.home() / ".cache" / "headstart"))
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "weights").symlink_to(own / "weights")
        apart = {**os.environ, "HEADSTART_HOME": home, "HF_HUB_OFFLINE": "1"}
        command = [python, "-m", "benchmarks.speed", "--run", name]
        done = subprocess.run(command, cwd=ROOT, env=apart, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run what was named (default: all) by turns, and keep medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}; default: all")
    parser.add_argument("--peer", default=sys.executable, help="the Python that has the peers")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        answer = SYSTEMS[given.run][1](Path(os.environ["HEADSTART_HOME"]) / "weights" / "minilm")
        print(json.dumps(answer), flush=True)
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    names = given.systems or list(SYSTEMS)
    runs: dict[str, list[Answer]] = {name: [] for name in names}
    for _ in range(given.repeats):
        for name in names:
            runs[name].append(measure(name, sys.executable if SYSTEMS[name][0] == OURS else given.peer))
            print(f"{name:36} {json.dumps(runs[name][-1])}", flush=True)
    for name, found in runs.items():
        medians = {key: statistics.median(one[key] for one in found) for key in found[0]}
        results[name] = {**medians, "runs": found}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
