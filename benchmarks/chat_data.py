"""Conversations that benchmarks.chat learns from, drawn with a fixed seed: MedQuAD, chatterbot-corpus, CLINC150.

MedQuAD's test is the file's own: no disease of it is in the rest. A fifth of the other diseases is for validation.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.fit import SHARED

MEDQUAD = SHARED / "qa_medquad_subset" / "medquad_subset.csv.gz"
CLINC = SHARED / "intent_clinc150"
CORPUS = "chatterbot-corpus==1.3.3"
SIZES = {"train": 400, "val": 100, "test": 150}  # of MedQuAD's questions
TRADES = ("banking", "travel")  # CLINC150's domains that the bot is for: 15 intents each
EACH_INTENT = {"train": 7, "val": 2, "test": 2}  # requests
N_CORPUS = 300  # of chatterbot-corpus's 2,026 English conversations


def medquad(folder: Path, sizes: dict[str, int] = SIZES) -> Path:
    """A table of questions, answers and splits; `focus` is the disease."""
    with gzip.open(MEDQUAD, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rng = random.Random(0)
    train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    diseases = sorted({row["focus"] for row in train})
    rng.shuffle(diseases)
    held_out = set(diseases[: len(diseases) // 5])
    rng.shuffle(train)
    rng.shuffle(test)
    drawn = {
        "train": [row for row in train if row["focus"] not in held_out],
        "val": [row for row in train if row["focus"] in held_out],
        "test": test,
    }
    with (folder / "medquad.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ("question", "answer", "focus", "split"), extrasaction="ignore")
        table.writeheader()
        for split, some in drawn.items():
            table.writerows({**row, "split": split} for row in some[: sizes[split]])
    return folder / "medquad.csv"


def clinc(folder: Path, each: dict[str, int] = EACH_INTENT) -> Path:
    """Requests and a short reply made of their intent and domain, as messages; the official splits."""
    lines, rng = [], random.Random(0)
    for split, n in each.items():
        with (CLINC / f"{split}.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["domain"] in TRADES]
        rng.shuffle(rows)
        seen: dict[str, int] = {}
        for row in rows:
            seen[row["label"]] = seen.get(row["label"], 0) + 1
            if seen[row["label"]] <= n:
                lines.append(json.dumps({"messages": _dialogue(row), "split": split}))
    (folder / "clinc.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "clinc.jsonl"


def _dialogue(row: dict[str, str]) -> list[dict[str, str]]:
    intent = row["label"].replace("_", " ")
    reply = (
        f"That is about {intent}. I have passed your request to the {row['domain']} desk, which looks after {intent}."
    )
    return [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": reply}]


def chatterbot(folder: Path, n: int = N_CORPUS) -> Path:
    """A folder of chatterbot-corpus's English YAML with some of the conversations."""
    import yaml

    with zipfile.ZipFile(_corpus()) as wheel:
        names = sorted(name for name in wheel.namelist() if "/data/english/" in name and name.endswith(".yml"))
        files: dict[str, Any] = {Path(name).name: yaml.safe_load(wheel.read(name)) for name in names}
    known = [(name, i) for name, one in files.items() for i in range(len(one["conversations"]))]
    kept = set(random.Random(0).sample(known, n))
    english = folder / "english"
    english.mkdir()
    for name, one in files.items():
        some = [talk for i, talk in enumerate(one["conversations"]) if (name, i) in kept]
        if some:
            text = yaml.safe_dump({**one, "conversations": some}, allow_unicode=True, sort_keys=False)
            (english / name).write_text(text, encoding="utf-8")
    return english


def _corpus() -> Path:
    """The package's file, fetched once."""
    cache = Path(os.environ.get("HEADSTART_HOME", Path.home() / ".cache" / "headstart")) / "benchmarks"
    if not list(cache.glob("chatterbot_corpus*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", CORPUS, "--dest", str(cache)]
        subprocess.run(command, check=True)
    return next(cache.glob("chatterbot_corpus*.whl"))
