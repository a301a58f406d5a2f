"""One run in this process: `python -m benchmarks.speed.run TASK SYSTEM DATA`; its answer is the last line."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.speed.systems import SYSTEMS, System
from benchmarks.speed.tasks import Case, Rows
from headstart import places

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "sentence-transformers",
    "setfit",
    "accelerate",
    "fastai",
    "autogluon.multimodal",
    "onnxruntime",
)


def run(system: System, case: Case) -> dict[str, Any]:
    """What the system measured or reached, and what it ran on."""
    module = importlib.import_module(f"benchmarks.speed.{system.module}")  # with all its imports, before the clock
    if system.module == "machine":
        answer = module.measure(**system.settings)
    elif hasattr(module, "measure"):
        answer = module.measure(case, **system.settings)
    else:
        answer = timed(module, case, system.settings)
    import torch

    versions = {name: version(name) for name in PACKAGES if name.replace("-", "_") in sys.modules}
    return {**answer, "threads": torch.get_num_threads(), "versions": versions}


def timed(module: Any, case: Case, settings: dict[str, Any]) -> dict[str, float]:
    """Seconds from reading the training data to the saved model, and to the answers on test; how good they are."""
    from sklearn.metrics import roc_auc_score

    start = time.perf_counter()
    learnt = module.learn(case, **settings)
    saved = time.perf_counter() - start
    test: Rows = case.read("test")
    probabilities = learnt.predict(test.inputs)
    seconds = time.perf_counter() - start
    right = [(p > 0.5) == bool(label) for p, label in zip(probabilities, test.labels, strict=True)]
    return {
        "seconds": seconds,
        "saved_s": saved,
        "accuracy": 100 * sum(right) / len(right),
        "roc_auc": float(roc_auc_score(test.labels, probabilities)),
        **learnt.steps,
    }


def main() -> None:
    """Run, and print the answer."""
    task, name, data = sys.argv[1:]
    with tempfile.TemporaryDirectory() as out:
        case = Case(data=Path(data), weights=places.weights(), out=Path(out))
        print(json.dumps(run(SYSTEMS[task][name], case)), flush=True)


if __name__ == "__main__":
    main()
