"""Rows of plain tables: read, stored, recognised, and turned into numbers."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from headstart import registry
from headstart.data.read import Reading, read, read_beside
from headstart.errors import DataError
from headstart.modalities.tabular import plain, rows_of
from headstart.tables.encoder import Encoder, learn_encoder
from tests.conftest import write_csv

ROWS = registry.modality("tabular")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("63", 63), (63.0, 63), (np.int64(63), 63), (" 2.50 ", 2.5), ("1e3", 1000), ("-.5", -0.5),
        ("01234", "01234"), ("f ", "f"), (True, "True"), ("?", None), ("NA", None), ("", None), (None, None),
        (float("nan"), None), (float("inf"), None), ("1e999", None), (pd.NaT, None),
        (datetime.date(2024, 1, 31), "2024-01-31"), ("2024-01-31", "2024-01-31"),
    ],
)  # fmt: skip
def test_a_cell_is_a_number_a_word_or_missing(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


def test_equal_rows_are_equal_however_they_are_written() -> None:
    written = [{"a": "1", "b": "x", "c": None}, {"b": " x", "a": 1.0}, '{"a": 1, "b": "x"}']
    assert len({ROWS.examine(ROWS.store(row, None)).digest for row in written}) == 1


@pytest.mark.parametrize("value", ["no json", "[1, 2]", 3, [1, 2]])
def test_what_is_no_row_says_what_a_row_is(value: Any) -> None:
    with pytest.raises(DataError, match="A row is a mapping of columns to values"):
        ROWS.store(value, None)


def test_rows_out_of_what_people_have() -> None:
    expected = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert rows_of(pd.DataFrame(expected)) == expected
    assert rows_of({"a": [1, 2], "b": ["x", "y"]}) == expected
    assert rows_of(expected) == expected
    assert rows_of(expected[0]) == expected[:1]
    assert rows_of('{"a": 1}') == ['{"a": 1}']


def test_a_labelled_table_without_texts_is_read_row_by_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["age", "sex", "ill"], [[40 + i, "fm"[i % 2], i % 2] for i in range(6)])
    found = read(path, reading=Reading(label="ill"))
    assert (found.modality, found.task, found.input_name) == ("tabular", "classification", None)
    assert ROWS.open(found.inputs[0]) == {"age": 40, "sex": "f"}  # the label is no part of the row


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("size;colour;label\n1,5;red;a\n2,5;blue;b\n")
    assert ROWS.open(read(path).inputs[1]) == {"size": 2.5, "colour": "blue"}


def test_group_time_and_split_are_no_part_of_the_row() -> None:
    table = {"x": [1, 2], "who": ["a", "b"], "when": [1, 2], "split": ["train", "test"], "label": ["p", "q"]}
    found = read(table, reading=Reading(group="who", time="when"))
    assert [ROWS.open(item) for item in found.inputs] == [{"x": 1}, {"x": 2}]
    assert found.column("split") == ["train", "test"]


def test_a_text_column_still_makes_a_table_of_texts_unless_rows_are_asked_for() -> None:
    table = {"text": ["what a lovely film", "never again I say"], "n": [1, 2], "label": ["good", "bad"]}
    assert read(table).modality == "text"
    assert read(table, reading=Reading(modality="tabular")).modality == "tabular"
    with pytest.raises(DataError, match="only 'tabular' can be asked for"):
        read(table, reading=Reading(modality="image"))


def test_single_items_are_no_rows() -> None:
    with pytest.raises(DataError, match="cannot be read row by row"):
        read(["a text", "b text"], ["x", "y"], reading=Reading(modality="tabular"))
    with pytest.raises(DataError, match="none beside it to learn from"):
        read({"label": [1, 2]}, reading=Reading(modality="tabular", label="label"))


def test_a_target_is_read_as_its_source_is_labelled() -> None:
    source = read({"x": [1, 2], "ill": ["no", "yes"]}, reading=Reading(label="ill"))
    some = read_beside({"x": [1, 2, 3], "ill": ["no", None, ""]}, source)
    assert some.column("label")[0] == "no"
    assert not read_beside({"x": [1, 2], "ill": [None, None]}, source).has("label")
    none = read_beside({"x": [1, 2], "Ill": ["no", "yes"]}, source)
    assert "Did you mean 'Ill'?" in none.notes[-1]
    assert none.label_name == "ill"


# --- rows as numbers ------------------------------------------------------------------------------------------------


def test_numbers_are_standardised_and_words_one_hot_as_scikit_learn_does() -> None:
    rows = [{"age": a, "sex": s} for a, s in ((50, "f"), (61, "m"), (47, "f"), (72, "m"))]
    found = learn_encoder(rows).encode(rows)
    ages, sexes = ([[row[name]] for row in rows] for name in ("age", "sex"))
    expected = np.hstack([StandardScaler().fit_transform(ages), OneHotEncoder().fit_transform(sexes).toarray()])
    np.testing.assert_allclose(found, expected)


def test_gaps_get_the_median_and_a_mark() -> None:
    rows: list[dict[str, Any]] = [{"x": 1}, {"x": 2}, {"x": 9}, {}]
    encoder = learn_encoder(rows)
    found = encoder.encode(rows)
    assert found[3].tolist() == [found[1, 0], 1.0]  # 2 is the median
    assert found[:3, 1].tolist() == [0, 0, 0]


def test_a_word_that_was_not_seen_is_all_zeros() -> None:
    encoder = learn_encoder([{"c": "red"}, {"c": "blue"}] * 2)
    assert encoder.encode([{"c": "green"}, {}]).tolist() == [[0, 0], [0, 0]]


def test_columns_of_one_side_only() -> None:
    target = [{"x": i, "new": i % 5} for i in range(10)]
    source = [{"x": i, "old": i} for i in range(10)]
    encoder = learn_encoder(target, source)
    assert [column.name for column in encoder.columns] == ["new", "x"]
    assert encoder.left_out == {"old": "only in the source"}
    assert any("only in the target: new" in note for note in encoder.notes)
    assert not any(column.gaps for column in encoder.columns)  # a whole side without it is no gap


def test_dates_become_days() -> None:
    rows = [{"when": f"2024-01-{day:02d}"} for day in (1, 2, 5)]
    (column,) = learn_encoder(rows).columns
    assert column.kind == "date"
    assert column.scale == pytest.approx(np.std([1, 2, 5]))


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([f"name {i}" for i in range(40)], "names or free text"),
        (list(range(40)), "counts the rows"),
        ([7] * 40, "always the same"),
        (["x"] * 40, "always the same"),
    ],
)
def test_what_teaches_nothing_is_left_out(cells: list[Any], why: str) -> None:
    rows = [{"column": cell, "use": i % 7 + 0.5} for i, cell in enumerate(cells)]
    assert learn_encoder(rows).left_out["column"].startswith(why)


def test_ids_are_left_out_by_name() -> None:
    rows = [{"ID": i * i, "patient_id": i * 7, "idea": i, "x": i} for i in (3, 1, 2)]
    assert learn_encoder(rows).left_out == {"ID": "an id", "patient_id": "an id"}


def test_a_column_that_is_a_number_on_one_side_and_a_word_on_the_other_is_taken_as_words() -> None:
    encoder = learn_encoder([{"sex": "f"}, {"sex": "m"}] * 2, [{"sex": 0}, {"sex": 1}] * 2)
    assert encoder.columns[0].words == ("0", "1", "f", "m")


def test_no_common_column_and_no_column_at_all() -> None:
    with pytest.raises(DataError, match="they share none"):
        learn_encoder([{"a": 1}, {"a": 2}], [{"b": 1}, {"b": 2}])
    with pytest.raises(DataError, match="No column is left to learn from: a \\(always the same\\)"):
        learn_encoder([{"a": 1}, {"a": 1}])


def test_an_encoder_comes_back_from_json_to_the_last_bit() -> None:
    rows = [{"x": i / 7, "c": "ab"[i % 2], "when": f"2024-01-{i + 1:02d}"} for i in range(9)] + [{}]
    encoder = learn_encoder(rows)
    again = Encoder.from_json(encoder.to_json())
    assert again == encoder
    assert (again.encode(rows) == encoder.encode(rows)).all()
