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
from typing import Any

import numpy as np

HORIZONS = 5  # of past that it is given
TUTORIAL, DEFAULT, AFTERWARDS = 100, 1000, 100  # steps
LEVELS = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)


def contexts(values: np.ndarray, series: np.ndarray, origins: np.ndarray, n: int) -> np.ndarray:
    """(N, n): the last n observed values up to each origin, for it takes no gaps; the first repeated if fewer."""
    out = np.empty((len(series), n))
    for row, (one, origin) in enumerate(zip(series, origins, strict=True)):
        past = values[one, : origin + 1]
        past = past[np.isfinite(past)][-n:]
        out[row] = np.pad(past, (n - len(past), 0), mode="edge")
    return out


def asked(
    python: Path, folder: Path, arrays: dict[str, np.ndarray], horizon: int, season: int, seconds: float
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(seconds, steps and versions; forecasts (N, H, Q) by system) of a process of its own."""
    np.savez(folder / "asked.npz", **arrays)
    settings = {"horizon": horizon, "downsample": [24, 12, 1] if season == 24 else [12, 4, 1], "seconds": seconds}
    (folder / "asked.json").write_text(json.dumps(settings))
    subprocess.run([python, __file__, str(folder)], check=True, capture_output=True, text=True)
    with np.load(folder / "said.npz") as said:
        return json.loads((folder / "said.json").read_text()), dict(said)


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


def transfer(settings: dict[str, Any], steps: int, data: dict[str, Any], folder: Path) -> tuple[dict, dict]:
    """(seconds, forecasts) of one pretraining: as it is, and trained on with the target."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import NHITS

    stacks, horizon = 3, settings["horizon"]
    model = NHITS(
        h=horizon,
        input_size=HORIZONS * horizon,
        max_steps=steps,
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
    pretrained.save(path=str(folder / str(steps)), overwrite=True, save_dataset=False)
    found = {"zero-shot": forecasts(pretrained, data["windows"], horizon)}
    times.append(time.perf_counter())
    again = NeuralForecast.load(path=str(folder / str(steps)))
    for one in again.models:
        one.max_steps = one.trainer_kwargs["max_steps"] = AFTERWARDS
    again.fit(df=data["target"])
    times.append(time.perf_counter())
    found["fine-tuned"] = forecasts(again, data["windows"], horizon)
    times.append(time.perf_counter())
    names = ("pretraining", "zero-shot forecasts", "fine-tuning", "fine-tuned forecasts")
    return dict(zip(names, np.diff(times).round(2).tolist(), strict=True)), found


def main(folder: Path) -> None:
    """All trainings."""
    import logging
    from importlib.metadata import version

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    settings = json.loads((folder / "asked.json").read_text())
    with np.load(folder / "asked.npz") as arrays:
        data = {name: long(one) for name, one in arrays.items()}
    runs, said = {}, {}
    steps = {"tutorial": TUTORIAL, "1,000 steps": DEFAULT}
    for name in ("tutorial", "1,000 steps", "our time"):
        if name == "our time":
            a_step = runs["1,000 steps"]["seconds"]["pretraining"] / DEFAULT
            steps[name] = max(1, round((settings["seconds"] - runs["1,000 steps"]["seconds"]["fine-tuning"]) / a_step))
        seconds, found = transfer(settings, steps[name], data, folder)
        runs[name] = {"steps": steps[name], "steps_afterwards": AFTERWARDS, "seconds": seconds}
        said |= {f"NHITS, {name}, {how}": one for how, one in found.items()}
    np.savez(folder / "said.npz", **said)
    versions = {name: version(name) for name in ("neuralforecast", "torch", "pytorch-lightning", "pandas")}
    (folder / "said.json").write_text(json.dumps({"runs": runs, "settings": settings, "versions": versions}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
