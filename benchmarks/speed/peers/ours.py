"""Headstart: `fit` answers the test split within the run, and its predictions are read from the run folder.

With `test=False` it is given train and validation only, as the others are before they have saved their model, and
takes its own test split from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.speed.tasks import Case, Learnt
from headstart import fit, read
from headstart.engine import train as _  # noqa: F401  (imports are left out for all)
from headstart.progress import Progress


def learn(case: Case, strategy: str | None = None, test: bool = True) -> Learnt:
    """One `fit` with the defaults, or with one strategy; without the network from scratch, which nobody else trains."""
    progress, data = Progress(), case.data
    if not test:
        data = case.out / "data"
        data.mkdir()
        for split in ("train", "val"):
            shutil.copy(case.data / f"{split}.csv", data)
    model = fit(read(data), strategy=strategy, scratch=False, progress=progress, out=case.out / "run")
    steps = {f"{step.replace(' ', '_')}_s": seconds for step, seconds in progress.seconds.items()}

    def predict(inputs: Sequence[str]) -> np.ndarray:
        if not test:
            return model.predict_proba(list(inputs))[:, 1]
        table = pd.read_parquet(case.out / "run" / "predictions.parquet").set_index("input")
        return table["p(1)"].loc[list(inputs)].to_numpy()

    return Learnt(predict=predict, steps=steps)
