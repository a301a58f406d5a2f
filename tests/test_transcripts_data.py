"""Recordings with transcripts: what layouts and tables are taken for, and what the audit says of them."""

import csv
from collections import Counter

import numpy as np
import pytest

from headstart import registry
from headstart.data.audit import audit
from headstart.data.audit_sounds import script_of
from headstart.data.describe import describe
from headstart.data.labels import infer_task, spoken
from headstart.data.read import Reading, read
from headstart.data.split import split
from headstart.errors import DataError
from headstart.modalities import waves
from headstart.progress import Progress

GUJARATI = ("શૂન્ય", "એક", "બે", "ત્રણ", "ચાર", "પાંચ", "છ", "સાત", "આઠ", "નવ")


def sound(seed, seconds=0.5, peak=0.5):
    """Noise of its own, as the bytes of a FLAC."""
    noise = np.random.default_rng(seed).uniform(-peak, peak, round(seconds * waves.RATE)).astype(np.float32)
    return waves.encoded(noise, waves.RATE, ("FLAC", "PCM_16"))


def write(path, seed=0, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sound(seed, **how))


def table(path, header, rows, delimiter=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def columns(dataset, *names):
    return [list(row) for row in zip(*(dataset.column(name) for name in names), strict=True)]


# --- layouts --------------------------------------------------------------------------------------------------------


def test_common_voice(tmp_path):
    header = ["client_id", "path", "sentence", "up_votes"]
    for name, n in (("train", 3), ("dev", 1), ("test", 2)):
        rows = [[f"{name}{i % 2}", f"{name}_{i}.mp3", f"said in {name} {i}", 2] for i in range(n)]
        table(tmp_path / f"{name}.tsv", header, rows, "\t")
        for i in range(n):
            write(tmp_path / "clips" / f"{name}_{i}.mp3")
    table(tmp_path / "validated.tsv", header, [["x", "x.mp3", "x", 2]], "\t")
    found = read(tmp_path, reading=Reading(group="speaker"))
    assert (found.task, found.modality, found.label_name) == ("transcription", "audio", "sentence")
    assert columns(found, "label", "split", "group")[2:4] == [
        ["said in train 2", "train", "train0"],
        ["said in dev 0", "val", "dev0"],
    ]
    assert found.inputs[0]["path"] == str(tmp_path / "clips" / "train_0.mp3")
    assert "read as Common Voice (train.tsv, dev.tsv, test.tsv)" in found.notes
    assert read(tmp_path, reading=Reading(group="client_id")).groups == found.groups


def test_common_voice_with_one_table(tmp_path):
    table(
        tmp_path / "validated.tsv",
        ["client_id", "path", "sentence"],
        [["a", "one", "eins"], ["b", "two.mp3", "zwei"]],
        "\t",
    )
    (tmp_path / "clips").mkdir()
    found = read(tmp_path)
    assert [item["path"].rpartition("/")[2] for item in found.inputs] == ["one.mp3", "two.mp3"]
    assert columns(found, "label", "split") == [["eins", ""], ["zwei", ""]]
    assert any("'speaker' names 2 speakers; pass --group speaker to keep each" in note for note in found.notes)
    table(tmp_path / "validated.tsv", ["client_id", "path"], [["a", "one"]], "\t")
    with pytest.raises(DataError, match="has no column sentence, which Common Voice"):
        read(tmp_path)


@pytest.mark.parametrize("top", ["", "LibriSpeech"])
def test_librispeech(top, tmp_path):
    for part, speaker in (("train-clean-5", "19"), ("dev-clean", "84"), ("test-other", "61")):
        chapter = tmp_path / top / part / speaker / "198"
        write(chapter / f"{speaker}-198-0000.flac")
        lines = f"{speaker}-198-0000 NORTHANGER ABBEY\n{speaker}-198-0001 WITHOUT A FILE\n"
        (chapter / f"{speaker}-198.trans.txt").write_text(lines)
    found = read(tmp_path, reading=Reading(group="speaker"))
    assert found.task == "transcription"
    by_name = sorted(columns(found, "split", "group", "label"))
    assert by_name[:2] == [["test", "61", "NORTHANGER ABBEY"], ["test", "61", "WITHOUT A FILE"]]
    assert {(split, group) for split, group, _ in by_name} == {("train", "19"), ("val", "84"), ("test", "61")}
    assert found.inputs[-1]["path"].endswith("0001.flac")  # for the audit to miss
    one = read(tmp_path / top / "dev-clean")
    assert columns(one, "label", "split") == [["NORTHANGER ABBEY", ""], ["WITHOUT A FILE", ""]]


def test_ljspeech(tmp_path):
    write(tmp_path / "wavs" / "LJ001-0001.wav")
    lines = 'LJ001-0001|Printed in 1455, "he said|Printed in fourteen fifty-five, "he said\nLJ001-0002|two|two\n'
    (tmp_path / "metadata.csv").write_text(lines)
    found = read(tmp_path)
    assert found.task == "transcription"
    assert found.column("label") == ['Printed in fourteen fifty-five, "he said', "two"]
    assert found.inputs[0]["path"] == str(tmp_path / "wavs" / "LJ001-0001.wav")


def test_class_folders_of_sounds(tmp_path):
    for i in range(4):
        write(tmp_path / "cat" / f"{i}.wav", i)
        write(tmp_path / "dog" / f"{i}.MP3", i)
    found = read(tmp_path)
    assert (found.modality, found.task) == ("audio", "classification")
    assert describe(found).startswith(f"{tmp_path.name}: 8 sounds from")


# --- tables ---------------------------------------------------------------------------------------------------------


def test_nemo_manifests(tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "duration": 1.5, "text": "one  two"}\n' * 3)
    found = read(path)
    assert (found.input_name, found.label_name, found.task) == ("audio_filepath", "text", "transcription")
    assert found.column("label") == ["one two"] * 3
    assert found.inputs[0]["path"] == str(tmp_path / "a.wav")


def test_labels_come_before_transcripts_unless_asked_for(tmp_path):
    rows = [[f"{i}.wav", i % 10, GUJARATI[i % 10], f"R{i % 4}"] for i in range(20)]
    path = table(tmp_path / "index.csv", ["file", "label", "transcript", "speaker"], rows)
    found = read(path)
    assert (found.task, found.label_name) == ("classification", "label")
    assert any("'speaker' names 4 speakers; pass --group speaker" in note for note in found.notes)
    for reading in (Reading(label="transcript"), Reading(task="transcription")):
        found = read(path, reading=reading)
        assert (found.task, found.label_name) == ("transcription", "transcript")
        assert found.column("label")[:10] == list(GUJARATI)
    line = describe(found)  # marks that need a letter to stand on are not shown
    n_characters = len(set("".join(GUJARATI)))
    assert f"transcripts of 20 words, {n_characters} characters (ન, " in line
    assert line.count("…") == 1
    found = read(path, reading=Reading(label="transcript", task="classification", group="speaker"))
    assert (found.task, set(found.column("label"))) == ("classification", set(GUJARATI))
    assert not any("speakers; pass" in note for note in found.notes)


def test_a_text_beside_a_picture_or_alone_is_no_transcript(tmp_path):
    path = table(tmp_path / "a.csv", ["sentence", "label"], [["a good film for all", "good"], ["a bad one", "bad"]])
    assert (read(path).modality, read(path).task) == ("text", "classification")
    with pytest.raises(DataError, match="transcription learns what is said in sounds, but the input holds texts"):
        read(path, reading=Reading(task="transcription"))


def test_sounds_in_memory():
    rng = np.random.default_rng(0)
    items = [rng.uniform(-0.5, 0.5, 4000).astype(np.float32) for _ in range(3)]
    for data in (
        items,
        np.stack(items),
        [(one, 8000) for one in items],
        [{"array": one, "sampling_rate": 8000} for one in items],
    ):
        found = read(data, ["a", "b", "a"])
        assert (found.modality, len(found)) == ("audio", 3)
    assert read(items, ["one two", "three", "four"], reading=Reading(task="transcription")).task == "transcription"


def test_free_text_beside_sounds_has_a_hint():
    sounds, said = [f"{i}.wav" for i in range(30)], [f"sentence {i}" for i in range(30)]
    with pytest.raises(DataError, match="or pass --task transcription if it is what is said in the sounds, or"):
        read(sounds, said)


def test_sentences_are_divided_and_words_are_stratified():
    sounds = [f"{i}.wav" for i in range(100)]
    apart = split(read({"audio": sounds, "sentence": [f"sentence {i}" for i in range(100)]}), 0)
    assert [len(apart.rows(name)) for name in ("train", "val", "test")] == [60, 20, 20]
    assert apart.notes[-1] == "split 60/20/20 into train, val and test (seed 0)"
    again = split(read({"audio": sounds, "sentence": [GUJARATI[i % 10] for i in range(100)]}), 0)
    assert Counter(again.column("label")[row] for row in again.rows("test")) == dict.fromkeys(GUJARATI, 2)
    assert "stratified by 'sentence'" in again.notes[-1]


def test_transcripts_are_composed_and_evenly_spaced():
    assert spoken(" cafe\u0301\t au \n lait ") == "café au lait"
    assert spoken("\u200b \u200d") == ""
    assert spoken("ક્\u200dષ") == "ક્\u200dષ"  # a joiner between letters is theirs
    found = infer_task(["one ", None, "", 12, "\u200b"], "transcription", "t")
    assert found.values == ["one", None, None, "12", None]
    assert infer_task(["one", "two"], None, "transcript", heard=False).task == "classification"
    with pytest.raises(DataError, match="holds lists"):
        infer_task([["a"], ["b"]], "transcription", "t")


# --- the audit ------------------------------------------------------------------------------------------------------


def heard(rows, n=30, **reading):
    """Kept rows of the first ones (sound, transcript) and findings; `n` blameless ones follow."""
    inputs = [*(item for item, _ in rows), *(sound(1000 + i) for i in range(n))]
    labels = [*(text for _, text in rows), *(f"{GUJARATI[i % 10]} {GUJARATI[i % 7]}" for i in range(n))]
    given = [{"path": None, "bytes": one} for one in inputs]
    dataset = read({"audio": given, "transcript": labels}, reading=Reading(**reading))
    done = audit(dataset, Progress())
    assert all(finding.text.endswith(".") for finding in done.findings)
    return done.dataset.column("label")[: len(done.dataset) - n], [finding.text for finding in done.findings]


def test_blameless_transcripts_pass():
    left, findings = heard([(sound(1), "ચાર પાંચ")])
    assert left == ["ચાર પાંચ"]
    assert findings == []


def test_bad_sounds_leave_each_with_its_message():
    silent = waves.encoded(np.zeros(8000, np.float32), waves.RATE)
    whole = waves.encoded(np.ones(8000, np.float32) / 2, waves.RATE)
    bad = [b"\x89PNG\r\n" + bytes(99), b"\0\0\0\x18ftypmp42" + bytes(99), silent, whole[:9000], sound(0, 31), b""]
    left, findings = heard([(one, "ચાર") for one in bad])
    assert left == []
    assert findings == [
        "Left out 2 files that hold no sound: a PNG picture (1), an MP4 video (1).",
        "Left out 1 sound for being too long (31 s). Split them into examples of at most 30 s, best where nobody "
        "speaks.",
        "Left out 1 sound for being silent (all samples are 0). Look whether the microphone was on.",
        "Left out 1 sound for being truncated (0.14 of 0.50 s can be read). Copy these files again.",
        "Left out 1 sound for being empty.",
    ]


def test_when_nothing_is_left_the_reasons_are_told():
    silent = waves.encoded(np.zeros(8000, np.float32), waves.RATE)
    with pytest.raises(DataError, match=r"None of the 2 sounds.*silent: all samples are 0"):
        heard([(silent, "a"), (silent, "b")], n=0)


def test_odd_sounds_stay_and_are_told_of():
    loud = waves.encoded(np.sign(np.sin(np.arange(8000) / 9)).astype(np.float32), waves.RATE, ("WAV", "PCM_16"))
    left, findings = heard([(loud, "ચાર"), (sound(3, peak=0.005), "ચાર")])
    assert left == ["ચાર", "ચાર"]
    assert len(findings) == 2
    assert findings[0].startswith("Used, though they are clipped")
    assert "1 sound (clipped: 100.0 % of the samples at full scale)" in findings[0]
    assert findings[1].startswith("Used, though they are very quiet")


def test_empty_transcripts_and_copies_leave():
    left, findings = heard([(sound(1), " "), (sound(2), "\u200b"), (sound(3), "ચાર"), (sound(3), "ચાર")])
    assert left == ["ચાર"]
    assert findings == [
        "Left out 2 sounds with no value for 'transcript'.",
        "Left out 1 sound for repeating another exactly.",
    ]


def test_characters_seen_once_and_other_scripts_are_told_of():
    left, findings = heard([(sound(1), "shunya ek"), (sound(2), "ચાર 7")])
    assert left == ["shunya ek", "ચાર 7"]
    assert findings[0] == (
        "In another script (Latin) than the rest (Gujarati): the transcripts of 1 sound, used as they are "
        "('shunya ek'). If they are spellings of the same language, write them in one script."
    )
    assert findings[1].endswith("and can hardly be learnt: '7', 'a', 'e', 'h', 'k', 'n', 's', 'u', 'y'.")
    assert findings[1].startswith("9 of ")


def test_transcripts_that_do_not_fit_their_sound():
    left, findings = heard(
        [(sound(1), "ચાર " * 3), (sound(2), "ચાર " * 4), (sound(3), "ચાર " * 7)]
    )  # 11, 15 and 27 of 25
    assert left == [" ".join(["ચાર"] * n) for n in (3, 4)]
    assert "more than 25 characters for each second" in findings[0]
    assert "1 sound, kept" in findings[0]
    assert findings[1].startswith("Left out 1 sound whose transcript is too long for it")


@pytest.mark.parametrize(
    ("text", "script"),
    [("Größe", "LATIN"), ("ત્રણ", "GUJARATI"), ("カタカナ漢字ひらがな", "CJK"), ("12 !", ""), ("ab ત્રણ છ", "GUJARATI")],
)
def test_scripts(text, script):
    assert script_of(text) == script


def test_durations_come_from_the_header():
    audio = registry.modality("audio")
    assert audio.duration({"path": None, "bytes": sound(0, 1.25)}) == pytest.approx(1.25)
    assert audio.duration({"path": None, "bytes": b"none"}) is None
    assert audio.duration({"path": None, "bytes": None}) is None
