"""An hour of speech in flat memory: peak memory and computing time of a recogniser on two minutes and on an hour.

    python -m benchmarks.long_recording RUN CLIPS.csv      writes benchmarks/results/long_recording.json

CLIPS.csv has columns file and transcript (and split, of which only test is used), such as speech_synth makes. The
recordings are made here: clips in random order with pauses of 0.3 to 3 s between them, now and then half a minute, in a
room that hisses. Each is heard in a process of its own. Errors are set beside those on the clips one by one.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from headstart import registry
from headstart.modalities.waves import RATE
from headstart.tasks.base import one_each
from headstart.tasks.heard import Heard
from headstart.tasks.transcription import character_errors

RESULTS = Path(__file__).resolve().parent / "results" / "long_recording.json"
MINUTES = (2, 60)
PAUSE_S, LONG_PAUSE_S, LONG_SHARE = (0.3, 3.0), 30.0, 0.01
ROOM = 1e-3  # root mean square of the hiss: 60 dB below full scale

HEAR = """
import json, resource, sys, time
from pathlib import Path
from headstart.engine.allocator import keep_few_kernels
keep_few_kernels()  # as `headstart predict` does
import headstart
model = headstart.load(sys.argv[1])
model.predict([model.modality.example()])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wall, own = time.perf_counter(), time.process_time()
(heard,) = model.predict_proba([Path(sys.argv[2])])
print(json.dumps({
    "wall_s": time.perf_counter() - wall,
    "cpu_s": time.process_time() - own,
    "loaded_mib": before / 1024,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "text": heard.text,
}))
"""


def main() -> None:
    """Make the recordings, hear them, write the figures."""
    run, table = sys.argv[1:]
    clips = read_clips(Path(table))
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in MINUTES:
            path = Path(folder) / f"{minutes}.flac"
            used = make(path, clips, 60 * minutes, np.random.default_rng(0))
            told = hear(run, path)
            text = " ".join(transcript for _, transcript in used)
            told["cer"] = rate([text], [str(told.pop("text"))])
            found[f"{minutes} min"] = {"clips": len(used), **told}
            print(minutes, found[f"{minutes} min"], flush=True)
    found["cer clip by clip"] = alone(run, clips)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def read_clips(table: Path) -> list[tuple[Path, str]]:
    """(file, transcript) of the test split, or of all rows where there is none."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [(table.parent / row["file"], row["transcript"]) for row in rows if row.get("split", "test") == "test"]


def make(path: Path, clips: list[tuple[Path, str]], seconds: float, rng: np.random.Generator) -> list[tuple[Path, str]]:
    """Write a recording of so many seconds; the clips in it, in order."""
    used: list[tuple[Path, str]] = []
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as out:
        for one in shuffled(clips, rng):
            gap = LONG_PAUSE_S if rng.random() < LONG_SHARE else rng.uniform(*PAUSE_S)
            samples = registry.modality("audio").open({"path": str(one[0]), "bytes": None})
            part = np.concatenate([np.zeros(round(gap * RATE), dtype=np.float32), samples])
            if out.frames + len(part) > seconds * RATE:
                return used
            out.write(part + ROOM * rng.standard_normal(len(part)).astype(np.float32))
            used.append(one)
    return used


def shuffled(clips: list[tuple[Path, str]], rng: np.random.Generator) -> Iterator[tuple[Path, str]]:
    """All clips in a random order, again and again."""
    while True:
        yield from (clips[row] for row in rng.permutation(len(clips)))


def hear(run: str, path: Path) -> dict[str, object]:
    """What a new process says of a recording."""
    done = subprocess.run([sys.executable, "-c", HEAR, run, str(path)], check=True, capture_output=True, text=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def alone(run: str, clips: list[tuple[Path, str]]) -> float:
    """Errors a character where each clip is heard by itself."""
    import headstart

    return rate([text for _, text in clips], headstart.load(run).predict([path for path, _ in clips]))


def rate(said: list[str], heard: list[str]) -> float:
    """Errors a character over all texts."""
    edits, units = character_errors(one_each(said), one_each([Heard(text, 1.0) for text in heard]))
    return float(edits.sum() / units.sum())


if __name__ == "__main__":
    main()
