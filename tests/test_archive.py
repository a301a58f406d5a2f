"""Zips that people make, and zips that are made to do harm."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from headstart.data.archive import unpack
from headstart.errors import DataError


def packed(folder: Path, files: Mapping[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "data.zip"
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_single_top_folder_is_entered_and_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    files = {"cells/good/1.png": b"a", "cells/bad/1.png": b"b", "__MACOSX/cells/good/._1.png": b"x"}
    path = packed(tmp_path, files | {"cells/.DS_Store": b"x", "cells/good/Thumbs.db": b"x"})
    found = unpack(path, tmp_path / "out")
    assert found == tmp_path / "out" / "cells"
    assert names(found) == ["bad/1.png", "good/1.png"]
    assert (found / "bad" / "1.png").read_bytes() == b"b"


def test_several_top_folders_stay(tmp_path: Path) -> None:
    assert names(unpack(packed(tmp_path, {"a/1.txt": b"a", "b/1.txt": b"b"}), tmp_path / "out")) == [
        "a/1.txt",
        "b/1.txt",
    ]


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/etc/evil.txt", "C:/evil.txt", "..\\evil.txt"])
def test_no_path_leads_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="leads out of its folder"):
        unpack(packed(tmp_path, {"a/1.txt": b"a", name: b"evil"}), tmp_path / "out")
    assert not list(tmp_path.rglob("evil*"))


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="holds a link"):
        unpack(path, tmp_path / "out")


def test_too_many_files_and_too_much_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path, {f"a/{i}.txt": b"12345678" for i in range(10)})
    with pytest.raises(DataError, match="at most 9"):
        unpack(path, tmp_path / "out", most_files=9)
    with pytest.raises(DataError, match="would unpack to"):
        unpack(path, tmp_path / "out", most_bytes=79)
    assert len(names(unpack(path, tmp_path / "out", most_files=10, most_bytes=80))) == 10


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than pictures or texts do"):
        unpack(packed(tmp_path, {"zeros.txt": bytes(65 << 20)}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_size_that_is_a_lie_is_found_out(tmp_path: Path) -> None:
    """The table of contents says 4 bytes, the file unpacks to more."""
    path = packed(tmp_path, {"a.txt": bytes(100_000)})
    content = path.read_bytes()
    path.write_bytes(content.replace((100_000).to_bytes(4, "little"), (4).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"larger than its zip says|cannot be unpacked"):
        unpack(path, tmp_path / "out")


def test_damage_and_emptiness_are_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"broken\.zip cannot be unpacked"):
        unpack(broken, tmp_path / "out")
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    (tmp_path / "empty.zip").write_bytes(empty.getvalue())
    with pytest.raises(DataError, match="holds no files"):
        unpack(tmp_path / "empty.zip", tmp_path / "out2")
