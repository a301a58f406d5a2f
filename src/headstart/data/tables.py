"""Tables in files: CSV, TSV, JSON and JSON lines (also gzipped), Parquet, and NumPy's `.npz`, to raw columns."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.objects import hf_columns
from headstart.data.raw import NUMBER, Raw, is_missing, plain_list, split_name, split_word, together, with_thousands
from headstart.data.roles import as_messages
from headstart.errors import DataError, listed

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".npz")

_DIRECTIVE = re.compile(r'"?sep=(.)"?[ \t]*(?:\r?\n|\Z)', re.IGNORECASE)  # Excel's first line
_LONG_NAME = 60  # characters; what is longer is hardly a column name
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+(,\d+)?\s*")
_ARRAY_NAMES = {
    **dict.fromkeys(("images", "image", "x", "data"), "images"),
    **dict.fromkeys(("labels", "label", "y", "targets"), "labels"),
}


def table_suffix(path: Path) -> str | None:
    """ ".csv" for `reviews.csv` and `reviews.CSV.gz`; None when the file is not a table that can be read."""
    name = path.name.lower()
    stem = name.removesuffix(".gz")
    found = next((suffix for suffix in TABLE_SUFFIXES if stem.endswith(suffix)), None)
    return None if found in {".parquet", ".npz"} and stem != name else found


def table_stem(path: Path) -> str:
    """The file's name without its suffixes: "reviews" for `reviews.csv.gz`."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return name[: -len(table_suffix(path) or "")]


def read_table(path: Path) -> Raw:
    """One table file as raw columns. DataError when it is empty, damaged or ragged."""
    suffix = table_suffix(path)
    if suffix == ".npz":
        return _read_npz(path)
    notes: list[str] = []
    if suffix == ".parquet":
        columns = _read_parquet(path)
    elif suffix in {".csv", ".tsv"}:
        columns = _read_csv(path, _text(path, notes), notes)
    else:
        columns = _columns_of_records(_read_json(path, _text(path, notes), lines=suffix != ".json"), path)
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"{path} holds {_header(columns)} but no rows. Give a table with at least one row.")
    return Raw(columns=columns, name=table_stem(path), source=str(path), folder=str(path.parent), notes=tuple(notes))


def read_tables(folder: Path, paths: Sequence[Path]) -> Raw:
    """The table files of a folder: one, or several that are named by split (train.csv, reviews-test.csv)."""
    by_split = [
        (split, path) for path in paths if (split := split_word(table_stem(path))) and table_suffix(path) != ".npz"
    ]
    if len(paths) == 1:
        return replace(read_table(paths[0]), name=folder.resolve().name)
    if not any(split == "train" for split, _ in by_split):
        raise DataError(
            f"{folder} holds {len(paths)} tables, and their names do not say which one to read: "
            f"{listed(path.name for path in paths)}. Name one of them, or call them train.csv, val.csv and test.csv."
        )
    order = ("train", "val", "test")
    raw = together([(split, read_table(path)) for split, path in sorted(by_split, key=lambda p: order.index(p[0]))])
    unread = [path.name for path in paths if path not in [p for _, p in by_split]]
    notes = (*raw.notes, f"not read, for its name is no split: {listed(unread)}") if unread else raw.notes
    return replace(raw, name=folder.resolve().name, source=str(folder), notes=notes)


def _header(columns: dict[str, list[Any]]) -> str:
    return f"a header ({listed(columns)})" if columns else "nothing"


def _text(path: Path, notes: list[str]) -> str:
    """A text file, unzipped and decoded: UTF-8 with or without a mark, UTF-16 with one, else Windows-1252."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.name.lower().endswith(".gz") else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"Cannot read {path}: {error}. Check the file and its rights.") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        notes.append(f"{path.name} is not UTF-8 (byte {error.start:,}): read as Windows-1252 (Latin-1)")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:  # five bytes mean nothing there
        return data.decode("latin-1")


def _read_csv(path: Path, text: str, notes: list[str]) -> dict[str, list[str]]:
    """Columns of strings exactly as they stand; "NA" and "null" are words like any other."""
    delimiter = "\t" if table_suffix(path) == ".tsv" else None
    if directive := _DIRECTIVE.match(text):
        delimiter, text = directive[1], "\n" + text[directive.end() :]  # the empty line keeps the line numbers right
    if not text.strip():
        raise DataError(f"{path} is empty. Give a table with a header and at least one row.")
    delimiter = delimiter or _delimiter(text)
    rows = _rows(path, text, delimiter, notes)
    _, header = rows.pop(0)
    _check_widths(path, header, rows)
    names = _names(path, header, notes)
    width = len(names)
    values = zip(*(row[:width] for _, row in rows), strict=True) if rows else ([] for _ in names)
    columns = {name: list(column) for name, column in zip(names, values, strict=True)}
    without_commas = _OF_DELIMITER.get(delimiter)
    return {n: without_commas(n, column, notes) for n, column in columns.items()} if without_commas else columns


def _names(path: Path, header: list[str], notes: list[str]) -> list[str]:
    """The column names, each another; notes where they had to be changed or look like data."""
    names: list[str] = []
    for i, cell in enumerate(header, 1):
        name = cell.strip() or f"unnamed {i}"
        if name in names:
            new = next(new for j in count(i) if (new := f"{name} ({j})") not in names)
            notes.append(f"{path.name} has two columns called {name!r}: the later one is read as {new!r}")
            name = new
        names.append(name)
    if odd := next((name for name in names if len(name) > _LONG_NAME or NUMBER.fullmatch(name)), None):
        shown = odd if len(odd) <= _LONG_NAME else odd[: _LONG_NAME - 1] + "…"
        notes.append(
            f"the first line of {path.name} is taken as the header, though {shown!r} looks like data; "
            'if it is an example, put a line of column names above it, such as "text,label"'
        )
    return names


def _delimiter(text: str) -> str:
    """The one of comma, semicolon and tab that stands in the header and cuts most rows into as many fields."""
    sample = text[:65536]
    best, best_score = ",", (0.0, 0)
    for delimiter in ",;\t":
        rows = list(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter))
        rows = [row for row in (rows if len(text) <= 65536 else rows[:-1]) if row]
        width = len(rows[0]) if rows else 1
        score = (sum(len(row) == width for row in rows) / max(len(rows), 1), width)
        if width > 1 and score > best_score:
            best, best_score = delimiter, score
    return best


def _rows(path: Path, text: str, delimiter: str, notes: list[str]) -> list[tuple[int, list[str]]]:
    """(last line, fields) of each row that is not blank."""

    def parsed(**options: Any) -> list[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **options)
        return [(reader.line_num, row) for row in reader if row]

    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a long document is one field
    try:
        return parsed(strict=True)
    except csv.Error as error:
        if delimiter == "\t":  # many such files do not quote at all
            notes.append(f"{path.name} has unpaired quotation marks: read as plain characters")
            return parsed(quoting=csv.QUOTE_NONE)
        if "unexpected end" in str(error):
            raise DataError(
                f"{path} opens a quotation mark that is never closed, so that its last rows run into one. "
                'Close it, or write a quotation mark inside a quoted field as "".'
            ) from error
    return parsed()


def _check_widths(path: Path, header: list[str], rows: list[tuple[int, list[str]]]) -> None:
    """DataError when rows have more or fewer fields than the header; empty fields at the end are forgiven."""
    width = len(header)
    ragged = [(line, row) for line, row in rows if len(row) < width or any(row[width:])]
    if ragged:
        line, row = ragged[0]
        raise DataError(
            f"{path} is ragged: the header has {width} fields ({listed(header)}), but line {line} has {len(row)}"
            f"{f', and so have {len(ragged) - 1:,} more rows another number' if len(ragged) > 1 else ''}. "
            "Put fields that hold the delimiter or a line break in quotation marks."
        )


def _without_decimal_commas(name: str, values: list[str], notes: list[str]) -> list[str]:
    """Numbers that are written 3,5, as tables with semicolons do, as 3.5; not where 12,000 may be either number."""
    commas = [value for value in values if "," in value]
    if not all(_DECIMAL_COMMA.fullmatch(value) for value in commas) or all(map(with_thousands, commas)):
        return values
    if not all(_DECIMAL_COMMA.fullmatch(value) for value in values if value):
        return values
    notes.append(f"decimal commas in column {name!r} are read as points")
    return [value.replace(",", ".") for value in values]


def _without_thousands(name: str, values: list[str], notes: list[str]) -> list[str]:
    """Numbers that are written 1,200, as tables with commas quote them, as 1200."""
    n_commas = sum(map(with_thousands, values))
    if not n_commas:
        return values
    n_numbers = n_commas + sum(bool(NUMBER.fullmatch(value)) for value in values)
    if n_numbers <= sum(not is_missing(value) for value in values) / 2:  # words, for the most part
        return values
    notes.append(f"commas in numbers of column {name!r} are read as thousands separators: 1,200 is 1200")
    return [value.replace(",", "") if with_thousands(value) else value for value in values]


_OF_DELIMITER = {";": _without_decimal_commas, ",": _without_thousands}


def _read_json(path: Path, text: str, lines: bool) -> list[Any]:
    """Records, one a line or in one list; a dict of columns counts as records too."""
    try:
        if not lines:
            found = json.loads(text)
            if isinstance(found, dict) and any(map(as_messages, found.values())):  # one conversation
                return [found]
            if isinstance(found, dict) and found and all(isinstance(v, list) for v in found.values()):
                return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
            return found if isinstance(found, list) else [found]
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON{' lines' if lines else ''}: {error}.") from error


def _columns_of_records(records: list[Any], path: Path) -> dict[str, list[Any]]:
    if records and all(isinstance(record, list) and as_messages(record) for record in records):
        return {"messages": records}
    if not all(isinstance(record, dict) for record in records):
        raise DataError(f'{path} must hold records such as {{"text": "…", "label": "…"}}, one a line or in one list.')
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {error}.") from error
    return hf_columns(datasets.Dataset(table))  # it knows class names and pictures from the file's own notes


def _read_npz(path: Path) -> Raw:
    """Arrays named as MedMNIST does ("train_images", "train_labels") or plainly ("x" and "y"; "images", "labels")."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read as .npz: {error}. It must hold plain arrays, no Python objects."
        ) from error
    parts: dict[str, dict[str, list[Any]]] = {}
    for key, array in arrays.items():
        words = key.lower().split("_")
        split = next((s for word in words if (s := split_name(word))), "")
        role = next((_ARRAY_NAMES[word] for word in words if word in _ARRAY_NAMES), None)
        if role:
            parts.setdefault(split, {})[role] = plain_list(array)
    usable = [(split, columns) for split, columns in parts.items() if "images" in columns]
    if not usable:
        shapes = listed(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise DataError(
            f"{path} holds {shapes}. It needs 'images' and 'labels' (or 'x' and 'y'), or the same with a split before "
            "them: 'train_images', 'train_labels', 'test_images' …"
        )
    raws = [(s, _same_length(Raw(columns=c, name=path.stem, source=str(path), input="images"), s)) for s, c in usable]
    raw = together(raws)
    return replace(
        raw,
        splits=None if [split for split, _ in usable] == [""] else raw.splits,
        label="labels" if "labels" in raw.columns else None,
    )


def _same_length(raw: Raw, split: str) -> Raw:
    n = {name: len(values) for name, values in raw.columns.items()}
    if len(set(n.values())) > 1:
        raise DataError(
            f"{raw.source}{f', {split}' if split else ''}: {n['images']:,} images but {n['labels']:,} labels. "
            "Give one label an image."
        )
    return raw
