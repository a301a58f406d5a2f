"""Forecasts of the steps after a panel's last, as many as are asked for: as a table, and as fans to be drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.calendars import after
from headstart.data.outlook import FEWEST_OBSERVED
from headstart.data.panel import Panel
from headstart.data.stretches import LEVELS, MEDIAN
from headstart.deploy.forecasts import BANDS, Seer
from headstart.errors import DataError, PlanError, RunError, listed
from headstart.evidence.forecasts import SEASONS, TAIL, Fan, floats, known_or_none, times_said
from headstart.progress import Progress
from headstart.report import fans

if TYPE_CHECKING:
    import pandas as pd

    from headstart.deploy.model import Model


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """Forecasts of the steps after a panel's last."""

    panel: Panel
    times: np.ndarray  # (H,)
    quantiles: np.ndarray  # (S, H, Q)
    measured: int  # the first steps, as many as the run was tested on; bands of later ones are not measured

    @property
    def horizon(self) -> int:
        """H."""
        return self.quantiles.shape[1]

    @property
    def warning(self) -> str:
        """What must be said of a horizon that no test measured; "" where there is nothing to say."""
        if self.horizon <= self.measured:
            return ""
        return (
            f"the run was fitted and tested for {self.measured:,} steps ahead: what comes after them goes on from its "
            "own medians, and no test measured how good that is"
        )

    def table(self) -> pd.DataFrame:
        """One row a series and step: its name, the time, the median, the ends of the 80 % and the 95 % band."""
        import pandas as pd

        n_series, horizon = self.quantiles.shape[:2]
        columns: dict[str, Any] = {
            "series": np.repeat(np.array(self.panel.ids, dtype=object), horizon),
            "time" if self.panel.frequency else "step": np.tile(self.times, n_series),
            value_name(self.panel): self.quantiles[..., MEDIAN].ravel(),
        }
        for name, ends in BANDS.items():
            for side, level in zip(("low", "high"), ends, strict=True):
                columns[f"{side} {name} %"] = self.quantiles[..., LEVELS.index(level)].ravel()
        return pd.DataFrame(columns)

    @property
    def last_seen(self) -> str:
        """The step after which they begin, for people."""
        return times_said(self.panel.times[self.panel.n_steps - 1 : self.panel.n_steps])[0]

    def draw(self, folder: Path) -> int:
        """Every series as a picture of its own, NAME.svg, in a new folder; how many. RunError where it fails."""
        names = file_names(self.panel.ids)
        try:
            folder.mkdir(parents=True)
            for row, name in enumerate(names):
                (folder / f"{name}.svg").write_text(fans.standalone(self.fan(row)), encoding="utf-8")
        except OSError as error:
            raise RunError(f"The pictures could not be written to {folder}: {error.strerror or error}.") from error
        return len(names)

    def fan(self, row: int) -> Fan:
        """One series as it is drawn: the end of its history, and the forecast."""
        panel, found = self.panel, self.quantiles[row]
        start = max(0, panel.n_steps - max(TAIL * self.horizon, SEASONS * panel.season))
        return Fan(
            name=panel.ids[row],
            which="typical",
            history_times=times_said(panel.times[start : panel.n_steps]),
            history=known_or_none(panel.values[row, start:]),
            times=times_said(self.times),
            outcome=(),
            median=floats(found[:, MEDIAN]),
            bands={
                name: (floats(found[:, LEVELS.index(low)]), floats(found[:, LEVELS.index(high)]))
                for name, (low, high) in BANDS.items()
            },
            rival=(),
        )


def file_names(ids: Sequence[str]) -> list[str]:
    """A name of its own for each, with nothing in it that a file system forbids."""
    plain = [re.sub(r"[^\w.-]+", "-", one).strip("-.")[:80] or "series" for one in ids]
    return [f"{name}-{i + 1}" if plain.count(name) > 1 else name for i, name in enumerate(plain)]


def value_name(panel: Panel) -> str:
    """The target's column, unless it is called like another one of the table."""
    return "forecast" if panel.target_name in ("series", "time", "step") else panel.target_name


def ahead(model: Model, panel: Panel, horizon: int | None = None, progress: Progress | None = None) -> Ahead:
    """Forecasts of `horizon` steps (default: as many as the run was fitted for) after the panel's last.

    More steps than the run was fitted for are forecast by going on from the medians, and their bands are widened as
    if what each block is unsure of added up independently; nothing measures these. PlanError for a run that does not
    forecast or no horizon, DataError for series that the run cannot forecast.
    """
    seer = model.seer
    if seer is None:
        raise PlanError(f"This run gives {model.task.title}, not forecasts. Use `headstart predict RUN INPUTS`.")
    own: int = model.task.horizon  # type: ignore[attr-defined]
    wanted = own if horizon is None else horizon
    if wanted < 1:
        raise PlanError(f"horizon={wanted}, but it must be at least 1.")
    check_panel(panel, seer, wanted)
    past, end = seer.past(model, panel), panel.n_steps - 1
    blocks = [seer.forecasts(model, panel, past, end)]
    longer = panel
    while sum(block.shape[1] for block in blocks) < wanted:
        longer = continued(longer, blocks[-1][..., MEDIAN])
        blocks.append(_widened(seer.forecasts(model, longer, past, end), blocks[-1]))
    quantiles = np.concatenate(blocks, 1)[:, :wanted]
    return Ahead(panel=panel, times=following(panel, wanted), quantiles=quantiles, measured=own)


def following(panel: Panel, n: int) -> np.ndarray:
    """(n,) times of the steps after the panel's last value: those that it has, then those of its frequency."""
    given = panel.times[panel.n_steps :]
    return (
        given[:n] if len(given) >= n else np.concatenate([given, after(panel.times, panel.frequency, n - len(given))])
    )


def continued(panel: Panel, medians: np.ndarray) -> Panel:
    """The panel with forecasts (S, H) in place of what is not known yet."""
    n_steps = panel.n_steps + medians.shape[1]
    n_times = max(n_steps, len(panel.times))
    return replace(
        panel,
        values=np.concatenate([panel.values, medians], 1),
        times=np.concatenate([panel.times[: panel.n_steps], following(panel, n_times - panel.n_steps)]),
        known={name: _lengthened(one, n_times) for name, one in panel.known.items()},
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


def check_panel(panel: Panel, seer: Seer, horizon: int) -> None:
    """DataError where a panel is none that the run can forecast so many steps of."""
    needed_known, needed_static = needed(seer)
    lacking = [*(one for one in needed_known if one not in panel.known)]
    lacking += [one for one in needed_static if one not in panel.static]
    if lacking:
        raise DataError(
            f"{panel.source} lacks columns that this run's forecasts depend on: {', '.join(lacking)}. Give them too"
            + (", with their values for the steps ahead." if needed_known else ".")
        )
    seen = np.isfinite(panel.values).sum(1)
    if (seen < FEWEST_OBSERVED).any():
        short = [panel.ids[row] for row in np.flatnonzero(seen < FEWEST_OBSERVED)]
        raise DataError(
            f"{len(short)} of {len(panel)} series have fewer than {FEWEST_OBSERVED} values, too few to forecast from: "
            f"{listed(short, 5)}. Give more of their past, or leave them out."
        )
    _check_known(panel, needed_known, horizon)


def _check_known(panel: Panel, names: Sequence[str], horizon: int) -> None:
    """DataError where what is known in advance does not reach as far as the horizon."""
    for name in names:
        coming = np.isfinite(panel.known[name][:, panel.n_steps : panel.n_steps + horizon]).all(0)
        n_known = int(np.argmin([*coming, False]))
        if n_known < horizon:
            raise DataError(
                f"{name!r} must be known in advance, and in {panel.source} it is known for {n_known:,} of the "
                f"{horizon:,} steps after the last value. Give a file that has rows for all of these steps, their "
                "values left empty" + (f", or a horizon of {n_known:,}." if n_known else ".")
            )


def needed(seer: Seer) -> tuple[list[str], list[str]]:
    """Covariates that forecasts depend on, known in advance and static: none where a classical forecaster ships."""
    if seer.network is None or seer.network.outlooks is None:
        return [], []
    return sorted(seer.panel.known), sorted(seer.panel.static)
