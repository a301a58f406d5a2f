"""What models of sounds are used for: long recordings, subtitles, predict in every form, serve, bundle, the page."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from fastapi.testclient import TestClient

import headstart
from headstart import registry
from headstart.backbones import catalog
from headstart.deploy import answer, app, artifact, hub, subtitles
from headstart.deploy.bundle import bundle
from headstart.deploy.card import model_card
from headstart.deploy.export import export as write_export
from headstart.deploy.model import Model
from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.settings import Settings
from headstart.engine.recognizer import Recognizer, depths_of, listen
from headstart.errors import DataError, PlanError
from headstart.modalities import pauses, waves
from headstart.modalities.waves import RATE
from headstart.progress import Progress
from headstart.tasks.ctc import Alphabet
from headstart.tasks.ctc_head import CtcHead, Frames
from headstart.tasks.heard import Heard, Word
from headstart.tasks.transcription import Transcription
from tests import samples, serving
from tests.conftest import call

pytestmark = [  # Gradio's own: what it imports, and event loops that it leaves open
    pytest.mark.usefixtures("gradio_loops"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]
CHARACTERS = (" ", "a", "b", "c", "ñ", "&", "<")
SETTINGS = {
    "num_mel_bins": 80,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 16,
    "vocab_size": 60,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "begin_suppress_tokens": None,
    "suppress_tokens": None,
}


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Somebody who never pauses: tones that change every 80 ms."""
    rng, n = np.random.default_rng(seed), round(seconds * RATE)
    hertz = np.repeat(rng.uniform(100, 3000, n // 1280 + 1), 1280)[:n]
    return (0.4 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)).astype(np.float32)


def spoken(*spans: tuple[float, float]) -> np.ndarray:
    """Silence and babble in turn: (seconds of silence, seconds of babble) each; a little noise over all."""
    each = [part for i, (gap, said) in enumerate(spans) for part in (np.zeros(round(gap * RATE)), babble(said, i))]
    whole = np.concatenate(each)
    return (whole + 0.0005 * np.random.default_rng(9).standard_normal(len(whole))).astype(np.float32)


def blocks(recording: np.ndarray, size: int = 2048) -> list[np.ndarray]:
    return [recording[i : i + size] for i in range(0, len(recording), size)]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random Whisper in the layout of the hub."""
    folder = tmp_path_factory.mktemp("backbone") / "whisper"
    torch.manual_seed(0)
    transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**SETTINGS)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": RATE, "feature_size": 80}))
    return catalog.load(str(folder), Progress())


@pytest.fixture(scope="module")
def run(backbone: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser with a random head that writes a lot."""
    torch.manual_seed(1)
    alphabet = Alphabet(CHARACTERS)
    depths = depths_of(backbone, babble(0.5))
    frames = Frames(stage=max(depths), width=depths[max(depths)], n_out=len(alphabet))
    head = CtcHead(frames)
    with torch.no_grad():
        head.leave.weight.mul_(30)
    record = samples.record("texts")
    model = Model(
        task=Transcription(alphabet=CHARACTERS),
        modality=registry.modality("audio"),
        recognizer=Recognizer(alphabet=alphabet, frames=frames, head=head.state_dict()),
        plan=samples.plan(way="float32", cut=backbone.n_stages),
        provenance=backbone.provenance,
        fingerprint=backbone.fingerprint,
        evidence=record.evidence,
        files={"metrics.json": artifact.to_bytes(record.to_json()), "README.md": model_card(record).encode()},
    )
    return model.save(tmp_path_factory.mktemp("runs") / "words")


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return headstart.load(run)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    path.write_bytes(waves.encoded(spoken((0.3, 2.0), (1.0, 1.5)), RATE, ("WAV", "PCM_16")))
    return path


# --- recordings of any length


def test_pieces_are_what_is_said_and_no_more() -> None:
    spans = [(1.3, 4.0), (2.0, 0.8), (0.2, 1.0), (40.0, 3.0), (0.9, 47.0), (5.0, 0.7), (3.0, 0.0)]
    recording = spoken(*spans)
    found = list(pauses.pieces(blocks(recording)))
    said, at = [], 0.0
    for gap, length in spans:
        said.append((at + gap, at + gap + length))
        at += gap + length
    said = [said[0], (said[1][0], said[2][1]), said[3], said[4], said[5]]  # 0.2 s is no pause
    spoken_at = np.zeros(len(recording) // RATE * 100 + 200, dtype=bool)
    for piece in found:
        np.testing.assert_array_equal(piece.samples, recording[piece.start : piece.start + len(piece.samples)])
        assert len(piece.samples) <= pauses.LONGEST
        spoken_at[piece.start // 160 : (piece.start + len(piece.samples)) // 160] = True
    for start, end in said:
        assert spoken_at[round(100 * start) + 5 : round(100 * end) - 5].all()
    margin = sum(end - start + 0.5 for start, end in said)
    assert spoken_at.sum() / 100 <= margin
    assert len(found) == 4 + 3  # 47 s without a pause are cut twice
    one_after_another = [piece.start + len(piece.samples) for piece in found[:-1]]
    assert all(end <= piece.start for end, piece in zip(one_after_another, found[1:], strict=True))


@pytest.mark.parametrize("size", [1, 700, 10**7])
def test_pieces_do_not_depend_on_how_the_samples_come(size: int) -> None:
    recording = spoken((0.5, 1.0), (1.0, 2.0), (0.3, 1.0))[:: 1 if size > 1 else 40]
    wanted = list(pauses.pieces(blocks(recording)))
    found = list(pauses.pieces(blocks(recording, size)))
    assert [(one.start, len(one.samples)) for one in found] == [(one.start, len(one.samples)) for one in wanted]


def test_nothing_is_heard_in_silence_and_noise_is_not_lost() -> None:
    assert list(pauses.pieces([])) == []
    assert list(pauses.pieces(blocks(np.zeros(70 * RATE, dtype=np.float32)))) == []
    noise = 0.1 * np.random.default_rng(0).standard_normal(50 * RATE).astype(np.float32)
    assert sum(len(one.samples) for one in pauses.pieces(blocks(noise))) == len(noise)


def test_an_hour_takes_the_memory_of_a_minute() -> None:
    second = spoken((0.4, 0.6))

    def peak(seconds: int) -> int:
        tracemalloc.start()
        n = sum(1 for _ in pauses.pieces(second for _ in range(seconds)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n > 0
        return found

    assert peak(600) < 1.2 * peak(60)


def test_a_long_recording_is_heard_as_its_pieces_are(model: Model) -> None:
    recording = spoken((0.5, 4.0), (3.0, 6.0), (20.0, 3.0), (1.0, 2.0))
    (found,) = model.predict_proba([recording])
    wanted: list[Word] = []
    for piece in pauses.pieces(blocks(recording)):
        (alone,) = model.predict_proba([piece.samples])
        wanted += [word.later(piece.start / RATE) for word in alone.words]
    assert found.text == " ".join(word.text for word in wanted)
    assert len(found.words) >= 4  # of four stretches of speech
    np.testing.assert_allclose([w.start for w in found.words], [w.start for w in wanted], atol=1e-6)
    np.testing.assert_allclose([w.confidence for w in found.words], [w.confidence for w in wanted], atol=1e-4)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found.words))
    assert found.words[-1].end > 32


def test_a_short_recording_is_heard_whole_as_on_the_test_split(model: Model, clip: Path) -> None:
    stored = [model.modality.store(clip, None), model.modality.store(babble(29.9), None)]
    (recognizer, network) = (model.recognizer, model.recognizer.network())  # type: ignore[union-attr]
    said = listen(network, model.backbone, model.modality, stored, Progress().bar)
    assert list(model.scores(stored, ["", ""])) == list(recognizer.read(said))  # type: ignore[union-attr]


def test_no_recording_at_all(model: Model) -> None:
    assert model.predict([]) == []


def test_long_sounds_are_refused_where_classes_are_predicted() -> None:
    audio = registry.modality("audio")
    long = audio.store(babble(31), None)
    assert "Split it into several files" in audio.examine(long).problem
    assert audio.examine(long, longest_s=None).problem is None


# --- subtitles


def heard(*words: tuple[str, float, float]) -> Heard:
    return Heard.of(tuple(Word(text, start, end, 0.5) for text, start, end in words))


SENTENCE = "it was the best of times it was the worst of times it was the age of wisdom it was the age of foolishness"


def said(text: str, pause_after: str = "") -> Heard:
    words, at = [], 1.0
    for word in text.split():
        words.append((word, at, at + 0.2))
        at += 0.55 if word == pause_after else 0.25
    return heard(*words)


def test_subtitles_hold_every_word_once_in_two_short_lines() -> None:
    found = subtitles.cues(said(SENTENCE))
    assert " ".join(line for cue in found for line in cue.lines) == SENTENCE
    assert all(1 <= len(cue.lines) <= 2 and all(len(line) <= 42 for line in cue.lines) for cue in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    assert all(0 < cue.end - cue.start <= 7.0 for cue in found)


def test_subtitles_end_at_pauses() -> None:
    first, *_ = subtitles.cues(said(SENTENCE.replace("worst", "worst,"), pause_after="worst,"))
    assert " ".join(first.lines) == "it was the best of times it was the worst,"
    one, other = subtitles.segments(heard(("a", 0, 1), ("b", 1.2, 2), ("c", 2.5, 3)))
    assert (one.text, other.text) == ("a b", "c")


def test_a_script_without_spaces_is_broken_too() -> None:
    (found, *more) = subtitles.cues(heard(("字" * 130, 0.0, 13.0)))
    assert "".join(line for cue in (found, *more) for line in cue.lines) == "字" * 130
    assert found.lines[0] == "字" * 42
    assert found.end == pytest.approx(4.2)


def test_srt_and_vtt_are_written_by_the_book() -> None:
    told = heard(("a<b>", 0.0, 0.4), ("&", 0.4, 0.8), ("-->", 0.9, 1.0), ("ñ", 3661.5, 3661.9996))
    assert subtitles.as_srt(told) == (
        "1\n00:00:00,000 --> 00:00:01,000\na<b> & ->\n\n2\n01:01:01,500 --> 01:01:02,500\nñ\n"
    )
    assert subtitles.as_vtt(told) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na&lt;b&gt; &amp; --&gt;\n\n01:01:01.500 --> 01:01:02.500\nñ\n"
    )
    nothing = Heard.of(())
    assert (subtitles.as_srt(nothing), subtitles.as_vtt(nothing), subtitles.as_text(nothing)) == ("", "WEBVTT\n", "")
    assert json.loads(subtitles.as_json(nothing))["segments"] == []


# --- predict and evaluate


def test_predict_writes_tables_and_transcripts(run: Path, model: Model, clip: Path, tmp_path: Path) -> None:
    (wanted,) = model.predict_proba([clip])
    for suffix in ("csv", "jsonl", "parquet", "srt", "vtt", "txt", "json"):
        assert call("predict", run, clip, "--out", tmp_path / f"x.{suffix}", "--quiet") == 0
    assert list(pd.read_csv(tmp_path / "x.csv")) == ["input", "prediction", "confidence"]
    for table in (pd.read_json(tmp_path / "x.jsonl", lines=True), pd.read_parquet(tmp_path / "x.parquet")):
        assert table["prediction"][0] == wanted.text
        assert [word["text"] for word in table["words"][0]] == [word.text for word in wanted.words]
        assert table["words"][0][0]["end"] == pytest.approx(wanted.words[0].end, abs=1e-6)
    for kind in ("srt", "vtt", "txt", "json"):
        assert (tmp_path / f"x.{kind}").read_text(encoding="utf-8") == subtitles.FORMATS[kind](wanted)


def test_predict_writes_a_file_a_recording(
    run: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b").mkdir()
    shutil.copy(clip, tmp_path / "one.wav")
    shutil.copy(clip, tmp_path / "b" / "one.wav")
    (tmp_path / "b" / "broken.wav").write_bytes(b"nothing")
    out = tmp_path / "out"
    assert call("predict", run, tmp_path, "--out", out, "--format", "vtt", "--quiet") == 0
    assert sorted(path.name for path in out.iterdir()) == ["one-2.vtt", "one.vtt"]
    for arguments, said in [
        (("--out", out, "--format", "vtt"), "is there already"),
        (("--out", tmp_path / "new", "--format", "doc"), "srt"),
        (("--format", "srt"), "--out FOLDER"),
        (("--out", tmp_path / "x.srt"), "--format srt"),
        (("--out", tmp_path / "x.doc"), ".srt"),
    ]:
        assert call("predict", run, tmp_path, *arguments) == 1
        assert said in " ".join(capsys.readouterr().err.split())


def test_evaluate_measures_on_transcripts(run: Path, model: Model, clip: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.wav"
    own.write_bytes(waves.encoded(spoken((0.2, 33.0)), RATE, ("WAV", "PCM_16")))  # longer than it learnt from
    table = tmp_path / "new.csv"
    text = model.predict([clip])[0]
    pd.DataFrame({"file": [clip, own], "transcript": [text, "a b"]}).to_csv(table, index=False)
    found = model.evaluate(str(table))
    assert found.n == 2
    assert found.metrics["cer"].value > 0


# --- serve


@pytest.fixture(scope="module")
def client(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    server = create_app({"words": headstart.load(run)}, Settings(seconds=60, token=None))
    with TestClient(server, raise_server_exceptions=False) as found:
        yield found


def ask(client: TestClient, data: bytes, **fields: Any) -> Any:
    given = {"model": "words", **fields}
    return client.post("/v1/audio/transcriptions", files={"file": ("x.wav", data)}, data=given)


def test_sounds_are_predicted_over_http(client: TestClient, model: Model, clip: Path) -> None:
    data = clip.read_bytes()
    (wanted,) = model.predict_proba([clip])
    encoded = base64.b64encode(data).decode()
    for answered in (
        client.post("/predict", content=data, headers={"content-type": "audio/wav"}).json()["models"]["words"],
        client.post("/models/words/predict", json={"items": [{"base64": encoded}] * 2}).json(),
    ):
        (found, *_) = answered["predictions"]
        assert found["text"] == wanted.text
        assert [word["start"] for word in found["words"]] == pytest.approx([word.start for word in wanted.words])


@pytest.mark.parametrize(
    ("recording", "said"),
    [
        (np.zeros(RATE, dtype=np.float32), "silent"),
        (babble(61), "61 s"),
        (b"nothing at all", "not a picture"),
        (b"", "empty file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "not a sound"),
    ],
)
def test_what_cannot_be_heard_is_said(client: TestClient, recording: Any, said: str) -> None:
    data = recording if isinstance(recording, bytes) else waves.encoded(recording, RATE)
    answered = client.post("/predict", json={"items": [{"base64": base64.b64encode(data).decode()}]})
    assert answered.status_code == 422
    assert said in answered.json()["detail"]


def test_the_sounds_of_a_request_are_bounded_together(client: TestClient) -> None:
    one = {"base64": base64.b64encode(waves.encoded(babble(25), RATE, ("FLAC", "PCM_16"))).decode()}
    answered = client.post("/predict", json={"items": [one] * 3})
    assert answered.status_code == 422
    assert "last 75 s" in answered.json()["detail"]


def test_transcriptions_in_every_form_of_openai(client: TestClient, model: Model, clip: Path) -> None:
    data, (wanted,) = clip.read_bytes(), model.predict_proba([clip])
    assert ask(client, data, language="es", temperature="0.2").json()["text"] == wanted.text
    assert ask(client, data, response_format="text").text == wanted.text + "\n"
    for kind in ("srt", "vtt"):
        answered = ask(client, data, response_format=kind)
        assert answered.text == subtitles.FORMATS[kind](wanted)
        assert answered.headers["content-type"].startswith({"srt": "application/x-subrip", "vtt": "text/vtt"}[kind])
    told = ask(client, data, response_format="verbose_json").json()
    assert (told["task"], told["text"], "words" in told) == ("transcribe", wanted.text, False)
    assert told["duration"] == pytest.approx(4.8)
    assert [one["text"] for one in told["segments"]] == [one.text for one in subtitles.segments(wanted)]
    both = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    told = ask(client, data, **both).json()
    assert [one["word"] for one in told["words"]] == [word.text for word in wanted.words]
    assert told["segments"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "whisper-1"}, 404, "model"),
        ({"model": ""}, 400, "model"),
        ({"response_format": "docx"}, 400, "response_format"),
        ({"timestamp_granularities[]": "word"}, 400, "timestamp_granularities"),
        ({"timestamp_granularities[]": "letter", "response_format": "verbose_json"}, 400, "timestamp_granularities"),
        ({"stream": "true"}, 400, "stream"),
    ],
)
def test_errors_are_told_as_openai_does(
    client: TestClient, clip: Path, fields: dict[str, str], status: int, param: str
) -> None:
    answered = ask(client, clip.read_bytes(), **fields)
    assert answered.status_code == status
    error = answered.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_forms_that_cannot_be_read(client: TestClient) -> None:
    path = "/v1/audio/transcriptions"
    assert "silent" in ask(client, waves.encoded(np.zeros(RATE), RATE)).json()["error"]["message"]
    assert ask(client, b"nothing").json()["error"]["param"] == "file"
    assert ask(client, waves.encoded(babble(61), RATE)).status_code == 400
    assert client.post(path, data={"model": "words"}).status_code == 415
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answered = client.post(path, content=b"no form", headers={"content-type": kind})
        assert answered.status_code == 400
        assert answered.json()["error"]["type"] == "invalid_request_error"
    too_large = client.post(path, content=b"x" * (11 << 20), headers={"content-type": "multipart/form-data"})
    assert too_large.status_code == 413
    assert "error" in too_large.json()
    assert client.get(path).json()["error"]["message"]


def test_a_missing_token_is_told_in_the_form_of_the_route(run: Path) -> None:
    with TestClient(create_app({"words": headstart.load(run)}, Settings(token="sesame"))) as guarded:
        assert guarded.post("/v1/audio/transcriptions").json()["error"]["code"] == "a_token_is_needed"
        assert guarded.post("/predict").json()["title"] == "A token is needed"


def test_classes_of_sounds_are_served_and_long_ones_refused(backbone: Any, model: Model) -> None:
    kinds, data = serving.model(backbone), waves.encoded(babble(1.5), RATE)
    headers = {"content-type": "audio/wav"}
    with TestClient(create_app({"kinds": kinds, "words": model}, Settings())) as both:
        answered = both.post("/predict", content=data, headers=headers).json()["models"]
        assert set(answered) == {"kinds", "words"}
        found = answered["kinds"]["predictions"][0]["probabilities"]
        np.testing.assert_allclose(list(found.values()), kinds.predict_proba([data])[0], atol=1e-4)
        long = waves.encoded(babble(31), RATE)
        refused = both.post("/models/kinds/predict", content=long, headers=headers)
        assert refused.status_code == 422
        assert "Split it into several files" in refused.json()["detail"]
        assert both.post("/models/words/predict", content=long, headers=headers).status_code == 200
        wrong = both.post("/v1/audio/transcriptions", files={"file": ("x.wav", data)}, data={"model": "kinds"})
        assert wrong.status_code == 404


# --- take it elsewhere


def test_a_bundle_brings_the_encoder(model: Model, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle(model, tmp_path / "taken")
    assert "headstart[audio]" in (folder / "requirements.txt").read_text()
    monkeypatch.setattr(catalog, "load", None)
    assert headstart.load(folder).predict([clip]) == model.predict([clip])


def test_a_push_keeps_what_was_said_back(model: Model) -> None:
    told = json.loads(hub.public_files(model, "org/name")["metrics.json"])
    assert not {"speech", "findings"} & set(told)


def test_exports_are_refused_with_what_works(model: Model, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="headstart bundle"):
        write_export(model, "onnx", tmp_path / "x")


# --- the page


def test_the_page_shows_words_with_their_times(model: Model, clip: Path) -> None:
    (wanted,) = model.predict_proba([clip])
    (shown,) = answer.pages(model, str(clip))
    titles = re.findall(r'title="([\d.]+) to ([\d.]+) s', shown)
    assert [float(start) for start, _ in titles] == pytest.approx([word.start for word in wanted.words], abs=0.006)
    uri = re.search(r'base64,([^"]*)" download="transcript.srt"', shown)
    assert uri is not None
    assert base64.b64decode(uri[1]).decode() == subtitles.as_srt(wanted)
    (nothing,) = answer.pages(model, None)
    assert "give a sound" in nothing


def test_classes_of_sounds_are_answered_without_a_map(backbone: Any) -> None:
    kinds = serving.model(backbone)
    first, second = answer.pages(kinds, waves.encoded(babble(1.5), RATE))
    (label,) = kinds.predict([babble(1.5)])
    for shown in (first, second):
        assert f'class="hs-said">{label}<' in shown
    assert "<h4>" not in second


def test_the_page_takes_a_microphone(model: Model) -> None:
    pytest.importorskip("gradio")
    with TestClient(app.mount(app.server(), {"words": model}), base_url="http://127.0.0.1") as browser:
        components = browser.get("/config").json()["components"]
    (sound,) = [one["props"] for one in components if one["type"] == "audio"]
    assert (sound["sources"], sound["visible"]) == (["microphone", "upload"], True)
    assert not next(one["props"]["visible"] for one in components if one["type"] == "image")


def test_sounds_that_cannot_be_read_are_named(model: Model, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"nothing")
    with pytest.raises(DataError, match="number 0"):
        model.predict([tmp_path / "broken.wav"])
