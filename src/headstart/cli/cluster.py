"""Group without labels: cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli.base import Data, Input, Json, Quiet, app, free_name, print_json, screen


@app.command()
def cluster(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default runs/NAME-groups.")] = None,
    groups: Annotated[int | None, typer.Option(help="How many; default: found by stability under resampling.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A name from `headstart models`, a folder, or a hub id.")] = None,
    source: Annotated[str | None, typer.Option(help="Labelled data of other classes, which may shape groups.")] = None,
    label_a_few: Annotated[int, typer.Option(help="Propose so many items that are worth labelling first.")] = 0,
    input: Input = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column with labels, only to measure the groups against in the end.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find groups in DATA without labels: how many, how stable, what stands for them, what is odd or doubled."""
    from headstart import problem
    from headstart.clustering import cluster as find

    progress = screen(as_json or quiet)
    with progress.step("read"):
        dataset = problem.read(data, input=input, label=label or "")
    folder = out or free_name(f"{dataset.name}-groups")
    found = find(
        dataset,
        backbone=backbone,
        groups=groups,
        source=source,
        label_a_few=label_a_few,
        seed=seed,
        out=folder,
        progress=progress,
    )
    if as_json:
        print_json({**found.to_json(), "run": str(folder)})
        return
    from headstart.screen import show_clusters

    show_clusters(found)
    print(f"\nReport: {folder}/report.html")
    if found.proposals:
        print(f"To label: {folder}/label_these.csv")
