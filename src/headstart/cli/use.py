"""Use a run: predict, evaluate, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.base import (
    Data,
    Group,
    Input,
    Json,
    Label,
    Moved,
    Quiet,
    Run,
    app,
    print_json,
    print_rows,
    screen,
    tell,
)

if TYPE_CHECKING:
    from headstart.deploy.model import Model

MOST_SHOWN = 5  # classes whose probabilities the screen shows; files and JSON have them all


@app.command()
def predict(
    run: Run,
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, a table, '-' for standard input, or a text.")],
    out: Annotated[
        Path | None, typer.Option(help="File: .csv, .tsv, .jsonl, .parquet; boxes also .json (COCO).")
    ] = None,
    draw: Annotated[Path | None, typer.Option(help="New folder for the pictures with their boxes drawn.")] = None,
    every: Annotated[bool, typer.Option("--all-boxes", help="Boxes below their class's threshold too.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line.")] = False,
    input: Input = None,
    backbone: Moved = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict with the model of RUN; probabilities are calibrated."""
    from headstart import load, registry
    from headstart.data.inputs import gather
    from headstart.deploy import detections, predictions

    if out is not None:
        predictions.check_table_name(out, boxes=True)
    if draw is not None:
        detections.check_free_folder(draw)
    model = load(run, backbone)
    check_boxes(model, out, draw is not None or every)
    items = gather(registry.plugin_name(model.modality), inputs, lambda given: model.read(given, input=input, label=""))
    progress = screen(as_json or quiet or jsonl)
    with progress.step("predict"):
        found = None if model.detector is None else detections.find(model, items, progress, every)
        table = predictions.predict_all(model, items, progress) if found is None else found.pictures()
    if found is not None and draw is not None:
        progress.say(f"{found.draw(draw):,} pictures drawn: {draw}")
    if out is not None:
        predictions.write_table(table, out) if found is None else predictions.write_boxes(found, out)
    if as_json:
        print_json({"run": str(run), "predictions": json.loads(table.to_json(orient="records"))})
    elif jsonl:
        print(predictions.as_jsonl(table), end="")
    elif out is not None:
        print(f"{len(table):,} predictions: {out}")
    elif found is not None:
        print_rows(found.counts().to_dict("records"))
    else:
        shown = table if len(model.task.score_names) <= MOST_SHOWN else table.filter(regex=r"^(?!p\()")
        print_rows(shown.to_dict("records"))


def check_boxes(model: Model, out: Path | None, asked: bool) -> None:
    """PlanError where boxes are `asked` for, by an option or by the file's name, of a model that finds none."""
    from headstart.deploy import predictions
    from headstart.errors import PlanError

    if model.detector is None:
        if asked:
            raise PlanError(
                f"--draw and --all-boxes are for boxes, and this model gives {model.task.title}. Leave them out."
            )
        if out is not None:
            predictions.check_table_name(out)


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
    from headstart.data.read import describe

    progress = screen(as_json or quiet)
    model = load(run, backbone)
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
            {"metric": model.evidence.titles.get(name, name), "value (95 % interval)": words.score(score)}
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
