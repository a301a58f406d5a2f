"""The reader: every source gives the same examples, and every error says what to do."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart import registry
from headstart.data.describe import describe
from headstart.data.labels import infer_task
from headstart.data.read import Reading, read
from headstart.errors import DataError, HeadstartError

ROWS = [
    ("a fine, warm film", "good"),
    ("NA", "bad"),
    ('she said "no" twice', "good"),
    ("zwei Zeilen\nund ein ü", "bad"),
    ("null and void; it was", " good"),
]
TEXTS, LABELS = [list(column) for column in zip(*ROWS, strict=True)]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def as_csv(delimiter: str = ",", rows=ROWS, header=("text", "label")) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return file.getvalue()


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "red").save(path)
    return path


def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS, "label": LABELS})


def records() -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in ROWS]


SOURCES = {
    "csv": lambda d: write(d / "r.csv", as_csv()),
    "csv with BOM": lambda d: write(d / "r.csv", as_csv(), "utf-8-sig"),
    "utf-16": lambda d: write(d / "r.csv", as_csv(), "utf-16"),
    "cp1252": lambda d: write(d / "r.csv", as_csv(), "cp1252"),
    "semicolons": lambda d: write(d / "r.csv", as_csv(";")),
    "tabs in csv": lambda d: write(d / "r.csv", as_csv("\t")),
    "tsv": lambda d: write(d / "r.tsv", as_csv("\t")),
    "csv.gz": lambda d: gzip_of(d / "r.csv.gz", as_csv()),
    "jsonl": lambda d: write(d / "r.jsonl", "\n".join(map(json.dumps, records())) + "\n"),
    "jsonl.gz": lambda d: gzip_of(d / "r.jsonl.gz", "\n".join(map(json.dumps, records()))),
    "json": lambda d: write(d / "r.json", json.dumps(records(), ensure_ascii=False)),
    "json columns": lambda d: write(d / "r.json", json.dumps({"text": TEXTS, "label": LABELS})),
    "parquet": lambda d: parquet_of(d / "r.parquet"),
    "only table of a folder": lambda d: write(d / "r.csv", as_csv()).parent,
    "saved": lambda d: saved(d / "r"),
    "pandas": lambda d: frame(),
    "datasets": lambda d: datasets.Dataset.from_list(records()),
    "records": lambda d: records(),
    "dict": lambda d: {"text": TEXTS, "label": LABELS},
    "pair": lambda d: (TEXTS, LABELS),
    "pair of arrays": lambda d: (np.array(TEXTS), np.array(LABELS)),
    "pair of series": lambda d: (frame()["text"], frame()["label"]),
}


def gzip_of(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def parquet_of(path: Path) -> Path:
    frame().to_parquet(path)
    return path


def saved(path: Path) -> Path:
    datasets.Dataset.from_list(records()).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same(source, tmp_path):
    found = read(SOURCES[source](tmp_path))
    assert found.inputs == TEXTS
    assert found.column("label") == LABELS  # spaces and all
    assert (found.modality, found.task) == ("text", "classification")
    assert found.column("split") == [""] * len(ROWS)
    assert any("Windows-1252" in note for note in found.notes) == (source == "cp1252")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), min_size=1, max_size=15),
    st.sampled_from(",;\t"),
)
def test_csv_round_trip(tmp_path_factory, texts, delimiter):
    """Whatever text stands in a CSV comes back, for each delimiter."""
    texts = [f"a {text}" for text in texts]
    path = write(tmp_path_factory.mktemp("c") / "r.csv", as_csv(delimiter, [(t, "x") for t in texts]))
    assert read(path, reading=Reading(input="text")).inputs == texts


def test_labels_beside_the_data():
    assert read(TEXTS, LABELS).column("label") == LABELS
    assert read(frame()[["text"]], LABELS).column("label") == LABELS
    assert read(["ab", "cd"], [0, 1]).column("label") == ["0", "1"]
    assert read(TEXTS).task is None


def test_splits_of_files(tmp_path):
    for name, rows in (("train", ROWS), ("dev", ROWS[:2]), ("test", ROWS[2:4])):
        write(tmp_path / "set" / f"{name}.csv", as_csv(rows=rows))
    write(tmp_path / "set" / "SOURCE.md", "from somewhere")
    found = read(tmp_path / "set")
    assert Counter(found.column("split")) == {"train": 5, "val": 2, "test": 2}
    assert found.inputs == [*TEXTS, *TEXTS[:2], *TEXTS[2:4]]
    assert describe(found) == (
        f"set: 9 texts from {tmp_path / 'set'} (column 'text'); "
        "one label of 3 in 'label' (good 4, bad 4,  good 1); train 5, val 2, test 2"
    )


def test_hub_shards_and_a_split_without_labels(tmp_path):
    for i in range(2):
        parquet_of(tmp_path / f"train-0000{i}-of-00002.parquet")
    frame()[["text"]].to_parquet(tmp_path / "test-00000-of-00001.parquet")
    found = read(tmp_path)
    assert Counter(found.column("split")) == {"train": 10, "test": 5}
    assert found.column("label")[10:] == [None] * 5
    assert "the test split has no column 'label': left empty" in found.notes


def test_split_column_with_synonyms():
    found = read({"text": TEXTS, "label": LABELS, "Split": ["Training", "dev", "holdout", "TEST", None]})
    assert found.column("split") == ["train", "val", "test", "test", ""]
    odd = read({"text": TEXTS, "label": LABELS, "split": ["1", "2", "3", "1", "2"]})
    assert odd.column("split") == [""] * 5
    assert any("not taken as the split" in note for note in odd.notes)


def test_class_folders(tmp_path):
    for name in ("bee/2.jpg", "bee/10.JPG", "ant/a.png"):
        picture(tmp_path / "bugs" / name)
    for name in (".DS_Store", "Thumbs.db", "__MACOSX/x.jpg", ".git/x.jpg", "README.md", "bee/.hidden.jpg", "bee/n.db"):
        write(tmp_path / "bugs" / name, "x")
    (tmp_path / "bugs" / "ant" / "link.png").symlink_to(tmp_path / "bugs" / "ant" / "a.png")
    (tmp_path / "bugs" / "ant" / "loop").symlink_to(tmp_path / "bugs")
    found = read(tmp_path / "bugs")
    paths = [Path(item["path"]).relative_to(tmp_path / "bugs").as_posix() for item in found.inputs]
    assert paths == ["ant/a.png", "ant/link.png", "bee/10.JPG", "bee/2.jpg"]
    assert found.column("label") == ["ant", "ant", "bee", "bee"]
    assert found.label_name == "folder"
    assert found.notes == (
        "2 other files were not read (1 .md file, 1 .db file): README.md, bee/n.db",
        "1 other folder was not read: ant/loop",
    )


@pytest.mark.parametrize(("one", "two"), [("train", "val"), ("Training", "TESTING"), ("train", "Validation")])
def test_split_folders_above_class_folders(tmp_path, one, two):
    for name in (f"{one}/ant/1.png", f"{one}/bee/2.png", f"{two}/bee/3.png"):
        picture(tmp_path / name)
    write(tmp_path / "index.csv", "file,label\n1,2\n")
    found = {Path(item["path"]).name: split for item, split in zip(*columns(read(tmp_path)), strict=True)}
    second = "test" if "test" in two.lower() else "val"
    assert found == {"1.png": "train", "2.png": "train", "3.png": second}


def columns(dataset):
    return dataset.inputs, dataset.column("split")


def test_a_class_may_be_called_like_a_split(tmp_path):
    for name in ("train/1.png", "bus/2.png"):
        picture(tmp_path / name)
    assert read(tmp_path).column("label") == ["bus", "train"]


def patients(d: Path, split: str = "") -> Path:
    for name in ("NORMAL/p1/1.png", "NORMAL/p1/2.png", "NORMAL/p2/1.png", "ILL/p3/1.png", "ILL/p2/1.png"):
        picture(d / split / name)
    return d


def test_patient_folders_in_class_folders(tmp_path):
    write(patients(tmp_path) / "ILL" / "p3" / "scan.dcm", "x")
    found = read(tmp_path, reading=Reading(group="folder"))
    assert found.column("label") == ["ILL", "ILL", "NORMAL", "NORMAL", "NORMAL"]
    assert found.groups == ["p2", "p3", "p1", "p1", "p2"]
    assert found.notes == (
        "images stand in sub-folders; pass --group folder to keep each on one side",
        "1 other file was not read (1 .dcm file): ILL/p3/scan.dcm",
    )
    assert read(tmp_path).groups is None
    with pytest.raises(DataError, match="'class' cannot be both the label and the group"):
        read(tmp_path, reading=Reading(group="class"))


def test_patient_folders_below_split_folders(tmp_path):
    patients(tmp_path, "train")
    for name in ("val/ILL/p8/1.png", "val/NORMAL/p9/1.png"):
        picture(tmp_path / name)
    found = read(tmp_path, reading=Reading(group="folder"))
    assert found.column("split") == ["train"] * 5 + ["val"] * 2
    assert found.column("label") == ["ILL", "ILL", *["NORMAL"] * 3, "ILL", "NORMAL"]
    assert found.groups == ["p2", "p3", "p1", "p1", "p2", "p8", "p9"]


@pytest.mark.parametrize("split", ["", "train"])
def test_domain_folders_over_class_folders_are_not_patients(tmp_path, split):
    for domain in ("photo", "sketch", "cartoon"):
        for name in ("dog", "horse", "house"):
            picture(tmp_path / split / domain / name / "1.png")
    with pytest.raises(DataError, match=r"9 \.png files too deep" if split else "Read one of them, for example"):
        read(tmp_path)


def test_class_folders_that_give_no_example(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        picture(tmp_path / name)
    (tmp_path / "c").mkdir()
    for name in ("d/1.dcm", "d/2.dcm", "e/1.txt", "e/2.HEIC"):
        write(tmp_path / name, "x")
    picture(tmp_path / "a" / "more" / "1.png")
    found = read(tmp_path)
    assert set(found.column("label")) == {"a", "b"}  # the text in e is of another modality than most files
    assert found.notes == (
        "class folder 'c' holds nothing that can be read, so that class is not learnt",
        "class folder 'd' holds nothing that can be read (2 .dcm files), so that class is not learnt",
        "class folder 'e' holds nothing that is read (1 .txt file, 1 .heic file), so that class is not learnt",
        "1 other folder was not read (1 .png file): a/more",
    )


def test_one_class_folder_beside_others_that_cannot_be_read(tmp_path):
    write(picture(tmp_path / "a" / "1.png").parents[1] / "b" / "1.dcm", "x")
    assert any("class folder 'b' holds nothing" in note for note in read(tmp_path).notes)


def test_what_lies_beside_loose_items_is_named_once(tmp_path):
    write(picture(tmp_path / "1.png").parent / "folder.md", "x")
    assert read(tmp_path).notes == ("1 other file was not read (1 .md file): folder.md",)


def test_a_link_to_itself_is_not_read(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        picture(tmp_path / name)
    (tmp_path / "a" / "loop.png").symlink_to(tmp_path / "a" / "loop.png")
    found = read(tmp_path)
    assert len(found) == 2
    assert found.notes == ("1 other file was not read (1 .png file): a/loop.png",)


@pytest.mark.parametrize(
    "source",
    [
        [Path("a.png"), Path("\udce9.png")],
        (["so it goes", "and on"], ["x", "\udce9"]),
        (["so it goes", "and on"], [["x", "\udce9"], ["x"]]),
        "\udce9.csv",
    ],
)
def test_names_that_are_not_utf_8(source):
    """Bytes of file and folder names that are not UTF-8 come as halves of surrogate pairs (PEP 383)."""
    with pytest.raises(DataError, match=r"The name '.*udce9.*' holds bytes that are not UTF-8. Rename the file"):
        read(source)


def test_file_names_that_are_not_utf_8_can_be_told_of(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        picture(tmp_path / name)
    (tmp_path / "a" / os.fsdecode(b"\xe9.md")).write_bytes(b"x")
    assert read(tmp_path).notes == ("1 other file was not read (1 .md file): a/\ufffd.md",)


def test_folders_of_text_files(tmp_path):
    write(tmp_path / "pos" / "1.txt", "what a film")
    write(tmp_path / "neg" / "1.txt", "oh dear\n")
    found = read(tmp_path)
    assert (found.modality, found.inputs, found.column("label")) == (
        "text",
        ["oh dear\n", "what a film"],
        ["neg", "pos"],
    )


def test_table_of_pictures(tmp_path):
    picture(tmp_path / "images" / "1.png")
    path = write(tmp_path / "labels.csv", "file,kind\nimages/1.png,bee\nimages/2.png,ant\n")
    for source in (path, tmp_path):
        found = read(source)
        assert found.modality == "image"
        assert [item["path"] for item in found.inputs] == [str(tmp_path / f"images/{i}.png") for i in (1, 2)]
        assert found.column("label") == ["bee", "ant"]


def test_loose_pictures_and_a_single_file_have_no_labels(tmp_path):
    path = picture(tmp_path / "1.png")
    assert describe(read(tmp_path)).endswith(f"1 image from {tmp_path}; no labels; no split given")
    assert read(path).inputs == [{"path": str(path), "bytes": None}]


@pytest.mark.parametrize(
    "prefix",
    [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")],
)
def test_npz_with_splits(tmp_path, prefix):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    arrays = (pixels, np.array([[0], [1], [1]]), pixels[:1], np.array([[1]]))
    np.savez(tmp_path / "m.npz", **dict(zip(prefix, arrays, strict=True)))
    found = read(tmp_path / "m.npz")
    assert found.column("label") == ["0", "1", "1", "1"]
    assert found.column("split") == ["train"] * 3 + ["test"]
    opened = [np.asarray(registry.modality("image").open(item))[..., 0] for item in found.inputs]
    np.testing.assert_array_equal(opened, np.concatenate([pixels, pixels[:1]]))


def test_npz_plain_with_several_labels(tmp_path):
    np.savez(tmp_path / "m.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.array([[1, 0, 1], [0, 0, 0]]))
    found = read(tmp_path / "m.npz")
    assert (found.task, found.column("label"), found.column("split")) == ("multilabel", [["0", "2"], []], ["", ""])


def test_pictures_in_memory():
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    pictures = [Image.fromarray(array) for array in pixels]
    for source in (pixels, list(pixels), pictures, tuple(pictures)):
        found = read(source, ["a", "b", "a"])
        assert (found.modality, len(found), found.source) == ("image", 3, "3 images in memory")


def test_datasets_with_class_names_and_pictures(tmp_path):
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"img": [Image.new("L", (3, 3))] * 3, "label": [1, 0, None]}
    table = datasets.Dataset.from_dict(rows, features=features)
    table.to_parquet(tmp_path / "p.parquet")
    datasets.DatasetDict(train=table, validation=table, unsupervised=table).save_to_disk(str(tmp_path / "both"))
    found, both = read(tmp_path / "p.parquet"), read(tmp_path / "both")
    for one in (read(table), found):
        assert (one.modality, one.column("label")) == ("image", ["dog", "cat", None])
    assert both.column("split") == ["train"] * 3 + ["val"] * 3
    assert any("unsupervised" in note for note in both.notes)


def test_hub_id(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict(test=SOURCES["datasets"](tmp_path)))
    found = read("org/reviews")
    assert (found.name, found.source, found.column("split")[0]) == (
        "reviews",
        "hub:org/reviews",
        "test",
    )
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(DataError, match="OFFLINE is set, the hub is not asked"):
        read("org/reviews")
    with pytest.raises(DataError, match=r"There is no file or folder 'data/reviews\.csv'"):
        read("data/reviews.csv")


# --- what is odd about a table


def test_one_separator_for_the_note_and_the_split(tmp_path):
    values = ["Smith, J;Doe, A", "Doe, A;Roe, B", "Smith, J", "Roe, B", "Doe, A"]
    found = infer_task(values)
    assert (found.task, found.values[0]) == ("multilabel", ["Smith, J", "Doe, A"])
    assert found.values == infer_task(values, "multilabel").values
    assert "split at ';'" in found.notes[0]
    assert infer_task(["a,b", "c"], "multilabel").values == [["a", "b"], ["c"]]


def test_thousands_in_a_table_with_commas(tmp_path):
    path = write(
        tmp_path / "r.csv", 'text,price\nno comma,"1,200"\n"1,200 of it",900\n"so, so","-1,234,567.5"\nna ja,\n'
    )
    found = read(path)
    assert (found.task, found.column("label")) == ("regression", [1200, 900, -1234567.5, None])
    assert found.inputs[1] == "1,200 of it"
    assert found.notes == ("commas in numbers of column 'price' are read as thousands separators: 1,200 is 1200",)


@pytest.mark.parametrize("task", [None, "regression"])
@pytest.mark.parametrize("values", [["12,000", "9,500"], ["12,000", "900", "800"], ["1,234,567", "12,000"]])
def test_a_comma_that_may_be_either_is_an_error(tmp_path, values, task):
    text = "text;n\n" + "".join(f"so gut, so schön {i};{value}\n" for i, value in enumerate(values))
    path = write(tmp_path / "r.csv", text)
    with pytest.raises(DataError, match=r"ambiguous whether the comma sets off thousands.*Write 12,000 as 12000 or"):
        read(path, reading=Reading(task=task))
    assert read(path, reading=Reading(task="classification")).column("label") == values
    with pytest.raises(DataError, match="ambiguous"):
        read(["a b"] * len(values), values, reading=Reading(task=task))


@pytest.mark.parametrize("values", [["0,123", "0,456"], ["12,000", "3,5"], ["1234,567", "2,000"]])
def test_decimal_commas_that_leave_no_doubt(tmp_path, values):
    path = write(tmp_path / "r.csv", "text;n\n" + "".join(f"na ja {i};{value}\n" for i, value in enumerate(values)))
    assert read(path).column("label") == [float(value.replace(",", ".")) for value in values]


def test_the_directive_of_excel_is_no_header(tmp_path):
    for i, mark in enumerate((";", ",", "\t")):
        path = write(tmp_path / f"{i}.csv", f"sep={mark}\r\n" + as_csv(mark))
        assert (read(path).inputs, read(path).column("label")) == (TEXTS, LABELS)
    with pytest.raises(DataError, match="is empty"):
        read(write(tmp_path / "e.csv", "sep=;\n"))
    with pytest.raises(DataError, match="line 3 has 3"):
        read(write(tmp_path / "r.csv", "sep=,\ntext,label\na,b,c\n"))


@pytest.mark.parametrize(
    "cell", ["1", "-0.5", "it was a dark and stormy night, and the rain fell in torrents on the town"]
)
def test_a_header_that_looks_like_data(tmp_path, cell):
    path = write(tmp_path / "r.csv", as_csv(header=(cell, "label")))
    notes = read(path, reading=Reading(input=cell)).notes
    assert any("first line of r.csv is taken as the header" in note and cell[:50] in note for note in notes)
    assert not any("taken as the header" in note for note in read(write(tmp_path / "s.csv", as_csv())).notes)


def test_columns_of_the_same_name(tmp_path):
    path = write(tmp_path / "r.csv", "text,a,a (3),a\nso it goes,x,y,z\nand on,x,y,z\n")
    found = read(path, reading=Reading(label="a (4)"))
    assert found.column("label") == ["z", "z"]
    assert "r.csv has two columns called 'a': the later one is read as 'a (4)'" in found.notes
    twice = pd.DataFrame([["so it goes", "x", "y"]], columns=["text", "label", "label"])
    with pytest.raises(DataError, match=r"more than one column called 'label'. Rename"):
        read(twice)


@pytest.mark.parametrize("n", [30, 60])
def test_a_damaged_gzip_file(tmp_path, n):
    data = gzip.compress(as_csv().encode())
    for i, damaged in enumerate((data[:n], data[:n] + b"\xff" * 20 + data[n + 20 :])):
        (tmp_path / f"{i}.csv.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="Cannot read"):
            read(tmp_path / f"{i}.csv.gz")


def test_a_table_that_is_called_txt(tmp_path):
    path = write(tmp_path / "spam.txt", "ham\thello you\nspam\tbuy now\n")
    assert read(path).notes == ("a .txt file is one text; if it is a table, rename it to .tsv or .csv",)
    assert read(picture(tmp_path / "1.png")).notes == ()


# --- which column is what


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("text", "label", "label_name"), ("text", "label_name")),
        (("Text", "LABEL", "id"), ("Text", "LABEL")),
        (("y", "review", "id"), ("review", "y")),
        (("id", "sentence", "verdict"), ("sentence", "verdict")),
        (("label", "was", "id"), ("was", "label")),
        (("id", "text", "index"), ("text", None)),
    ],
)
def test_columns_are_found_by_name(header, expected):
    texts = [f"a sentence with the number {i} in it" for i in range(12)]
    values = {"id": [str(i) for i in range(12)], "index": [str(i) for i in range(12)]}
    data = {h: values.get(h, texts if h == expected[0] else ["a", "b", "c"] * 4) for h in header}
    found = read(data)
    assert found.inputs == texts
    assert (found.label_name if found.task else None) == expected[1]


def test_the_longest_text_is_the_input_and_a_note_says_so():
    short = [f"some words {i}" for i in range(10)]
    found = read({"one": short, "two": [text * 4 for text in short], "label": ["a", "b"] * 5})
    assert found.inputs[0] == short[0] * 4
    assert found.notes == ("the input is column 'two'; 'one' could be it too: pass --input COL to choose",)
    assert read({"one": short, "two": short, "label": ["a", "b"] * 5}, reading=Reading(input="two")).inputs == short


def test_overruling():
    data = {"text": TEXTS, "label": LABELS, "other": ["x", "y", "x", "y", "x"]}
    assert read(data, reading=Reading(label="other")).column("label") == data["other"]
    assert read(data, reading=Reading(label="")).task is None


def test_group_and_time():
    days = ["2024-01-02", "2024-01-01", "2024-01-03T12:00", "1970-01-02", "2024-02-01"]
    data = {"text": TEXTS, "label": LABELS, "who": [1, 1, 2, 2, 3], "when": days}
    found = read(data, reading=Reading(group="who"))
    assert found.column("group") == ["1", "1", "2", "2", "3"]
    times = read(data, reading=Reading(time="when")).column("time")
    assert np.argsort(times).tolist() == [3, 1, 0, 2, 4]
    assert times[3] == 86400
    assert read(data, reading=Reading(time="who")).column("time") == [1, 1, 2, 2, 3]
    with pytest.raises(DataError, match="neither all numbers nor all dates"):
        read({**data, "when": [*days[:4], "soon"]}, reading=Reading(time="when"))
    with pytest.raises(DataError, match="1 of 5 values in the group column 'who' are missing"):
        read({**data, "who": [1, 1, None, 2, 2]}, reading=Reading(group="who"))


def test_spaces_around_a_group_do_not_count():
    found = read(
        {"text": TEXTS, "label": LABELS, "who": ["p1 ", "p1", " p1", "p2", "p2\t"]}, reading=Reading(group="who")
    )
    assert found.groups == ["p1", "p1", "p1", "p2", "p2"]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading(input="text", label="text"), "'text' cannot be both the input and the label"),
        (Reading(group="label", label="label"), "'label' cannot be both the label and the group"),
        (Reading(group="label"), "'label' cannot be both the label and the group"),
        (Reading(group="text", input="text"), "'text' cannot be both the input and the group"),
    ],
)
def test_one_column_for_two_things(reading, message):
    with pytest.raises(DataError, match=message):
        read({"text": TEXTS, "label": LABELS}, reading=reading)


def test_columns_are_listed_where_none_looks_like_a_label():
    data = {"text": TEXTS, "a": ["x"] * 5, "b": ["y"] * 5}
    assert "no column looks like a label; columns are text, a, b: pass --label COL" in read(data).notes
    assert read(data, reading=Reading(label="")).notes == ()
    assert read({"text": TEXTS}).notes == ("no column looks like a label; columns are text: pass --label COL",)
    assert read(TEXTS).notes == ()


# --- what the labels ask for


def test_classes_that_differ_only_in_spelling():
    found = infer_task(["Yes", "yes ", "YES", "no", "No", "maybe"])
    assert found.values == ["Yes", "yes ", "YES", "no", "No", "maybe"]
    assert found.notes == (
        "classes 'Yes', 'yes ', 'YES' differ only in spelling; they are kept apart (and 1 more like that)",
    )
    assert infer_task(["yes", "no"]).notes == ()
    assert "'A', 'a' differ only" in infer_task([["A"], ["a", "b"]]).notes[0]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%d.%m.%y", "%Y-%m-%dT%H:%M"])
def test_dates_are_no_labels(form):
    days = pd.date_range("2024-01-25", periods=12).strftime(form).tolist()
    with pytest.raises(DataError, match=r"'when' looks like dates .*--label COL; --time when splits"):
        infer_task(days * 3, None, "when")
    assert infer_task(days[:3] * 9).task == "classification"
    assert infer_task(days * 3, "classification").values == days * 3


@pytest.mark.parametrize(
    ("values", "task", "cleaned"),
    [
        (["a", "b ", None, ""], "classification", ["a", "b ", None, None]),
        ([0, 1, 1], "classification", ["0", "1", "1"]),
        ([1.0, 2.0, float("nan")], "classification", ["1", "2", None]),
        (["1.0", "2.0", " 1.0 "], "classification", ["1", "2", " 1 "]),
        ([True, False], "classification", ["True", "False"]),
        (["01", "1e1", "NA"], "classification", ["01", "1e1", "NA"]),
        ([1.5, 2.5, float("inf")], "regression", [1.5, 2.5, None]),
        ([np.int64(3), np.int64(4)], "classification", ["3", "4"]),
        (["0.5", "1", "2"], "regression", [0.5, 1.0, 2.0]),
        (["-.5", "+1e-3", ""], "regression", [-0.5, 0.001, None]),
        (list(range(30)), "regression", [float(i) for i in range(30)]),
        (list(range(21)) * 50, "classification", [str(i) for i in range(21)] * 50),
        ([["a", "b"], [], None, ["a", "a"]], "multilabel", [["a", "b"], [], None, ["a"]]),
        (["a|b", "b", "a | c", "c"], "multilabel", [["a", "b"], ["b"], ["a", "c"], ["c"]]),
        (["a;b", "b;a"], "multilabel", [["a", "b"], ["b", "a"]]),
        (["a|b", "c", "c", "c"], "classification", ["a|b", "c", "c", "c"]),
    ],
)
def test_task_of_labels(values, task, cleaned):
    found = infer_task(values)
    assert (found.task, found.values) == (task, cleaned)


def test_mixed_labels_and_both_ways_out():
    values = [1, 2, "3", "good", "bad", None]
    with pytest.raises(DataError, match=r"'label' mixes 3 numbers \(1, 2, 3\) with 2 words \(good, bad\).*--task"):
        infer_task(values)
    assert infer_task(values, "classification").values == ["1", "2", "3", "good", "bad", None]
    found = infer_task(values, "regression")
    assert found.values == [1.0, 2.0, 3.0, None, None, None]
    assert found.notes == ("2 values of 'label' that are no number left out (good, bad)",)


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (["a"], "clasification", "--task clasification is not one of .* Did you mean 'classification'"),
        ([f"text {i}" for i in range(20)], None, "looks like free text.*20 of its 20 values differ"),
        ([None, ""], None, "holds no label: all of its 2 values are missing"),
        (["a", "b"], "regression", "holds no numbers but a, b"),
        ([["a", "b"]], "classification", "holds lists of labels.*--task multilabel"),
    ],
)
def test_labels_that_do_not_do(values, task, message):
    with pytest.raises(DataError, match=message):
        infer_task(values, task)


def test_every_task_can_be_asked_for():
    for task in ("classification", "multilabel", "regression"):
        assert infer_task(["1", "2"], task).task == task
        assert task in registry.TASKS.names()


def test_decimal_commas_in_a_semicolon_table(tmp_path):
    path = write(tmp_path / "r.csv", "text;score\nso gut, so schön;3,5\nna ja;4\n")
    found = read(path)
    assert (found.task, found.column("label"), found.inputs[0]) == ("regression", [3.5, 4.0], "so gut, so schön")


def test_describe_numbers_and_missing_labels():
    found = read(["a b", "c d", "e f"], [1.5, None, 4])
    assert describe(found) == (
        "data: 3 texts in memory; a number in 'label' (min 1.5, median 2.75, max 4, 1 missing); no split given"
    )


# --- errors


def folder_of_folders(d: Path) -> Path:
    for name in ("photo/dog/1.png", "sketch/dog/1.png"):
        picture(d / "pacs" / name)
    write(d / "pacs" / "index.csv", "file,label\nphoto/dog/1.png,dog\n")
    return d / "pacs"


def made(d: Path, name: str) -> Path:
    (d / name).mkdir()
    return d / name


PATHS = {
    "missing": (lambda d: write(d / "reviews.csv", "x").with_name("reviws.csv"), "Did you mean '.*reviews.csv'"),
    "missing folder": (lambda d: d / "no" / "way.csv", "Nor is there a folder"),
    "empty folder": (lambda d: made(d, "e"), "nothing that can be read .it is empty"),
    "unknown suffixes": (
        lambda d: [write(d / "x" / c / f"{i}.dcm", "x") for c in "ab" for i in range(5)].pop().parents[1],
        r"\(10 \.dcm files, which cannot be read: convert them to PNG\)",
    ),
    "spreadsheets": (lambda d: write(d / "x" / "t.xlsx", "x").parent, r"1 \.xlsx file, which .*: save them as .csv"),
    "empty class folders": (lambda d: made(made(d, "x"), "a").parent, r"\(1 empty folder: a\)"),
    "too deep": (folder_of_folders, "photo, sketch. Read one of them, for example .*photo, or the table index.csv"),
    "no class folders": (
        lambda d: [picture(d / "s" / f"{s}/1.png") for s in ("train", "test")].pop().parents[1],
        "test, train hold files but no class folders",
    ),
    "unknown type": (lambda d: write(d / "a.docx", "x"), r"type that is not known \(.docx\)"),
    "unrelated tables": (
        lambda d: [write(d / "t" / n, as_csv()) for n in ("a.csv", "b.csv")].pop().parent,
        "holds 2 tables.*: a.csv, b.csv. Name one of them",
    ),
    "empty csv": (lambda d: write(d / "a.csv", "\n"), "a.csv is empty"),
    "header only": (lambda d: write(d / "a.csv", "text,label\n"), r"holds a header \(text, label\) but no rows"),
    "ragged": (
        lambda d: write(d / "a.csv", "text,label\nso,a\nbut, alas,b\n"),
        r"the header has 2 fields \(text, label\), but line 3 has 3",
    ),
    "short row": (lambda d: write(d / "a.csv", "text,label\nso\n"), "line 2 has 1"),
    "open quote": (lambda d: write(d / "a.csv", 'text,label\n"so,a\nno,b\n'), "opens a quotation mark that is never"),
    "bad json": (lambda d: write(d / "a.jsonl", '{"text": "x"}\n{"text"\n'), "not valid JSON lines"),
    "no records": (lambda d: write(d / "a.json", "[1, 2]"), "must hold records such as"),
    "bad parquet": (lambda d: write(d / "a.parquet", "x"), "not a Parquet file"),
    "bad npz": (lambda d: write(d / "a.npz", "x"), "cannot be read as .npz"),
    "bad gzip": (lambda d: write(d / "a.csv.gz", "x"), "Cannot read"),
    "no input": (lambda d: write(d / "a.csv", "age,sex\n1,2\n"), "No column .* columns are age, sex.*--input COL"),
}


@pytest.mark.parametrize("case", PATHS)
def test_paths_that_do_not_do(case, tmp_path):
    make, message = PATHS[case]
    with pytest.raises(DataError, match=message):
        read(make(tmp_path))


def test_pickled_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="no Python objects"):
        read(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 3, 3)), labels=np.zeros(3))
    with pytest.raises(DataError, match="2 images but 3 labels"):
        read(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", weights=np.zeros(3))
    with pytest.raises(DataError, match=r"holds weights \(3,\). It needs 'images'"):
        read(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("data", "reading", "message"),
    [
        (
            {"text": TEXTS, "label": LABELS},
            Reading(label="lable"),
            "no column 'lable'.*text, label. Did you mean 'label'",
        ),
        ({"text": TEXTS, "label": LABELS}, Reading(input="txt"), "no column 'txt'.*Did you mean 'text'.*--input COL"),
        ({"text": TEXTS, "label": LABELS}, Reading(group="who"), "no column 'who'.*--group COL"),
        ({"text": TEXTS, "label": [1, 2, 3, "a", "b"]}, Reading(), "mixes 3 numbers"),
        ({"text": TEXTS, "n": [1, 2, 3, 4, 5]}, Reading(input="n"), "Column 'n' holds int"),
        ({"text": TEXTS, "label": [1]}, Reading(), "differ in length: 'text' 5, 'label' 1"),
        ((TEXTS, [1, 2]), Reading(), "5 examples but 2 labels"),
        ([], Reading(), "no examples"),
        ({"text": []}, Reading(), r"columns \(text\) and no rows"),
        (np.zeros((4, 7)), Reading(), "The data hold ndarray"),
        (42, Reading(), "Cannot read data from a int"),
    ],
)
def test_objects_that_do_not_do(data, reading, message):
    with pytest.raises(DataError, match=message):
        read(data, reading=reading)


def test_a_streamed_data_set_is_refused():
    with pytest.raises(HeadstartError, match="streaming=False"):
        read(SOURCES["datasets"](None).to_iterable_dataset())


def test_half_a_surrogate_pair_does_no_harm(tmp_path):
    path = write(tmp_path / "r.jsonl", '{"text": "so \\ud83d it is", "label": "a"}\n')
    assert read(path, reading=Reading(input="text")).inputs == ["so \ufffd it is"]


def test_unpaired_quotes_in_tsv(tmp_path):
    path = write(tmp_path / "r.tsv", 'text\tlabel\n"so it goes\ta\non and on\tb\n')
    assert read(path).inputs == ['"so it goes', "on and on"]


def test_nothing_is_written_to_the_hugging_face_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    read(SOURCES["csv"](tmp_path))
    read(SOURCES["parquet"](tmp_path))
    assert not (tmp_path / "cache").exists()


def test_names_of_sounds_are_no_texts(tmp_path: Path) -> None:
    """The label often stands in the name, and a model of names would look perfect."""
    path = tmp_path / "index.csv"
    path.write_text("file,label\n" + "".join(f"wav/{i % 2}_S{i}.m4a,{i % 2}\n" for i in range(40)))
    with pytest.raises(DataError, match="holds texts or names of picture or sound files"):
        read(path)
    with pytest.raises(DataError, match="a name is no text to learn from"):
        read(path, reading=Reading(input="file"))


@pytest.mark.parametrize(("name", "hint"), [("a.xlsx", "as CSV"), ("a.dcm", "as PNG"), ("a.m4a", "as WAV or FLAC")])
def test_what_people_try_first_has_a_hint(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"content")
    with pytest.raises(DataError, match=hint):
        read(tmp_path / name)
