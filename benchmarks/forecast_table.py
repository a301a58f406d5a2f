"""What a run says of every system that forecast its test, and systems of the benchmark's own on the same windows.

A system's row: each metric, the coverage of both bands, and the Diebold-Mariano test by MASE. `against` is who was
tested against it: the adapted network where the run tells of the test, else what the run ships. HAR is the
heterogeneous autoregression of Corsi 2009 (doi:10.1093/jjfinec/nbp001): least squares of the value h steps ahead on
the means of the last 1, 5 and 22 values; its quantiles add those of its residuals where it learnt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from headstart.data.outlook import Outlook, Windows
from headstart.engine.forecaster import Forecaster
from headstart.evidence.bands import Bands, Seen
from headstart.evidence.blocks import BlockScales, layout
from headstart.evidence.diebold_mariano import diebold_mariano
from headstart.evidence.intervals import compare, score
from headstart.evidence.weigh import MODEL
from headstart.progress import Progress
from headstart.tasks.forecasting import LEVELS, MIDDLE, Forecasting, coverage, outcomes
from headstart.workshop import load_backbone

SHIPPED, NETWORK = "shipped", "network"
TOGETHER = "all four"  # emerging indices as one panel
WIDE = 400  # steps that the wide search for an ARIMA looks at
MEANS = (1, 5, 22)  # a day, a week, a month

Row = dict[str, Any]


def told(folder: Path) -> Row:
    """What is kept of a run folder: the verdict, and a row for each system."""
    run = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    forecasts, network = run["forecasts"], run["forecasts"]["systems"][0]["name"]
    ships_classical = network != MODEL
    names = {network: NETWORK} | ({MODEL: forecasts["rival"]} if ships_classical else {})
    scores = {MODEL: run["metrics"], **run["baselines"]}
    rows = {}
    for one in forecasts["systems"]:
        shares = {f"coverage_{band}": found["share"] for band, found in one["bands"].items()}
        widths = {f"width_{band}": found["width"] for band, found in one["bands"].items()}
        row = {**scores[one["name"]], **shares, **widths}
        if one["test"] is not None:
            row |= {"dm": one["test"], "against": NETWORK}
        if one["name"] in run["differences"]:
            row["shipped_minus_it"] = run["differences"][one["name"]]["mase"]
        rows[names.get(one["name"], one["name"])] = row
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    return {
        "verdict": run["verdict"],
        "paid": run["paid"],
        "ships": forecasts["rival"] if ships_classical else NETWORK,
        "network": network if ships_classical else f"{run['strategy']}, cut {run['cut']}",
        "rival": forecasts["rival"],
        "candidates": [
            {key: one[key] for key in ("title", "score", "seconds", "outcome")} for one in plan["candidates"]
        ],
        "n": run["n"],
        "n_series": forecasts["n_series"],
        "n_origins": forecasts["n_origins"],
        "units": f"{forecasts['n_units']} {forecasts['unit']}",
        "splits": forecasts["splits"],
        "fallbacks": forecasts["fallbacks"],
        "findings": [one["text"] for one in run["findings"]],
        "notes": run["data"]["notes"],
        "seconds": run["seconds"],
        "compute_s": round(sum(run["seconds"].values()), 1),
        "versions": run["versions"],
        "systems": rows,
    }


def summed_up(cells: Mapping[str, Row]) -> dict[str, Any]:
    """Cells by group (their paths without the target): each system's means over the targets, and tests that it lost.

    Means over targets have t-intervals over these; "lost" and "won" count targets where `against` was better or worse
    by the Diebold-Mariano test at 5 %.
    """
    groups: dict[str, list[Row]] = {}
    for path, cell in cells.items():
        kind, *rest = path.split("/")
        if kind in ("markets", "exchange") and TOGETHER not in rest:
            group = f"markets/{rest[0]}/{rest[2]}" if kind == "markets" else kind
            shipped = {SHIPPED: cell["systems"][cell["ships"]]}
            groups.setdefault(group, []).append({**cell, "systems": shipped | cell["systems"]})
    return {group: {"n_targets": len(each), "systems": _means(each)} for group, each in groups.items()}


def _means(cells: Sequence[Row]) -> dict[str, Row]:
    found = {}
    for name in cells[0]["systems"]:
        rows = [cell["systems"][name] for cell in cells if name in cell["systems"]]
        tests = [row["dm"] for row in rows if row.get("dm") and row["dm"]["p"] is not None]
        keys = ("mase", "wql", "smape", "direction", "coverage_80", "coverage_95")
        means = {key: _mean([row[key]["value"] for row in rows]) for key in keys if all(row.get(key) for row in rows)}
        lost = sum(one["p"] < 0.05 and one["statistic"] < 0 for one in tests)
        won = sum(one["p"] < 0.05 and one["statistic"] > 0 for one in tests)
        found[name] = {**means, "lost": lost, "won": won, "tested": len(tests)}
    return found


def _mean(values: Sequence[float]) -> Row:
    """Mean with its 95 % t-interval."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"value": mean, "low": None, "high": None}
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return {"value": mean, "low": mean - half, "high": mean + half}


@dataclass(frozen=True)
class Said:
    """What a system says, (N, H, Q) each. Without its forecasts of validation its bands stay as they are."""

    test: np.ndarray
    val: np.ndarray | None = None


def measured(folder: Path, outlook: Outlook, task: Forecasting, said: Mapping[str, Said]) -> dict[str, Row]:
    """Rows of other systems on the windows that the run was tested on, tested against what the run ships."""
    windows = outlook.windows("test")
    y, found = outlook.truth(windows), layout(windows.series, windows.origins, outlook.horizon)
    scales = BlockScales(metrics=task.metrics(), seed=0, layout=found)
    weights, mase = scales.resamples(len(y)), task.metrics()[0]
    metrics = [*task.metrics(), coverage("80"), coverage("95")]
    shipped = shipped_medians(folder, y)
    own_losses = task.window_losses("mase", y, shipped)
    rows = {}
    for name, one in said.items():
        forecasts = task.proper(_corrected(outlook, one))
        scores = score(metrics, y, forecasts, weights, found.n_units)
        _, gaps = compare([mase], y, {SHIPPED: shipped, name: forecasts}, SHIPPED, weights, found.n_units)
        same = np.allclose(forecasts[..., MIDDLE], shipped[..., MIDDLE], rtol=1e-4)  # but for how numbers are rounded
        losses = own_losses if same else task.window_losses("mase", y, forecasts)
        test = diebold_mariano(own_losses, losses, found)
        rows[name] = {
            **{key: asdict(value) for key, value in scores.items()},
            "dm": test.to_json(),
            "against": SHIPPED,
            "shipped_minus_it": asdict(gaps[name]["mase"]),
        }
    return rows


def shipped_medians(folder: Path, y: np.ndarray) -> np.ndarray:
    """(N, H, Q): the shipped model's medians at every level; the run must have been tested on these outcomes."""
    table = pd.read_parquet(folder / "predictions.parquet")
    shape = (len(y), y.shape[1] - 2)
    tested = table["outcome"].to_numpy().reshape(shape)
    assert np.allclose(tested, outcomes(y), equal_nan=True), f"{folder} was tested on other outcomes"
    medians = table["forecast"].to_numpy().reshape(shape)
    return np.repeat(medians[..., None], len(LEVELS), axis=-1)


def _corrected(outlook: Outlook, said: Said) -> np.ndarray:
    """Its forecasts of the test, their bands corrected as those of every system of a run are."""
    if said.val is None:
        return said.test
    val, test = outlook.windows("val"), outlook.windows("test")
    bands = Bands.fit(_seen(outlook, val, said.val))
    return bands.corrected(said.test, test.series, test.origins, _seen(outlook, test, said.test))


def _seen(outlook: Outlook, windows: Windows, forecasts: np.ndarray) -> Seen:
    truth = outcomes(outlook.truth(windows))
    return Seen(forecasts=forecasts, outcomes=truth, series=windows.series, origins=windows.origins)


def zero_shot(backbone: Path, outlook: Outlook, task: Forecasting) -> Said:
    """A network as it was pretrained on the source."""
    from headstart import registry

    progress = Progress()
    network: Any = load_backbone(str(backbone), registry.modality("series"), progress)
    own = Forecaster(outlooks=network.own_outlooks, head=dict(network.own.state_dict()))

    def forecasts(split: str) -> np.ndarray:
        windows = outlook.windows(split)
        return task.proper(own.forecasts(network, outlook.panel, windows, outlook.horizon, progress.bar))

    return Said(forecasts("test"), forecasts("val"))


def wide_arima(outlook: Outlook) -> Said:
    """statsforecast's AutoARIMA with its own orders on the last WIDE steps, which takes longer than ours and is better.

    Bands are its own. For one origin a series.
    """
    from statsforecast.models import AutoARIMA

    found, windows = [], outlook.windows("test")
    normal = NormalDist()
    for series, origin in zip(windows.series, windows.origins, strict=True):
        past = outlook.panel.values[series, : origin + 1]
        model = AutoARIMA(season_length=outlook.panel.season, approximation=True)
        said = model.forecast(past[np.isfinite(past)][-WIDE:], outlook.horizon, level=[95])
        deviation = (np.asarray(said["hi-95"]) - np.asarray(said["mean"])) / normal.inv_cdf(0.975)
        mean = np.asarray(said["mean"], dtype=np.float64)
        found.append(mean[:, None] + deviation[:, None] * np.array([normal.inv_cdf(one) for one in LEVELS]))
    return Said(np.stack(found))


@dataclass(frozen=True)
class Har:
    """Coefficients (H, 4) in units of the mean, and quantiles (H, Q) of the residuals."""

    coefficients: np.ndarray
    residuals: np.ndarray

    @classmethod
    def fit(cls, series: Sequence[np.ndarray], horizon: int) -> Har:
        """Of several series (T_s,) together, each in units of its own mean."""
        scaled = [values / np.nanmean(values) for values in series]
        inputs = [_inputs(values) for values in scaled]
        coefficients, residuals = [], []
        for ahead in range(1, horizon + 1):
            X = np.concatenate([one[MEANS[-1] - 1 : -ahead] for one in inputs])
            y = np.concatenate([values[MEANS[-1] - 1 + ahead :] for values in scaled])
            kept = np.isfinite(X).all(1) & np.isfinite(y)
            solved = np.linalg.lstsq(X[kept], y[kept], rcond=None)[0]
            coefficients.append(solved)
            residuals.append(np.quantile(y[kept] - X[kept] @ solved, LEVELS))
        return cls(np.stack(coefficients), np.stack(residuals))

    def forecasts(self, outlook: Outlook, windows: Windows, until: int) -> np.ndarray:
        """(N, H, Q), each series in units of its mean before step `until`."""
        values = outlook.panel.values
        units = np.nanmean(values[:, :until], axis=1)
        inputs = np.stack([_inputs(one / unit) for one, unit in zip(values, units, strict=True)])
        means = inputs[windows.series, windows.origins] @ self.coefficients.T
        return np.maximum((means[..., None] + self.residuals) * units[windows.series, None, None], 0)


def _inputs(values: np.ndarray) -> np.ndarray:
    """(T, 4): one, and the means of the last observed values up to each step."""
    observed = pd.Series(values).dropna()
    means = pd.DataFrame({n: observed.rolling(n, min_periods=1).mean() for n in MEANS})
    carried = means.reindex(np.arange(len(values))).ffill().to_numpy()
    return np.column_stack([np.ones(len(values)), carried])


def har_of_history(outlook: Outlook) -> Said:
    """HAR learnt on the target's own history, as the classical forecasters are."""

    def forecasts(split: str, until: int) -> np.ndarray:
        windows, past = outlook.windows(split), outlook.panel.values[:, :until]
        rows = [Har.fit([one], outlook.horizon).forecasts(outlook, windows, until) for one in past]
        return np.stack(rows)[windows.series, np.arange(len(windows))]

    return Said(forecasts("test", outlook.test_from), forecasts("val", outlook.val_from))


def har_of_source(source: np.ndarray, outlook: Outlook) -> Said:
    """HAR learnt on the source (S, T); the target's history only says in what unit it is."""
    found = Har.fit(list(source), outlook.horizon)
    return Said(
        found.forecasts(outlook, outlook.windows("test"), outlook.test_from),
        found.forecasts(outlook, outlook.windows("val"), outlook.val_from),
    )
