"""Every modality keeps the contract; texts and pictures of every odd kind open as they should."""

import base64
import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image as Pillow

from headstart import registry
from headstart.data.stretches import Stretch
from headstart.errors import DataError, MissingExtraError
from headstart.modalities.base import Examined

IMAGE, TEXT = registry.modality("image"), registry.modality("text")
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (8, 6, 3), dtype=np.uint8)

# Two items that differ, and what `open` must give back as an array or a text. A new modality adds its line here.
TONE = (0.5 * np.sin(np.arange(8000) / 6)).astype(np.float32)
SAMPLES = {
    "audio": (TONE, TONE[::-1] / 2),
    "image": (COLOURS, 255 - COLOURS),
    "text": ("a good film", "a bad film"),
    "series": (Stretch(TONE[:90].astype(float), 7), Stretch(TONE[:90].astype(float), 1)),
    "tabular": ({"age": 63, "sex": "f"}, {"age": 41, "sex": "m"}),
}
GARBAGE = [None, 3, 2.5, float("nan"), [], ["a"], {}, {"path": 3}, {"path": "\0"}, {"bytes": "text"}, slice(1), b"\xff"]


# --- the contract, for every modality -------------------------------------------------------------------------------


@pytest.fixture(params=registry.MODALITIES.names())
def name(request):
    assert request.param in SAMPLES, f"add two samples of {request.param!r} to SAMPLES"
    return request.param


def test_words_and_suffixes(name):
    modality = registry.modality(name)
    assert len(modality.noun) == 2
    assert all(modality.noun)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in modality.suffixes)
    assert modality.column_names
    titles = [features.title for features in modality.classical_features()]
    assert len(titles) == len(set(titles))
    if name != "series":  # whose classical models are `headstart.forecasters`
        assert bool(titles) == bool(modality.default_backbone)  # what stands on no network is classical already


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_examine_never_raises(name, garbage):
    found = registry.modality(name).examine(garbage)
    assert isinstance(found, Examined)
    assert found.problem


def test_round_trip_through_arrow(name):
    modality = registry.modality(name)
    feature = modality.arrow_feature()
    stored = [modality.store(sample, None) for sample in SAMPLES[name]]
    table = datasets.Dataset.from_dict({"input": stored}, features=datasets.Features({"input": feature}))
    assert table["input"][:] == stored
    for item, sample in zip(table["input"], SAMPLES[name], strict=True):
        opened = modality.open(item)
        np.testing.assert_array_equal(opened if isinstance(opened, str) else np.asarray(opened), sample)
        assert modality.describe(item)
        preview = modality.preview(item)
        assert preview.text or preview.image_uri or preview.audio_uri


def test_digest_is_of_the_content(name):
    modality = registry.modality(name)
    one, other = SAMPLES[name]
    digest = modality.examine(modality.store(one, None)).digest
    assert len(digest) == 64
    assert modality.examine(modality.store(one, None)) == Examined(digest, None)
    assert modality.examine(modality.store(other, None)).digest != digest


def test_missing_values_are_found_by_examine(name):
    modality = registry.modality(name)
    for value in (None, float("nan"), ""):
        assert modality.examine(modality.store(value, None)).problem


def test_only_its_own_samples_are_recognised(name):
    for other, samples in SAMPLES.items():
        assert registry.modality(name).recognises(list(samples), None) == (name == other)


@pytest.mark.parametrize("name", [n for n in registry.MODALITIES.names() if registry.modality(n).default_backbone])
def test_classical_features_take_opened_items(name):
    modality = registry.modality(name)
    items = [modality.open(modality.store(sample, None)) for sample in SAMPLES[name]]
    for features in modality.classical_features():
        found = features.fit_transform(items)
        assert found.shape[0] == 2, features.title
        assert found.dtype == np.float32, features.title
        assert features.transform(items[:1]).shape == (1, found.shape[1]), features.title


# --- texts ----------------------------------------------------------------------------------------------------------


def test_a_path_is_a_file_and_a_string_is_a_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("caf\u00e9 \u2713".encode())
    assert TEXT.store(Path("a.txt"), str(tmp_path)) == "café ✓"
    (tmp_path / "latin.txt").write_bytes("caf\u00e9 tr\u00e8s bon".encode("latin-1"))
    assert TEXT.store(Path("latin.txt"), str(tmp_path)) == "café très bon"
    assert TEXT.store("a.txt", str(tmp_path)) == "a.txt"
    with pytest.raises(DataError, match=r"Cannot read the text file .*missing\.txt"):
        TEXT.store(Path("missing.txt"), str(tmp_path))
    with pytest.raises(DataError, match="this is a list"):
        TEXT.store(["a"], None)


def test_white_space_around_a_text_does_not_count():
    assert TEXT.open(" a\n") == TEXT.open("a")  # the network sees what the digest saw
    assert TEXT.examine(" a\n").digest == TEXT.examine("a").digest
    assert TEXT.examine(" \n\t").problem == "empty text"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["It was good.", "It was bad.", None], True),
        (["很好看的电影我非常喜欢这部电影的每一个镜头", "不好看的电影我一点也不喜欢这部电影的镜头"], True),
        (["good", "bad"], False),  # labels
        (["not good", "very good"] * 20, False),  # labels of two words
        (["my scans/a b.png", "my scans/c d.png"], False),
        (["2024-01-01 10:00:00", "2024-01-02 11:30:00"], False),
        ([1.5, 2.5], False),
        ([Path("a.txt"), Path("b.txt")], True),
        ([Path("a.jpg")], False),
        ([], False),
    ],
)
def test_prose_is_recognised(values, expected):
    assert TEXT.recognises(values, None) is expected


def test_long_texts_are_shown_short():
    text = "word " * 200
    assert len(TEXT.preview(text).text) <= 400
    assert len(TEXT.describe(text)) <= 60
    assert TEXT.describe("two\nlines") == "two lines"


def test_tf_idf_is_the_formula():
    words = TEXT.classical("TF-IDF of words")
    row = words.fit_transform(["good good film", "bad film"]).toarray()[0]
    # smooth idf ln((1 + N) / (1 + df)) + 1, times 1 + ln(count), rows of length one
    rare, common = np.log(3 / 2) + 1, 1.0
    raw = {"good": rare * (1 + np.log(2)), "film": common, "good good": rare, "good film": rare}
    length = np.sqrt(sum(value**2 for value in raw.values()))
    terms = bytes(words.state()["words.terms"]).decode().split("\n")
    found = {term: value for term, value in zip(terms, row, strict=True) if value}
    assert found == pytest.approx({term: value / length for term, value in raw.items()})


def test_texts_without_a_word_have_features_too():
    for features in TEXT.classical_features():
        assert features.fit_transform(["!!!", ":("]).nnz > 0


# --- pictures: what `store` takes -----------------------------------------------------------------------------------


def as_array(value):
    return np.asarray(IMAGE.open(IMAGE.store(value, None)))


def grey_to_rgb(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


def test_arrays_of_every_allowed_kind():
    grey = COLOURS[:, :, 0]
    np.testing.assert_array_equal(as_array(grey), grey_to_rgb(grey))
    np.testing.assert_array_equal(as_array(grey[:, :, None]), grey_to_rgb(grey))
    np.testing.assert_array_equal(as_array(COLOURS.astype(np.int64)), COLOURS)
    np.testing.assert_array_equal(as_array(COLOURS / 255), COLOURS)
    np.testing.assert_array_equal(as_array((COLOURS / 255).astype(np.float32)), COLOURS)
    np.testing.assert_array_equal(as_array(grey > 100), grey_to_rgb(np.where(grey > 100, 255, 0)))
    opaque = np.concatenate([COLOURS, np.full((8, 6, 1), 255, np.uint8)], axis=2)
    np.testing.assert_array_equal(as_array(opaque), COLOURS)


def test_deep_grey_is_stretched_to_its_range():
    deep = np.linspace(1000, 5000, 48).astype(np.uint16).reshape(8, 6)
    expected = np.rint((deep.astype(float) - 1000) / 4000 * 255)
    np.testing.assert_array_equal(as_array(deep), grey_to_rgb(expected))
    assert as_array(np.full((4, 4), 700, np.uint16)).max() == 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (COLOURS.astype(float), r"floats from \d+ to \d+; .* goes from 0 to 1\. Divide"),
        (np.full((4, 4), np.nan), "floats from nan"),
        (COLOURS.transpose(2, 0, 1), r"shape \(3, 8, 6\) .*transpose\(1, 2, 0\)"),
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (COLOURS.astype(np.int16) * 10, "colour array holds int16"),
        (np.array([["a", "b"]]), "An array of <U1"),
    ],
)
def test_arrays_that_are_no_picture(array, message):
    with pytest.raises(DataError, match=message):
        IMAGE.store(array, None)


def test_what_else_store_takes(tmp_path):
    Pillow.fromarray(COLOURS).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    relative = {"path": str(tmp_path / "a.png"), "bytes": None}
    assert IMAGE.store("a.png", str(tmp_path)) == relative
    assert IMAGE.store(Path("a.png"), str(tmp_path)) == relative
    assert IMAGE.store(tmp_path / "a.png", "/elsewhere") == relative
    assert IMAGE.store({"path": "a.png", "bytes": None}, str(tmp_path)) == relative
    assert IMAGE.store({"path": "a.png", "bytes": data}, None) == {"path": "a.png", "bytes": data}
    assert IMAGE.store(data, None) == {"path": None, "bytes": data}
    for value in ("a.png", {"path": "b.png", "bytes": data}, data, Pillow.open(tmp_path / "a.png")):
        np.testing.assert_array_equal(np.asarray(IMAGE.open(IMAGE.store(value, str(tmp_path)))), COLOURS)
    with pytest.raises(DataError, match="this is a int"):
        IMAGE.store(5, None)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"])
def test_pil_images_of_every_mode(mode):
    picture = Pillow.new(mode, (5, 4))
    item = IMAGE.store(picture, None)
    assert IMAGE.examine(item).problem is None
    assert IMAGE.open(item).mode == "RGB"
    assert IMAGE.open(item).size == (5, 4)


def test_a_damaged_pil_image_is_left_to_examine(tmp_path):
    path = jpeg(tmp_path / "cut.jpg", (200, 200))
    path.write_bytes(path.read_bytes()[:2000])
    with Pillow.open(path) as opened:
        item = IMAGE.store(opened, None)
    assert IMAGE.examine(item).problem.startswith("truncated or damaged")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a.jpg", "b/c.PNG", None], True),
        ([Path("a.tiff")], True),
        ([COLOURS], True),
        ([Pillow.new("L", (2, 2))], True),
        ([{"path": "a", "bytes": None}], True),
        (["a.jpg", "a text", "b"], False),
        ([np.zeros(3)], False),
        ([{"x": 1}], False),
        ([], False),
    ],
)
def test_pictures_are_recognised(values, expected):
    assert IMAGE.recognises(values, None) is expected


# --- pictures: what is wrong with them ------------------------------------------------------------------------------


def jpeg(path, size, **options):
    noise = RNG.integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
    Pillow.fromarray(noise).resize(size).save(path, "JPEG", quality=90, **options)
    return path


def png_header(width, height):
    """A PNG of which only the first few bytes are there."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def problem(path):
    return IMAGE.examine(IMAGE.store(path, None)).problem


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.995])
def test_a_truncated_jpeg(tmp_path, share, progressive):
    path = jpeg(tmp_path / "cut.jpg", (300, 200), progressive=progressive)
    assert problem(path) is None
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert problem(path).startswith(("truncated or damaged: ", "not a picture"))


def test_a_huge_picture_is_refused_by_its_header(tmp_path, monkeypatch):
    (tmp_path / "huge.png").write_bytes(png_header(30_000, 30_000))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    assert problem(tmp_path / "huge.png") == "30,000 × 30,000 pixels is more than the 179 megapixels allowed"


def test_a_large_picture_gives_no_warning(tmp_path):
    (tmp_path / "large.png").write_bytes(png_header(10_000, 10_000))  # Pillow warns from 89 megapixels on
    assert problem(tmp_path / "large.png").startswith("truncated or damaged")


def test_files_that_are_no_picture(tmp_path, monkeypatch):
    (tmp_path / "text.jpg").write_text("this is a text\n" * 10)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert problem(tmp_path / "text.jpg") == "not a picture that Pillow can read: it is a text"
    assert problem(tmp_path / "empty.jpg") == "empty file"
    assert problem(tmp_path / "folder.jpg") == "a folder, not a file"
    assert problem(tmp_path / "pipe.jpg") == "not a file"
    assert problem(tmp_path / "missing.jpg") == "no such file"
    assert problem(tmp_path / ("long" * 100 + ".jpg"))

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert problem(tmp_path / "text.jpg") == "no permission to read the file"


def test_threads_see_what_one_thread_sees(tmp_path):
    good = IMAGE.store(jpeg(tmp_path / "good.jpg", (120, 90)), None)
    cut = IMAGE.store(Path(good["path"]).read_bytes()[:900], None)
    items = [good, cut, IMAGE.store(png_header(9, 9), None), IMAGE.store(b"text", None)] * 50
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(IMAGE.examine, items)) == [IMAGE.examine(item) for item in items]


# --- pictures: how they open ----------------------------------------------------------------------------------------


def test_exif_orientation_is_applied(tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown, the picture turns by 90 degrees clockwise
    Pillow.fromarray(COLOURS).save(tmp_path / "turned.png", exif=exif)
    turned = np.asarray(IMAGE.open(IMAGE.store(tmp_path / "turned.png", None)))
    np.testing.assert_array_equal(turned, np.rot90(COLOURS, -1))
    stored = IMAGE.store(Pillow.open(tmp_path / "turned.png"), None)
    np.testing.assert_array_equal(np.asarray(IMAGE.open(stored)), np.rot90(COLOURS, -1))


def test_transparency_is_white():
    rgba = np.dstack([COLOURS, np.zeros((8, 6), np.uint8)])
    rgba[:4, :, 3] = 255
    expected = np.where(rgba[:, :, 3:] == 255, COLOURS, 255)
    np.testing.assert_array_equal(as_array(rgba), expected)
    np.testing.assert_array_equal(as_array(Pillow.fromarray(rgba)), expected)


def test_half_transparent_grey_is_the_mean_with_white():
    picture = Pillow.new("LA", (2, 2), (100, 128))
    assert as_array(picture) == pytest.approx(100 * 128 / 255 + 255 * 127 / 255, abs=1)


def test_a_palette_with_a_transparent_colour(tmp_path):
    palette = Pillow.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=bytes([255, 0]))
    opened = np.asarray(IMAGE.open(IMAGE.store(tmp_path / "palette.png", None)))
    assert opened.tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_sixteen_bit_png(tmp_path):
    deep = np.linspace(0, 4095, 48).astype(np.uint16).reshape(8, 6)
    Pillow.fromarray(deep).save(tmp_path / "xray.png")
    opened = np.asarray(IMAGE.open(IMAGE.store(tmp_path / "xray.png", None)))
    np.testing.assert_array_equal(opened, grey_to_rgb(np.rint(deep / 4095 * 255)))


def test_cmyk_jpeg(tmp_path):
    Pillow.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    opened = np.asarray(IMAGE.open(IMAGE.store(tmp_path / "print.jpg", None)))
    assert opened.reshape(-1, 3) == pytest.approx(np.tile([255, 0, 0], (256, 1)), abs=3)


@pytest.mark.parametrize("suffix", [".gif", ".tiff", ".webp"])
def test_the_first_frame_is_taken(tmp_path, suffix):
    first, second = Pillow.new("RGB", (20, 20), "red"), Pillow.new("RGB", (20, 20), "blue")
    options = {"lossless": True} if suffix == ".webp" else {}
    first.save(tmp_path / f"film{suffix}", save_all=True, append_images=[second], **options)
    opened = np.asarray(IMAGE.open(IMAGE.store(tmp_path / f"film{suffix}", None)))
    assert (opened == [255, 0, 0]).all()


def test_a_large_jpeg_is_decoded_at_a_reduced_scale(tmp_path):
    item = IMAGE.store(jpeg(tmp_path / "large.jpg", (1600, 1000)), None)
    whole, reduced = IMAGE.open(item), IMAGE.open(item, detail=224)
    assert whole.size == (1600, 1000)
    assert reduced.size == (400, 250)  # a quarter; an eighth would be 125 pixels high
    difference = np.asarray(whole.resize((400, 250), Pillow.Resampling.BOX), float) - np.asarray(reduced, float)
    assert np.abs(difference).mean() < 2
    assert IMAGE.open(item, detail=2000).size == (1600, 1000)


def test_preview_is_a_small_picture(tmp_path):
    item = IMAGE.store(jpeg(tmp_path / "large.jpg", (1600, 1000)), None)
    kind, _, data = IMAGE.preview(item).image_uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Pillow.open(io.BytesIO(base64.b64decode(data))).size == (160, 100)
    assert IMAGE.describe(item) == str(tmp_path / "large.jpg")
    assert IMAGE.describe(IMAGE.store(COLOURS, None)) == "image in memory"


def test_small_pixels_are_means_of_blocks():
    pixels = RNG.integers(0, 256, (5, 64, 64), dtype=np.uint8)
    pictures = [Pillow.fromarray(grey).convert("RGB") for grey in pixels]
    blocks = pixels.reshape(5, 32, 2, 32, 2).mean((2, 4)).reshape(5, -1)
    expected = (blocks - blocks.mean(0)) / blocks.std(0)
    found = IMAGE.classical("small pixels").fit_transform(pictures)
    np.testing.assert_allclose(found, expected, atol=0.2)  # Pillow rounds a mean to whole grey values


def test_hog_tells_the_direction_of_stripes():
    def stripes(axis, phase):
        wave = np.uint8(127 + 120 * np.sin(np.arange(64) / 2 + phase))
        return Pillow.fromarray(np.broadcast_to(wave if axis else wave[:, None], (64, 64)).copy()).convert("RGB")

    pictures = [stripes(axis, phase) for axis in (0, 1) for phase in (0, 1, 2)]
    features = IMAGE.classical("HOG").fit_transform(pictures)
    similar = np.corrcoef(features)
    assert similar[:3, :3].min() > 0 > similar[:3, 3:].max()


# --- libraries ------------------------------------------------------------------------------------------------------


def test_a_missing_library_names_its_extra(monkeypatch):
    item = IMAGE.store(COLOURS, None)
    picture, hog = IMAGE.open(item), IMAGE.classical("HOG")
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(MissingExtraError, match=r"'skimage'.*headstart\[image\]"):
        hog.fit_transform([picture])
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"'PIL'.*headstart\[image\]"):
        IMAGE.examine(item)


def test_importing_a_modality_imports_nothing_heavy():
    code = (
        "import sys; from headstart import registry; [registry.modality(name) for name in registry.MODALITIES.names()];"
        "print([m for m in ('PIL', 'skimage', 'sklearn', 'datasets', 'pandas', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
