"""Sounds: every format opens as the same samples, and what is no sound says what it is."""

import base64
import io
import struct
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image as Pillow
from scipy import fft

from headstart import registry
from headstart.errors import DataError, MissingExtraError
from headstart.modalities import distort, files, spectra, waves

AUDIO = registry.modality("audio")
RATE = waves.RATE


def tone(hertz=440.0, seconds=1.0, rate=RATE, peak=0.5):
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples, rate=RATE, kind="WAV", subtype="PCM_16"):
    how = {"bitrate_mode": "CONSTANT", "compression_level": 0.5} if kind == "MP3" else {}
    return waves.encoded(samples, rate, (kind, subtype), **how)


def item(data):
    return {"path": None, "bytes": data}


def loudest(samples):
    """The frequency (Hz) with the most energy."""
    return np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * RATE / len(samples)


FORMATS = [
    *[("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")],
    *[("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")],
    *[("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16")],
]


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_every_format_opens_as_the_same_sound(kind, subtype):
    stored = item(encoded(tone(), kind=kind, subtype=subtype))
    assert AUDIO.examine(stored).problem is None
    assert AUDIO.examine(stored).remarks == ()
    opened = AUDIO.open(stored)
    assert (opened.dtype, opened.ndim) == (np.float32, 1)
    assert AUDIO.duration(stored) == pytest.approx(1.0, abs=0.01)
    n = min(len(opened), RATE)
    assert n > 0.99 * RATE
    assert np.corrcoef(opened[:n], tone()[:n])[0, 1] > 0.999
    assert files.sounds(stored["bytes"][:16])


def test_opus_opens_at_its_own_rate():
    stored = item(encoded(tone(rate=48_000), 48_000, "OGG", "OPUS"))
    assert AUDIO.examine(stored).problem is None
    assert loudest(AUDIO.open(stored)) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 192_000])
def test_any_rate_keeps_frequency_length_and_loudness(rate):
    opened = AUDIO.open(item(encoded(tone(1000, 1.0, rate), rate)))
    assert abs(len(opened) - RATE) <= 1
    assert loudest(opened) == pytest.approx(1000, abs=1.5)
    assert np.abs(opened[1000:-1000]).max() == pytest.approx(0.5, abs=0.005)


def test_what_16000_hertz_cannot_hold_is_gone_and_not_folded_down():
    opened = AUDIO.open(item(encoded(tone(12_000, 1.0, 48_000), 48_000)))
    assert np.abs(opened[1000:-1000]).max() < 1e-3


def test_channels_are_averaged():
    left, right = tone(300), tone(900, peak=0.25)
    opened = AUDIO.open(item(encoded(np.stack([left, right], 1), subtype="FLOAT")))
    np.testing.assert_allclose(opened, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_the_start_alone_is_the_start_of_the_whole(rate):
    stored = item(encoded(tone(seconds=2, rate=rate), rate))
    np.testing.assert_allclose(AUDIO.open(stored, 5000), AUDIO.open(stored)[:5000], atol=1e-5)
    assert AUDIO.open(stored, 10**9).shape == AUDIO.open(stored).shape == AUDIO.outline(stored).shape


def test_a_long_recording_comes_in_pieces():
    data = encoded(tone(seconds=3, rate=44_100), 44_100)
    pieces = list(waves.stream(data))
    assert len(pieces) > 10
    whole = waves.wave(data)
    joined = np.concatenate(pieces)
    assert abs(len(joined) - len(whole)) <= 1
    np.testing.assert_allclose(joined[:-100], whole[: len(joined) - 100], atol=1e-4)


# --- what is wrong with a file --------------------------------------------------------------------------------------


def png():
    file = io.BytesIO()
    Pillow.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


MP4 = struct.pack(">I", 24) + b"ftypmp42" + bytes(12) + bytes(500)
LONG = encoded(np.zeros(RATE * 47 // 10, np.int16), RATE // 10)
PROBLEMS = {
    "empty file": b"",
    "empty sound: it has no samples": encoded(np.zeros(0, np.float32)),
    "not a sound but a PNG picture": png(),
    "not a sound but an MP4 video": MP4,
    "not a sound but a web page": b"\n<!DOCTYPE html><html>",
    "not a sound but a text": b"nicht da, tut mir leid",
    "not a sound but something that libsndfile does not read": np.random.default_rng(0).bytes(4000),
    "silent: all samples are 0": encoded(np.zeros(RATE, np.float32)),
    "silent: its peak is 70 dB below full scale": encoded(tone(peak=10**-3.5), subtype="PCM_24"),
    "too short: 10 ms": encoded(tone(seconds=0.01)),
    "truncated: 0.50 of 1.00 s can be read": encoded(tone())[: 44 + RATE],
    "too long: 47 s, and an example may have 30 s": LONG,
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problems_say_what_is_wrong(problem):
    found = AUDIO.examine(item(PROBLEMS[problem]))
    assert found.problem.startswith(problem)
    assert len(found.digest) == 64


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")])
def test_other_formats_are_truncated_too(kind, subtype):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)  # of an even number of bits a second
    data = encoded(noise, kind=kind, subtype=subtype)
    half = AUDIO.examine(item(data[: len(data) // 2])).problem
    assert half.startswith("truncated: ")
    assert float(half.split()[1]) == pytest.approx(2, abs=0.6)
    nearly = item(data[: int(0.97 * len(data))])
    found = AUDIO.examine(nearly)
    assert found.problem is None
    assert found.remarks[0].startswith("cut off: 3.")
    assert 3.6 * RATE < len(AUDIO.open(nearly)) < 4 * RATE


def test_a_stream_of_unknown_length_is_not_truncated():
    data = bytearray(encoded(tone()))
    data[40:44] = b"\xff\xff\xff\xff"  # as ffmpeg writes it to a pipe
    found = AUDIO.examine(item(bytes(data)))
    assert (found.problem, found.remarks) == (None, ())


def test_a_longer_recording_may_be_allowed():
    assert AUDIO.examine(item(LONG), longest_s=None).problem == "silent: all samples are 0"


def test_missing_files_and_folders(tmp_path):
    assert AUDIO.examine({"path": str(tmp_path / "a.wav"), "bytes": None}).problem == "no such file"
    assert AUDIO.examine({"path": str(tmp_path), "bytes": None}).problem == "a folder, not a file"


def test_odd_sounds_are_used_and_told_of():
    loud = np.clip(tone(peak=2.0), -1, 1)
    nan = tone()
    nan[5:8] = np.nan
    for samples, subtype, remark in [
        (loud, "PCM_16", "clipped: 6"),
        (loud, "PCM_U8", "clipped: 6"),
        (tone(peak=0.005), "PCM_16", "quiet: its peak is 46 dB below"),
        (nan, "FLOAT", "not finite: 3 samples"),
    ]:
        found = AUDIO.examine(item(encoded(samples, subtype=subtype)))
        assert found.problem is None
        assert [one[: len(remark)] for one in found.remarks] == [remark]
    opened = AUDIO.open(item(encoded(nan, subtype="FLOAT")))
    np.testing.assert_array_equal(opened, np.nan_to_num(nan))
    assert AUDIO.examine(item(encoded(tone(peak=0.999)))).remarks == ()  # loud, but not cut


def test_too_loud_floats_are_scaled_to_1():
    opened = AUDIO.open(item(encoded(32768 * tone(), subtype="FLOAT")))
    np.testing.assert_allclose(opened, tone() * 2, atol=1e-3)


# --- what people hand over ------------------------------------------------------------------------------------------


def test_arrays_are_kept_without_loss():
    stereo = np.stack([tone(), tone(880)], 1)
    np.testing.assert_array_equal(AUDIO.open(AUDIO.store(stereo, None)), stereo.mean(1))
    ints = (32767 * tone()).astype(np.int16)
    np.testing.assert_array_equal(AUDIO.open(AUDIO.store(ints, None)), (ints / 32768).astype(np.float32))


def test_arrays_with_a_rate():
    for value in ((tone(rate=8000), 8000), {"path": "a.wav", "array": tone(rate=8000), "sampling_rate": 8000}):
        assert AUDIO.recognises([value], None)
        opened = AUDIO.open(AUDIO.store(value, None))
        assert (len(opened), round(loudest(opened))) == (RATE, 440)


def test_what_is_no_sound_is_refused():
    with pytest.raises(DataError, match=r"shape \(2, 16000\) is no sound.*array.T"):
        AUDIO.store(np.zeros((2, RATE), np.float32), None)
    with pytest.raises(DataError, match="this is a object"):
        AUDIO.store(object(), None)
    assert not AUDIO.recognises([np.zeros(384, np.float32)] * 3, None)  # a row of features
    assert not AUDIO.recognises(["a.png"], None)
    assert AUDIO.recognises([item(encoded(tone()))], None)
    assert not registry.modality("image").recognises([item(encoded(tone()))], None)


def test_previews_play_and_are_short():
    preview = AUDIO.preview(item(encoded(tone(seconds=20))))
    kind, _, data = preview.audio_uri.partition(",")
    assert kind == "data:audio/mpeg;base64"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert rate == RATE
    assert len(samples) / rate == pytest.approx(15, abs=0.2)
    assert len(data) < 150_000
    small = AUDIO.small({"path": "a.wav", "bytes": encoded(tone())})
    assert small["path"] == "a.wav"
    assert loudest(AUDIO.open(small)) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_missing_libraries_name_the_extra(library, monkeypatch):
    stored = item(encoded(tone(rate=8000), 8000))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"'{library}'.*headstart\[audio\]"):
        AUDIO.open(stored)


# --- what classical models see --------------------------------------------------------------------------------------


def test_cepstra_are_the_cosine_transform_written_out():
    mel = np.random.default_rng(0).normal(size=(3, spectra.N_MELS))
    n, k = np.arange(spectra.N_MELS), np.arange(spectra.N_MFCC)[:, None]
    basis = np.cos(np.pi * k * (2 * n + 1) / (2 * spectra.N_MELS)) * np.sqrt(2 / spectra.N_MELS)
    basis[0] /= np.sqrt(2)
    np.testing.assert_allclose(spectra.mfcc(mel), mel @ basis.T, atol=1e-9)
    np.testing.assert_allclose(fft.idct(fft.dct(mel, norm="ortho"), norm="ortho"), mel)


def test_a_tone_is_loudest_in_its_own_band():
    edges = np.linspace(*(2595 * np.log10(1 + np.array([20, RATE / 2]) / 700)), spectra.N_MELS + 2)
    for hertz in (300, 1000, 4000):
        own = np.argmin(np.abs(edges[1:-1] - 2595 * np.log10(1 + hertz / 700)))
        assert (spectra.log_mel(tone(hertz)).argmax(1) == own).all()
    assert spectra.log_mel(tone()).shape == (98, spectra.N_MELS)  # (16000 - 400) / 160 + 1


def test_statistics_are_of_time():
    sound = np.concatenate([tone(300), tone(3000)])
    found = spectra.summed_up(sound)
    mel = spectra.log_mel(sound)
    np.testing.assert_allclose(found["log-mel statistics"], np.concatenate([mel.mean(0), mel.std(0)]), rtol=1e-5)
    spans = found["log-mel in ten spans of time"].reshape(10, -1)
    assert (spans[:4].argmax(1) < 15).all()
    assert (spans[6:].argmax(1) > 20).all()
    for n in (1, 300, 700):  # shorter than a window, and than ten of them
        assert all(np.isfinite(row).all() for row in spectra.summed_up(tone(seconds=n / RATE)).values())


# --- distortions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_faster_is_shorter_and_higher(speed):
    found = distort.faster(tone(1000), speed)
    assert len(found) == pytest.approx(RATE / speed, abs=1)
    assert loudest(found) == pytest.approx(1000 * speed, abs=1.5)


def test_bands_are_removed_and_the_rest_stays():
    low, high = tone(500), tone(3000)
    found = distort.without_bands(low + high, [(2500, 3500)])
    np.testing.assert_allclose(found[800:-800], low[800:-800], atol=0.01)


def test_gaps_are_short_and_silent():
    rng = np.random.default_rng(0)
    for n in (1, 100, 3 * RATE):
        gaps = [distort.gap(n, rng) for _ in range(200)]
        assert all(0 <= start <= end <= n and end - start <= min(0.05 * n, 8000) for start, end in gaps)
    bands = [distort.band(rng) for _ in range(200)]
    assert all(0 <= low < high <= RATE / 2 + 1e-6 for low, high in bands)


def test_a_distorted_sound_is_still_nearest_to_itself():
    rng = np.random.default_rng(0)
    sounds = [
        np.concatenate([tone(a, 0.3), tone(b, 0.3)]) for a, b in [(300, 900), (900, 300), (500, 2000), (2000, 700)]
    ]
    own = np.stack([spectra.summed_up(sound)["log-mel in ten spans of time"] for sound in sounds])
    n_right = 0
    for index in np.repeat(np.arange(4), 10):
        row = spectra.summed_up(distort.distorted(sounds[index], rng))["log-mel in ten spans of time"]
        n_right += index == np.linalg.norm(own - row, axis=1).argmin()
    assert n_right >= 36  # of 40; 10 by chance


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_an_mp3_is_the_same_block_by_block(rate: int) -> None:
    """A reader that seeks between blocks loses what MP3 frames borrow from those before them."""
    time = np.arange(3 * rate) / rate
    tone = 0.4 * np.sin(2 * np.pi * (200 + 300 * time) * time) + 0.02 * np.random.default_rng(0).normal(size=len(time))
    file = waves.encoded(tone.astype(np.float32), rate, ("MP3", "MPEG_LAYER_III"))
    whole = soundfile.read(io.BytesIO(file), dtype="float32")[0]
    with waves.opened(file) as (reader, header):
        blocks = np.concatenate([block[:, 0] for block in waves._blocks(reader, header)])
    np.testing.assert_allclose(blocks, whole, atol=1e-6)
