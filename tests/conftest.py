"""Small data made on the spot, and a feature cache of each test session's own."""

from __future__ import annotations

import asyncio
import csv
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart import cli, places

GOOD = ("lovely", "great", "wonderful", "superb", "charming", "brilliant")
BAD = ("awful", "dreadful", "boring", "terrible", "clumsy", "dull")
PROBE = ("--strategy", "probe", "--no-scratch")  # what is not about the search takes seconds
THINGS = ("film", "phone", "meal", "book", "camera", "hotel", "song", "game", "lamp", "chair")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks of a few numbers lose far more to waiting for each other's threads than they gain."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty feature cache for the session; the weights are those of the machine, and nothing else is fetched."""
    home, weights = tmp_path_factory.mktemp("home"), places.weights()
    weights.mkdir(parents=True, exist_ok=True)
    (home / "weights").symlink_to(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_HOME", str(home))
        yield


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def review_rows() -> list[list[object]]:
    """120 short reviews, half of them good."""
    rows: list[list[object]] = []
    for i, thing in enumerate(THINGS):
        rows += [[f"what a {word} {thing}, I would say so {i} times", "good"] for word in GOOD]
        rows += [[f"what a {word} {thing}, I would say so {i} times", "bad"] for word in BAD]
    return rows


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", ["text", "label"], review_rows())


def draw(rng: np.random.Generator, striped: bool) -> Image.Image:
    """A grey picture of 64 pixels with noise, and with vertical stripes or without."""
    pixels = rng.integers(90, 160, (64, 64, 3))
    if striped:
        pixels[:, :: int(rng.integers(4, 9))] = 240
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two class folders with 30 pictures each."""
    folder, rng = tmp_path_factory.mktemp("data") / "parts", np.random.default_rng(0)
    for name in ("plain", "striped"):
        (folder / name).mkdir(parents=True)
        for i in range(30):
            draw(rng, name == "striped").save(folder / name / f"{i:02d}.png")
    return folder


def call(*arguments: object) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["headstart", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def gradio_loops() -> Iterator[None]:
    """Gradio leaves event loops open: they go while the module's filters still hold."""
    yield
    asyncio.set_event_loop(None)
    gc.collect()


@pytest.fixture(scope="session")
def text_run(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a probe on the reviews; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "reviews"
    assert call("fit", reviews, *PROBE, "--out", out, "--quiet") == 0
    return out


@pytest.fixture(scope="session")
def image_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a probe on the pictures; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "parts"
    assert call("fit", pictures, *PROBE, "--out", out, "--quiet") == 0
    return out
