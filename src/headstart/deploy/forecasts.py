"""What a run forecasts with, how it is saved, and the series that it keeps."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.backbones.series import SeriesBackbone
from headstart.data.calendars import after
from headstart.data.layouts import PanelReading
from headstart.data.outlook import FEWEST_OBSERVED, Windows, windows_at
from headstart.data.panel import Panel
from headstart.data.read_panel import read_panel
from headstart.data.stretches import LEVELS, MEDIAN
from headstart.engine.forecaster import Forecaster
from headstart.errors import DataError, listed
from headstart.evidence.bands import Bands, Seen
from headstart.forecasters import run
from headstart.progress import Progress
from headstart.tasks.forecasting import Forecasting

if TYPE_CHECKING:
    import pandas as pd

    from headstart.deploy.model import Model

HISTORY = "history.parquet"  # the last steps of each series that the run was fitted on
KEPT = 2_000  # steps of it
PAST_ORIGINS = 250  # origins before the last, whose outcomes tell how wide bands must be
PAST_PASSES = 128  # about so many passes of a network that takes one for each of these origins …
MOST_BETWEEN = 25  # … unless origins would then lie further apart: each series' bands follow its own outcomes
BANDS = {"80": (0.1, 0.9), "95": (0.025, 0.975)}  # per cent: the levels it lies between


@dataclass(frozen=True, kw_only=True)
class Seer:
    """What a run forecasts with: a network or a classical forecaster, and bands that are corrected by what came."""

    bands: Bands
    network: Forecaster | None = None
    classical: str | None = None  # the plug-in's name; fitted anew to the series that are given
    reading: PanelReading  # how series are read
    panel: Panel  # as it was fitted on, without values: what all series have in common

    @property
    def changes(self) -> Any:
        """What training changed in the backbone."""
        return None if self.network is None else self.network.changes

    @property
    def head(self) -> Mapping[str, Any]:
        """The head's tensors."""
        return {} if self.network is None else self.network.head

    def to_json(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON values."""
        return {
            "network": self.network.to_json() if self.network else None,
            "classical": self.classical,
            "reading": asdict(self.reading),
            "panel": bare(self.panel),
            "bands": self.bands.to_json(),
        }

    @classmethod
    def restore(cls, saved: Mapping[str, Any], head: Mapping[str, Any], changes: Any) -> Seer:
        """The inverse of `to_json`, with the tensors."""
        reading = {**saved["reading"], "known": tuple(saved["reading"]["known"])}
        reading["static"] = tuple(saved["reading"]["static"])
        return cls(
            bands=Bands.from_json(saved["bands"]),
            network=Forecaster.restore(saved["network"], head, changes) if saved["network"] else None,
            classical=saved["classical"],
            reading=PanelReading(**reading),
            panel=from_bare(saved["panel"]),
        )

    def said(
        self, model: Model, panel: Panel, windows: Windows, progress: Progress, until: int | None = None
    ) -> np.ndarray:
        """Quantiles (N, H, Q) of windows, before bands are corrected.

        A classical forecaster is fitted to the steps before `until`, by default to all.
        """
        task = model.task
        assert isinstance(task, Forecasting), "a run that forecasts has such a task"
        if self.network is not None:
            backbone = model.backbone
            assert isinstance(backbone, SeriesBackbone), "a run that forecasts stands on a backbone for series"
            return task.proper(self.network.forecasts(backbone, panel, windows, task.horizon, progress.bar))
        assert self.classical is not None, "what forecasts is a network or a classical forecaster"
        asked = run.Windows(
            values=panel.values,
            series=windows.series,
            origins=windows.origins,
            horizon=task.horizon,
            season=panel.season,
            until=panel.n_steps if until is None else until,
        )
        (found,) = run.run_all(asked, [self.classical]).forecasts.values()
        return task.proper(found)

    def past(self, model: Model, panel: Panel) -> Seen:
        """How it forecast what is known, from the latest origins on: how wide bands must be."""
        horizon = model.task.horizon  # type: ignore[attr-defined]
        end = panel.n_steps - 1
        stride = self._stride(model, len(panel))
        origins = np.arange(end - 1, max(FEWEST_OBSERVED - 1, end - PAST_ORIGINS) - 1, -stride)[::-1]
        before = windows_at(panel, origins, horizon) if len(origins) else Windows(np.arange(0), np.arange(0))
        said = self.said(model, panel, before, Progress()) if len(before) else np.zeros((0, horizon, len(LEVELS)))
        known = outcomes_of(panel, before, horizon)
        return Seen(forecasts=said, outcomes=known, series=before.series, origins=before.origins)

    def _stride(self, model: Model, n_series: int) -> int:
        """Steps between past origins: more than one where each takes a pass of the network."""
        if self.network is None or model.backbone.dense:  # type: ignore[attr-defined]
            return 1
        return min(MOST_BETWEEN, -(-PAST_ORIGINS * n_series // PAST_PASSES))

    def forecasts(self, model: Model, panel: Panel, past: Seen, end: int) -> np.ndarray:
        """Quantiles (S, H, Q) of the steps after the panel's last; bands as `past` has it up to step `end`.

        Steps after `end` are forecasts themselves: nothing is learnt from them.
        """
        rows = np.arange(len(panel))
        now = Windows(rows, np.full(len(panel), panel.n_steps - 1))
        found = self.said(model, panel, now, Progress(), until=end + 1)
        return self.bands.corrected(found, rows, np.full(len(panel), end), past)


def outcomes_of(panel: Panel, windows: Windows, horizon: int) -> np.ndarray:
    """(N, H) what came after each window, NaN where it is not known."""
    steps = windows.origins[:, None] + np.arange(1, horizon + 1)
    inside = steps < panel.n_steps
    found = panel.values[windows.series[:, None], np.minimum(steps, panel.n_steps - 1)]
    return np.where(inside, found, np.nan)


def read(model: Model, data: Any) -> Panel:
    """Series as the run reads them: the same columns, frequency, season and making of returns."""
    assert model.seer is not None, "asked of a run that forecasts"
    reading = model.seer.reading
    if model.seer.network is None:  # a classical forecaster goes by the values alone
        reading = replace(reading, known=(), static=())
    anew: dict[str, Any] = {}
    try:
        panel = read_panel(data, reading)
    except DataError as first:
        anew = {"time": None, "series": None, "target": None}  # other column names: found out anew
        try:
            panel = read_panel(data, replace(reading, **anew))
        except DataError:
            needed = (*reading.known, *reading.static)
            needs = f" This run's forecasts depend on {listed(needed)}, which the file must hold." if needed else ""
            raise DataError(f"{first}{needs}") from None
    check_frequency(read_panel(data, replace(reading, **anew, frequency=None)), model.seer.panel)
    return panel


def check_frequency(panel: Panel, learnt: Panel) -> None:
    """DataError where steps are of another length than those that the run learnt."""
    if not panel.frequency or not learnt.frequency or panel.n_steps < 2:
        return
    ratio = step_of(panel.times) / step_of(after(panel.times[:1], learnt.frequency, 8))
    if not 0.5 < ratio < 2:
        raise DataError(
            f"{panel.source} has steps of another length ({panel.frequency}) than the series that this run learnt from "
            f"({learnt.frequency}), so that its forecasts would be wrong. Give series of that frequency, or fit anew."
        )


def step_of(times: np.ndarray) -> float:
    """Median nanoseconds between dates."""
    return float(np.median(np.diff(times.astype("datetime64[ns]").astype(np.int64))))


def history_bytes(panel: Panel) -> bytes:
    """The last steps of a panel as the content of `history.parquet`: a column a series, and one with the time."""
    import pandas as pd

    first = max(0, panel.n_steps - KEPT)
    columns: dict[str, Any] = {"time": panel.times[first:]}
    n_future = len(panel.times) - panel.n_steps
    for name, row in zip(panel.ids, panel.values, strict=True):
        columns[f"value {name}"] = np.concatenate([row[first:], np.full(n_future, np.nan)])
    for known, rows in panel.known.items():
        for name, row in zip(panel.ids, rows, strict=True):
            columns[f"known {known} {name}"] = row[first:]
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    return buffer.getvalue()


def history(model: Model) -> Panel:
    """The series that a run was fitted on, up to their last step. DataError where the run kept none."""
    import pandas as pd

    seer, kept = model.seer, model.files.get(HISTORY)
    if seer is None or kept is None:
        raise DataError("The run kept no series. Give a file: headstart predict RUN FILE.")
    table, bare = pd.read_parquet(io.BytesIO(kept)), seer.panel
    values = np.stack([table[f"value {name}"].to_numpy(np.float64) for name in bare.ids])
    last = np.flatnonzero(np.isfinite(values).any(0))[-1] + 1
    known = {
        one: np.stack([table[f"known {one} {name}"].to_numpy(np.float64) for name in bare.ids]) for one in bare.known
    }
    times = table["time"].to_numpy()
    return replace(bare, values=values[:, :last], times=times, known=known)


def bare(panel: Panel) -> dict[str, Any]:
    """What all series of a panel have in common, as plain JSON values."""
    return {
        "name": panel.name,
        "source": panel.source,
        "ids": list(panel.ids),
        "frequency": panel.frequency,
        "season": panel.season,
        "known": sorted(panel.known),
        "static": {name: list(map(float, one)) for name, one in panel.static.items()},
        "target_name": panel.target_name,
        "as_": panel.as_,
        "prices": panel.prices,
    }


def from_bare(saved: Mapping[str, Any]) -> Panel:
    """The inverse of `bare`, without steps."""
    n = len(saved["ids"])
    return Panel(
        **{
            **saved,
            "ids": tuple(saved["ids"]),
            "times": np.arange(0),
            "values": np.zeros((n, 0)),
            "known": {name: np.zeros((n, 0)) for name in saved["known"]},
            "static": {name: np.array(one) for name, one in saved["static"].items()},
        }
    )


def tested_table(panel: Panel, windows: Windows, y: np.ndarray, quantiles: np.ndarray) -> pd.DataFrame:
    """The test as a table: one row a window and step, with the outcome, the median and the ends of the bands."""
    import pandas as pd

    horizon = quantiles.shape[1]
    steps = (windows.origins[:, None] + np.arange(1, horizon + 1)).ravel()
    columns: dict[str, Any] = {
        "series": np.repeat(np.array(panel.ids, dtype=object)[windows.series], horizon),
        "origin": np.repeat(panel.times[windows.origins], horizon),
        "time": panel.times[np.minimum(steps, len(panel.times) - 1)],
        "outcome": y[:, :horizon].ravel(),
        "forecast": quantiles[..., MEDIAN].ravel(),
    }
    for name, ends in BANDS.items():
        for side, level in zip(("low", "high"), ends, strict=True):
            columns[f"{side} {name} %"] = quantiles[..., LEVELS.index(level)].ravel()
    return pd.DataFrame(columns)
