"""The Jinja environment of all pages: everything is escaped, numbers are said as in `words`."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from headstart.evidence import words
from headstart.report import plots


def fill(template: str, view: dict[str, Any]) -> str:
    """A whole page."""
    return _environment().get_template(template).render(**view)


def sentence(text: str) -> str:
    """The text with a capital first letter, unless its first word has capitals of its own: "mAP"."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    return text if first[1:] != first[1:].lower() else text[:1].upper() + text[1:]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("headstart.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": words.count,
        "share": words.share,
        "seconds": words.seconds,
        "number": words.number,
        "sentence": sentence,
    }
    environment.globals |= {"bar": plots.bar}
    return environment
