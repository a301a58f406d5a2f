"""The command line itself, and what its verbs share: options, and how things are said."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from headstart.data.layouts import PanelReading
    from headstart.deploy.model import Model
    from headstart.screen import Screen


app = typer.Typer(
    name="headstart",
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no findings; the report has them.")]
Run = Annotated[Path, typer.Argument(help="A run folder that `headstart fit` wrote.", show_default=False)]
Data = Annotated[
    str, typer.Argument(help="A folder of class folders, a table file, or a data set.", show_default=False)
]
Backbones = Annotated[
    list[str] | None,
    typer.Option("--backbone", help="A name from `headstart models`, a folder or a hub id; several to choose from."),
]
Moved = Annotated[str | None, typer.Option("--backbone", help="Where the run's backbone is now, if it has moved.")]
Input = Annotated[str | None, typer.Option("--input", help="Column with the texts or file names.")]
Label = Annotated[str | None, typer.Option("--label", help="Column with the labels.")]
TaskName = Annotated[
    str | None,
    typer.Option("--task", help="classification, multilabel, regression, detection, transcription, forecasting, chat."),
]
Group = Annotated[
    str | None, typer.Option("--group", help="Column whose values stay on one side (a patient, a speaker).")
]
Time = Annotated[
    str | None, typer.Option("--time", help="Column to split by: the latest examples are the test; of series, when.")
]
Horizon = Annotated[int | None, typer.Option("--horizon", help="Series: how many steps ahead to forecast.")]
Series = Annotated[str | None, typer.Option("--series", help="Series: column that says which one a row belongs to.")]
Known = Annotated[
    list[str] | None, typer.Option("--known", help="Series: a column that is known in advance; may be repeated.")
]
Static = Annotated[
    list[str] | None, typer.Option("--static", help="Series: a column that says something of a whole one.")
]
Frequency = Annotated[str | None, typer.Option("--frequency", help="Series: as pandas calls it: h, D, B, W, MS …")]
Season = Annotated[int | None, typer.Option("--season", help="Series: steps until a pattern comes again; 1: none.")]
Temperature = Annotated[
    float, typer.Option(help="Chat: 0 takes the likeliest words; 1 draws words as often as they are likely.")
]
TopP = Annotated[float, typer.Option(help="Chat: draw from the likeliest words that make up this probability.")]
MostTokens = Annotated[int, typer.Option("--max-tokens", help="Chat: of an answer.")]
System = Annotated[str | None, typer.Option(help="Chat: what the system says first; default: what the run has.")]
As = Annotated[str, typer.Option("--as", help="Series: levels, returns or volatility are forecast.")]


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Adapt a pretrained model to a small data set of your own, and see what the transfer was worth."""
    if version:
        from headstart import __version__

        print(__version__)
        raise typer.Exit


def failed(kind: str, message: str) -> int:
    """The exit code of a user's error, which is said in JSON where JSON was asked for."""
    if "--json" in sys.argv:
        print_json({"error": {"kind": kind, "message": message}})
    return 1


def screen(quiet: bool) -> Screen:
    """Where progress is shown; imported late, since it is slow to load."""
    from headstart.screen import Screen

    if quiet:  # the hub's library draws bars of its own
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return Screen(quiet)


def tell(model: Model, as_json: bool, seconds: dict[str, float] | None = None) -> None:
    """The outcome of a fit: scores beside the baselines, the verdict, and where the rest is."""
    told = json.loads(model.files["metrics.json"])
    if as_json:
        print_json({**told, "seconds": seconds or told["seconds"], "run": str(model.run)})
        return
    from rich.console import Console

    from headstart.evidence.adaptation import Adaptation
    from headstart.screen import candidate_table, depth_lines, show, ways_table

    console = Console(highlight=False)
    for part, view in ((model.plan.depth, depth_lines), (model.plan.candidates[1:], candidate_table)):
        if part:
            console.print()
            show(view(model.plan))
    if "adaptation" in told:
        adaptation = Adaptation.from_json(told["adaptation"])
        console.print()
        show(ways_table(adaptation))
        where = "labelled target examples" if adaptation.n_labelled else "the source's own test examples"
        console.print(f"\nMeasured on {where}:", markup=False)
    if model.evidence.metrics:
        console.print()
        show(scores_of(model, told))
    console.print(f"\nChosen: {model.plan.reason}.", markup=False)
    console.print(f"{model.evidence.verdict}\n", style="bold", markup=False)
    console.print(f"Report: {model.run}/report.html", markup=False, soft_wrap=True)


def scores_of(model: Model, told: dict[str, Any]) -> Table:
    """All systems with their metrics, and of forecasts what their bands cover."""
    from headstart.evidence.forecasts import ForecastEvidence
    from headstart.screen import chat_table, forecast_table, score_table

    if "forecasts" in told:
        return forecast_table(model.evidence, ForecastEvidence.from_json(told["forecasts"]))
    return chat_table(model.evidence) if "chat" in told else score_table(model.evidence)


def free_name(name: str) -> Path:
    """runs/NAME, or the first of runs/NAME-2, runs/NAME-3 … that is not there."""
    from headstart.deploy.artifact import free_folder

    return free_folder(Path("runs"), name)


def panel_reading(
    time: str | None,
    series: str | None,
    target: str | None,
    known: Sequence[str] | None,
    static: Sequence[str] | None,
    frequency: str | None,
    season: int | None,
    as_: str,
) -> PanelReading:
    """How series are to be read, of options."""
    from headstart.data.layouts import PanelReading

    return PanelReading(
        time=time,
        series=series,
        target=target,
        known=tuple(known or ()),
        static=tuple(static or ()),
        frequency=frequency,
        season=season,
        as_=as_,
    )


def horizon_of(horizon: int | None) -> int:
    """The horizon; PlanError where none was said."""
    from headstart.errors import PlanError

    if horizon is None:
        raise PlanError("How far ahead series are to be forecast is not said. Give --horizon N, the number of steps.")
    return horizon


def check_no_series(reading: PanelReading, test_steps: int | None) -> None:
    """PlanError where an option of series was given, but no horizon."""
    from headstart.errors import PlanError, listed

    given = {
        "--series": reading.series,
        "--known": reading.known,
        "--static": reading.static,
        "--frequency": reading.frequency,
        "--season": reading.season,
        "--as": None if reading.as_ == "levels" else reading.as_,
        "--test-steps": test_steps,
    }
    if odd := [option for option, value in given.items() if value]:
        raise PlanError(
            f"{listed(odd)} speak{'s' * (len(odd) == 1)} of series to forecast, but how far ahead is not said. Give "
            "--horizon N too, or leave it out."
        )


def print_rows(rows: Sequence[Mapping[Any, Any]]) -> None:
    """A table on the screen."""
    from headstart.screen import print_table

    print_table(rows)


def print_json(value: Any) -> None:
    """One JSON value on standard output."""
    print(json.dumps(value, ensure_ascii=False))
