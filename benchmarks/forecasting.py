"""Forecasts from one market to another, on M4 hourly and exchange rates; beside NHITS; and leaks that must be found.

    python -m benchmarks.forecasting [markets m4 exchange neuralforecast leaks] [--only WORD …] [--peer PYTHON]

Reads ../shared/data; adds to benchmarks/results/forecasting.json, and skips what that holds already. `--only` keeps the
cells whose path has each word ("markets/returns/SSE/60"). Every fit is `headstart.fit(panel, horizon=…, source=…,
test_steps=…)`; runs are kept in HEADSTART_HOME/benchmarks, and a network that was pretrained on a source serves all
that have the same one.

markets: developed indices from 1990 (qrmdata) and 2015 on, until 26 September 2018, so that one network serves all
targets; each emerging index with the 60, 120 and 250 trading days before 2019, tested on all days from then on.
m4: 314 series teach by their train part; 100 others are the target, their test the official one. MASE is ours, whose
scale leaves out what choices are made on; sMAPE is M4's.
exchange: seven currencies' first 60 % teach, the eighth is tested on its last 20 %.
neuralforecast: NHITS as its tutorial of transfer learning has it (max_steps 100), with its default of 1,000 steps, and
with as many as take the time that ours took; pretrained on the same source, then as it is and trained on for 100 steps
on the target up to the test. Its loss is MQLoss at our levels; its bands stay as it gives them.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import headstart
from benchmarks import forecasting_checks, forecasting_peer
from benchmarks.fit import ROOT, SHARED
from benchmarks.forecast_table import (
    TOGETHER,
    Row,
    Said,
    har_of_history,
    har_of_source,
    measured,
    summed_up,
    told,
    wide_arima,
    zero_shot,
)
from headstart import PanelReading, places
from headstart.backbones import catalog
from headstart.data.outlook import Outlook, look_ahead
from headstart.data.panel import Panel
from headstart.panels import Asked, open_panel
from headstart.screen import Screen
from headstart.tasks.forecasting import Forecasting

RESULTS = ROOT / "benchmarks" / "results" / "forecasting.json"
INDICES, M4, EXCHANGE = SHARED / "fin_world_indices", SHARED / "ts_m4_hourly_weekly", SHARED / "ts_exchange_rate"
DEVELOPED = ("GSPC", "N225", "FTSE", "FCHI", "GDAXI")
LONGER = ("SP500", "DJ", "NASDAQ", "FTSE", "DAX", "CAC", "SMI", "EURSTOXX", "NIKKEI", "HSI")
EMERGING = ("SSE", "BSE", "TWII", "MOEX")
CUT_OFF, TAUGHT_UNTIL = "2019-01-01", "2018-09-27"
HISTORIES = (60, 120, 250)
N_SOURCE = 314  # series of M4 that teach


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fit: what is forecast, how far, and from what."""

    path: str  # "m4/hourly"
    data: Any
    source: Any
    horizon: int
    test_steps: int
    reading: PanelReading

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return places.home() / "benchmarks" / "forecasting" / self.path.replace("/", "-").replace(" ", "-")

    @property
    def outlook(self) -> Outlook:
        """The target cut in time, as the fit cuts it."""
        return look_ahead(self._read(self.data), self.horizon, self.test_steps)

    @property
    def taught(self) -> np.ndarray:
        """(S, T) of the source, as the fit reads it."""
        return self._read(self.source).values

    @property
    def task(self) -> Forecasting:
        """As the run has it."""
        return headstart.load(self.folder).task  # type: ignore[return-value]

    def _read(self, data: Any) -> Panel:
        return open_panel(data, Asked(horizon=self.horizon, reading=self.reading))[1]


def markets() -> list[Case]:
    """Developed to emerging: every index alone, and all four together."""
    closes = pd.read_csv(INDICES / "world_indices_close_2015_2024.csv", index_col="Date", parse_dates=True)
    source = developed(closes)
    found = []
    for kind in ("volatility", "returns"):
        for name in (*EMERGING, TOGETHER):
            for history in HISTORIES:
                data = closes[list(EMERGING) if name == TOGETHER else [name]].dropna(how="all")
                first = int((data.index < CUT_OFF).sum()) - history - 1  # one more level than changes
                case = Case(
                    path=f"markets/{kind}/{name}/{history}",
                    data=data.iloc[first:],
                    source=source,
                    horizon=5,
                    test_steps=int((data.index >= CUT_OFF).sum()),
                    reading=PanelReading(as_=kind, season=1),
                )
                found.append(case)
    return found


def developed(closes: pd.DataFrame) -> pd.DataFrame:
    """Closes of developed indices before the first choice of any target: long ones until 2015, others from then on."""
    longer = pd.read_csv(INDICES / "qrmdata_indices_close.csv.gz", index_col="Date", parse_dates=True)
    longer = longer.loc[longer.index < closes.index[0], list(LONGER)].add_suffix(", 1990 to 2015")
    recent = closes.loc[closes.index < TAUGHT_UNTIL, list(DEVELOPED)]
    return pd.concat([longer, recent]).sort_index().dropna(how="all")


def m4() -> list[Case]:
    """Most series teach, the others are the target."""
    train, test = hourly()
    order = [list(train)[row] for row in np.random.default_rng(0).permutation(len(train))]
    return [
        Case(
            path="m4/hourly",
            data={name: np.concatenate([train[name], test[name]]) for name in order[N_SOURCE:]},
            source={name: train[name] for name in order[:N_SOURCE]},
            horizon=48,
            test_steps=48,
            reading=PanelReading(season=24),
        )
    ]


def hourly() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Train and test of every hourly series."""
    table = pd.read_csv(M4 / "hourly.csv.gz", index_col="id")
    train, test = (
        {name: np.array(one.split(), float) for name, one in table[part].items()} for part in ("train", "test")
    )
    return train, test


def exchange() -> list[Case]:
    """Each currency from the seven others."""
    rates = pd.read_csv(EXCHANGE / "exchange_rate.csv.gz")
    taught = int(0.6 * len(rates))
    return [
        Case(
            path=f"exchange/{name}",
            data=rates[[name]],
            source=rates.drop(columns=name).iloc[:taught],
            horizon=20,
            test_steps=round(0.2 * len(rates)),
            reading=PanelReading(season=1),
        )
        for name in rates.columns
    ]


CASES: dict[str, Callable[[], list[Case]]] = {"m4": m4, "exchange": exchange, "markets": markets}


def fitted(case: Case) -> Row:
    """Fit as a user does, and tell of all systems."""
    shutil.rmtree(case.folder, ignore_errors=True)
    case.folder.parent.mkdir(parents=True, exist_ok=True)
    load, start = os.getloadavg(), time.perf_counter()
    asked = {"horizon": case.horizon, "source": case.source, "test_steps": case.test_steps, "reading": case.reading}
    model = headstart.fit(case.data, **asked, out=case.folder, progress=Screen(False))
    wall = time.perf_counter() - start
    row, outlook = told(case.folder), case.outlook
    backbone = Path(model.origin.name)
    row["systems"] |= measured(case.folder, outlook, case.task, said_beside(case, outlook, backbone))
    pretrained = json.loads((backbone / catalog.PANEL).read_text(encoding="utf-8"))
    keys = ("verdict", "mase", "naive", "n_values", "n_parameters", "steps", "seconds", "first", "until", "ids")
    return {
        "horizon": case.horizon,
        "test_steps": case.test_steps,
        "history_steps": outlook.test_from,
        "pretrained": {key: pretrained[key] for key in keys},
        "wall_s": round(wall, 1),
        "load_before": round(load[0], 1),
        "load_after": round(os.getloadavg()[0], 1),
        **row,
    }


def said_beside(case: Case, outlook: Outlook, backbone: Path) -> dict[str, Said]:
    """The network as it was pretrained; of volatility, HAR too."""
    found = {"network, zero-shot": zero_shot(backbone, outlook, case.task)}
    if case.path.startswith("m4"):
        found |= {"ARIMA, wide search": wide_arima(outlook)}
    if case.reading.as_ == "volatility":
        found |= {"HAR, own history": har_of_history(outlook), "HAR, developed": har_of_source(case.taught, outlook)}
    return found


def peers(case: Case, python: Path, ours: Row | None) -> Row | None:
    """NHITS on the same source and the same windows; None where ours are not held yet, to be told beside them."""
    outlook = case.outlook
    windows, values = outlook.windows("test"), outlook.panel.values
    n = forecasting_peer.HORIZONS * case.horizon
    arrays = {
        "source": case.taught,
        "target": values[:, : outlook.test_from],
        "windows": forecasting_peer.contexts(values, windows.series, windows.origins, n),
    }
    downsample = [24, 12, 1] if outlook.panel.season == 24 else [12, 4, 1]

    def trained(steps: int) -> forecasting_peer.Trained:
        folder = case.folder.with_name(f"{case.folder.name}-nhits-{steps}")
        settings = {"horizon": case.horizon, "downsample": downsample, "steps": steps}
        return forecasting_peer.asked(python, folder, arrays, settings)

    found = {name: trained(steps) for name, steps in forecasting_peer.STEPS.items()}
    if ours is None:
        return None
    seconds, ours_s = found["default"].told["seconds"], ours["pretrained"]["seconds"] + adapted_s(ours)
    a_step = seconds["pretraining"] / forecasting_peer.STEPS["default"]
    found["our time"] = trained(max(1, round((ours_s - seconds["fine-tuning"]) / a_step)))
    said = {f"NHITS, {name}, {how}": Said(y) for name, one in found.items() for how, y in one.said.items()}
    return {
        "ours_s": round(ours_s, 1),
        "runs": {name: one.told for name, one in found.items()},
        "systems": measured(case.folder, outlook, case.task, said),
    }


def held() -> dict[str, Any]:
    """What was measured before."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def keep(path: str, found: Any) -> None:
    """Add to the results; several processes may."""
    with Path(f"{places.home() / 'forecasting.lock'}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = held()
        results[path] = found
        results["summary"] = summed_up(results)
        RESULTS.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def show(path: str, row: Row) -> None:
    """One line a system."""
    print(path, row.get("verdict", ""), f"{row.get('wall_s', 0):.0f} s", sep="\n  ", flush=True)
    for name, one in row["systems"].items():
        mase, p = one["mase"], one.get("dm", {}).get("p")
        told_of = [
            f"MASE {mase['value']:.3f} ({mase['low']:.3f} to {mase['high']:.3f})",
            f"WQL {one['wql']['value']:.4f}",
            f"sMAPE {one['smape']['value']:.2f}",
            *(f"{band} % band {100 * one[f'coverage_{band}']['value']:.1f}" for band in ("80", "95")),
            *([] if p is None else [f"p = {p:.3f}"]),
        ]
        print(f"  {name:28} {', '.join(told_of)}", flush=True)


def run(part: str, only: Sequence[str], python: Path) -> None:
    """One part, but for what is held already."""
    if part == "neuralforecast":
        for case in [*m4(), *exchange(), *(one for one in markets() if one.path.startswith("markets/volatility"))]:
            path = f"neuralforecast/{case.path}"
            wanted = path not in held() and all(word in path.split("/") for word in only)
            if wanted and (found := peers(case, python, held().get(case.path))):
                keep(path, found)
                show(path, found)
        return
    if part in ("leaks", "published"):
        keep(part, forecasting_checks.leaks(INDICES) if part == "leaks" else forecasting_checks.published(*hourly()))
        print(json.dumps(held()[part], indent=1), flush=True)
        return
    for case in CASES[part]():
        if case.path not in held() and all(word in case.path.split("/") for word in only):
            keep(case.path, fitted(case))
            show(case.path, held()[case.path])


def adapted_s(ours: Row) -> float:
    """Seconds of a run without its pretraining, which may have been done before, and without what stands beside."""
    aside = ("pretraining", "from scratch", "classical forecasters")
    return sum(spent for step, spent in ours["seconds"].items() if step not in aside)


def main() -> None:
    """Measure, print and keep."""
    parts = (*CASES, "neuralforecast", "leaks", "published")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"default: {' '.join(parts)}")
    parser.add_argument("--only", nargs="*", default=[], help="words of a cell's path")
    parser.add_argument("--peer", type=Path, default=ROOT / ".peers" / "peers-forecasting" / "bin" / "python")
    given = parser.parse_args()
    for part in given.parts or parts:
        run(part, given.only, given.peer)


if __name__ == "__main__":
    main()
