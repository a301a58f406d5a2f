"""The rules of the house: imports run one way, a file's name is its plug-in's name, the public names are fixed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import headstart
from headstart import registry
from headstart.errors import RegistryError
from headstart.registry import Registry

PACKAGE = Path(headstart.__file__).parent

# from the ground up; a module imports from its own floor's folder and from the floors below
FLOORS = [
    {"errors", "registry", "places", "progress", "__init__"},
    {"data"},
    {"modalities", "backbones"},
    {"tasks", "losses"},
    {"strategies"},
    {"alignments", "forecasters"},
    {"engine"},
    {"hosted"},
    {"evidence"},
    {"tables"},
    {"panels", "problem", "sides", "wishes"},
    {"domains"},
    {"workshop", "items"},
    {"head_workshop"},
    {"box_workshop", "chat_workshop", "forecast_workshop", "speech_workshop"},
    {"decoder_workshop"},
    {"adapt", "weighing"},
    {"across", "adapt_head", "forecast_contest"},
    {"report"},
    {"deploy"},
    {"inductive", "clustering", "series_pretraining"},
    {"chat", "detection", "forecasting", "hosted_chat", "traditional", "transcription", "transductive"},
    {"transfer"},
    {"study"},
    {"downstream"},
    {"pretraining"},
    {"estimators", "table_estimators", "demo", "doctor", "screen", "studio"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def imported_parts(source: str) -> set[str]:
    """First names under `headstart.` that a module imports, except what only the type checker sees."""
    tree = ast.parse(source)
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "headstart":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name if a.name in LEVEL else "__init__" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("headstart.")}
    return found


def wrong_way(part: str, source: str) -> set[str]:
    """What a module of `part` imports from its own level's other parts, or from above."""
    ground = FLOORS[0] if part in FLOORS[0] else set()
    return {name for name in imported_parts(source) if name != part and LEVEL[name] >= LEVEL[part]} - ground


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_module_has_its_floor() -> None:
    assert {part_of(path) for path in PACKAGE.rglob("*.py")} == set(LEVEL)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(path)
    if part == "cli":  # the verbs reach for the public names
        return
    assert not wrong_way(part, path.read_text(encoding="utf-8")), f"{path.name} imports from above its floor"


def test_the_import_rule_catches_a_break() -> None:
    assert wrong_way("data", "from headstart.engine import freeze") == {"engine"}
    assert wrong_way("tasks", "import headstart.cli") == {"cli"}
    assert wrong_way("report", "def f():\n    from headstart.deploy.model import Model") == {"deploy"}
    assert not wrong_way("engine", "from headstart.data.batch import batches\nfrom headstart import places")


AXES = [
    *(registry.MODALITIES, registry.BACKBONES, registry.TASKS, registry.LOSSES, registry.STRATEGIES),
    *(registry.ALIGNMENTS, registry.TABLES, registry.FORECASTERS),
]


@pytest.mark.parametrize("axis", AXES)
def test_every_plugin_is_the_one_class_of_its_file(axis: Registry) -> None:
    assert axis.names()
    for name in axis.names():
        plugin = axis.get(name)
        assert plugin.__module__ == f"headstart.{axis.axis}.{name}"
        assert not getattr(plugin, "__abstractmethods__", None), f"{name} leaves methods out"


def test_the_registry_refuses_a_file_without_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    import headstart.tasks.classification as module

    monkeypatch.delattr(module, "Classification")
    with pytest.raises(RegistryError, match="exactly one public subclass of Task"):
        registry.TASKS.get("classification")


def test_an_unknown_plugin_names_the_nearest() -> None:
    with pytest.raises(RegistryError, match="Did you mean 'regression'"):
        registry.TASKS.get("regresion")


def test_an_outside_package_adds_a_plugin(tmp_path: Path) -> None:
    """An entry point is all it takes; run in a process of its own, so that the package is really found on disk."""
    info = tmp_path / "sonar-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sonar\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[headstart.modalities]\nsonar = sonar:Sonar\n")
    (tmp_path / "sonar.py").write_text(
        "from headstart.modalities.text import Text\n\nclass Sonar(Text):\n    noun = ('ping', 'pings')\n"
    )
    script = "from headstart import registry; print(registry.MODALITIES.names(), registry.modality('sonar').noun)"
    shown = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    ).stdout
    assert "'sonar'" in shown
    assert "pings" in shown


def test_the_public_names_are_fixed() -> None:
    assert headstart.__all__ == [
        "Dataset", "HeadstartError", "Model", "Panel", "PanelReading", "TableTransferClassifier",
        "TableTransferRegressor", "TransferClassifier", "TransferRegressor", "cluster", "fit", "load", "pretrain",
        "read", "read_panel",
    ]  # fmt: skip
    assert all(getattr(headstart, name) for name in headstart.__all__)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom headstart.cli import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'pandas', 'datasets', 'transformers', 'sklearn', 'PIL', 'rich.table', 'fastapi'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
