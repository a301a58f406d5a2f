"""Pages in a browser: app, studio."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from headstart.cli.base import app
from headstart.errors import PlanError

Runs = Annotated[list[Path], typer.Argument(help="Run folders that `headstart fit` wrote.", show_default=False)]
Host = Annotated[str, typer.Option(help="Address to listen on; all but this machine's own needs HEADSTART_TOKEN.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


@app.command("app")
def show(run: Runs, host: Host = "127.0.0.1", port: Port = 7860, browser: Open = False) -> None:
    """Try the models of RUN … on a page: the answer, what drove it, what is like it, and the report."""
    from headstart import load
    from headstart.deploy import app as page

    server = page.server(host)
    models = {path.resolve().name: load(path) for path in run}
    if len(models) < len(run):
        raise PlanError("Two of the runs have the same name; rename one of the folders, so that both can be shown.")
    page.listen(page.mount(server, models), host, port, _announce(browser))


@app.command()
def studio(
    out: Annotated[Path, typer.Option(help="Folder to write runs in.")] = Path("runs"),
    host: Host = "127.0.0.1",
    port: Port = 7861,
    browser: Open = False,
) -> None:
    """Fit without a terminal: drop data on a page, see how they are understood, fit, try the model, take it home."""
    with tempfile.TemporaryDirectory(prefix="headstart-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads end with the studio; read when Gradio is imported
        from headstart.deploy import app as page
        from headstart.studio import page as studio_page
        from headstart.studio.workspace import Studio

        server = page.server(host)
        page.listen(studio_page.mount(server, Studio(Path(folder), out)), host, port, _announce(browser))


def _announce(browser: bool) -> Callable[[str], None]:
    """What is said, and done, once the page can be reached."""

    def announce(address: str) -> None:
        print(f"The page is at {address} (stop with Ctrl-C).", flush=True)
        if browser:
            typer.launch(address)

    return announce
