"""Learn: fit, plan, compare, demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli.base import (
    As,
    Backbones,
    Data,
    Frequency,
    Group,
    Horizon,
    Input,
    Json,
    Known,
    Label,
    Quiet,
    Season,
    Series,
    Static,
    TaskName,
    Time,
    app,
    check_no_series,
    free_name,
    horizon_of,
    panel_reading,
    print_json,
    screen,
    tell,
)


@app.command()
def fit(
    data: Data,
    source: Annotated[
        str | None, typer.Option(help="Another table with the same label, or other series, to carry over from.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default runs/NAME.")] = None,
    to: Annotated[str | None, typer.Option(help="Unlabelled data of another domain to adapt to.")] = None,
    target_labels: Annotated[
        str | None, typer.Option(help="Column of labels in --to, or auto: they only measure, at the end.")
    ] = None,
    backbone: Backbones = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="probe, partial, full, lora, auto; boxes, transcripts, series: frozen; lora for Whisper's decoder; "
            "chat: lora, partial, full; zero_shot for series and chat; others with --to, --source; else measured."
        ),
    ] = None,
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
    modality: Annotated[
        str | None, typer.Option(help="tabular: learn from whole rows, even where one is a text.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="Chat: the system's words, where a conversation has none of its own.")
    ] = None,
    redact: Annotated[bool, typer.Option(help="Chat: mask e-mail addresses, telephone and card numbers …")] = False,
    yes: Annotated[bool, typer.Option(help="openai:MODEL: agree to what is sent and to its cost.")] = False,
    price: Annotated[
        str | None, typer.Option(help="openai:MODEL: dollars a million tokens, TRAINING or TRAINING,INPUT,OUTPUT.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="openai:MODEL: epochs of the fine-tuning.")] = None,
    horizon: Horizon = None,
    series: Series = None,
    known: Known = None,
    static: Static = None,
    frequency: Frequency = None,
    season: Season = None,
    as_: As = "levels",
    test_steps: Annotated[
        int | None, typer.Option(help="Series: how many of the latest steps are the test; default a fifth.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of everything random.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Adapt a pretrained backbone to DATA and write a run folder with the model, its evidence and a report.

    A plain table is learnt row by row, with the help of --source if there is one. With --horizon DATA holds series,
    which are forecast; a network is pretrained on the series of --source first, if there are any. Conversations, or
    prompts with their answers (--task chat), teach a language model; --backbone openai:MODEL has OpenAI fine-tune one.
    """
    from headstart import problem, transfer
    from headstart.hosted.wishes import HostedWishes

    progress = screen(as_json or quiet)
    beside = None
    reading = panel_reading(time, series, label, known, static, frequency, season, as_)
    learn: dict[str, Any] = {
        "to": to,
        "backbone": backbone,
        "strategy": strategy,
        "freeze": freeze,
        "budget": budget,
        "plan": plan,
        "learning_rate": _rate(learning_rate),
        "class_weight": class_weight,
        "scratch": scratch,
        "metric": metric,
        "hosted": HostedWishes(yes=yes, price=price, n_epochs=epochs),
        "seed": seed,
        "progress": progress,
    }
    if horizon is not None or task == "forecasting":
        ahead: dict[str, Any] = {
            "source": source,
            "horizon": horizon_of(horizon),
            "test_steps": test_steps,
            "reading": reading,
        }
        model = transfer.fit(data, **ahead, **learn, out=out or free_name(Path(data).name.split(".")[0]))
        tell(model, as_json, progress.seconds)
        return
    check_no_series(reading, test_steps)
    if source is not None:
        dataset, beside = problem.pair(data, source, progress, label=label, task=task, group=group, time=time)
    else:
        with progress.step("read"):
            said = {"input": input, "label": label, "task": task, "group": group, "time": time, "modality": modality}
            dataset = problem.read(data, **said, system=system, redact=redact)
    model = transfer.fit(
        dataset, target_labels=target_labels, source=beside, **learn, out=out or free_name(dataset.name)
    )
    tell(model, as_json, progress.seconds)


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
    progress = screen(as_json or quiet)
    with progress.step("read"):
        dataset = problem.read(data, input=input, label=label, task=task, group=group, time=time)
    ranking = study.rank(dataset, backbone, metric=metric, seed=seed, progress=progress)
    if out is not None:
        out.write_text(json.dumps(ranking.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(ranking.to_json())
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

    progress = screen(as_json or quiet)
    with progress.step("read"):
        dataset = problem.read(data, input=input, label=label, task=task, group=group, time=time)
    folder = out or free_name(f"{dataset.name}-compare")
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
        print_json({**found.to_json(), "run": str(folder)})
        return
    from headstart.screen import curve_table, show

    show(curve_table(found))
    print(*("", *found.saved), sep="\n")
    print(f"\nReport: {folder}/report.html")


@app.command()
def demo(
    kind: Annotated[str, typer.Argument(help="image or text.")] = "image",
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default runs/demo-KIND.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit on real data: photographs of solar cells (image), or questions put to a chatbot (text)."""
    from headstart import problem, transfer
    from headstart.demo import demo_data

    progress = screen(as_json or quiet)
    path, label = demo_data(kind, progress)
    with progress.step("read"):
        dataset = problem.read(path, label=label)
    model = transfer.fit(dataset, out=out or free_name(f"demo-{kind}"), progress=progress)
    tell(model, as_json, progress.seconds)


def _rate(given: str | None) -> float | str | None:
    """A learning rate as a number where it is one."""
    try:
        return None if given is None else float(given)
    except ValueError:
        return given
