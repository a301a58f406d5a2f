"""Small pictures with boxes, and the same boxes written in every form of annotation files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.conftest import write_csv

NAMES = ("bolt", "nut")


@dataclass
class Scene:
    """One picture; a box is (class, x, y, width, height)."""

    name: str
    boxes: list[tuple[str, float, float, float, float]]
    split: str = "train"
    size: tuple[int, int] = (40, 30)
    ignored: set[int] = field(default_factory=set)


def scenes() -> list[Scene]:
    """Six pictures: two classes, one picture without boxes, two sizes."""
    return [
        Scene("a.png", [("bolt", 2, 3, 10, 8), ("nut", 20, 10, 15, 12)]),
        Scene("b.png", [("nut", 0, 0, 40, 30)]),
        Scene("c.png", [], size=(64, 32)),
        Scene("d.png", [("bolt", 1.5, 2.25, 6, 5), ("bolt", 30, 4, 12, 20)], size=(64, 32)),
        Scene("e.png", [("nut", 5, 5, 8, 8)], "val"),
        Scene("f.png", [("bolt", 7, 9, 11, 13)], "test"),
    ]


def paint(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def paint_all(folder: Path, shown: list[Scene]) -> None:
    for seed, scene in enumerate(shown):
        paint(folder / scene.name, scene.size, seed)


def coco(shown: list[Scene], names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """COCO's dict, its ids with gaps."""
    ids = {name: 3 * i + 2 for i, name in enumerate(names)}
    images = [
        {"id": 10 * i, "file_name": one.name, "width": one.size[0], "height": one.size[1]}
        for i, one in enumerate(shown)
    ]
    found = [
        {"image_id": 10 * i, "category_id": ids[name], "bbox": edges, "iscrowd": int(j in one.ignored)}
        for i, one in enumerate(shown)
        for j, (name, *edges) in enumerate(one.boxes)
    ]
    return {
        "images": images,
        "annotations": [{"id": i, **one} for i, one in enumerate(found)],
        "categories": [{"id": i, "name": name, "supercategory": "part"} for name, i in ids.items()],
    }


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def voc(scene: Scene) -> str:
    """VOC's XML."""
    parts = [
        f"<object><name>{name}</name><difficult>{int(j in scene.ignored)}</difficult><bndbox><xmin>{x}</xmin>"
        f"<ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for j, (name, x, y, w, h) in enumerate(scene.boxes)
    ]
    size = f"<size><width>{scene.size[0]}</width><height>{scene.size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{scene.name}</filename>{size}{''.join(parts)}</annotation>"


def yolo(scene: Scene) -> str:
    """YOLO's lines."""
    width, height = scene.size
    return "".join(
        f"{NAMES.index(name)} {(x + w / 2) / width:.8f} {(y + h / 2) / height:.8f} {w / width:.8f} {h / height:.8f}\n"
        for name, x, y, w, h in scene.boxes
    )


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def as_coco(folder: Path) -> Path:
    """One JSON a split, the pictures in images/."""
    paint_all(folder / "images", scenes())
    for split in ("train", "val", "test"):
        shown = [one for one in scenes() if one.split == split]
        write_json(folder / f"instances_{split}2017.json", coco(shown))
    return folder


def as_coco_roboflow(folder: Path) -> Path:
    """A folder a split, with its JSON beside the pictures."""
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        shown = [one for one in scenes() if one.split == split]
        paint_all_of(folder / name, shown)
        write_json(folder / name / "_annotations.coco.json", coco(shown))
    return folder


def paint_all_of(folder: Path, shown: list[Scene]) -> None:
    every = [one.name for one in scenes()]
    for one in shown:
        paint(folder / one.name, one.size, every.index(one.name))


def as_voc(folder: Path) -> Path:
    """As the VOC devkit lays it out."""
    paint_all(folder / "JPEGImages", scenes())
    for one in scenes():
        write(folder / "Annotations" / f"{one.name[0]}.xml", voc(one))
    for split in ("train", "val", "test"):
        stems = [one.name[0] for one in scenes() if one.split == split]
        write(folder / "ImageSets" / "Main" / f"{split}.txt", "\n".join(stems))
    write(folder / "ImageSets" / "Main" / "trainval.txt", "\n".join("abcde"))
    return folder


def as_voc_beside(folder: Path) -> Path:
    """An XML beside each picture, in folders of splits."""
    for one in scenes():
        paint_all_of(folder / one.split, [one])
        write(folder / one.split / f"{one.name[0]}.xml", voc(one))
    return folder


def as_yolo(folder: Path) -> Path:
    """images/train and labels/train, with a data.yaml; the picture without boxes has no text file."""
    for one in scenes():
        paint_all_of(folder / "images" / one.split, [one])
        if one.boxes:
            write(folder / "labels" / one.split / f"{one.name[0]}.txt", yolo(one))
    write(folder / "data.yaml", "path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [bolt, nut]")
    return folder


def as_yolo_roboflow(folder: Path) -> Path:
    """train/images and train/labels, paths that lead one folder too far up, names by number."""
    for one in scenes():
        split = {"val": "valid"}.get(one.split, one.split)
        paint_all_of(folder / split / "images", [one])
        write(folder / split / "labels" / f"{one.name[0]}.txt", yolo(one))
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames:\n  0: bolt\n  1: nut\n"
    write(folder / "data.yaml", yaml)
    return folder


def as_yolo_plain(folder: Path) -> Path:
    """Text files beside the pictures, a classes.txt, and lists of the splits."""
    paint_all(folder, scenes())
    for one in scenes():
        write(folder / f"{one.name[0]}.txt", yolo(one))
    write(folder / "classes.txt", "bolt\nnut\n")
    for split in ("train", "val", "test"):
        names = [f"./{one.name}" for one in scenes() if one.split == split]
        write(folder / f"{split}.txt", "\n".join(names))
    return folder


def box_rows(corners: bool) -> list[list[object]]:
    """(file, class, four edges, split) of each box; a picture without boxes has empty cells."""
    rows: list[list[object]] = []
    for one in scenes():
        for name, x, y, w, h in one.boxes:
            rows.append([one.name, name, x, y, *((x + w, y + h) if corners else (w, h)), one.split])
        if not one.boxes:
            rows.append([one.name, "", "", "", "", "", one.split])
    return rows


def as_csv(folder: Path) -> Path:
    """A row a box, with corners."""
    paint_all(folder, scenes())
    header = ["filename", "class", "xmin", "ymin", "xmax", "ymax", "split"]
    return write_csv(folder / "boxes.csv", header, box_rows(corners=True))


def as_csv_sizes(folder: Path) -> Path:
    """A row a box, with a corner and a size, the pictures in a folder below."""
    paint_all(folder / "pictures", scenes())
    return write_csv(folder / "boxes.csv", ["image", "label", "x", "y", "w", "h", "split"], box_rows(corners=False))


def as_jsonl(folder: Path) -> Path:
    """As the hub lays it out: a row a picture, with its objects in one column."""
    paint_all(folder, scenes())
    rows = [
        {
            "file_name": one.name,
            "objects": {"bbox": [list(b[1:]) for b in one.boxes], "category": [b[0] for b in one.boxes]},
            "split": one.split,
        }
        for one in scenes()
    ]
    return write(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))


FORMS = {
    form.__name__: form
    for form in (
        *(as_coco, as_coco_roboflow, as_voc, as_voc_beside, as_yolo, as_yolo_roboflow, as_yolo_plain),
        *(as_csv, as_csv_sizes, as_jsonl),
    )
}
