"""Nothing leaves the machine before its owner has seen what, and what it costs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from headstart.errors import PlanError

YES = frozenset({"y", "yes"})


def agree(offer: Sequence[str], yes: bool, say: Callable[[str], None]) -> None:
    """Show the offer and ask, unless it is agreed to beforehand; PlanError when it is declined, or no one can answer.

    It is shown and asked on the standard error, since the standard output may be for a program to read.
    """
    if yes:
        say("\n".join(offer))
        return
    if not sys.stdin.isatty():
        raise PlanError(
            "This would send data to others and cost money, and there is no terminal to ask in:\n"
            + "\n".join(offer)
            + "\nNothing was sent. Agree to it with --yes."
        )
    print("\n".join(offer), file=sys.stderr)
    print("Send this, and pay for it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in YES:
        raise PlanError("Nothing was sent, and nothing is to be paid.")
