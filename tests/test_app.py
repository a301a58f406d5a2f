"""The page of `headstart app`: what it shows, whom it lets in, and that nothing is fetched from elsewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.deploy import answer, app
from headstart.errors import MissingExtraError, PlanError
from tests.conftest import call

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.usefixtures("gradio_loops"),
    pytest.mark.filterwarnings(  # Gradio's own: what it imports, and event loops that it leaves open
        "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]
HERE = "http://127.0.0.1"


def client(server: Any, **how: Any) -> Any:
    from starlette.testclient import TestClient

    return TestClient(server, base_url=HERE, **how)


def test_a_text_is_answered_at_once_and_then_explained(text_run: Path) -> None:
    model = headstart.load(text_run)
    first, second = answer.pages(model, "what a <b>lovely</b> film")
    assert 'class="hs-said">good<' in first
    assert "What drove it" not in first
    assert "&lt;b&gt;lovely&lt;/b&gt;" in second
    assert "<b>" not in second
    assert second.count("<li>") == answer.N_SIMILAR
    probability = model.predict_proba(["what a <b>lovely</b> film"]).max()
    assert f"width: {100 * probability:.1f}%" in second


def test_a_picture_is_answered_with_its_map_and_its_like(image_run: Path, pictures: Path) -> None:
    model = headstart.load(image_run)
    *_, shown = answer.pages(model, str(pictures / "striped" / "00.png"))
    assert 'class="hs-said">striped<' in shown
    assert shown.count("data:image/jpeg;base64,") == 1 + answer.N_SIMILAR
    assert "<strong>striped</strong>" in shown


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "give an image"), ("", "give an image"), ("/nowhere/a.png", "no such file"), ("BROKEN", "not a picture")],
)
def test_what_cannot_be_used_is_one_sentence(image_run: Path, tmp_path: Path, value: str, said: str) -> None:
    if value == "BROKEN":
        (tmp_path / "broken.png").write_bytes(b"no picture")
        value = str(tmp_path / "broken.png")
    (shown,) = answer.pages(headstart.load(image_run), value)
    assert 'class="hs-problem"' in shown
    assert said in shown


def test_examples_whose_files_are_gone_are_not_shown(image_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = headstart.load(image_run)
    asked = answer.ask(model, model.examples.items[0]["path"])  # type: ignore[union-attr]
    gone = {"path": "/gone.png", "bytes": None}
    from headstart.deploy.examples import Neighbour

    monkeypatch.setattr(answer.explain, "most_similar", lambda *_: [Neighbour(gone, "plain", 0.9)])
    assert answer.similar(model, asked) == []


def test_numbers_and_several_labels_are_spoken() -> None:
    assert answer.spoken(12345.678) == "12,346"
    assert answer.spoken(["price", "quality"]) == "price, quality"
    assert answer.spoken([]) == "none of them"


def test_the_page_its_reports_and_their_policy(text_run: Path, image_run: Path) -> None:
    models = {run.name: headstart.load(run) for run in (text_run, image_run)}
    with client(app.mount(app.server(), models)) as browser:
        page = browser.get("/")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        config = browser.get("/config").json()
        shown = " ".join(str(one["props"].get("value", "")) for one in config["components"])
        assert models["reviews"].evidence.verdict.split("(")[0] in shown.replace("&#x27;", "'")
        assert {one["props"].get("label") for one in config["components"] if one["type"] == "tabitem"} == set(models)
        assert browser.get("/report/reviews").text == (text_run / "report.html").read_text(encoding="utf-8")
        assert browser.get("/report/other").status_code == 404
        assert not config.get("analytics_enabled")
        assert not re.findall(r"https?://fonts\.", browser.get("/theme.css").text)


def test_nothing_reaches_the_network(text_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"tried to reach the network: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    app.mount(app.server(), {"reviews": headstart.load(text_run)})


def test_another_site_under_its_own_name_is_refused() -> None:
    with client(app.server()) as browser:
        assert browser.get("/", headers={"host": "evil.example"}).status_code == 400


def test_others_need_the_password(text_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(app.TOKEN, raising=False)
    with pytest.raises(PlanError, match="HEADSTART_TOKEN"):
        app.server("0.0.0.0")
    monkeypatch.setenv(app.TOKEN, "sesame")
    with client(app.mount(app.server("0.0.0.0"), {"reviews": headstart.load(text_run)})) as browser:
        for path in ("/", "/report/reviews", "/config"):
            assert browser.get(path).status_code == 401
            assert browser.get(path, auth=("me", "wrong")).status_code == 401
            assert browser.get(path, auth=("me", "sesame")).status_code == 200
        assert browser.get("/", headers={"authorization": "Bearer sesame"}).status_code == 200
        assert browser.get("/", headers={"authorization": "Basic !!"}).status_code == 401


def test_a_port_that_is_taken_is_said() -> None:
    import socket

    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(PlanError, match="--port"),
    ):
        app.listen(app.server(), "127.0.0.1", taken.getsockname()[1], print)


def test_two_runs_of_one_name_are_refused(text_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("app", text_run, text_run) == 1
    assert "have the same name" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"headstart\[app\]"):
        app.server()


def test_a_modality_without_an_input_is_refused(text_run: Path) -> None:
    from headstart.modalities.text import Text

    class Sonar(Text):
        noun = ("ping", "pings")

    Sonar.__module__ = "headstart.modalities.sonar"
    model = headstart.load(text_run)
    model.modality = Sonar()
    with pytest.raises(PlanError, match="takes pings"):
        app.mount(app.server(), {"pings": model})


def test_the_page_and_the_routes_share_a_server_and_a_password(text_run: Path) -> None:
    from headstart.deploy.serve.app import create_app
    from headstart.deploy.serve.settings import Settings

    models = {"reviews": headstart.load(text_run)}
    server = app.mount(create_app(models, Settings(token="sesame")), models, "/app")
    with client(server) as browser:
        assert browser.get("/app/").status_code == 401
        assert browser.get("/app/", auth=("anyone", "other")).status_code == 401
        assert "Headstart" in browser.get("/app/", auth=("anyone", "sesame")).text
        assert browser.get("/report/reviews", auth=("anyone", "sesame")).status_code == 200
        asked = browser.post("/models/reviews/predict", json={"items": ["a lovely film"]}, auth=("anyone", "sesame"))
        assert asked.json()["predictions"][0]["label"] == "good"
