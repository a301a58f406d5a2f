"""Forecasts over HTTP: series as JSON or as a CSV file, limits held before they are forecast, quantiles as JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from headstart.data.layouts import PanelReading
from headstart.data.panel import Panel
from headstart.data.read_panel import read_panel
from headstart.data.stretches import LEVELS, MEDIAN
from headstart.deploy import forecasts
from headstart.deploy.ahead import Ahead
from headstart.deploy.model import Model
from headstart.deploy.serve.batcher import BusyError
from headstart.deploy.serve.items import kind_of, parsed, read_body
from headstart.deploy.serve.problems import Problem
from headstart.deploy.serve.settings import Settings
from headstart.errors import HeadstartError
from headstart.evidence.forecasts import times_said

CSV = "text/csv"
LARGEST = 1e100  # size of a value
YEARS = (1700, 2200)
WAITING = 8  # requests that wait for the one that is forecast

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class Series(BaseModel):
    """Series by their names, the latest value last, null where one is missing; times are shared by all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    series: Annotated[dict[str, Annotated[list[Number | None], Field(min_length=1)]], Field(min_length=1)]
    times: Annotated[list[str] | None, Field(description="ISO 8601, without a zone; as many as values.")] = None
    horizon: Annotated[int | None, Field(ge=1, description="Steps ahead; as many as the run was fitted for.")] = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request asks for: series, or a file of them."""

    series: Series | None = None
    csv: bytes = b""
    horizon: int | None = None


async def read_asked(request: Request, settings: Settings) -> Asked:
    """Of a request. Problem for all that is not as it should be."""
    horizon = _horizon(request)
    if kind_of(request) == CSV:
        asked = Asked(csv=await read_body(request, settings), horizon=horizon)
    elif kind_of(request) == "application/json":
        body = parsed(Series, await read_body(request, settings))
        asked = Asked(series=body, horizon=body.horizon if horizon is None else horizon)
    else:
        raise Problem(415, "Unsupported media type", f"Send series as application/json, or a file as {CSV}.")
    if asked.horizon is not None and asked.horizon > settings.horizon:
        raise _too_much(f"A horizon may have {settings.horizon:,} steps, and {asked.horizon:,} were asked for.")
    return asked


def _horizon(request: Request) -> int | None:
    given = request.query_params.get("horizon")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given) > 0):
        raise Problem(422, "No such horizon", "horizon must be a whole number of steps, at least 1.")
    return int(given)


def forecast(model: Model, asked: Asked, settings: Settings) -> dict[str, Any]:
    """The answer of one model. Problem where the series cannot be forecast."""
    try:
        panel = from_csv(model, asked.csv) if asked.series is None else panel_of(model, asked.series)
        check_size(panel, settings)
        return told(model.ahead(panel, asked.horizon))
    except HeadstartError as error:
        raise Problem(422, "The series cannot be forecast", str(error)) from None


def panel_of(model: Model, given: Series) -> Panel:
    """The series of a JSON body, as the run makes them."""
    import pandas as pd

    assert model.seer is not None, "asked of a run that forecasts"
    reading = replace(model.seer.reading, time=None, series=None, target=None, known=(), static=())
    values = {name: np.array(one, dtype=np.float64) for name, one in given.series.items()}
    if given.times is None:
        return _named(read_panel(values, replace(reading, frequency=None)), reading)
    index = pd.DatetimeIndex([_time(text) for text in given.times])
    wrong = [name for name, one in values.items() if len(one) != len(index)]
    if wrong:
        raise Problem(
            422,
            "Times do not fit",
            f"There are {len(index):,} times, but series {wrong[0][:80]!r} has {len(values[wrong[0]]):,} values.",
        )
    return _named(read_panel({name: pd.Series(one, index=index) for name, one in values.items()}, reading), reading)


def _named(panel: Panel, reading: PanelReading) -> Panel:
    return replace(panel, name="request", source="the request")


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or not YEARS[0] <= found.year <= YEARS[1]:
        raise Problem(
            422, "Times do not fit", f"{text[:40]!r} is no time in ISO 8601 without a zone: 2024-03-01T14:00."
        )
    return found


def from_csv(model: Model, body: bytes) -> Panel:
    """The series of a file, read as the run reads its own: the same columns, covariates too."""
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        path = Path(folder) / "upload.csv"
        path.write_bytes(body)
        try:
            return replace(forecasts.read(model, str(path)), source="the upload")
        except HeadstartError as error:
            raise Problem(422, "The file cannot be read", str(error).replace(str(path), "the upload")) from None


def check_size(panel: Panel, settings: Settings) -> None:
    """Problem where there are more series or steps than the server takes."""
    if len(panel) > settings.items:
        raise _too_much(f"There are {len(panel):,} series, and a request may have {settings.items:,}.")
    if panel.values.size > settings.steps:
        raise _too_much(
            f"{len(panel):,} series on a calendar of {panel.n_steps:,} steps are {panel.values.size:,} steps, and a "
            f"request may have {settings.steps:,}. The latest ones count most: leave earlier ones out."
        )


def _too_much(detail: str) -> Problem:
    return Problem(422, "Too much to forecast", detail)


def told(found: Ahead) -> dict[str, Any]:
    """Forecasts as JSON values."""
    if not np.isfinite(found.quantiles).all():
        raise Problem(422, "The series cannot be forecast", "Their values are too large, or too far apart.")
    times = list(times_said(found.times))
    return {
        "horizon": found.horizon,
        "measured": found.measured,
        "warnings": [found.warning] if found.warning else [],
        "forecasts": {
            name: {
                "times": times,
                "median": rows[:, MEDIAN].tolist(),
                "quantiles": {str(level): column.tolist() for level, column in zip(LEVELS, rows.T, strict=True)},
            }
            for name, rows in zip(found.panel.ids, found.quantiles.astype(float), strict=True)
        },
    }


class Desk:
    """Serves a request at a time, or a few; some more may wait."""

    def __init__(self, noun: str = "forecasts", n: int = 1, waiting: int = WAITING) -> None:
        self.worker = ThreadPoolExecutor(n, thread_name_prefix=noun)
        self.noun, self.most = noun, n - 1 + waiting
        self.n_waiting = 0
        self._counting = Lock()

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """The answer to come; BusyError where too many wait."""
        with self._counting:
            if self.n_waiting > self.most:
                raise BusyError(f"{self.n_waiting} requests for {self.noun} wait already.")
            self.n_waiting += 1
        try:
            future = self.worker.submit(work)
        except RuntimeError:
            self._done()
            raise BusyError("The server is stopping.") from None
        future.add_done_callback(lambda _: self._done())
        return future

    def close(self) -> None:
        """Finish what was accepted, and take nothing more."""
        self.worker.shutdown(wait=True)

    def _done(self) -> None:
        with self._counting:
            self.n_waiting -= 1
