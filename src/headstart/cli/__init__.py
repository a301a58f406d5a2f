"""The command line: one verb each; parse, call, print.

Nothing heavy is imported before a verb needs it, so that `headstart --help` answers at once.
"""

from __future__ import annotations

import sys

from headstart.cli import (  # noqa: F401  (each adds its verbs)
    chat,
    cluster,
    deploy,
    fit,
    machine,
    pages,
    pretrain,
    serve,
    use,
)
from headstart.cli.base import app, failed
from headstart.errors import HeadstartError

INTERRUPTED = 130
USAGE_ERROR = 2  # typer's exit code, after it has said on standard error what was wrong


def main() -> None:
    """Entry point: a user's error is one message and exit code 1, never a traceback."""
    try:
        app()
    except HeadstartError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(failed(type(error).__name__, str(error)))
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("Stopped. Features computed so far are kept: the next fit goes on from there.", file=sys.stderr)
        if end.code != USAGE_ERROR:
            raise
        sys.exit(failed("UsageError", "The command line was not understood; see `headstart --help`."))
