"""Speech of another language for the benchmarks: sentences of a grammar of ours, spoken by voices of espeak-ng.

    python -m benchmarks.speech_synth FOLDER [--language es|de]

Writes FOLDER/wav/*.wav (16 kHz, mono) and FOLDER/index.csv (file, transcript, speaker, split). The splits train,
val and test share no sentence and no voice. The first 50, 100, … rows of train are nested training sets in which
every voice of train speaks about equally often. The same arguments give the same sentences, voices and sounds.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import soundfile
import soxr

RATE = 16_000  # Hz
GRAMMARS = Path(__file__).resolve().parent / "grammars"
SPLITS = {"train": 300, "val": 60, "test": 100}  # sentences
WORDS = range(3, 11)  # words of a sentence
ACCENTS = {"es": ("es", "es-419"), "de": ("de", "de")}
SLOT = re.compile(r"<(\w+)>")

Grammar = dict[str, list[str]]  # a name's alternatives, which may hold other names in <>


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A variant of espeak-ng with its pitch (0 to 99) and its speed in words a minute."""

    variant: str
    pitch: int
    speed: int
    accent: int = 0  # which of the language's accents it speaks


VOICES = {
    "train": (
        Voice(variant="m1", pitch=45, speed=150),
        Voice(variant="f1", pitch=55, speed=165),
        Voice(variant="m3", pitch=35, speed=140, accent=1),
        Voice(variant="f4", pitch=60, speed=150, accent=1),
        Voice(variant="Michael", pitch=40, speed=170),
        Voice(variant="linda", pitch=50, speed=145),
        Voice(variant="m5", pitch=55, speed=160, accent=1),
        Voice(variant="f5", pitch=45, speed=175),
    ),
    "val": (
        Voice(variant="m2", pitch=50, speed=155, accent=1),
        Voice(variant="f2", pitch=50, speed=160),
        Voice(variant="Alex", pitch=45, speed=145),
        Voice(variant="steph", pitch=55, speed=170, accent=1),
    ),
    "test": (
        Voice(variant="m7", pitch=40, speed=160),
        Voice(variant="f3", pitch=60, speed=150, accent=1),
        Voice(variant="Andy", pitch=50, speed=170, accent=1),
        Voice(variant="anika", pitch=50, speed=155),
        Voice(variant="paul", pitch=35, speed=145),
        Voice(variant="m4", pitch=45, speed=165, accent=1),
        Voice(variant="m6", pitch=40, speed=150),
        Voice(variant="Alicia", pitch=55, speed=160, accent=1),
        Voice(variant="belinda", pitch=50, speed=145),
        Voice(variant="edward", pitch=40, speed=170, accent=1),
    ),
}


def read_grammar(text: str) -> Grammar:
    """`name = a <other> | b` are alternatives, `name : one two` are words."""
    rules = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, sign, rest = line.split(maxsplit=2)
            rules[name] = [part.strip() for part in rest.split("|")] if sign == "=" else rest.split()
    return rules


def expand(name: str, grammar: Grammar, rng: random.Random) -> str:
    """One sentence, or part of one, by alternatives drawn evenly."""
    return SLOT.sub(lambda slot: expand(slot[1], grammar, rng), rng.choice(grammar[name]))


def sentences(grammar: Grammar, rng: random.Random) -> Iterator[str]:
    """Sentences of 3 to 10 words without end, none of them twice, no word twice running."""
    seen = set()
    while True:
        words = expand("sentence", grammar, rng).split()
        text = " ".join(words)
        repeats = any(len(word) > 3 and words.count(word) > 1 for word in words)
        if len(words) in WORDS and not repeats and text not in seen:
            seen.add(text)
            yield text


def say(text: str, voice: Voice, language: str, out: Path) -> None:
    """The sentence spoken into a wav file of 16 kHz, 16 bit."""
    name = f"{ACCENTS[language][voice.accent]}+{voice.variant}"
    command = ["espeak-ng", "-v", name, "-p", str(voice.pitch), "-s", str(voice.speed), "--stdout", text]
    sound = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate = soundfile.read(BytesIO(sound), dtype="float32")  # (T,)
    soundfile.write(out, soxr.resample(samples, rate, RATE), RATE, subtype="PCM_16")


def write(folder: Path, language: str, splits: dict[str, int]) -> None:
    """All splits' sounds, and the table that names them."""
    drawn = sentences(read_grammar((GRAMMARS / f"{language}.txt").read_text()), random.Random(0))
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "transcript", "speaker", "split"])
        for split, size in splits.items():
            for i, text in zip(range(size), drawn, strict=False):
                voice = VOICES[split][i % len(VOICES[split])]
                path = f"wav/{split}_{i:03}_{voice.variant}.wav"
                say(text, voice, language, folder / path)
                table.writerow([path, text, voice.variant, split])


def main() -> None:
    """Write the data set into the folder that was named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", choices=sorted(ACCENTS), default="es")
    arguments = parser.parse_args()
    write(arguments.folder, arguments.language, SPLITS)


if __name__ == "__main__":
    main()
