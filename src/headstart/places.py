"""Where Headstart keeps what it fetched and computed, and whether it may reach the network."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The cache folder: `$HEADSTART_HOME`, else `~/.cache/headstart`."""
    given = os.environ.get("HEADSTART_HOME")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "headstart"


def weights() -> Path:
    """Pretrained weights, a folder per backbone."""
    return home() / "weights"


def features() -> Path:
    """Outputs of frozen stages, a folder per backbone fingerprint."""
    return home() / "features"


def trials() -> Path:
    """Trainings of fits that are not done yet."""
    return home() / "trials"


def fastest() -> Path:
    """How fast each way to run a backbone is on this machine, a file for each backbone."""
    return home() / "fastest"


def exports() -> Path:
    """Backbones as ONNX Runtime reads them, a folder per backbone fingerprint."""
    return home() / "exports"


def offline() -> bool:
    """True when `HEADSTART_OFFLINE` or `HF_HUB_OFFLINE` says that nothing may reach the network."""
    return any(
        os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}
        for name in ("HEADSTART_OFFLINE", "HF_HUB_OFFLINE")
    )
