"""Items that are files: how a picture or a sound is kept, read, and told from what it claims to be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, TypedDict

_FTYP = {b"M4A ": "an M4A sound (AAC)", b"M4B ": "an M4B sound (AAC)", b"qt  ": "a QuickTime video"}
_FTYP |= dict.fromkeys((b"avif", b"avis"), "an AVIF picture")
_FTYP |= dict.fromkeys((b"heic", b"heix", b"mif1"), "a HEIC picture")
_RIFF = {b"WEBP": "a WebP picture", b"AVI ": "an AVI video"}
_STARTS = (  # first bytes -> what it is
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"FLV", "a Flash video"),
    (b"0&\xb2u", "a WMA sound or WMV video"),
    (b"#!AMR", "an AMR sound"),
    (b"\xff\xf1", "an AAC sound"),
    (b"\xff\xf9", "an AAC sound"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a pointer that Git LFS left in place of the file (run `git lfs pull`)"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
)
_SOUNDS = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"riff")


class Stored(TypedDict):
    """Either may be None; the bytes win where both are there."""

    path: str | None
    bytes: bytes | None  # an encoded file


def missing(value: Any) -> bool:
    """None, NaN, or an empty string."""
    return value is None or (isinstance(value, float) and value != value) or (isinstance(value, str) and not value)


def stored(value: Any, folder: str | None) -> Stored | None:
    """A missing value, a file name (relative to `folder`), encoded bytes, or such a struct; None for all else."""
    if missing(value):
        return {"path": None, "bytes": None}
    if isinstance(value, (str, PurePath)):
        return {"path": str(Path(folder, value) if folder else value), "bytes": None}
    if isinstance(value, (bytes, bytearray)):
        return {"path": None, "bytes": bytes(value)}
    if isinstance(value, dict) and set(value) <= {"path", "bytes"}:
        if value.get("bytes") is None:
            return stored(value.get("path"), folder)
        return {"path": value.get("path"), "bytes": value["bytes"]}
    return None


def arrow_feature() -> Any:
    """The `datasets` feature of what is stored: a struct of path and bytes."""
    from datasets import Value

    return {"path": Value("string"), "bytes": Value("binary")}


def file_of(item: Any) -> bytes | Path:
    """The bytes of a stored item, or the path of its file. ValueError when it has neither, or the file is none."""
    data, name = (item.get("bytes"), item.get("path")) if isinstance(item, Mapping) else (None, None)
    if isinstance(data, bytes):
        return data
    if not isinstance(name, str) or not name:
        raise ValueError("no file given")
    path = Path(name)
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise ValueError("a folder, not a file" if path.is_dir() else "not a file")
    return path


def bytes_of(item: Any) -> bytes:
    """The encoded file of a stored item. OSError or ValueError when there is none."""
    file = file_of(item)
    return file if isinstance(file, bytes) else file.read_bytes()


def no_file(error: Exception) -> str:
    """What an error of `file_of`, or of opening what it gives, means for people."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    return str(error)


def is_sound(value: Any) -> bool:
    """Whether a stored struct holds the bytes of a sound, by the first of them."""
    data = value.get("bytes") if isinstance(value, Mapping) else None
    return isinstance(data, bytes) and sounds(data[:16])


def sounds(start: bytes) -> bool:
    """Whether a file that starts with these 16 bytes can be a sound that is read here."""
    if start[:4] in (b"RIFF", b"RF64", b"FORM"):
        return start[8:12] in (b"WAVE", b"AIFF", b"AIFC")
    is_mp3 = (
        len(start) > 1 and start[0] == 0xFF and start[1] & 0xE6 == 0xE2
    )  # layer III: eleven ones, then 01 after two
    return start.startswith(_SOUNDS) or is_mp3


def kind_of(start: bytes) -> str:
    """ "a PNG picture", "an MP4 video" … by the first 512 bytes of a file; "" where they tell nothing."""
    if start[4:8] == b"ftyp":
        return _FTYP.get(start[8:12], "an MP4 video")
    if start[:4] == b"RIFF":
        return _RIFF.get(start[8:12], "")
    lower = start.lstrip().lower()
    for first, kind in _STARTS:
        if start.startswith(first) or lower.startswith(first):
            return kind
    return "a text" if start and not set(start) & _CONTROL else ""


_CONTROL = frozenset(range(32)) - set(b"\t\n\r\f")
