"""Speech: digits of unseen speakers, another language's digits and sentences from an English model, and its speed.

    python -m benchmarks.speech [english gujarati spanish words speed]     writes results/speech.json

`spanish` makes its own sentences with espeak-ng (benchmarks/speech_synth.py). Each fit is a process of its own with an
empty feature cache. Speakers of test are never heard in training.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import speech_synth
from benchmarks.boxes import home
from benchmarks.fit import ROOT, SHARED, headstart

ENGLISH, GUJARATI = SHARED / "speech_fsdd_en", SHARED / "speech_digits_gu"
RESULTS = ROOT / "benchmarks" / "results" / "speech.json"
N_HELD_OUT, DRAWS = 6, 1  # Gujarati speakers of 20; draws of them
A_CLASS = (5, 20, None)  # training examples of each digit; None: all
SENTENCES = (50, 100, 300)
REPEATS = 5


def told(run: dict) -> dict:
    """What is kept of a run."""
    names = tuple(run["metrics"])
    plan = json.loads((Path(run["run"]) / "plan.json").read_text())
    return {
        "source": Path(run["data"]["source"]).name,
        "n": run["n"],
        "wall_s": run["wall_s"],
        "compute_s": sum(run["seconds"].values()),
        "seconds": run["seconds"],
        "primary": run["primary"],
        "titles": run["titles"],
        "metrics": run["metrics"],
        "baselines": {
            who: {name: scores[name] for name in names if name in scores} for who, scores in run["baselines"].items()
        },
        "differences": {who: scores.get(run["primary"]) for who, scores in run["differences"].items()},
        "verdict": run["verdict"],
        "strategy": run["strategy"],
        "cut": run["cut"],
        "reads": plan["reads"],
        "backbone": run["backbone"],
        "ships": plan["ships"],
        "depth": [{"name": one["name"], "score": one["score"]} for one in plan["depth"]],
        "candidates": [
            {key: one[key] for key in ("title", "cost_passes", "seconds", "score", "outcome")}
            for one in plan["candidates"]
        ],
    }


def manifest(folder: Path, rows: pd.DataFrame, data: Path, name: str) -> Path:
    """A table of sounds with whole paths."""
    file = folder / f"{name}.csv"
    rows.assign(file=[str(data / one) for one in rows["file"]]).to_csv(file, index=False)
    return file


def english(scratch: Path) -> dict:
    """Digits of each of the six speakers from the five others."""
    rows, found = pd.read_csv(ENGLISH / "index.csv").drop(columns=["split", "transcript", "index"]), {}
    for speaker in sorted(set(rows["speaker"])):
        split = np.where(rows["speaker"] == speaker, "test", "train")
        file = manifest(scratch, rows.assign(split=split), ENGLISH, speaker)
        arguments = ["fit", str(file), "--label", "label", "--group", "speaker", "--no-scratch"]
        run = headstart(arguments, home(scratch, speaker), scratch)
        found[speaker] = told(run)
    return found


def gujarati_rows(draw: int) -> pd.DataFrame:
    """All sounds, some speakers held out for the test."""
    rows = pd.read_csv(GUJARATI / "index.csv")
    speakers = np.random.default_rng(draw).permutation(sorted(set(rows["speaker"])))
    return rows.assign(split=np.where(rows["speaker"].isin(speakers[:N_HELD_OUT]), "test", "train"))


def gujarati(scratch: Path) -> dict:
    """Gujarati digits of unseen speakers from an English model, with few and with all examples."""
    found: dict[str, list[dict]] = {}
    for draw in range(DRAWS):
        rows = gujarati_rows(draw)
        for n in A_CLASS:
            train = rows[rows["split"] == "train"].sample(frac=1.0, random_state=draw)
            kept = train if n is None else train.groupby("label").head(n)
            both = pd.concat([kept, rows[rows["split"] == "test"]]).drop(columns="transcript")
            name = f"gu-{n or 'all'}-{draw}"
            file = manifest(scratch, both, GUJARATI, name)
            arguments = ["fit", str(file), "--label", "label", "--group", "speaker"]
            found.setdefault(str(n or "all"), []).append(told(headstart(arguments, home(scratch, name), scratch)))
    return found


def spanish(scratch: Path) -> dict:
    """Sentences of another language: nested training sets, the same test voices."""
    speech_synth.write(scratch / "es", "es", speech_synth.SPLITS)
    rows, found = pd.read_csv(scratch / "es" / "index.csv"), {}
    for n in SENTENCES:
        kept = pd.concat([rows[rows["split"] == "train"].head(n), rows[rows["split"] != "train"]])
        file = manifest(scratch, kept, scratch / "es", f"es-{n}")
        run = headstart(["fit", str(file), "--group", "speaker"], home(scratch, f"es-{n}"), scratch)
        found[str(n)] = told(run)
    return found


def words(scratch: Path) -> dict:
    """Gujarati digit words as transcripts, their script learnt from the data."""
    file = manifest(scratch, gujarati_rows(0).drop(columns="label"), GUJARATI, "words")
    return told(headstart(["fit", str(file), "--group", "speaker"], home(scratch, "words"), scratch))


def speed(scratch: Path) -> dict:
    """The encoder a second of sound, at its own length and filled up to 30 seconds, alone and in batches."""
    from headstart.backbones import catalog
    from headstart.engine import freeze
    from headstart.engine.ways import run_as
    from headstart.progress import Progress
    from headstart.registry import modality

    audio = modality("audio")
    files = sorted((ENGLISH / "wav").glob("*.wav"))[:: 1500 // 64][:64]
    items = [audio.store(str(file), None) for file in files]
    seconds = sum(len(audio.open(item)) for item in items) / 16_000
    own = catalog.load("whisper-tiny.en", Progress())
    padded = own.padded()
    assert padded is not None, "Whisper was trained on 30 seconds"
    found: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for name, network in (("own length", own), ("filled up to 30 s", padded)):
            for way in ("float32", "bfloat16"):
                runner = run_as(network, way)
                some = items if network is own else items[:16]
                share = seconds * len(some) / len(items)
                start = time.perf_counter()
                for _ in freeze.run(runner, audio, some, lambda b, inputs: [b.pooled(inputs)[-1].numpy()]):
                    pass
                found.setdefault(f"{name}, {way}", []).append(1000 * (time.perf_counter() - start) / share)
    middle = {name: statistics.median(values) for name, values in found.items()}
    return {
        "seconds_of_sound": seconds,
        "ms_a_second_of_sound": middle,
        "ratio_float32": middle["filled up to 30 s, float32"] / middle["own length, float32"],
        "ratio_bfloat16": middle["filled up to 30 s, bfloat16"] / middle["own length, bfloat16"],
    }


PARTS = {"english": english, "gujarati": gujarati, "spanish": spanish, "words": words, "speed": speed}


def main() -> None:
    """Measure what was named (default: all), and keep the figures."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as scratch:
            found = PARTS[name](Path(scratch))
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = found
        RESULTS.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
        print(name, json.dumps(found, indent=1)[:3000], flush=True)


if __name__ == "__main__":
    main()
