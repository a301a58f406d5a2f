"""Headstart: transfer learning that shows what the transfer was worth.

    import headstart

    model = headstart.fit("reviews.csv")
    print(model.evidence.verdict)
    model.predict(["what a lovely film"])
    model.save("runs/reviews")

Names are imported on first use, so that `import headstart` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.clustering import cluster
    from headstart.data.dataset import Dataset
    from headstart.data.layouts import PanelReading
    from headstart.data.panel import Panel
    from headstart.data.read_panel import read_panel
    from headstart.deploy.model import Model
    from headstart.deploy.restore import load
    from headstart.errors import HeadstartError
    from headstart.estimators import TransferClassifier, TransferRegressor
    from headstart.pretraining import pretrain
    from headstart.problem import read
    from headstart.table_estimators import TableTransferClassifier, TableTransferRegressor
    from headstart.transfer import fit

__version__ = "0.1.0"

_HOME = {
    "Dataset": "headstart.data.dataset",
    "HeadstartError": "headstart.errors",
    "Model": "headstart.deploy.model",
    "Panel": "headstart.data.panel",
    "PanelReading": "headstart.data.layouts",
    "TableTransferClassifier": "headstart.table_estimators",
    "TableTransferRegressor": "headstart.table_estimators",
    "TransferClassifier": "headstart.estimators",
    "TransferRegressor": "headstart.estimators",
    "cluster": "headstart.clustering",
    "fit": "headstart.transfer",
    "load": "headstart.deploy.restore",
    "pretrain": "headstart.pretraining",
    "read": "headstart.problem",
    "read_panel": "headstart.data.read_panel",
}

__all__ = [
    "Dataset",
    "HeadstartError",
    "Model",
    "Panel",
    "PanelReading",
    "TableTransferClassifier",
    "TableTransferRegressor",
    "TransferClassifier",
    "TransferRegressor",
    "cluster",
    "fit",
    "load",
    "pretrain",
    "read",
    "read_panel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
