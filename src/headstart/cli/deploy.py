"""Take a run elsewhere: export, bundle, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli.base import Json, Moved, Quiet, Run, app, print_json, screen


@app.command()
def export(
    run: Run,
    format: Annotated[
        str | None,
        typer.Option(help="onnx, torch or hf; default onnx. A chatbot: hf, peft or gguf; default hf."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default RUN-FORMAT, beside the run.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit weights (onnx); what they cost is measured.")] = False,
    data: Annotated[str | None, typer.Option(help="Labelled data to check on; default: the run's validation.")] = None,
    backbone: Moved = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the model of RUN for another runtime, checked on real examples before it is left on the disk."""
    from headstart import load
    from headstart.deploy.export import export as write

    model = load(run, backbone)
    format = format or ("onnx" if model.talker is None else "hf")
    folder = out or run.with_name(f"{run.name}-{format}{'-int8' if int8 else ''}")
    found = write(model, format, folder, int8=int8, data=data, progress=screen(as_json or quiet))
    if as_json:
        print_json({"run": str(run), "export": str(found.folder), "parity": found.parity.to_json()})
    else:
        print(f"Checked: {found.parity}.\nExport: {found.folder}")


@app.command()
def bundle(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Folder or .zip to write; default RUN-bundle.")] = None,
    backbone: Moved = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put RUN and its backbone into one folder that works without a network and without a weights cache."""
    from headstart import load
    from headstart.deploy.bundle import bundle as write

    where = write(load(run, backbone), out or run.with_name(f"{run.name}-bundle"), screen(as_json or quiet))
    if as_json:
        print_json({"run": str(run), "bundle": str(where)})
    else:
        print(f"Bundle: {where}")


@app.command()
def push(
    run: Run,
    name: Annotated[str, typer.Argument(help="ORG/NAME on the Hugging Face hub.", show_default=False)],
    public: Annotated[bool, typer.Option("--public", help="For everyone to see; default: private.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put RUN on the Hugging Face hub: model, plan, scores and card, without any of your examples."""
    from headstart import load
    from headstart.deploy import hub

    where = hub.push(load(run), name, private=not public, progress=screen(as_json or quiet))
    if as_json:
        print_json({"run": str(run), "url": where})
    else:
        print(f"Left out: {', '.join(hub.KEPT_BACK)}.\nPushed: {where}")
