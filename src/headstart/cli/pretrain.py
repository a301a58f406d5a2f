"""Go on pretraining a backbone on data without labels: pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.base import (
    As,
    Data,
    Frequency,
    Horizon,
    Input,
    Json,
    Label,
    Quiet,
    Season,
    Series,
    TaskName,
    Time,
    app,
    free_name,
    horizon_of,
    panel_reading,
    print_json,
    screen,
)

if TYPE_CHECKING:
    from headstart.data.layouts import PanelReading


@app.command()
def pretrain(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default runs/NAME-backbone.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A name from `headstart models`, a folder, or a hub id.")] = None,
    loss: Annotated[str | None, typer.Option(help="mlm or simcse (texts), vicreg (pictures).")] = None,
    freeze: Annotated[int | None, typer.Option(help="Stages that stay as they are, from the input.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; default by the loss.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for the training, as 90s or 5m; default: all epochs.")
    ] = None,
    measure_on: Annotated[str | None, typer.Option(help="Labelled data to measure on what it was worth.")] = None,
    labels: Annotated[str, typer.Option(help="How many labels to measure with.")] = "50,200",
    draws: Annotated[int, typer.Option(min=1, help="Draws of labels to measure with.")] = 5,
    input: Input = None,
    label: Label = None,
    task: TaskName = None,
    horizon: Horizon = None,
    time: Time = None,
    series: Series = None,
    frequency: Frequency = None,
    season: Season = None,
    as_: As = "levels",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go on pretraining a backbone on DATA without labels, and write it to a folder that `fit --backbone` takes.

    Labels in DATA do not teach: they measure what it was worth, as does --measure-on. With --task forecasting DATA
    holds series, and a WaveNet learns to forecast them --horizon steps ahead.
    """
    if horizon is not None or task == "forecasting":
        reading = panel_reading(time, series, label, None, None, frequency, season, as_)
        _series(data, horizon_of(horizon), reading, out, seed, (as_json, quiet))
        return
    from headstart import pretrain as verb
    from headstart import problem

    progress = screen(as_json or quiet)
    with progress.step("read"):
        dataset = problem.read(data, input=input, label=label if measure_on is None else "")
        labelled = None if measure_on is None else problem.read(measure_on, input=input, label=label)
    folder = out or free_name(f"{dataset.name}-backbone")
    told = verb(
        dataset,
        out=folder,
        backbone=backbone,
        loss=loss,
        freeze=freeze,
        epochs=epochs,
        budget=budget,
        measure_on=labelled,
        labels=_numbers(labels),
        draws=draws,
        seed=seed,
        progress=progress,
    )
    if as_json:
        print_json({**told.to_json(), "backbone": str(folder)})
        return
    from headstart.evidence import words

    held = told.held_out
    print(f"\nLoss for each {held.unit}, held out: {words.score(held.before)} before, {words.score(held.after)} after.")
    print(told.verdict)
    print(f"\nBackbone: {folder}\nReport: {folder}/report.html\nUse it: headstart fit DATA --backbone {folder}")


def _series(
    data: str, horizon: int, reading: PanelReading, out: Path | None, seed: int, said: tuple[bool, bool]
) -> None:
    """Pretrain on series; `said`: whether in JSON, whether quietly."""
    from headstart.data.read_panel import read_panel
    from headstart.panels import describe
    from headstart.series_pretraining import pretrain as learn

    progress = screen(any(said))
    with progress.step("read"):
        panel = read_panel(data, reading, horizon)
    progress.say(describe(panel))
    folder = out or free_name(f"{panel.name}-backbone")
    told = learn(panel, horizon, out=folder, seed=seed, progress=progress)
    if said[0]:
        print_json({**told.to_json(), "backbone": str(folder)})
        return
    print(f"\n{told.verdict}")
    print(f"\nBackbone: {folder}\nUse it: headstart fit TARGET.csv --horizon {horizon} --backbone {folder}")


def _numbers(given: str) -> list[int]:
    """Numbers parted by commas. PlanError for anything else."""
    from headstart.errors import PlanError

    parts = [one.strip() for one in given.split(",") if one.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise PlanError(f"labels={given!r} are no numbers. Give them as 50,200.")
    return [int(part) for part in parts]
