"""The studio: how an upload is understood, one fit at a time, and what its page shows."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart import transfer
from headstart.errors import DataError, PlanError
from headstart.studio import page
from headstart.studio.workspace import Stopped, Studio, Watched, understand, without_options
from tests.conftest import review_rows, write_csv

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.usefixtures("gradio_loops"),
    pytest.mark.filterwarnings(  # Gradio's own: what it imports, and event loops that it leaves open
        "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]
PATIENCE_S = 300


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    (tmp_path / "work").mkdir()
    return Studio(tmp_path / "work", tmp_path / "runs")


@pytest.fixture
def packed(pictures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "parts of mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(pictures.rglob("*.png")):
            archive.write(file, Path("parts") / file.relative_to(pictures))
    return path


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A fit that speaks until it is let go, and then finds no model."""
    go = threading.Event()

    def fit(dataset: Any, progress: Any) -> None:
        while not go.wait(0.01):
            progress.say("still at it")
        raise DataError("there was nothing to learn")

    monkeypatch.setattr(transfer, "fit", fit)
    yield go
    go.set()


def test_a_zip_of_class_folders_is_understood(studio: Studio, packed: Path) -> None:
    studio.take(packed)
    seen = studio.understood
    assert seen is not None
    assert seen.problem is not None
    assert (seen.trouble, seen.columns) == ("", [])
    assert seen.line.startswith("parts: 60 images from parts of mine.zip")
    shown = page.data_html(seen)
    assert '<th scope="row">striped</th>' in shown
    assert str(studio.folder) not in shown


def test_columns_of_a_table_can_be_chosen(studio: Studio, tmp_path: Path) -> None:
    rows = [[row[0], row[1], f"extra {i % 2}"] for i, row in enumerate(review_rows())]
    studio.take(write_csv(tmp_path / "reviews.csv", ["said", "label", "kind"], rows))
    assert studio.understood is not None
    assert studio.understood.columns == ["said", "label", "kind"]
    assert studio.understood.dataset is not None
    assert studio.understood.dataset.label_name == "label"
    studio.choose("said", "kind")
    assert studio.understood.dataset.label_name == "kind"
    assert "extra 1" in page.data_html(studio.understood)


def test_what_is_wrong_with_an_upload_is_told(studio: Studio, tmp_path: Path) -> None:
    rows = [[i, f"text number {i} says something"] for i in range(30)]
    unlabelled = understand(write_csv(tmp_path / "a.csv", ["id", "text"], rows), "a.csv")
    assert "choose the column that is to be predicted" in unlabelled.trouble
    assert unlabelled.columns == ["id", "text"]
    (tmp_path / "b.xlsx").write_bytes(b"PK")
    studio.take(tmp_path / "b.xlsx")
    assert studio.understood is not None
    assert "Save the sheet as CSV" in studio.understood.trouble
    with pytest.raises(PlanError, match="nothing to fit"):
        studio.start()


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("Column 'a' is both. Name another with --label COL or --input COL.", "Column 'a' is both."),
        ("no label; columns are a, b: pass --label COL", "no label; columns are a, b"),
        ("images stand in sub-folders; pass --group folder to keep each on one side", "images stand in sub-folders"),
        ("Nothing of it is named.", "Nothing of it is named."),
    ],
)
def test_options_of_the_command_line_are_not_told(told: str, shown: str) -> None:
    assert without_options(told) == shown


def test_a_fit_from_a_zip_to_a_model_to_take_home(
    studio: Studio, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "fit", partial(transfer.fit, strategy="probe", scratch=False))  # seconds
    studio.take(packed)
    studio.start()
    assert studio.fit is not None
    studio.fit.join(PATIENCE_S)
    assert studio.fit.trouble == ""
    model = studio.model
    assert model is not None
    assert model.run == studio.runs / "parts"
    assert any("60 images" in line for line in studio.fit.progress.lines)
    shown = page.outcome_html(model)
    assert "This model" in shown
    assert "/download/parts.zip" in shown
    kept = headstart.load(model.run).examples
    assert kept is not None
    assert all(item["bytes"] for item in kept.items)  # the upload goes, they stay
    with zipfile.ZipFile(studio.bundle("parts")) as archive:
        assert any(name.endswith("headstart.json") for name in archive.namelist())
    studio.clear()
    assert (studio.model, studio.understood) == (None, None)


def test_one_fit_at_a_time(studio: Studio, packed: Path, waiting: threading.Event) -> None:
    studio.take(packed)
    studio.start()
    for act in (studio.start, lambda: studio.take(packed), lambda: studio.choose(None, None)):
        with pytest.raises(PlanError, match="under way"):
            act()
    waiting.set()
    assert studio.fit is not None
    studio.fit.join(PATIENCE_S)
    assert studio.fit.trouble == "there was nothing to learn"
    assert not studio.fitting


def test_a_fit_that_says_nothing_can_be_stopped(studio: Studio, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def fit(dataset: Any, progress: Any) -> None:
        begun.set()
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(transfer, "fit", fit)
    studio.take(packed)
    studio.start()
    assert studio.fit is not None
    assert begun.wait(PATIENCE_S)
    studio.stop()
    studio.stop()
    studio.fit.join(PATIENCE_S)
    assert studio.fit.trouble.startswith("Stopped.")
    assert studio.model is None


def test_progress_is_kept_for_those_who_look() -> None:
    told = Watched()
    with told.step("frozen pass"), told.bar(4, "images") as advance:
        advance(1)
        assert (told.doing, told.share) == ("frozen pass", 0.25)
    told.say("<b>a line</b>")
    assert told.share is None
    assert told.lines == ["<b>a line</b>"]
    told.stop()
    with pytest.raises(Stopped):
        told.say("more")


def test_the_page_is_there_with_its_downloads(studio: Studio) -> None:
    from starlette.testclient import TestClient

    from headstart.deploy import app

    with TestClient(page.mount(app.server(), studio), base_url="http://127.0.0.1") as browser:
        assert browser.get("/").status_code == 200
        assert "What it takes" in browser.get("/config").text
        assert browser.get("/download/nothing.zip").status_code == 404
        assert browser.get("/report/nothing").status_code == 404
