"""Learning transcripts: tones stand for letters, a tiny random Whisper listens; from cache as without, and again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import headstart
from headstart import speech_workshop
from headstart.backbones.log_mel import LogMel
from headstart.engine.recognizer import Recognizer, listen
from headstart.errors import PlanError
from headstart.evidence.mishearings import Piece, measure_speech, pieces_of, worst
from headstart.evidence.plan import Plan
from headstart.problem import pose
from headstart.progress import Progress
from headstart.registry import modality
from headstart.speech_workshop import SpeechWorkshop
from headstart.strategies.frozen import Frozen
from headstart.strategies.partial import Partial
from headstart.tasks.base import one_each
from headstart.tasks.heard import Heard, Word
from headstart.tasks.transcription import Transcription
from headstart.wishes import Wishes
from headstart.workshop import load_backbones, open_workshop
from tests.test_speech_backbones import save_tiny

RATE, TONES = 16_000, {"a": 300.0, "b": 900.0, "c": 2400.0}
N = {"train": 48, "val": 12, "test": 16}


def spoken(text: str, seed: int) -> np.ndarray:
    """(T,) each letter a tone of a tenth of a second, a space as long a silence; noise over all."""
    rng = np.random.default_rng(seed)
    parts = []
    for letter in text:
        n = int(RATE * rng.uniform(0.09, 0.12))
        tone = np.sin(2 * np.pi * TONES.get(letter, 0.0) * rng.uniform(0.97, 1.03) * np.arange(n) / RATE)
        parts += [0.4 * tone * np.hanning(n), np.zeros(int(RATE * 0.03))]
    whole = np.concatenate(parts)
    return (whole + 0.005 * rng.standard_normal(len(whole))).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of sounds with transcripts, three speakers, and a split."""
    folder = tmp_path_factory.mktemp("tones")
    rng, rows = np.random.default_rng(0), []
    for split, n in N.items():
        for i in range(n):
            text = " ".join("".join(rng.choice(list("abc"), int(rng.integers(1, 4)))) for _ in range(2))
            name = f"{split}-{i}.wav"
            soundfile.write(folder / name, spoken(text, len(rows)), RATE)
            rows.append({"file": name, "transcript": text, "speaker": f"{split}{i % 3}", "split": split})
    pd.DataFrame(rows).to_csv(folder / "data.csv", index=False)
    return folder / "data.csv"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("whisper", tmp_path_factory.mktemp("backbones") / "whisper")


def open_shop(data: Path, whisper: Path, n_train: int | None = None, kind: Any = SpeechWorkshop) -> Any:
    problem = pose(headstart.read(data), 0, Progress(), crosswise=False).in_fixed_order()
    if n_train:
        problem = replace(problem, rows={**problem.rows, "train": problem.rows["train"][:n_train]})
    (network,) = load_backbones(str(whisper), "audio", Progress())
    return open_workshop(problem, network, problem.task.metrics(), Wishes(), 0, Progress(), kind)


@pytest.mark.parametrize(
    "way", [Frozen(epochs=2, learning_rate=1e-3), Partial(freeze=2, epochs=2)], ids=["head", "cut"]
)
@pytest.mark.parametrize("network", ["whisper", "wavlm"])
def test_cached_outputs_give_the_weights_that_sounds_give(
    data: Path, network: str, way: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    shop = open_shop(data, save_tiny(network, tmp_path / network), n_train=6)
    rows = shop.problem.rows["train"]
    cached, uncached = (shop.teach(way, shop.lesson_for(way, rows, cache)) for cache in (True, False))
    assert shop.lesson_for(way, rows, True).views
    assert not shop.lesson_for(way, rows, False).views
    for name, tensor in cached.head.items():
        np.testing.assert_allclose(tensor, uncached.head[name], atol=1e-5, err_msg=name)
    assert (cached.changes is None) == isinstance(way, Frozen)
    if cached.changes is not None and uncached.changes is not None:
        assert cached.changes.tensors.keys() == uncached.changes.tensors.keys()
        for name, tensor in cached.changes.tensors.items():
            np.testing.assert_allclose(tensor, uncached.changes.tensors[name], atol=1e-5, err_msg=name)


def test_stages_above_the_one_that_is_read_are_neither_run_nor_kept(data: Path, whisper: Path) -> None:
    shop = open_shop(data, whisper, n_train=4)
    shop.read = 1
    trainee = shop.teach(
        Partial(freeze=1, epochs=1), shop.lesson_for(Partial(freeze=1), shop.problem.rows["train"], True)
    )
    assert trainee.changes is not None
    assert {name.split(".")[1] for name in trainee.changes.tensors} == {"0"}  # layers.0, and no other
    assert shop.work.shares[2:] == (0.0, 0.0)


@pytest.fixture(scope="module")
def run(data: Path, whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of the head alone, and of what is above the stem."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_workshop, "PROFILE_STEPS", 15)
        patch.setattr(speech_workshop, "FEWEST_STEPS", 150)
        patch.setattr(speech_workshop, "STEPS_AFTERWARDS", 6)
        out = tmp_path_factory.mktemp("runs") / "run"
        headstart.fit(data, backbone=str(whisper), out=out)
    return out


def test_a_fit_learns_what_the_tones_say(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "transcription"
    assert metrics["metrics"]["cer"]["value"] < 0.35 < metrics["baselines"]["the usual transcript"]["cer"]["value"]
    assert {"the same head on log-mel frames", "same network from scratch"} < metrics["baselines"].keys()
    assert metrics["speech"]["n_utterances"] == N["test"]
    plan = Plan.read(run)
    assert [point.stages for point in plan.depth] == [(stage,) for stage in range(4)]
    assert plan.reads in [point.stages for point in plan.depth]
    report = (run / "report.html").read_text()
    assert "What it mishears" in report
    assert "data:audio/mpeg;base64," in report


def test_a_run_comes_back_as_it_was(run: Path, data: Path) -> None:
    model = headstart.load(run)
    tested = pd.read_parquet(run / "predictions.parquet")
    heard = model.predict(list(tested["input"]))
    assert heard == list(tested["prediction"])
    assert list(tested.columns) == ["input", "label", "prediction", "confidence", "words"]
    found = model.evaluate(data)
    kept = json.loads((run / "metrics.json").read_text())["metrics"]
    assert found.metrics["cer"].value == pytest.approx(kept["cer"]["value"])
    assert model.recognizer is not None
    assert model.recognizer.sure.slope > 0


def test_a_plan_is_done_again(run: Path, data: Path, whisper: Path) -> None:
    first, again = headstart.load(run), headstart.fit(data, plan=run, backbone=str(whisper), scratch=False)
    assert again.recognizer is not None
    assert first.recognizer is not None
    assert again.recognizer.to_json() == first.recognizer.to_json()
    for name, tensor in first.recognizer.head.items():
        np.testing.assert_allclose(tensor, again.recognizer.head[name], atol=1e-6)


def test_what_cannot_be_wished_for(data: Path, whisper: Path) -> None:
    with pytest.raises(PlanError, match="no way to learn transcripts"):
        headstart.fit(data, backbone=str(whisper), strategy="probe")
    with pytest.raises(PlanError, match="the data pose transcription"):
        headstart.fit(data, backbone=str(whisper), to=data)


def test_log_mel_frames_are_a_backbone_without_weights(data: Path) -> None:
    network = LogMel()
    clips = [spoken("abc", 0), spoken("a", 1)]
    inputs = network.collate(clips)
    both = network.unpad(network.activations(inputs, 1), inputs)
    alone = network.activations(network.collate(clips[1:]), 1)[0]
    np.testing.assert_allclose(both[1], alone, atol=1e-6)
    assert [len(one) for one in both] == network.lengths(clips)


def test_every_recording_is_heard_with_its_times(run: Path, data: Path) -> None:
    model = headstart.load(run)
    recognizer = model.recognizer
    assert isinstance(recognizer, Recognizer)
    item = modality("audio").store(str(data.parent / "test-0.wav"), None)
    (said,) = listen(recognizer.network(), model.backbone, model.modality, [item], Progress().bar)
    seconds = len(modality("audio").open(item)) / RATE
    assert said.frame_s * len(said.log_probs) == pytest.approx(seconds)
    (heard,) = recognizer.read([said])
    assert all(0 <= word.start < word.end <= seconds + 1e-6 for word in heard.words)
    assert " ".join(word.text for word in heard.words) == heard.text


def test_words_that_were_misheard_are_counted_and_shown() -> None:
    said = ["the cat sat", "no", "a dog"]
    heard = [
        Heard.of((Word("the", 0, 1, 0.9), Word("hat", 1, 2, 0.4), Word("sat", 2, 3, 0.9))),
        Heard.of((Word("no", 0, 1, 0.8), Word("no", 1, 2, 0.3))),
        Heard.of((Word("dog", 0, 1, 0.7),)),
    ]
    task = Transcription.from_labels(said)
    y, scores = task.encode(said), one_each(heard)
    found = measure_speech(task, y, scores, task.metrics()[0], ["x", "x", "y"], 0)
    assert (found.substitutions, found.insertions, found.deletions, found.n_right) == (1, 1, 1, 0)
    assert {(one.said, one.heard) for one in found.mixed} == {("cat", "hat"), ("", "no"), ("a", "")}
    assert [(one.name, one.n, one.score is None) for one in found.speakers] == [("x", 2, False), ("y", 1, True)]
    assert sum(one.count for one in found.calibration) == 6
    assert pieces_of("the cat sat", "the hat sat")[1] == Piece("substitute", "cat", "hat")
    items = [modality("audio").store(spoken("a", i), None) for i in range(3)]
    first = worst(y, scores, task.metrics()[0], modality("audio"), items)[0]
    assert (first.said, first.heard) == ("no", "no no")
    assert first.rate == pytest.approx(1.5)
