"""What is on this machine: models, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli.base import Json, Quiet, app, print_json, print_rows, screen

models_app = typer.Typer(help="List the backbones that have a short name, or fetch one.", invoke_without_command=True)
app.add_typer(models_app, name="models")


@models_app.callback()
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the backbones that have a short name: what they are, and whether they are on this disk."""
    if context.invoked_subcommand is not None:
        return
    from headstart.backbones import catalog

    rows = catalog.listing()
    if as_json:
        print_json({"models": rows})
        return
    print_rows(
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
    print(
        "\nHugging Face encoders and language models work too: give an id, a folder or a GGUF file to `fit --backbone`."
    )


@models_app.command()
def pull(
    names: Annotated[list[str], typer.Argument(help="Names from `headstart models`, or hub ids.", show_default=False)],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch backbones, check their sha256, and keep them in the weights cache."""
    from headstart.backbones import catalog

    located = [catalog.pull(name, screen(as_json or quiet)) for name in names]
    if as_json:
        print_json({"pulled": [{**vars(one), "folder": str(one.folder)} for one in located]})
    else:
        print_rows([{"name": one.name, "where": one.folder, "from": one.source} for one in located])


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what this machine has, and what stands in the way."""
    from headstart.doctor import examine_machine

    checks = examine_machine()
    if as_json:
        print_json({"ok": all(check.ok for check in checks), "checks": [vars(check) for check in checks]})
    else:
        print_rows(
            [
                {"": "ok" if check.ok else "NO", "what": check.name, "found": check.found, "advice": check.advice}
                for check in checks
            ]
        )
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
