"""What this machine has, and what stands in the way: `headstart doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from headstart import __version__, places
from headstart.backbones import catalog

EXTRAS = {
    "text": ("transformers",),
    "image": ("PIL", "skimage", "transformers"),
    "audio": ("soundfile", "soxr", "jiwer", "transformers"),
    "detection": ("PIL", "skimage", "pycocotools"),
    "forecasting": ("statsforecast", "transformers"),
    "lora": ("peft",),
    "align": ("skada", "ot"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "app": ("gradio", "fastapi", "uvicorn"),
}


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    name: str
    ok: bool
    found: str
    advice: str = ""  # what to do when it is not ok


def examine_machine() -> list[Check]:
    """Every check, in the order in which things are needed."""
    return [
        Check("headstart", True, f"{__version__} on Python {platform.python_version()}, {platform.platform()}"),
        _torch(),
        *(_extra(name, modules) for name, modules in EXTRAS.items()),
        Check("cores", True, f"{os.cpu_count()}"),
        _writable("cache", places.home()),
        *_backbones(),
        Check("network", True, "not to be used (offline is set)" if places.offline() else "used only to fetch weights"),
    ]


def _torch() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("torch", False, str(error), "pip install 'torch>=2.6,<2.14'")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return Check("torch", True, f"{version('torch')}, {device}, {torch.get_num_threads()} threads")


def _extra(name: str, modules: tuple[str, ...]) -> Check:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        return Check(f"extra {name}", False, f"missing: {', '.join(missing)}", f"pip install 'headstart[{name}]'")
    return Check(f"extra {name}", True, ", ".join(_with_version(module) for module in modules))


def _with_version(module: str) -> str:
    try:
        return f"{module} {version({'PIL': 'pillow', 'skimage': 'scikit-image'}.get(module, module))}"
    except PackageNotFoundError:
        return module


def _writable(name: str, folder: Path) -> Check:
    existing = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {_bytes_in(folder) / 1e6:,.0f} MB used, {free / 1e9:,.1f} GB free"
    if not os.access(existing, os.W_OK):
        return Check(name, False, f"{found}, not writable", "set HEADSTART_HOME to a folder that can be written to")
    if free < 1e9:
        return Check(name, False, found, "make room, or set HEADSTART_HOME to a folder on a larger disk")
    return Check(name, True, f"{found}; it may be deleted at any time")


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _there(row: dict[str, Any]) -> bool:
    return Path(row["where"]).exists()


def _advice(row: dict[str, Any]) -> str:
    return "" if _there(row) else f"fetched on first use, or by: headstart models pull {row['name']}"


def _backbones() -> list[Check]:
    return [
        Check(f"backbone {row['name']}", _there(row) or not places.offline(), row["where"], _advice(row))
        for row in catalog.listing()
    ]
