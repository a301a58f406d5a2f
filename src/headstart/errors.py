"""Everything that Headstart raises on purpose, in one tree.

    HeadstartError
    ├── DataError           the data cannot be used as they are
    ├── BackboneError       the pretrained network is unknown, damaged or not on this disk
    ├── PlanError           a choice that cannot be carried out
    ├── RunError            a run folder is missing, damaged or in the way
    ├── RegistryError       a plug-in is unknown, or its file breaks the rules
    ├── ServiceError        a hosted model's API refused, or cannot be reached
    └── MissingExtraError   an optional library is not installed

A message says what was given, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadstartError(Exception):
    """Base of every error that a user can put right."""


class DataError(HeadstartError):
    """The data cannot be used as they are."""


class BackboneError(HeadstartError):
    """The pretrained network is unknown, damaged or not on this disk."""


class PlanError(HeadstartError):
    """A choice that cannot be carried out."""


class RunError(HeadstartError):
    """A run folder is missing, damaged or in the way."""


class RegistryError(HeadstartError):
    """A plug-in is unknown, or its file breaks the rule of one public class a file."""


class ServiceError(HeadstartError):
    """A hosted model's API refused, or cannot be reached."""

    def __init__(self, message: str, *, passing: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.passing = passing  # the same request may succeed later
        self.status = status  # of HTTP; None where no answer came


class MissingExtraError(HeadstartError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"This needs the library {library!r}, which is not installed. "
            f"Install it with: pip install 'headstart[{extra}]'"
        )


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """' Did you mean …?' for the nearest allowed name, or '' when none is near."""
    near = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[object], most: int = 8) -> str:
    """'a, b, c and 4 more': a list for an error message."""
    shown = [str(name) for name in names]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest} more" if rest > 0 else "")
