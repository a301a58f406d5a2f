"""Use a run: predict, evaluate, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from headstart.cli.base import (
    Data,
    Group,
    Input,
    Json,
    Label,
    MostTokens,
    Moved,
    Quiet,
    Run,
    System,
    Temperature,
    TopP,
    app,
    print_json,
    print_rows,
    screen,
    tell,
)

if TYPE_CHECKING:
    from headstart.data.conversation import Conversation
    from headstart.deploy.model import Model
    from headstart.engine.voice import Sampling
    from headstart.progress import Progress

MOST_SHOWN = 5  # classes whose probabilities the screen shows; files and JSON have them all


@app.command()
def predict(
    run: Run,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, a table, '-' for standard input, or a text. A run that forecasts goes on from one "
            "file of series; without it, from those that it learnt from.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File: .csv, .tsv, .jsonl, .parquet; boxes also .json (COCO); one recording also .srt, .vtt, .txt, "
            ".json. With --format a folder."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="Of transcripts, a file each in the new folder --out: srt, vtt, txt or json."),
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(min=1, help="Steps ahead, of a run that forecasts; default: as many as it was fitted for."),
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(help="New folder for the pictures with their boxes drawn, or of forecasts (SVG).")
    ] = None,
    every: Annotated[bool, typer.Option("--all-boxes", help="Boxes below their class's threshold too.")] = False,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Annotated[int, typer.Option(help="Chat: of what is drawn.")] = 0,
    max_tokens: MostTokens = 256,
    system: System = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line.")] = False,
    input: Input = None,
    backbone: Moved = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict with the model of RUN; probabilities are calibrated, and forecasts have bands."""
    from headstart.engine.allocator import keep_few_kernels

    keep_few_kernels()  # before torch is there: each batch of a long recording has another shape
    from headstart import load
    from headstart.data.prompts import read_prompts
    from headstart.deploy import detections, predictions
    from headstart.engine.voice import Sampling

    check_out(out, format)
    if draw is not None:
        detections.check_free_folder(draw)
    model = load(run, backbone)
    check_fits(model, out, format, every or (draw is not None and model.seer is None))
    check_inputs(model, inputs or [], horizon)
    progress = screen(as_json or quiet or jsonl)
    if model.seer is not None:
        told = tell_ahead(model, inputs, horizon, progress)
    elif model.talker is not None:
        how = Sampling(temperature=temperature, top_p=top_p, seed=seed, max_tokens=max_tokens)
        told = tell_answers(model, read_prompts(inputs or [], input, system), how, progress)
    else:
        told = tell_items(model, inputs or [], input, progress, every, format)
    if draw is not None and told.draw is not None:
        progress.say(f"{told.draw(draw):,} pictures drawn: {draw}")
    if out is not None:
        told.write(out)
    if as_json:
        found = json.loads(predictions.as_records(told.table))
        print_json({"run": str(run), **told.more, "predictions": found})
    elif jsonl:
        print(predictions.as_jsonl(told.table), end="")
    elif out is not None:
        print(f"{len(told.table):,} predictions: {out}")
    else:
        print_rows(told.shown.to_dict("records"))


class Told(NamedTuple):
    """What a model says of some items."""

    table: Any  # a data frame for programs
    shown: Any  # one for people
    write: Callable[[Path], object]  # into the file or folder that is asked for
    draw: Callable[[Path], int] | None = None  # into a folder; how many
    more: Mapping[str, Any] = {}  # what JSON says beside the predictions


def tell_ahead(model: Model, inputs: Sequence[str] | None, horizon: int | None, progress: Progress) -> Told:
    """Forecast the steps after those of a file, or after those that the run learnt from."""
    from headstart.deploy import predictions

    with progress.step("predict"):
        found = model.ahead(inputs[0] if inputs else None, horizon, progress)
    if not inputs:
        progress.say(
            f"after {found.last_seen}, the last step that the run learnt from; give a newer file to go on from it"
        )
    if found.warning:
        progress.say(f"warning: {found.warning}")
    table = found.table()
    more = {"warnings": [found.warning] if found.warning else []}
    return Told(table, predictions.in_digits(table), partial(predictions.write_table, table), found.draw, more)


def tell_answers(model: Model, asked: Sequence[Conversation], how: Sampling, progress: Progress) -> Told:
    """Answer prompts, or go on with conversations."""
    from headstart.deploy import predictions, talk

    with progress.step("answer"):
        found = talk.answer_all(model, asked, how, progress)
    return Told(found.table(), found.short(), partial(predictions.write_answers, found))


def tell_items(
    model: Model, inputs: Sequence[str], column: str | None, progress: Progress, every: bool, format: str | None
) -> Told:
    """Predict for files, texts or rows."""
    from headstart import registry
    from headstart.data.inputs import gather

    items = gather(
        registry.plugin_name(model.modality), inputs, lambda given: model.read(given, input=column, label="")
    )
    with progress.step("predict"):
        return tell_all(model, items, progress, every, format)


def tell_all(model: Model, items: Sequence[Any], progress: Progress, every: bool, format: str | None) -> Told:
    """Predict for stored items."""
    from headstart.deploy import detections, predictions, transcripts

    if model.detector is not None:
        found = detections.find(model, items, progress, every)
        return Told(found.pictures(), found.counts(), partial(predictions.write_boxes, found), found.draw)
    if model.recognizer is not None:
        heard = transcripts.transcribe(model, items, progress)
        write = partial(heard.write, kind=format) if format else partial(predictions.write_transcripts, heard)
        return Told(heard.table(), heard.short(), write)
    table = predictions.predict_all(model, items, progress)
    shown = table if len(model.task.score_names) <= MOST_SHOWN else table.filter(regex=r"^(?!p\()")
    return Told(table, shown, partial(predictions.write_table, table))


def check_out(out: Path | None, format: str | None) -> None:
    """PlanError where no kind of model could write there."""
    from headstart.deploy import predictions, transcripts
    from headstart.errors import PlanError

    if format is not None:
        transcripts.check_kind(format)
        if out is None:
            raise PlanError(f"--format {format} writes a file a recording: say in which new folder with --out FOLDER.")
        transcripts.check_new_folder(out)
    elif out is not None:
        predictions.check_table_name(out, (predictions.COCO, *transcripts.SUFFIXES))


def check_fits(model: Model, out: Path | None, format: str | None, boxes: bool) -> None:
    """PlanError where boxes or transcripts are asked for, by an option or a file's name, of a model that gives none."""
    from headstart.deploy import predictions, transcripts
    from headstart.errors import PlanError

    if model.detector is None and boxes:
        raise PlanError(
            f"--draw and --all-boxes are for boxes, and this model gives {model.task.title}. Leave them out."
        )
    if model.recognizer is None and format is not None:
        raise PlanError(f"--format is for transcripts, and this model gives {model.task.title}. Leave it out.")
    if out is not None and format is None:
        own = transcripts.SUFFIXES if model.recognizer else (predictions.COCO,) if model.detector else ()
        predictions.check_table_name(out, own)


def check_inputs(model: Model, inputs: Sequence[str], horizon: int | None) -> None:
    """PlanError for more or less to predict from than such a run takes."""
    from headstart.errors import PlanError

    if model.seer is None and not inputs:
        raise PlanError(f"Say what to predict from: headstart predict RUN INPUT…, with {model.modality.noun[1]}.")
    if model.seer is None and horizon is not None:
        raise PlanError(f"--horizon is for forecasts, and this model gives {model.task.title}. Leave it out.")
    if model.seer is not None and len(inputs) > 1:
        raise PlanError(f"A forecast goes on from one file, and {len(inputs)} were given. Put all series into one.")


@app.command()
def evaluate(
    run: Run,
    data: Data,
    input: Input = None,
    label: Label = None,
    group: Group = None,
    backbone: Moved = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the model of RUN on labelled DATA (on its test split, where it has one)."""
    from headstart import load
    from headstart.data.describe import describe

    progress = screen(as_json or quiet)
    model = load(run, backbone)
    dataset: Any = data
    if model.seer is None:
        with progress.step("read"):
            dataset = model.read(data, input=input, label=label, group=group)
        progress.say(describe(dataset))
    with progress.step("evaluate"):
        found = model.evaluate(dataset, progress=progress)
    for note in found.notes:
        progress.say(f"  {note}")
    if as_json:
        scores = {name: vars(score) for name, score in found.metrics.items()}
        print_json({"run": str(run), "data": data, "n": found.n, "notes": found.notes, "metrics": scores})
    else:
        from headstart.evidence import words

        rows = [
            {
                "metric": found.titles.get(name, model.evidence.titles.get(name, name)),
                "value (95 % interval)": words.score(score),
            }
            for name, score in found.metrics.items()
        ]
        print_rows(rows)


@app.command()
def report(
    run: Run,
    show: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Say again what RUN proved, and where its report is."""
    from headstart import load

    model = load(run)
    if show:
        typer.launch(str((run / "report.html").absolute()))
    tell(model, as_json)
