"""Serve runs over HTTP: serve."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from headstart.cli.base import app
from headstart.errors import PlanError


@app.command()
def serve(
    runs: Annotated[list[str], typer.Argument(help="Run folders; NAME=FOLDER gives another name.", show_default=False)],
    host: Annotated[str, typer.Option(help="Beyond this machine, HEADSTART_TOKEN must be set.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    allow: Annotated[
        list[Path] | None, typer.Option(help="Folder that runs may be loaded from later, beside those of RUNS.")
    ] = None,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 10 << 20,
    max_items: Annotated[int, typer.Option(min=1, help="Items of a request.")] = 64,
    max_characters: Annotated[int, typer.Option(min=1, help="Of a text.")] = 50_000,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of a picture.")] = 50_000_000,
    max_seconds: Annotated[float, typer.Option(min=1, help="Of sound in a request.")] = 600.0,
    max_steps: Annotated[int, typer.Option(min=1, help="Of all series in a request.")] = 200_000,
    max_horizon: Annotated[int, typer.Option(min=1, help="Steps ahead that are forecast.")] = 512,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer in a chat.")] = 1024,
    max_waiting: Annotated[int, typer.Option(min=1, help="Items that may wait; more are refused (503).")] = 1024,
    batch: Annotated[int, typer.Option(min=1, help="Items that are run together at most.")] = 32,
    wait_ms: Annotated[float, typer.Option(min=0, help="How long an idle core waits for more items.")] = 2.0,
    answer_within: Annotated[float, typer.Option(help="Seconds until a request is given up (503).")] = 30.0,
    body_within: Annotated[float, typer.Option(help="Seconds for a body to arrive (408).")] = 10.0,
    header_within: Annotated[float, typer.Option(help="Seconds for headers to arrive, or the line is cut.")] = 10.0,
    page: Annotated[bool, typer.Option("--app", help="Show the page of `headstart app` too, at /app.")] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line for each request.")] = False,
) -> None:
    """Serve RUNS over HTTP; models on one backbone share one pass of it. HEADSTART_TOKEN asks for a token."""
    from headstart.engine.allocator import keep_few_kernels

    keep_few_kernels()  # before torch is there
    from headstart import load
    from headstart.deploy.serve.server import check_token
    from headstart.deploy.serve.server import serve as run_server
    from headstart.deploy.serve.settings import Settings

    folders = named(runs)
    settings = Settings(
        body_bytes=max_body,
        items=max_items,
        characters=max_characters,
        pixels=max_pixels,
        seconds=max_seconds,
        steps=max_steps,
        horizon=max_horizon,
        tokens=max_tokens,
        waiting=max_waiting,
        batch=batch,
        wait_s=wait_ms / 1000,
        answer_s=answer_within,
        body_s=body_within,
        header_s=header_within,
        token=os.environ.get("HEADSTART_TOKEN") or None,
        allowed=(*(folder.absolute().parent for folder in folders.values()), *(allow or ())),
    )
    check_token(host, settings.token)  # before anything is loaded
    run_server({name: load(folder) for name, folder in folders.items()}, settings, host, port, access_log, page)


def named(runs: list[str]) -> dict[str, Path]:
    """Run folders by the names that they are served under; PlanError where two have one name."""
    found: dict[str, Path] = {}
    for run in runs:
        given, is_named, folder = ("", "", "") if Path(run).exists() else run.partition("=")
        path = Path(folder if is_named else run)
        name = given if is_named else re.sub(r"[^A-Za-z0-9._-]+", "-", path.absolute().name).strip("-._")
        if name in found:
            raise PlanError(
                f"{found[name]} and {path} would both be served as {name!r}. Name one of them: {name}-2={path}"
            )
        found[name] = path
    return found
