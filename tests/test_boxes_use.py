"""What a detector is used for: predict in every form, draw, evaluate, export, serve, and the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from fastapi.testclient import TestClient
from PIL import Image

import headstart
from headstart import box_workshop, detection
from headstart.box_workshop import BoxWorkshop
from headstart.deploy import answer, detections, explain
from headstart.deploy.bundle import bundle
from headstart.deploy.export import box_parity, candidates, hf, onnx, parity
from headstart.deploy.export import export as write_export
from headstart.deploy.export.whole import exact
from headstart.deploy.model import Model
from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.settings import Settings
from headstart.engine.detector import Sure
from headstart.errors import DataError, PlanError, RunError
from headstart.evidence.sliding import Sliding
from headstart.modalities.drawing import draw
from headstart.tasks.boxes import Detections
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
                "iscrowd": 0,
                "area": box["width"] * box["height"],
                "bbox": [box["x"], box["y"], box["width"], box["height"]],
            }
            for i, box in enumerate(boxes)
        ]
    for split, said in content.items():
        (folder / f"{split}.json").write_text(json.dumps(said))
    return folder


@contextmanager
def small() -> Iterator[None]:
    """Canvases of few pixels, few epochs, and no classical detector, which takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(box_workshop, "SHORTEST", 96)
        patch.setattr(box_workshop, "LONGEST", 96)
        patch.setattr(BoxWorkshop, "recipe", replace(box_workshop.RECIPE, most=25))
        patch.setattr(detection, "fit_sliding", lambda *_: Sliding(()))
        yield


def save_resnet(folder: Path) -> Path:
    """Random weights; strides 4, 4, 8, 16 and 32."""
    torch.manual_seed(0)
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
    return fitted(data, save_tiny("detr", folder / "detector"), "partial", folder / "run")


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return headstart.load(run)


@pytest.fixture(scope="module")
def files(data: Path) -> list[str]:
    return [str(one) for one in sorted(data.glob("*.png"))]


def measured_on(model: Model, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """(objects, what is found) of the test pictures, in the order of the file."""
    dataset = headstart.read(data)
    rows = [row for row, split in enumerate(dataset.column("split")) if split == "test"]
    own = dataset.select(np.array(rows))
    return model.task.encode(own.column("label")), model.predict_proba([item["path"] for item in own.inputs])


def same(one: list[dict[str, Any]], other: list[dict[str, Any]], apart: float = 1e-3) -> None:
    assert [box["name"] for box in one] == [box["name"] for box in other]
    for name in detections.BOX[1:]:
        assert np.allclose([box[name] for box in one], [box[name] for box in other], atol=apart)


def test_a_run_comes_back_and_finds_the_same(run: Path, files: list[str], tmp_path: Path) -> None:
    model = headstart.load(run)
    again = headstart.load(model.save(tmp_path / "again"))
    found = model.predict(files[:4])
    assert again.predict(files[:4]) == found
    assert sum(map(len, found)) > 3


def test_evaluate_is_the_average_precision_of_what_is_found(model: Model, data: Path) -> None:
    y, found = measured_on(model, data)
    expected = np.nanmean(Matched(list(y), list(found), 2).average_precision(np.ones((1, len(y)))))
    measured = model.evaluate(data)
    assert measured.metrics["map"].value == pytest.approx(expected)
    assert measured.metrics["map"].value == pytest.approx(model.evidence.metrics["map"].value, abs=1e-6)
    assert measured.metrics["map"].low <= measured.metrics["map"].value <= measured.metrics["map"].high
    assert measured.n == 6


def test_evaluate_leaves_out_classes_that_the_model_does_not_know(model: Model, data: Path, tmp_path: Path) -> None:
    said = json.loads((data / "test.json").read_text())
    said["categories"].append({"id": 3, "name": "star"})
    said["annotations"][0]["category_id"] = 3
    said["images"] = [{**one, "file_name": str(data / one["file_name"])} for one in said["images"]]
    (tmp_path / "new.json").write_text(json.dumps(said))
    measured = model.evaluate(tmp_path / "new.json")
    assert measured.n == 5
    assert any(note.startswith("left out 1 that have a label that the model does not know") for note in measured.notes)


def test_the_run_keeps_what_its_score_is_made_of(run: Path, model: Model) -> None:
    table = pd.read_parquet(run / "predictions.parquet")
    y = model.task.encode(list(table["label"]))
    sizes = list(zip(table["width"], table["height"], strict=True))
    found = [as_detections(model, boxes, size) for boxes, size in zip(table["boxes"], sizes, strict=True)]
    average = np.nanmean(Matched(list(y), found, 2).average_precision(np.ones((1, len(y)))))
    assert average == pytest.approx(model.evidence.metrics["map"].value)
    shown = [sum(box["shown"] for box in boxes) for boxes in table["boxes"]]
    assert shown == table["n"].tolist() == [len(one) for one in model.predict(list(table["input"]))]
    assert sum(shown) < sum(map(len, found))


def as_detections(model: Model, boxes: Any, size: tuple[int, int]) -> Detections:
    corners = [[one["x"], one["y"], one["x"] + one["width"], one["y"] + one["height"]] for one in boxes]
    classes = np.array([model.task.score_names.index(one["name"]) for one in boxes], dtype=np.int64)
    confidence = np.array([one["confidence"] for one in boxes], dtype=np.float32)
    return Detections(np.array(corners, np.float32).reshape(-1, 4), classes, confidence, size)


def test_coco_json_is_read_back(run: Path, model: Model, data: Path, files: list[str]) -> None:
    """By pycocotools, and by Headstart itself: what was found is what a data set of it holds."""
    from pycocotools.coco import COCO

    out = data / "found.coco.json"
    try:
        assert call("predict", run, *files[:5], "--out", out, "--quiet") == 0
        coco, expected = COCO(str(out)), model.predict(files[:5])
        dataset = headstart.read(out)
    finally:
        out.unlink(missing_ok=True)
    assert [one["file_name"] for one in coco.loadImgs(coco.getImgIds())] == [Path(one).name for one in files[:5]]
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    for number, boxes in enumerate(expected, 1):
        found = coco.loadAnns(coco.getAnnIds(imgIds=number))
        assert [names[one["category_id"]] for one in found] == [box["name"] for box in boxes]
        assert np.allclose([one["score"] for one in found], [box["confidence"] for box in boxes])
        edges = [[box[name] for name in detections.EDGES] for box in boxes]
        assert np.allclose([one["bbox"] for one in found], edges)
    assert [len(one["boxes"]) for one in dataset.column("label")] == [len(boxes) for boxes in expected]


def test_every_box_in_coco_json_makes_the_score(run: Path, model: Model, data: Path, tmp_path: Path) -> None:
    """As pycocotools measures it on the labels' own file."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(data / "test.json"))
    names = [one["file_name"] for one in truth.dataset["images"]]
    inputs, out = [data / name for name in names], tmp_path / "found.json"
    assert call("predict", run, *inputs, "--all-boxes", "--out", out, "--quiet") == 0
    said = json.loads(out.read_text())
    ids = {one["id"]: int(Path(one["file_name"]).stem) for one in said["images"]}
    found = truth.loadRes([{**one, "image_id": ids[one["image_id"]]} for one in said["annotations"]])
    evaluation = COCOeval(truth, found, "bbox")
    for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        step()
    assert evaluation.stats[0] == pytest.approx(model.evidence.metrics["map"].value, abs=1e-9)


def test_tables_have_a_row_a_box_or_a_picture(run: Path, model: Model, files: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    blank = tmp_path / "blank.png"
    Image.new("RGB", (96, 64)).save(blank)
    inputs, expected = [files[0], blank, bad], model.predict([files[0], str(blank)])
    assert expected[1] == []
    for suffix, separator in ((".csv", ","), (".tsv", "\t")):
        assert call("predict", run, *inputs, "--out", tmp_path / f"a{suffix}", "--quiet") == 0
        table = pd.read_csv(tmp_path / f"a{suffix}", sep=separator)
        assert table["input"].tolist() == [files[0]] * len(expected[0]) + [str(blank), str(bad)]
        same(table.iloc[:-2].to_dict("records"), expected[0])
        assert table.iloc[-2:][list(detections.BOX)].isna().all(axis=None)
        assert "not a picture" in table["problem"].iloc[-1]
    for suffix in (".jsonl", ".parquet"):
        assert call("predict", run, *inputs, "--out", tmp_path / f"a{suffix}", "--quiet") == 0
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    same(lines[0]["boxes"], expected[0])
    assert [line["n"] for line in lines] == [len(expected[0]), 0, None]
    assert (lines[0]["width"], lines[0]["height"]) == (96, 64)
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert len(table["boxes"].iloc[1]) == 0
    assert table["boxes"].iloc[2] is None


def test_the_screen_counts(run: Path, model: Model, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("predict", run, files[0], "--quiet") == 0
    found = model.predict(files[:1])[0]
    counts = [f"{sum(box['name'] == name for box in found)} {name}" for name in model.task.score_names]
    said = capsys.readouterr().out
    assert any(one in said for one in counts)
    assert call("predict", run, files[0], "--json") == 0
    same(json.loads(capsys.readouterr().out)["predictions"][0]["boxes"], found)
    assert call("predict", run, files[0], "--json", "--all-boxes") == 0
    every = json.loads(capsys.readouterr().out)["predictions"][0]["boxes"]
    assert len(every) == len(model.predict_proba(files[:1])[0]) > len(found)


def test_boxes_are_drawn_on_the_upright_picture(
    run: Path, model: Model, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned, other = tmp_path / "turned.jpg", tmp_path / "other" / Path(files[0]).name
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    with Image.open(files[1]) as opened:
        opened.save(turned, exif=exif)
        other.parent.mkdir()
        opened.save(other)
    out = tmp_path / "drawn"
    assert call("predict", run, files[0], turned, other, "--draw", out, "--quiet") == 0
    name = Path(files[0]).stem
    assert sorted(one.name for one in out.iterdir()) == [f"{name}-2.png", f"{name}.png", "turned.jpg"]
    with Image.open(out / "turned.jpg") as drawn:
        assert drawn.size == (64, 96)
    (found,) = model.shown(model.predict_proba([files[0]]))
    with Image.open(out / f"{name}.png") as drawn, Image.open(files[0]) as plain:
        assert np.array_equal(drawn, draw(plain, found, model.task.score_names))
        assert not np.array_equal(drawn, plain)
    assert call("predict", run, files[0], "--draw", out, "--quiet") == 1
    assert "nothing was overwritten" in capsys.readouterr().err


def test_only_detectors_draw(text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("predict", text_run, "fine", "--draw", tmp_path / "drawn", "--quiet") == 1
    assert "are for boxes, and this model gives one label" in capsys.readouterr().err
    assert call("predict", text_run, "fine", "--out", tmp_path / "a.json", "--quiet") == 1
    assert "end the name in" in capsys.readouterr().err


@pytest.fixture(scope="module")
def exported(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = write_export(model, "onnx", tmp_path_factory.mktemp("exports") / "onnx")
    assert isinstance(found.parity, box_parity.BoxParity)
    assert found.parity.n == 6
    assert found.parity.n_boxes > 6
    assert found.parity.least_overlap > 0.99
    return found.folder


def test_the_onnx_file_needs_no_torch(exported: Path, model: Model, files: list[str], tmp_path: Path) -> None:
    """Run by itself, on pictures of other sizes than the canvas, with torch and Headstart out of reach."""
    rng, large = np.random.default_rng(0), tmp_path / "large.png"
    with Image.open(files[2]) as opened:
        opened.resize((250, 131)).rotate(float(rng.uniform(0, 3))).save(large)
    block = "import sys; sys.modules.update(torch=None, headstart=None, transformers=None);"
    code = f"{block} sys.argv = sys.argv[1:]; import runpy; sys.path.insert(0, {str(exported)!r});"
    code += f"runpy.run_path({str(exported / 'predict.py')!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, "predict.py", files[0], files[1], str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""})
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line, expected in zip(lines, exact(model).predict([files[0], files[1], str(large)]), strict=True):
        same(line["boxes"], expected)


def test_the_export_says_how_it_is_used(exported: Path) -> None:
    said, card = (exported / "README.md").read_text(), json.loads((exported / "export.json").read_text())
    assert "squashes them to 96 × 64" in said
    assert "python predict.py photo.jpg" in said
    assert card["scores"] == "boxes"
    assert {"model.onnx", "predict.py", "suppression.py", "boxes.json"} <= set(card["sha256"])


def test_torch_exports_the_same(model: Model, tmp_path: Path) -> None:
    found = write_export(model, "torch", tmp_path / "torch")
    assert found.parity.n_boxes > 6  # type: ignore[union-attr]
    assert (found.folder / "suppression.py").exists()


def test_what_cannot_be_exported_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"8-bit weights are for labels and numbers"):
        write_export(model, "onnx", tmp_path / "a", int8=True)
    with pytest.raises(PlanError, match=r"no class.*--format onnx or torch"):
        write_export(model, "hf", tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", ["threshold", "overlap", "calibration", "edges"])
def test_a_wrong_export_is_refused(
    model: Model, exported: Path, tmp_path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = candidates.write_suppression

    def write(model: Model, folder: Path) -> None:
        true(model, folder)
        said, code = folder / candidates.SETTINGS, folder / candidates.SUPPRESSION
        content = json.loads(said.read_text())
        match wrong:
            case "threshold":
                content["confidence"] = [{**one, "threshold": 0.02} for one in content["confidence"]]
            case "overlap":
                content["overlap"] = None
            case "calibration":
                content["confidence"][0]["offset"] += 0.02
            case "edges":
                code.write_text(
                    code.read_text().replace("[width, height, width, height]", "[height, width, height, width]")
                )
        said.write_text(json.dumps(content))

    monkeypatch.setattr(candidates, "write_suppression", write)
    known = (exported / "model.onnx").read_bytes()  # the network is right: it is the rest that is wrong
    monkeypatch.setattr(onnx, "export", lambda module, inputs, file, *more: file.write_bytes(known))
    with pytest.raises(RunError, match="does not find what the model finds"):
        write_export(model, "onnx", tmp_path / "wrong")
    assert not list(tmp_path.iterdir())


def test_boxes_at_their_threshold_are_counted(model: Model, files: list[str]) -> None:
    """What the last digits decide is no fault."""
    plain = exact(model)
    asked = parity.sample(model, plain)
    answers = plain.task.decode(model.shown(asked.scores))
    i = next(i for i, boxes in enumerate(answers) if boxes)
    lone = answers[i].pop()
    k = plain.task.score_names.index(lone["name"])
    with pytest.raises(RunError, match="1 boxes that one alone has"):
        box_parity.check(plain, asked, answers)
    sure = list(plain.detector.confidence)  # type: ignore[union-attr]
    sure[k] = replace(sure[k], threshold=lone["confidence"] - 1e-6)
    strict = replace(plain, detector=replace(plain.detector, confidence=tuple(sure)))  # type: ignore[type-var]
    answers = strict.task.decode(strict.shown(asked.scores))
    answers[i] = [box for box in answers[i] if box != lone]
    assert box_parity.check(strict, asked, answers).n_borderline == 1
    none = tuple(replace(one, threshold=1.1) for one in sure)
    silent = replace(plain, detector=replace(plain.detector, confidence=none))  # type: ignore[type-var]
    with pytest.raises(DataError, match="nothing to compare"):
        box_parity.check(silent, asked, [[]] * len(answers))


def test_a_bundle_says_what_it_needs(model: Model, run: Path, files: list[str], tmp_path: Path) -> None:
    folder = bundle(headstart.load(run), tmp_path / "bundle")
    assert (folder / "requirements.txt").read_text().startswith("headstart[detection]==")
    assert headstart.load(folder).predict(files[:2]) == model.predict(files[:2])


def test_what_is_for_labels_is_refused_or_left_out(model: Model, files: list[str]) -> None:
    item = model.modality.store(files[0], None)
    assert explain.most_similar(model, item) == []
    with pytest.raises(PlanError, match="this model gives boxes"):
        explain.heat_map(model, item, 0)


def test_the_page_shows_the_picture_with_its_boxes(model: Model, files: list[str]) -> None:
    (shown,) = answer.pages(model, files[0])
    (found,) = model.shown(model.predict_proba(files[:1]))
    with Image.open(files[0]) as plain:
        assert answer.as_jpeg(draw(plain, found, model.task.score_names)) in shown
    assert shown.count('<th scope="row">') == len(found)
    assert "96 × 64" in shown
    (problem,) = answer.pages(model, str(Path(files[0]).parent / "test.json"))
    assert "cannot be used" in problem


def test_the_server_answers_with_boxes(model: Model, ready: Path, run: Path, files: list[str]) -> None:
    """Several detectors at once: two heads on one trunk, and a ready-made one with all its candidates."""
    lenient = tuple(replace(one, threshold=0.0) for one in model.detector.confidence)  # type: ignore[union-attr]
    more = headstart.load(run)
    more.detector = replace(more.detector, confidence=lenient)  # type: ignore[type-var]
    made = headstart.load(ready)
    made.detector = replace(made.detector, confidence=())  # type: ignore[type-var]
    models = {"strict": model, "lenient": more, "made": made}
    with TestClient(create_app(models, Settings())) as client:
        for name, one in models.items():
            for file in files[:3]:
                sent = Path(file).read_bytes()
                told = client.post(f"/models/{name}/predict", content=sent, headers={"content-type": "image/png"})
                (said,) = told.json()["predictions"]
                assert (said["width"], said["height"]) == (96, 64)
                same(said["boxes"], one.predict([file])[0])
        together = client.post("/predict", content=sent, headers={"content-type": "image/png"}).json()["models"]
        assert {name: len(one["predictions"][0]["boxes"]) for name, one in together.items()} == {
            name: len(one.predict([file])[0]) for name, one in models.items()
        }
        about = {one["name"]: one for one in client.get("/models").json()["models"]}
        assert about["made"]["task"] == "detection"
        schema = client.get("/openapi.json").json()["components"]["schemas"]
        assert schema["Box"]["required"] == ["name", "x", "y", "width", "height", "confidence"]


def test_a_ready_made_detector_goes_the_whole_way(ready: Path, files: list[str], tmp_path: Path) -> None:
    """Fit (the fixture), predict and export; random weights are sure of nothing, so that every candidate is shown."""
    model = headstart.load(ready)
    assert model.plan.strategy == "partial"
    plain = Sure(threshold=0.0)
    model.detector = replace(model.detector, confidence=(plain, plain))  # type: ignore[type-var]
    assert all(0 < len(boxes) <= 100 for boxes in model.predict(files[:3]))
    found = write_export(model, "onnx", tmp_path / "onnx")
    assert found.parity.n_boxes >= 6  # type: ignore[union-attr]
    assert "one picture at a time" in (found.folder / "README.md").read_text()


def test_a_ready_made_detector_is_a_folder_for_transformers(ready: Path, files: list[str], tmp_path: Path) -> None:
    """Its pipeline gives the network's own scores, and boxes in whole pixels."""
    model = headstart.load(ready)
    model.detector = replace(model.detector, confidence=())  # type: ignore[type-var]
    found = write_export(model, "hf", tmp_path / "hf")
    assert found.parity.n_boxes >= 6  # type: ignore[union-attr]
    assert 'pipeline("object-detection"' in (found.folder / "README.md").read_text()
    with hf.quietly():
        pipeline = transformers.pipeline("object-detection", model=str(found.folder), threshold=0.0)
    expected = model.predict(files[:1])[0]
    for one in pipeline(files[0]):
        (own,) = [box for box in expected if abs(box["confidence"] - one["score"]) < 1e-5]
        assert one["label"] == own["name"]
        assert abs(one["box"]["xmin"] - own["x"]) <= 1
        assert abs(one["box"]["ymax"] - own["y"] - own["height"]) <= 1


def test_a_classical_detector_that_is_better_on_validation_ships(data: Path, tmp_path: Path) -> None:
    """So little training makes no detector; what finds the shapes is kept, comes back, and says what it is."""
    backbone = save_resnet(tmp_path / "resnet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(box_workshop, "SHORTEST", 96)
        patch.setattr(box_workshop, "LONGEST", 96)
        patch.setattr(BoxWorkshop, "recipe", replace(box_workshop.RECIPE, most=2))
        model = headstart.fit(data, backbone=str(backbone), scratch=False, out=tmp_path / "run")
    assert model.plan.ships == "classical"
    assert "so this run ships it" in model.evidence.verdict
    again = headstart.load(tmp_path / "run")
    pictures = sorted(data.glob("*.png"))[-4:]
    assert again.predict([str(one) for one in pictures]) == model.predict([str(one) for one in pictures])
    assert any(model.predict([str(one) for one in pictures]))
    with pytest.raises(PlanError, match="ships the classical detector"):
        write_export(again, "onnx", tmp_path / "onnx")
    with pytest.raises(PlanError, match="ships the classical detector"):
        create_app({"parts": again}, Settings())


def test_the_order_of_the_pictures_does_not_matter(data: Path, tmp_path: Path) -> None:
    """The same pictures and boxes listed the other way round give the same detector."""
    turned, backbone = tmp_path / "turned", save_resnet(tmp_path / "resnet")
    turned.mkdir()
    for file in data.glob("*.json"):
        said = json.loads(file.read_text())
        for name in ("images", "annotations"):
            said[name] = said[name][::-1]
        (turned / file.name).write_text(json.dumps(said))
    for picture_file in data.glob("*.png"):
        shutil.copy(picture_file, turned)
    with small():
        told = [
            headstart.fit(folder, backbone=str(backbone), strategy="frozen", budget=None, scratch=False).detector
            for folder in (data, turned)
        ]
    for name, one in told[0].head.items():
        assert one.equal(told[1].head[name])
    assert told[0].confidence == told[1].confidence
