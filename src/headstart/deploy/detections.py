"""What a detector finds in pictures: a row a picture, a row a box, COCO's JSON, or drawn."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headstart import registry
from headstart.data.dataset import Dataset
from headstart.engine.detector import Detector
from headstart.errors import PlanError, RunError
from headstart.modalities.base import Modality
from headstart.modalities.drawing import draw
from headstart.progress import Progress
from headstart.tasks.boxes import Detections, Objects
from headstart.tasks.coco import as_coco
from headstart.tasks.detection import Detection

if TYPE_CHECKING:
    from headstart.deploy.model import Model

EDGES = ("x", "y", "width", "height")
BOX = ("name", *EDGES, "confidence")  # of a box in a table
QUALITY = 92  # of a drawn JPEG


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is found in N stored items; None where one cannot be read, and `problems` says why."""

    task: Detection
    modality: Modality
    items: Sequence[Any]
    problems: Sequence[str | None]
    found: Sequence[Detections | None]

    @property
    def names(self) -> list[str]:
        """What the items are called."""
        return [self.modality.name_in_full(item) for item in self.items]

    def pictures(self) -> pd.DataFrame:
        """A row an item: input, width, height, n, and a list of boxes, which is missing where it cannot be read."""
        rows = [_row(self.task, one) for one in self.found]
        table = pd.DataFrame([{"input": name, **row} for name, row in zip(self.names, rows, strict=True)])
        return self._told(table.astype(dict.fromkeys(("width", "height", "n"), "Int64")))  # which may be missing

    def boxes(self) -> pd.DataFrame:
        """A row a box: input, name, x, y, width, height, confidence; an item without boxes has one that is empty."""
        pictures = self.pictures()
        rows = [
            {**{name: row[name] for name in ("input", "problem") if name in row}, **dict.fromkeys(BOX), **box}
            for row in pictures.to_dict("records")
            for box in (row["boxes"] or [{}])
        ]
        columns = ["input", *BOX, *(["problem"] if "problem" in pictures else [])]
        return pd.DataFrame(rows, columns=columns)

    def counts(self) -> pd.DataFrame:
        """A row an item, for people: "12 RBC, 1 WBC"."""
        said = [None if one is None else counted(self.task, one) for one in self.found]
        return self._told(pd.DataFrame({"input": self.names, "found": said}, dtype=object))

    def _told(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(problem=list(self.problems)) if any(self.problems) else table

    def coco(self, folder: Path) -> dict[str, Any]:
        """The content of a COCO file in `folder`, each box with its `score`; what cannot be read is no image in it."""
        read = [(item, one) for item, one in zip(self.items, self.found, strict=True) if one is not None]
        objects = [Objects(one.boxes, one.classes, np.zeros(len(one), bool), one.size) for _, one in read]
        content = as_coco(objects, self.task.class_names, [self._file_name(item, folder) for item, _ in read])
        scores = [float(confidence) for _, one in read for confidence in one.confidence]
        for annotation, score in zip(content["annotations"], scores, strict=True):
            annotation["score"] = score
        return content

    def _file_name(self, item: Any, folder: Path) -> str:
        """Below the folder where it lies there, else in full."""
        path = item.get("path")
        if not path:
            return self.modality.name_in_full(item)
        whole, start = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
        return (whole.relative_to(start) if whole.is_relative_to(start) else whole).as_posix()

    def draw(self, folder: Path) -> int:
        """Draw every picture that can be read into the new `folder`, under its own name; how many there are."""
        check_free_folder(folder)
        taken: set[str] = set()
        try:
            folder.mkdir(exist_ok=True)
            for number, (item, one) in enumerate(zip(self.items, self.found, strict=True)):
                if one is not None:
                    name = free_name(item.get("path") or f"picture-{number + 1}", taken)
                    drawn = draw(self.modality.open(item), one, self.task.class_names)
                    drawn.save(folder / name, quality=QUALITY) if _is_jpeg(name) else drawn.save(folder / name)
        except OSError as error:
            raise RunError(
                f"{folder} could not be written: {error.strerror or error}. Choose another --draw."
            ) from error
        return len(taken)


def find(model: Model, items: Sequence[Any], progress: Progress, every: bool = False) -> Found:
    """What a detector finds in stored items: the boxes that are sure enough for their class, or `every` one."""
    assert isinstance(model.task, Detection), "a detector finds boxes"
    examined = [model.modality.examine(item) for item in items]
    good = [i for i, one in enumerate(examined) if one.problem is None]
    scores = model.scores([items[i] for i in good], [examined[i].digest for i in good], progress)
    found: list[Detections | None] = [None] * len(items)
    for i, one in zip(good, scores if every else model.shown(scores), strict=True):
        found[i] = one
    problems = [one.problem for one in examined]
    return Found(task=model.task, modality=model.modality, items=items, problems=problems, found=found)


def counted(task: Detection, found: Detections) -> str:
    """How many of each class, most first: "12 RBC, 1 WBC"."""
    counts = Counter(task.class_names[k] for k in found.classes)
    return ", ".join(f"{n:,} {name}" for name, n in counts.most_common()) or "nothing"


def tested_table(detector: Detector, task: Detection, tested: Dataset, scores: np.ndarray) -> pd.DataFrame:
    """A row a picture with its true boxes (`label`), and all that is found (N,), `shown` where that is sure enough."""
    modality, rows = registry.modality(tested.modality), []
    for item, label, one in zip(tested.inputs, tested.column("label"), scores, strict=True):
        row, sure = _row(task, one), detector.sure(one)
        boxes = [{**box, "shown": bool(shown)} for box, shown in zip(row["boxes"], sure, strict=True)]
        row |= {"n": int(sure.sum()), "boxes": boxes}
        rows.append({"input": modality.name_in_full(item), "label": label, **row})
    return pd.DataFrame(rows)


def _row(task: Detection, one: Detections | None) -> dict[str, Any]:
    if one is None:
        return {"width": None, "height": None, "n": None, "boxes": None}
    (boxes,) = task.decode([one])  # type: ignore[arg-type]  # any sequence of them
    return {"width": one.size[0], "height": one.size[1], "n": len(one), "boxes": boxes}


def _is_jpeg(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg"))


def free_name(path: str, taken: set[str]) -> str:
    """The file's name, as PNG unless it is a JPEG, that is not yet `taken`; it then is."""
    place = Path(path)
    suffix = place.suffix if place.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
    names = (f"{place.stem}{suffix}" if n == 1 else f"{place.stem}-{n}{suffix}" for n in range(1, len(taken) + 2))
    name = next(name for name in names if name.lower() not in taken)
    taken.add(name.lower())
    return name


def check_free_folder(folder: Path) -> None:
    """PlanError unless drawn pictures can be written into this new folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PlanError(f"{folder} is there already, and nothing was overwritten. Choose another --draw, or remove it.")
    if not folder.absolute().parent.is_dir():
        raise PlanError(f"There is no folder {folder.parent} to make {folder.name} in. Make it, or choose another.")
