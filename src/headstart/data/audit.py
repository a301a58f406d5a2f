"""Look before anything is trained: what is broken, doubled, contradictory or too little."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that the audit found."""

    kind: str  # "unreadable", "empty", "duplicate", "leak", "conflict", "rare class", "imbalance", "few examples"
    severity: str  # "info" or "warning"
    text: str  # one sentence for people: what, how many, and what was done about it
    examples: tuple[str, ...] = ()  # names of a few items
