"""The server's routes, limits and errors, in one process; nothing here times anything."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from headstart import registry
from headstart.backbones.base import Backbone
from headstart.cli.serve import named
from headstart.deploy.model import Model
from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.engine import check_name
from headstart.deploy.serve.items import items_of, one_picture, one_sound
from headstart.deploy.serve.problems import MEDIA_TYPE, Problem
from headstart.deploy.serve.server import check_token
from headstart.deploy.serve.settings import Settings
from headstart.errors import PlanError
from tests import serving
from tests.test_backbones import pictures

Client = Callable[..., TestClient]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return serving.backbone("bert", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def models(bert: Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    resnet = serving.backbone("resnet", tmp_path_factory.mktemp("models"))
    return {
        "probe": serving.model(bert),
        "partial": serving.model(bert, changed=2, task="multilabel"),
        "number": serving.model(bert, task="regression"),
        "pictures": serving.model(resnet),
    }


@pytest.fixture
def client(models: dict[str, Model]) -> Iterator[Client]:
    """Starts a server with some settings of its own."""
    started: list[TestClient] = []

    def start(**said: Any) -> TestClient:
        started.append(TestClient(create_app(models, Settings(**said))))
        return started[-1].__enter__()

    yield start
    for one in started:
        one.__exit__(None, None, None)


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The body of an answer that must be a problem of this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    body = answer.json()
    assert {"type", "title", "status", "detail", "instance"} <= set(body)
    assert body["status"] == status
    assert "Traceback" not in answer.text
    return body


def test_a_model_answers_for_each_item(client: Client, models: dict[str, Model]) -> None:
    items = serving.texts(5)
    answer = client().post("/models/probe/predict", json={"items": items})
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    assert [one["label"] for one in found] == models["probe"].predict(items)
    for one, row in zip(found, models["probe"].predict_proba(items), strict=True):
        assert one["confidence"] == max(one["probabilities"].values())
        assert list(one["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-5)


def test_all_models_that_take_such_items_answer(client: Client, models: dict[str, Model]) -> None:
    server, items = client(), serving.texts(3)
    found = server.post("/predict", json={"items": items}).json()["models"]
    assert set(found) == {"probe", "partial", "number"}
    assert [one["labels"] for one in found["partial"]["predictions"]] == models["partial"].predict(items)
    assert [one["value"] for one in found["number"]["predictions"]] == pytest.approx(models["number"].predict(items))
    found = server.post("/predict", json={"items": [encoded(png(pictures()[0]))]}).json()["models"]
    assert set(found) == {"pictures"}


def test_a_picture_may_come_as_it_is(client: Client, models: dict[str, Model]) -> None:
    data = png(pictures()[1])
    server = client()
    raw = server.post("/models/pictures/predict", content=data, headers={"content-type": "image/png"})
    listed = server.post("/models/pictures/predict", json={"items": [encoded(data)]})
    assert raw.status_code == listed.status_code == 200
    assert raw.json() == listed.json()
    assert raw.json()["predictions"][0]["label"] == models["pictures"].predict([data])[0]


def test_models_are_listed(client: Client) -> None:
    found = client().get("/models").json()["models"]
    assert [one["name"] for one in found] == ["probe", "partial", "number", "pictures"]
    assert [one["shared_stages"] for one in found][:2] == [4, 2]
    assert found[3]["modality"] == "image"


def test_health_and_metrics(client: Client) -> None:
    server = client()
    assert server.get("/healthz").json() == server.get("/readyz").json() == {"status": "ok"}
    server.post("/models/probe/predict", json={"items": serving.texts(3)})
    server.get("/nowhere")
    text = server.get("/metrics").text
    assert 'headstart_requests_total{method="POST",route="/models/{name}/predict",status="200"} 1.0' in text
    assert 'headstart_requests_total{method="other",route="other",status="404"} 1.0' in text
    for name in ("request_seconds_bucket", "waiting_items", "batch_items_sum", "items_total", "shed"):
        assert f"headstart_{name}" in text


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("{", 400, "EOF"),
        ('{"items": ["\\ud800"]}', 400, "hex escape"),
        ("[]", 422, "object"),
        ("{}", 422, "required"),
        ('{"items": []}', 422, "at least 1"),
        ('{"items": [1]}', 422, "string"),
        ('{"items": ["a"], "more": 1}', 422, "not permitted"),
        ('{"items": ["a", {"base64": "aaaa"}]}', 422, "valid"),
        ('{"items": ["a cat", "  "]}', 422, "Item 1: empty text"),
    ],
)
def test_bodies_that_are_not_as_they_should_be(client: Client, body: str, status: int, says: str) -> None:
    headers = {"content-type": "application/json"}
    found = problem(client().post("/models/probe/predict", content=body, headers=headers), status)
    assert says in json.dumps(found)
    assert status == 400 or all(one["pointer"].startswith("#/") for one in found["errors"])
    assert "list[" not in json.dumps(found)


def test_other_kinds_of_bodies_are_refused(client: Client) -> None:
    server, url = client(), "/models/probe/predict"
    problem(server.post(url, content="a", headers={"content-type": "text/plain"}), 415)
    problem(server.post(url, content="a"), 415)
    gzip = {"content-type": "application/json", "content-encoding": "gzip"}
    problem(server.post(url, content="a", headers=gzip), 415)
    problem(server.post(url, json={"items": [encoded(png(pictures()[0]))]}), 422)
    problem(server.post("/models/pictures/predict", json={"items": ["a cat"]}), 422)


def test_unknown_routes_models_and_methods(client: Client) -> None:
    server = client()
    assert problem(server.get("/nowhere"), 404)["instance"] == "/nowhere"
    assert "here are: number" in problem(server.post("/models/other/predict", json={"items": ["a"]}), 404)["detail"]
    refused = server.get("/predict")
    problem(refused, 405)
    assert refused.headers["allow"] == "POST"


def test_limits_of_size(client: Client) -> None:
    server = client(body_bytes=2000, items=3, characters=20, pixels=5000)
    url, headers = "/models/probe/predict", {"content-type": "application/json"}
    declared = server.post(url, content=b"x" * 2001, headers=headers)
    problem(declared, 413)
    assert declared.headers["connection"] == "close"
    problem(server.post(url, content=iter([b"x" * 1500, b"x" * 501]), headers=headers), 413)  # no Content-Length
    assert "at most 3" in problem(server.post(url, json={"items": ["a"] * 4}), 422)["errors"][0]["detail"]
    assert problem(server.post(url, json={"items": ["a", "a" * 21]}), 422)["errors"][0]["pointer"] == "#/items/1"
    large = png(Image.new("L", (100, 60)))
    assert "100 × 60 pixels" in problem(server.post("/predict", json={"items": [encoded(large)]}), 422)["detail"]


@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 20_000), (9_000, 9_000)])
def test_a_bomb_is_refused_by_its_header(
    client: Client, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = client()
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    found = problem(server.post("/models/pictures/predict", json={"items": [encoded(bomb(*size))]}), 422)
    assert f"{size[0]:,} × {size[1]:,} pixels" in found["detail"]


def test_pictures_that_cannot_be_read(client: Client) -> None:
    server, good = client(), png(pictures()[0])
    for bad, says in (
        ({"base64": "?"}, "not valid base64"),
        ({"base64": "aGVsbG8"}, "not valid base64"),
        ({"base64": ""}, "empty file"),
        (encoded(b"hello"), "not a picture"),
        (encoded(good[: len(good) // 2]), "truncated or damaged"),
    ):
        found = problem(server.post("/models/pictures/predict", json={"items": [encoded(good), bad]}), 422)
        assert found["errors"][0]["pointer"] == "#/items/1"
        assert f"Item 1: {says}" in found["detail"]


def test_a_full_queue_is_a_503(client: Client) -> None:
    server = client(waiting=2, items=2)
    with serving.held_lanes() as held, ThreadPoolExecutor(2) as pool:
        post = lambda n: server.post("/models/probe/predict", json={"items": serving.texts(n)})  # noqa: E731
        running = pool.submit(post, 1)
        assert held.began.acquire(timeout=30)
        waiting = pool.submit(post, 2)
        engine = server.app.state.engine  # type: ignore[attr-defined]
        while engine.batcher.n_waiting < 2:
            pass
        refused = post(1)
        assert "busy" in problem(refused, 503)["title"]
        assert refused.headers["retry-after"] == "1"
        held.go.set()
        assert running.result().status_code == waiting.result().status_code == 200
    assert 'headstart_shed_total{reason="full"} 1.0' in server.get("/metrics").text


def test_an_answer_that_is_late_is_a_503(client: Client) -> None:
    server = client(answer_s=0.01)
    with serving.held_lanes():
        late = server.post("/models/probe/predict", json={"items": ["a cat"]})
        assert "took too long" in problem(late, 503)["title"]
        assert late.headers["retry-after"] == "1"


def test_a_fault_of_the_server_shows_no_traceback(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    server = client()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.SharedPass, "run", lambda *_: 1 / 0)
        found = problem(server.post("/models/probe/predict", json={"items": ["a cat"]}), 500)
    assert "division" not in json.dumps(found)
    assert "division by zero" in caplog.text


def test_a_token_is_asked_for(client: Client) -> None:
    server = client(token="sesame")
    body, good = {"items": ["a cat"]}, {"authorization": "Bearer sesame"}
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "sesame"}):
        refused = server.post("/models/probe/predict", json=body, headers=headers)
        problem(refused, 401)
        assert refused.headers["www-authenticate"].startswith("Bearer")
    for closed in ("/metrics", "/docs", "/openapi.json", "/models", "/nowhere"):
        problem(server.get(closed), 401)
    assert server.get("/healthz").status_code == server.get("/readyz").status_code == 200
    assert server.post("/models/probe/predict", json=body, headers=good).status_code == 200
    assert server.get("/openapi.json", headers=good).json()["security"] == [{"token": []}]


def test_a_token_is_needed_beyond_this_machine() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        check_token(host, None)
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(PlanError, match="HEADSTART_TOKEN"):
            check_token(host, None)
        check_token(host, "sesame")


def test_a_run_takes_the_place_of_another_while_requests_run(client: Client, bert: Backbone, tmp_path: Path) -> None:
    other = serving.model(bert, seed=5)
    other.save(tmp_path / "runs" / "other")
    server, items = client(allowed=(tmp_path / "runs",)), serving.texts(4)
    before = server.post("/models/probe/predict", json={"items": items}).json()
    stop: list[bool] = []

    def ask() -> list[Any]:
        found = []
        while not stop:
            found.append(server.post("/models/probe/predict", json={"items": items}))
        return found

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        answer = server.put("/models/probe", json={"run": str(tmp_path / "runs" / "other")})
        stop.append(True)
        found = [one for asked in asking for one in asked.result(60)]
    assert answer.status_code == 200, answer.text
    assert {one.status_code for one in found} <= {200}
    after = server.post("/models/probe/predict", json={"items": items}).json()
    assert [one["label"] for one in after["predictions"]] == other.predict(items)
    labels = [[one["label"] for one in answer["predictions"]] for answer in (before, after)]
    assert all([one["label"] for one in answer.json()["predictions"]] in labels for answer in found)


def test_requests_in_flight_end_on_the_model_they_began_with(client: Client, bert: Backbone, tmp_path: Path) -> None:
    serving.model(bert, seed=5).save(tmp_path / "other")
    server, body = client(allowed=(tmp_path,)), {"items": serving.texts(4)}
    before = server.post("/models/probe/predict", json=body).json()
    with serving.held_lanes() as held, ThreadPoolExecutor(2) as pool:
        asked = pool.submit(server.post, "/models/probe/predict", json=body)
        assert held.began.acquire(timeout=30)
        replaced = pool.submit(server.put, "/models/probe", json={"run": str(tmp_path / "other")})
        held.go.set()
        assert replaced.result(60).status_code == 200
        assert asked.result(60).json() == before


def test_what_may_be_loaded(client: Client, bert: Backbone, tmp_path: Path) -> None:
    serving.model(bert).save(tmp_path / "runs" / "one")
    serving.model(bert).save(tmp_path / "elsewhere" / "two")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere" / "two")
    server = client(allowed=(tmp_path / "runs",))
    put = lambda name, run: server.put(f"/models/{name}", json={"run": str(run)})  # noqa: E731
    assert put("new", tmp_path / "runs" / "one").status_code == 201
    assert server.post("/models/new/predict", json={"items": ["a cat"]}).status_code == 200
    for outside in (tmp_path / "elsewhere" / "two", tmp_path / "runs" / "link", tmp_path / "runs/../elsewhere/two"):
        assert "--allow" in problem(put("new", outside), 403)["detail"]
    assert "There is no run" in problem(put("new", tmp_path / "runs" / "none"), 422)["detail"]
    assert "name" in problem(put("a%20b", tmp_path / "runs" / "one"), 422)["detail"]
    problem(server.put("/models/new", json={"path": "x"}), 422)


def test_runs_are_served_under_the_names_of_their_folders(tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert named(["runs/my reviews", "two=runs/x", str(odd)]) == {
        "my-reviews": Path("runs/my reviews"),
        "two": Path("runs/x"),
        "a-b": odd,
    }
    with pytest.raises(PlanError, match="x-2=other/x"):
        named(["runs/x", "other/x"])


def test_names_are_parts_of_urls() -> None:
    for good in ("a", "reviews-2", "A.b_c"):
        check_name(good)
    for bad in ("", "a b", "a/b", ".hidden", "ä", "a" * 65):
        with pytest.raises(PlanError, match="cannot be a model's name"):
            check_name(bad)


def test_a_stopped_server_is_not_ready(client: Client) -> None:
    server = client()
    engine: Any = server.app.state.engine  # type: ignore[attr-defined]
    engine.close()
    problem(server.get("/readyz"), 503)
    problem(server.post("/models/probe/predict", json={"items": ["a cat"]}), 503)


def test_sounds_are_told_from_pictures_and_bounded() -> None:
    audio = registry.modality("audio")
    tone = audio.store(audio.example(), None)["bytes"]
    body = json.dumps({"items": [encoded(tone), encoded(tone)]}).encode()
    modality, found = items_of(body, Settings())
    assert (modality, [item.stored["bytes"] for item in found]) == ("audio", [tone, tone])
    assert one_sound(tone, Settings()) == ("audio", found[:1])
    assert one_picture(png(pictures()[0]), Settings())[0] == "image"
    for items, settings, says in (
        ([tone, png(pictures()[0])], Settings(), "Item 1: not a sound but a PNG picture"),
        ([tone], Settings(seconds=0.5), "Item 0: 1 s, and the sounds of a request may last 0 s"),
        ([tone[:20]], Settings(), "Item 0: not a sound"),
    ):
        with pytest.raises(Problem, match=says):
            items_of(json.dumps({"items": list(map(encoded, items))}).encode(), settings)
