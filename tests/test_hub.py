"""What goes to the hub, what does not, and how a run comes back from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

import headstart
from headstart.deploy import hub
from headstart.errors import PlanError, RunError
from tests.conftest import GOOD, THINGS


class FakeHub:
    """Keeps what it is sent."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.private = folder, False

    def create_repo(self, name: str, private: bool, exist_ok: bool) -> None:
        self.private = private

    def create_commit(self, name: str, operations: list[Any], commit_message: str) -> Any:
        self.folder.mkdir()
        for one in operations:
            (self.folder / one.path_in_repo).write_bytes(one.path_or_fileobj)
        return SimpleNamespace(repo_url=f"https://huggingface.co/{name}")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: Any) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(fake.folder))
    return fake


def test_a_run_goes_and_comes_back(text_run: Path, there: FakeHub) -> None:
    model = headstart.load(text_run)
    assert hub.push(model, "clinic/triage") == "https://huggingface.co/clinic/triage"
    assert there.private
    back = headstart.load("clinic/triage")
    assert back.predict(["what a lovely film"]) == model.predict(["what a lovely film"])
    assert back.evidence.verdict == model.evidence.verdict
    assert 'headstart.load("clinic/triage")' in (there.folder / "README.md").read_text()


def test_no_example_leaves(text_run: Path, there: FakeHub) -> None:
    hub.push(headstart.load(text_run), "clinic/triage")
    sent = b"".join(path.read_bytes() for path in there.folder.iterdir()).decode(errors="replace")
    assert not any(f"what a {word} {thing}" in sent for word in GOOD for thing in THINGS)
    assert {path.name for path in there.folder.iterdir()}.isdisjoint(hub.KEPT_BACK)
    assert "findings" not in json.loads((there.folder / "metrics.json").read_text())


def test_a_hub_that_refuses_leaves_a_message(text_run: Path, there: FakeHub, monkeypatch: Any) -> None:
    monkeypatch.setattr(there, "create_repo", lambda *_, **__: (_ for _ in ()).throw(OSError("403: no write access")))
    with pytest.raises(RunError, match=r"403: no write access. Check the network; sign in with `hf auth login`"):
        hub.push(headstart.load(text_run), "clinic/triage")


def test_wrong_names_and_no_network_are_said(text_run: Path, monkeypatch: Any) -> None:
    model = headstart.load(text_run)
    with pytest.raises(PlanError, match="ORG/NAME"):
        hub.push(model, "triage")
    with pytest.raises(PlanError, match="not saved"):
        hub.push(replace(model, run=None), "clinic/triage")
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(PlanError, match="HEADSTART_OFFLINE"):
        hub.push(model, "clinic/triage")
    with pytest.raises(RunError, match="no run of that name on the hub"):
        headstart.load("clinic/no-such-run-anywhere")


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the network was reached"))
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunError, match="There is no run at"):
        headstart.load("runs/reviews")
