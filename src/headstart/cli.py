"""The command line: one verb each; parse, call, print.

Nothing heavy is imported before a verb needs it, so that `headstart --help` answers at once.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.errors import HeadstartError

if TYPE_CHECKING:
    from headstart.deploy.model import Model
    from headstart.screen import Screen

MOST_SHOWN = 5  # classes whose probabilities the screen shows; files and JSON have them all
INTERRUPTED = 130
USAGE_ERROR = 2  # typer's exit code, after it has said on standard error what was wrong

app = typer.Typer(
    name="headstart",
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="List the backbones that have a short name, or fetch one.", invoke_without_command=True)
app.add_typer(models_app, name="models")

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
TaskName = Annotated[str | None, typer.Option("--task", help="classification, multilabel or regression.")]
Group = Annotated[str | None, typer.Option("--group", help="Column whose values stay on one side (a patient).")]
Time = Annotated[str | None, typer.Option("--time", help="Column to split by: the latest examples are the test.")]


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Adapt a pretrained model to a small data set of your own, and see what the transfer was worth."""
    if version:
        from headstart import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def fit(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default runs/NAME.")] = None,
    backbone: Backbones = None,
    strategy: Annotated[str | None, typer.Option(help="probe, partial, full, lora or auto; default: measured.")] = None,
    freeze: Annotated[int | None, typer.Option(help="Stages to freeze, from the input; default: measured.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the search, as 90s or 2m; default: some passes.")] = None,
    plan: Annotated[Path | None, typer.Option(help="plan.json of an earlier run: done again exactly.")] = None,
    learning_rate: Annotated[str | None, typer.Option(help="Of the last stage: 1e-4, or find.")] = None,
    class_weight: Annotated[str | None, typer.Option(help="balanced or none; default by the metric.")] = None,
    scratch: Annotated[bool, typer.Option(help="Train the same network from random weights for comparison.")] = True,
    metric: Annotated[str | None, typer.Option(help="The metric to choose by, which the verdict speaks of.")] = None,
    input: Input = None,
    label: Label = None,
    task: TaskName = None,
    group: Group = None,
    time: Time = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of everything random.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Adapt a pretrained backbone to DATA and write a run folder with the model, its evidence and a report."""
    from headstart import problem, transfer

    progress = _screen(as_json or quiet)
    with progress.step("read"):
        dataset = problem.read(data, input=input, label=label, task=task, group=group, time=time)
    model = transfer.fit(
        dataset,
        backbone=backbone,
        strategy=strategy,
        freeze=freeze,
        budget=budget,
        plan=plan,
        learning_rate=_rate(learning_rate),
        class_weight=class_weight,
        scratch=scratch,
        metric=metric,
        seed=seed,
        out=out or _free_name(dataset.name),
        progress=progress,
    )
    _tell(model, as_json, progress.seconds)


@app.command()
def plan(
    data: Data,
    backbone: Backbones = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the evidence to.")] = None,
    metric: Annotated[str | None, typer.Option(help="The metric to rank by.")] = None,
    input: Input = None,
    label: Label = None,
    task: TaskName = None,
    group: Group = None,
    time: Time = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rank backbones for DATA by frozen features alone, and show what `fit` would try; trains nothing."""
    from headstart import problem, study
    from headstart.deploy.predictions import check_free

    if out is not None:
        check_free(out)
    progress = _screen(as_json or quiet)
    with progress.step("read"):
        dataset = problem.read(data, input=input, label=label, task=task, group=group, time=time)
    ranking = study.rank(dataset, backbone, metric=metric, seed=seed, progress=progress)
    if out is not None:
        out.write_text(json.dumps(ranking.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        _print_json(ranking.to_json())
        return
    from headstart.screen import show_ranking

    show_ranking(ranking)


@app.command()
def compare(
    data: Data,
    strategies: Annotated[
        str, typer.Option(help="Of auto, probe, partial, full, lora, scratch, classical; the first is the reference.")
    ] = "auto,scratch,classical",
    labels: Annotated[str, typer.Option(help="Label budgets, train and validation together.")] = "16,64,256,all",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of labelled examples for each budget.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default runs/NAME-compare.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A name from `headstart models`, a folder, or a hub id.")] = None,
    metric: Annotated[str | None, typer.Option(help="The metric of the curves.")] = None,
    input: Input = None,
    label: Label = None,
    task: TaskName = None,
    group: Group = None,
    time: Time = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learning curves of several ways to learn on DATA, and how many labels transfer saves; writes a page and JSON."""
    from headstart import problem, study
    from headstart.deploy import artifact
    from headstart.report.comparison import render_comparison

    progress = _screen(as_json or quiet)
    with progress.step("read"):
        dataset = problem.read(data, input=input, label=label, task=task, group=group, time=time)
    folder = out or _free_name(f"{dataset.name}-compare")
    artifact.check_writable(folder)
    found = study.compare(
        dataset,
        [name.strip() for name in strategies.split(",") if name.strip()],
        labels=[one.strip() for one in labels.split(",") if one.strip()],
        seeds=seeds,
        backbone=backbone,
        metric=metric,
        progress=progress,
    )
    files = {"comparison.json": artifact.to_bytes(found.to_json()), "report.html": render_comparison(found).encode()}
    artifact.write_run(folder, files)
    if as_json:
        _print_json({**found.to_json(), "run": str(folder)})
        return
    from headstart.screen import curve_table, show

    show(curve_table(found))
    print(*("", *found.saved), sep="\n")
    print(f"\nReport: {folder}/report.html")


@app.command()
def predict(
    run: Run,
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, a table, '-' for standard input, or a text.")],
    out: Annotated[Path | None, typer.Option(help="File to write: .csv, .tsv, .jsonl or .parquet.")] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line.")] = False,
    input: Input = None,
    backbone: Moved = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict with the model of RUN; probabilities are calibrated."""
    from headstart import load, registry
    from headstart.data.inputs import gather
    from headstart.deploy import predictions

    if out is not None:
        predictions.check_table_name(out)
    model = load(run, backbone)
    items = gather(registry.plugin_name(model.modality), inputs, lambda given: model.read(given, input=input, label=""))
    progress = _screen(as_json or quiet or jsonl)
    with progress.step("predict"):
        table = predictions.predict_all(model, items, progress)
    if out is not None:
        predictions.write_table(table, out)
    if as_json:
        _print_json({"run": str(run), "predictions": json.loads(table.to_json(orient="records"))})
    elif jsonl:
        print(predictions.as_jsonl(table), end="")
    elif out is None:
        shown = table if len(model.task.score_names) <= MOST_SHOWN else table.filter(regex=r"^(?!p\()")
        _print_rows(shown.to_dict("records"))
    else:
        print(f"{len(table):,} predictions: {out}")


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

    progress = _screen(as_json or quiet)
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
        _print_json({"run": str(run), "data": data, "n": found.n, "notes": found.notes, "metrics": scores})
    else:
        from headstart.evidence import words

        rows = [
            {"metric": model.evidence.titles.get(name, name), "value (95 % interval)": words.score(score)}
            for name, score in found.metrics.items()
        ]
        _print_rows(rows)


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
    _tell(model, as_json)


@models_app.callback()
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the backbones that have a short name: what they are, and whether they are on this disk."""
    if context.invoked_subcommand is not None:
        return
    from headstart.backbones import catalog

    rows = catalog.listing()
    if as_json:
        _print_json({"models": rows})
        return
    _print_rows(
        [
            {
                "name": row["name"],
                "takes": row["modality"],
                "parameters": f"{row['n_parameters'] / 1e6:.1f} M",
                "size": f"{row['size'] / 1e6:.0f} MB",
                "licence": row["licence"],
                "where": row["where"],
            }
            for row in rows
        ]
    )
    print("\nAny Hugging Face encoder works too: give its id or folder to `headstart fit --backbone`.")


@models_app.command()
def pull(
    names: Annotated[list[str], typer.Argument(help="Names from `headstart models`, or hub ids.", show_default=False)],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch backbones, check their sha256, and keep them in the weights cache."""
    from headstart.backbones import catalog

    located = [catalog.pull(name, _screen(as_json or quiet)) for name in names]
    if as_json:
        _print_json({"pulled": [{**vars(one), "folder": str(one.folder)} for one in located]})
    else:
        _print_rows([{"name": one.name, "where": one.folder, "from": one.source} for one in located])


@app.command()
def demo(
    kind: Annotated[str, typer.Argument(help="image or text.")] = "image",
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default runs/demo-KIND.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit on real data: photographs of solar cells (image), or questions put to a chatbot (text)."""
    from headstart import transfer
    from headstart.demo import demo_data

    progress = _screen(as_json or quiet)
    path, label = demo_data(kind, progress)
    with progress.step("read"):
        dataset = transfer.read(path, label=label)
    model = transfer.fit(dataset, out=out or _free_name(f"demo-{kind}"), progress=progress)
    _tell(model, as_json, progress.seconds)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what this machine has, and what stands in the way."""
    from headstart.doctor import examine_machine

    checks = examine_machine()
    if as_json:
        _print_json({"ok": all(check.ok for check in checks), "checks": [vars(check) for check in checks]})
    else:
        _print_rows(
            [
                {"": "ok" if check.ok else "NO", "what": check.name, "found": check.found, "advice": check.advice}
                for check in checks
            ]
        )
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: a user's error is one message and exit code 1, never a traceback."""
    try:
        app()
    except HeadstartError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(_failed(type(error).__name__, str(error)))
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("Stopped. Features computed so far are kept: the next fit goes on from there.", file=sys.stderr)
        if end.code != USAGE_ERROR:
            raise
        sys.exit(_failed("UsageError", "The command line was not understood; see `headstart --help`."))


def _failed(kind: str, message: str) -> int:
    if "--json" in sys.argv:
        _print_json({"error": {"kind": kind, "message": message}})
    return 1


def _screen(quiet: bool) -> Screen:
    from headstart.screen import Screen

    if quiet:  # the hub's library draws bars of its own
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return Screen(quiet)


def _tell(model: Model, as_json: bool, seconds: dict[str, float] | None = None) -> None:
    """The outcome of a fit: scores beside the baselines, the verdict, and where the rest is."""
    if as_json:
        told = json.loads(model.files["metrics.json"])
        _print_json({**told, "seconds": seconds or told["seconds"], "run": str(model.run)})
        return
    from rich.console import Console

    from headstart.screen import candidate_table, depth_lines, score_table, show

    console = Console(highlight=False)
    for part, view in ((model.plan.depth, depth_lines), (model.plan.candidates[1:], candidate_table)):
        if part:
            console.print()
            show(view(model.plan))
    console.print()
    show(score_table(model.evidence))
    console.print(f"\nChosen: {model.plan.reason}.", markup=False)
    console.print(f"{model.evidence.verdict}\n", style="bold", markup=False)
    console.print(f"Report: {model.run}/report.html", markup=False, soft_wrap=True)


def _rate(given: str | None) -> float | str | None:
    """A learning rate as a number where it is one."""
    try:
        return None if given is None else float(given)
    except ValueError:
        return given


def _free_name(name: str) -> Path:
    """runs/NAME, or the first of runs/NAME-2, runs/NAME-3 … that is not there."""
    candidates = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def _print_rows(rows: Sequence[Mapping[Any, Any]]) -> None:
    from headstart.screen import print_table

    print_table(rows)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    main()
