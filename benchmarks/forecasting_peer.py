"""NHITS by its own recipe of transfer (neuralforecast, tutorial "Transfer Learning"), run by a Python that has it.

    python benchmarks/forecasting_peer.py FOLDER     reads asked.npz and asked.json there; writes said.npz and said.json

Its settings are the tutorial's: 3 stacks of identity blocks, two layers of 256, a batch of 32, the scaler "standard",
input of 5 horizons, n_freq_downsample [12, 4, 1] (hourly data: [24, 12, 1], from its other tutorials). neuralforecast
forecasts from the end of a series, so that each tested window is given as a series of its own, with 5 horizons of past.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HORIZONS = 5  # of past that it is given
STEPS = {"tutorial": 100, "default": 1000}  # of pretraining
AFTERWARDS = 100  # steps on the target
LEVELS = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)


class Trained(NamedTuple):
    """One pretraining."""

    told: dict[str, Any]  # steps, seconds, versions
    said: dict[str, np.ndarray]  # "zero-shot", "fine-tuned" -> (N, H, Q)


def contexts(values: np.ndarray, series: np.ndarray, origins: np.ndarray, n: int) -> np.ndarray:
    """(N, n): the last n observed values up to each origin, for it takes no gaps; the first repeated if fewer."""
    out = np.empty((len(series), n))
    for row, (one, origin) in enumerate(zip(series, origins, strict=True)):
        past = values[one, : origin + 1]
        past = past[np.isfinite(past)][-n:]
        out[row] = np.pad(past, (n - len(past), 0), mode="edge")
    return out


def asked(python: Path, folder: Path, arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Trained:
    """What a process of its own says, pretrained for `settings["steps"]`; kept in `folder`, and not asked twice."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "said.json").exists():
        np.savez(folder / "asked.npz", **arrays)
        (folder / "asked.json").write_text(json.dumps(settings))
        subprocess.run([python, __file__, str(folder)], check=True, capture_output=True, text=True)
    with np.load(folder / "said.npz") as said:
        return Trained(json.loads((folder / "said.json").read_text()), dict(said))


def long(values: np.ndarray) -> Any:
    """Series (S, T), NaN where missing, as neuralforecast takes them: what is missing is left out."""
    import pandas as pd

    parts = []
    for row, one in enumerate(values):
        seen = one[np.isfinite(one)]
        parts.append(pd.DataFrame({"unique_id": row, "ds": np.arange(len(seen)), "y": seen}))
    return pd.concat(parts, ignore_index=True)


def forecasts(fitted: Any, windows: Any, horizon: int) -> np.ndarray:
    """(N, H, Q)."""
    table = fitted.predict(df=windows).sort_values(["unique_id", "ds"])
    columns = [name for name in table.columns if name not in ("unique_id", "ds")]
    return table[columns].to_numpy(float).reshape(-1, horizon, len(LEVELS))


def transfer(settings: dict[str, Any], data: dict[str, Any], folder: Path) -> tuple[dict, dict]:
    """(seconds, forecasts) of one pretraining: as it is, and trained on with the target."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import NHITS

    stacks, horizon = 3, settings["horizon"]
    model = NHITS(
        h=horizon,
        input_size=HORIZONS * horizon,
        max_steps=settings["steps"],
        stack_types=stacks * ["identity"],
        n_blocks=stacks * [1],
        mlp_units=[[256, 256] for _ in range(stacks)],
        n_pool_kernel_size=stacks * [1],
        n_freq_downsample=settings["downsample"],
        batch_size=32,
        scaler_type="standard",
        loss=MQLoss(quantiles=list(LEVELS)),
        random_seed=1,
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
    )
    times = [time.perf_counter()]
    pretrained = NeuralForecast(models=[model], freq=1)
    pretrained.fit(df=data["source"])
    times.append(time.perf_counter())
    pretrained.save(path=str(folder / "network"), overwrite=True, save_dataset=False)
    found = {"zero-shot": forecasts(pretrained, data["windows"], horizon)}
    times.append(time.perf_counter())
    again = NeuralForecast.load(path=str(folder / "network"))
    for one in again.models:
        one.max_steps = one.trainer_kwargs["max_steps"] = AFTERWARDS
    again.fit(df=data["target"])
    times.append(time.perf_counter())
    found["fine-tuned"] = forecasts(again, data["windows"], horizon)
    times.append(time.perf_counter())
    names = ("pretraining", "zero-shot forecasts", "fine-tuning", "fine-tuned forecasts")
    return dict(zip(names, np.diff(times).round(2).tolist(), strict=True)), found


def main(folder: Path) -> None:
    """One pretraining, and what is said then."""
    import logging
    import os
    from importlib.metadata import version

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    settings, load = json.loads((folder / "asked.json").read_text()), os.getloadavg()[0]
    with np.load(folder / "asked.npz") as arrays:
        data = {name: long(one) for name, one in arrays.items()}
    before = time.process_time()
    seconds, found = transfer(settings, data, folder)
    seconds["of a core, in all"] = round(time.process_time() - before, 2)
    np.savez(folder / "said.npz", **found)
    versions = {name: version(name) for name in ("neuralforecast", "torch", "pytorch-lightning", "pandas")}
    told = {**settings, "steps_afterwards": AFTERWARDS, "seconds": seconds, "load_before": load, "versions": versions}
    (folder / "said.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
