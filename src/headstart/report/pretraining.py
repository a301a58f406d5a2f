"""The page and the card of a backbone that went on pretraining."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.evidence.continued import Continued, Gain
from headstart.report.page import fill


class Row(NamedTuple):
    """One number of labels."""

    labels: str
    before: str
    after: str
    change: str


def render(told: Continued) -> str:
    """One self-contained HTML page."""
    return fill("pretraining.html.j2", _view(told))


def card(told: Continued) -> str:
    """README.md: a model card with front matter."""
    parent = told.parent["source"]
    front = [f"license: {told.parent['licence'].lower()}"] if told.parent["licence"] != "unknown" else []
    front += [f"base_model: {parent.removeprefix('hub:')}"] if parent.startswith("hub:") else []
    front += ["library_name: headstart", "tags:", "- headstart", "- continued-pretraining", f"- {told.loss}"]
    rows = [f"| {row.labels} | {row.before} | {row.after} | {row.change} |" for row in _rows(told)]
    metric = told.downstream.metric_title if told.downstream else ""
    table = ["| labels | before | after | change |", "|---|---|---|---|", *rows, ""] if rows else []
    return "\n".join(
        [
            *("---", *front, "---", ""),
            f"# {told.parent['name']}, gone on with {told.what}",
            "",
            told.verdict,
            "",
            *([f"{metric}, mean over the draws of labels, with the 95 % interval of the change:", ""] if rows else []),
            *table,
            _held(told),
            "",
            *(f"- {name}: {value}" for name, value in _facts(told)),
            "",
            "Use it as a backbone: `headstart fit DATA --backbone THIS-FOLDER`. `report.html` says the same with more "
            "detail, `pretraining.json` in full.",
            "",
        ]
    )


def _view(told: Continued) -> dict[str, Any]:
    return {
        "told": told,
        "rows": _rows(told),
        "held": _held(told),
        "facts": _facts(told),
        "n_draws": len(told.downstream.gains[0].before) if told.downstream else 0,
    }


def _rows(told: Continued) -> list[Row]:
    return [_row(gain) for gain in told.downstream.gains] if told.downstream else []


def _row(gain: Gain) -> Row:
    old, new = (words.number(float(np.mean(one)), 3) for one in (gain.before, gain.after))
    value, low, high = (
        words.number(one, 3, signed=True) for one in (gain.difference.value, gain.difference.low, gain.difference.high)
    )
    return Row(words.count(gain.n_labels), old, new, f"{value} ({low} to {high})")


def _held(told: Continued) -> str:
    """The loss before and after, in a sentence; for masked tokens the perplexity as well."""
    held = told.held_out
    of = f"{words.count(held.n)} {'batches' if held.unit == 'batch' else 'texts'} that were not learnt from"
    said = (
        f"The loss for each {held.unit} of {of} goes from {words.score(held.before)} to {words.score(held.after)}: a "
        f"change of {_signed(held.difference)}. Before means: once the loss's own head had learnt on the network as it "
        "was."
    )
    if held.unit == "masked token":
        old, new = (words.number(math.exp(score.value), 1) for score in (held.before, held.after))
        said += f" As perplexity: {old} before, {new} after."
    return said


def _signed(score: Score) -> str:
    value, low, high = (words.number(one, 3, signed=True) for one in (score.value, score.low, score.high))
    return f"{value} ({low} to {high})"


def _facts(told: Continued) -> list[tuple[str, str]]:
    frozen = told.stage_names[told.cut - 1] if told.cut else "nothing"
    return [
        ("Backbone before", f"{told.parent['name']} ({told.parent['source']}), sha256 {told.parent['sha256'][:16]}…"),
        ("Licence", f"{told.parent['licence']}, that of the backbone before"),
        ("Learnt from", f"{words.count(told.n)} distinct items of {told.data}, in {words.count(told.n_pieces)} pieces"),
        ("Loss measured on", f"{words.count(told.n_held)} other items"),
        ("Kept out as test", f"{words.count(told.n_kept_out)} items"),
        ("Frozen up to", frozen),
        ("Steps", f"{words.count(told.n_steps)} ({told.epochs:g} epochs), {words.seconds(told.seconds)}"),
        ("Seed", str(told.seed)),
    ]
