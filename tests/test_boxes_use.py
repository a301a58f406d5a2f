"""What a detector is used for: predict in every form, draw, evaluate, export, serve, and the page."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import transformers
from fastapi.testclient import TestClient
from PIL import Image

import headstart
from headstart import box_workshop, adapt_boxes
from headstart.deploy import answer, detections, explain
from headstart.deploy.bundle import bundle
from headstart.deploy.export import box_parity, candidates, parity
from headstart.deploy.export import export as write_export
from headstart.deploy.export.whole import exact
from headstart.deploy.model import Model
from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.settings import Settings
from headstart.engine.detector import Sure
from headstart.errors import PlanError, RunError
from headstart.modalities.drawing import draw
from headstart.tasks.boxes import Detections, boxed
from headstart.tasks.coco import Matched
from tests.conftest import call
from tests.test_detecting import picture
from tests.test_detectors import save_tiny

SPLITS = ["train"] * 16 + ["val"] * 6 + ["test"] * 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 pictures of squares and discs with their boxes, a COCO file a split."""
    folder = tmp_path_factory.mktemp("boxes")
    content: dict[str, dict[str, list[Any]]] = {}
    for seed, split in enumerate(SPLITS):
        drawn, boxes = picture(seed)
        drawn.save(folder / f"{seed:02d}.png")
        one = content.setdefault(split, {"images": [], "annotations": [], "categories": []})
        one["categories"] = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
        one["images"].append({"id": seed, "file_name": f"{seed:02d}.png", "width": 96, "height": 64})
        one["annotations"] += [
            {
                "id": 10 * seed + i,
                "image_id": seed,
                "category_id": 1 + (box["name"] == "square"),
                "bbox": [box["x"], box["y"], box["width"], box["height"]],
            }
            for i, box in enumerate(boxes)
        ]
    for split, said in content.items():
        (folder / f"{split}.json").write_text(json.dumps(said))
    return folder


@contextmanager
def small() -> Iterator[None]:
    """Canvases of few pixels, and few epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(box_workshop, "SHORTEST", 96)
        patch.setattr(box_workshop, "LONGEST", 96)
        patch.setattr(adapt_boxes, "MOST_EPOCHS", 25)
        yield


def save_resnet(folder: Path) -> Path:
    """Random weights; strides 4, 4, 8, 16 and 32."""
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 32, 32, 32], depths=[1, 1, 1, 1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"size": {"height": 64, "width": 64}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
    )
    return folder


def fitted(data: Path, backbone: Path, strategy: str, out: Path) -> Path:
    with small():
        said = ("--backbone", backbone, "--strategy", strategy, "--no-scratch", "--quiet")
        assert call("fit", data, *said, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid on frozen stages; not to be changed."""
    folder = tmp_path_factory.mktemp("pyramid")
    return fitted(data, save_resnet(folder / "resnet"), "full", folder / "run")


@pytest.fixture(scope="module")
def ready(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ready-made detector, adapted; not to be changed."""
    folder = tmp_path_factory.mktemp("ready")
    return fitted(data, save_tiny("rt_detr", folder / "detector"), "partial", folder / "run")


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return headstart.load(run)


def test_x(run: Path, model: Model, ready: Path, data: Path) -> None:
    print(
        model.evidence.metrics, [len(one) for one in model.predict([str(data / f"{i:02d}.png") for i in range(20, 28)])]
    )
    print(headstart.load(ready).evidence.metrics, headstart.load(ready).detector.confidence)
    print(model.detector.confidence)
