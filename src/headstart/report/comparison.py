"""The page of a comparison: learning curves of every way to learn, and how many labels transfer saved."""

from __future__ import annotations

from typing import Any, NamedTuple

from headstart.evidence import words
from headstart.evidence.curves import Comparison, CurvePoint
from headstart.report import lines
from headstart.report.page import fill


class Row(NamedTuple):
    """One way to learn: a cell a budget."""

    system: str
    scores: list[tuple[str, str]]  # mean, standard deviation
    seconds: list[str]


def render_comparison(comparison: Comparison) -> str:
    """One self-contained HTML page."""
    return fill("comparison.html.j2", _view(comparison))


def _view(comparison: Comparison) -> dict[str, Any]:
    budgets = sorted({point.n_labels for point in comparison.points})
    spread = any(len(point.scores) > 1 for point in comparison.points)
    return {
        "comparison": comparison,
        "plot": lines.curves(comparison),
        "budgets": budgets,
        "rows": [_row(system, points, budgets) for system, points in comparison.systems().items()],
        "spread": spread,
        "reading": _reading(comparison, spread),
        "seeds": _seeds(comparison),
    }


def _row(system: str, points: list[CurvePoint], budgets: list[int]) -> Row:
    at = {point.n_labels: point for point in points}
    return Row(
        system,
        [lines.mean_and_sd(at[n]) if n in at else ("–", "") for n in budgets],
        [words.seconds(at[n].seconds) if n in at else "–" for n in budgets],
    )


def _reading(comparison: Comparison, spread: bool) -> str:
    """How to read the plot."""
    bars = "; the bars are one standard deviation over the seeds, up and down" if spread else ""
    best = comparison.better.capitalize()
    return (
        f"Each dot is a mean score on the same {words.count(comparison.n_test)} test examples{bars}. {best} is better. "
        "Every step of one length to the right multiplies the labels by the same number; at the same height, the line "
        "further to the left needs fewer labels."
    )


def _seeds(comparison: Comparison) -> str:
    counts = {len(point.scores) for point in comparison.points} or {0}
    low, high = min(counts), max(counts)
    if high <= 1:
        return "not at all: one seed, so the spread between seeds is not known"
    return f"with {high if low == high else f'{low} to {high}'} seeds for each dot"
