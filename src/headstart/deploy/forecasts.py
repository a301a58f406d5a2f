"""What a run forecasts with, and its forecasts as a table: one row a step ahead of each series."""

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
from headstart.errors import DataError, PlanError
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

    def said(self, model: Model, panel: Panel, windows: Windows, progress: Progress) -> np.ndarray:
        """Quantiles (N, H, Q) of windows, before bands are corrected."""
        task, backbone = model.task, model.backbone if self.network is not None else None
        assert isinstance(task, Forecasting), "a run that forecasts has such a task"
        if self.network is not None:
            assert isinstance(backbone, SeriesBackbone), "its network takes series"
            return task.proper(self.network.forecasts(backbone, panel, windows, task.horizon, progress.bar))
        assert self.classical is not None, "what forecasts is a network or a classical forecaster"
        asked = run.Windows(
            values=panel.values,
            series=windows.series,
            origins=windows.origins,
            horizon=task.horizon,
            season=panel.season,
            until=panel.n_steps,
        )
        (found,) = run.run_all(asked, [self.classical]).forecasts.values()
        return task.proper(found)

    def forecasts(self, model: Model, panel: Panel, progress: Progress) -> np.ndarray:
        """Quantiles (S, H, Q) of the steps after the panel's last, bands corrected by how it forecast what is known."""
        horizon = model.task.horizon  # type: ignore[attr-defined]
        end = panel.n_steps - 1
        origins = np.arange(max(FEWEST_OBSERVED - 1, end - PAST_ORIGINS), end)
        before = windows_at(panel, origins, horizon) if len(origins) else Windows(np.arange(0), np.arange(0))
        now = Windows(np.arange(len(panel)), np.full(len(panel), end))
        found = self.said(model, panel, now, progress)
        earlier = self.said(model, panel, before, progress) if len(before) else found[:0]
        known = outcomes_of(panel, before, horizon)
        past = Seen(forecasts=earlier, outcomes=known, series=before.series, origins=before.origins)
        return self.bands.corrected(found, now.series, now.origins, past)


def outcomes_of(panel: Panel, windows: Windows, horizon: int) -> np.ndarray:
    """(N, H) what came after each window, NaN where it is not known."""
    steps = windows.origins[:, None] + np.arange(1, horizon + 1)
    inside = steps < panel.n_steps
    found = panel.values[windows.series[:, None], np.minimum(steps, panel.n_steps - 1)]
    return np.where(inside, found, np.nan)


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """Forecasts of the steps after a panel's last."""

    panel: Panel
    times: np.ndarray  # (H,)
    quantiles: np.ndarray  # (S, H, Q)
    measured: int  # the first steps, as many as the run was tested on; bands of later ones are not measured

    def table(self) -> pd.DataFrame:
        """One row a series and step: its name, the time, the median, the ends of the 80 % and the 95 % band."""
        import pandas as pd

        n_series, horizon = self.quantiles.shape[:2]
        columns: dict[str, Any] = {
            "series": np.repeat(np.array(self.panel.ids, dtype=object), horizon),
            "time" if self.panel.frequency else "step": np.tile(self.times, n_series),
            self.panel.target_name: self.quantiles[..., MEDIAN].ravel(),
        }
        for name, ends in BANDS.items():
            for side, level in zip(("low", "high"), ends, strict=True):
                columns[f"{side} {name} %"] = self.quantiles[..., LEVELS.index(level)].ravel()
        return pd.DataFrame(columns)


def ahead(model: Model, panel: Panel, horizon: int | None = None, progress: Progress | None = None) -> Ahead:
    """Forecasts of `horizon` steps (default: as many as the run was fitted for) after the panel's last.

    More steps than the run was fitted for are forecast by going on from the medians, and their bands are widened as
    those of sums of independent changes; no test measured them. DataError where a series is too short.
    """
    seer, progress = model.seer, progress or Progress()
    if seer is None:
        raise PlanError(f"This run gives {model.task.title}, not forecasts. Use `headstart predict RUN INPUTS`.")
    check_panel(panel, seer)
    own: int = model.task.horizon  # type: ignore[attr-defined]
    wanted = own if horizon is None else horizon
    if wanted < 1:
        raise PlanError(f"horizon={wanted}, but it must be at least 1.")
    blocks = [seer.forecasts(model, panel, progress)]
    longer = panel
    while sum(block.shape[1] for block in blocks) < wanted:
        longer = continued(longer, blocks[-1][..., MEDIAN])
        blocks.append(_widened(seer.forecasts(model, longer, progress), blocks[-1]))
    times = after(panel.times[: panel.n_steps], panel.frequency, wanted)
    return Ahead(panel=panel, times=times, quantiles=np.concatenate(blocks, 1)[:, :wanted], measured=own)


def continued(panel: Panel, medians: np.ndarray) -> Panel:
    """The panel with forecasts (S, H) in place of what is not known yet."""
    horizon = medians.shape[1]
    times = panel.times[: panel.n_steps]
    return replace(
        panel,
        values=np.concatenate([panel.values, medians], 1),
        times=np.concatenate([times, after(times, panel.frequency, horizon)]),
        known={name: _lengthened(one, panel.n_steps + horizon) for name, one in panel.known.items()},
    )


def _lengthened(known: np.ndarray, n_steps: int) -> np.ndarray:
    """Covariates for so many steps at least: missing where they were not given."""
    lacking = max(0, n_steps - known.shape[1])
    return np.pad(known, ((0, 0), (0, lacking)), constant_values=np.nan)


def _widened(block: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Quantiles (S, H, Q) whose distance from the median holds what the end of the block before was unsure of."""
    middle, unsure = block[..., MEDIAN : MEDIAN + 1], before[:, -1:] - before[:, -1:, MEDIAN : MEDIAN + 1]
    own = block - middle
    return np.asarray(middle + np.sign(own) * np.hypot(own, unsure))


def check_panel(panel: Panel, seer: Seer) -> None:
    """DataError where a panel is none that the run can forecast."""
    lacking = sorted(set(seer.panel.known) - set(panel.known)) + sorted(set(seer.panel.static) - set(panel.static))
    if lacking:
        raise DataError(
            f"{panel.source} lacks columns that this run's forecasts depend on: {', '.join(lacking)}. Give them too, "
            "with their values for the steps ahead."
        )
    seen = np.isfinite(panel.values).sum(1)
    if (seen < FEWEST_OBSERVED).any():
        short = [panel.ids[row] for row in np.flatnonzero(seen < FEWEST_OBSERVED)]
        raise DataError(
            f"{len(short)} of {len(panel)} series have fewer than {FEWEST_OBSERVED} values, too few to forecast from: "
            f"{', '.join(short[:5])}. Give more of their past, or leave them out."
        )


def read(model: Model, data: Any) -> Panel:
    """Series as the run reads them: the same columns, frequency, season and making of returns."""
    assert model.seer is not None, "asked of a run that forecasts"
    seer = model.seer
    try:
        return read_panel(data, seer.reading)
    except DataError:
        return read_panel(data, replace(seer.reading, time=None, series=None, target=None))


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
