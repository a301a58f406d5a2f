"""The report: one self-contained HTML file per run, for people who look rather than read.

No script, no font and no picture from elsewhere: it opens from a disk, an e-mail or a web server alike.
"""

from __future__ import annotations

from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any, NamedTuple

from markupsafe import Markup

from headstart.backbones.base import Provenance
from headstart.evidence import words
from headstart.evidence.base import Evidence, Score
from headstart.evidence.calibration import reliability
from headstart.evidence.plan import Plan
from headstart.evidence.record import Record
from headstart.hosted.wishes import STRATEGY
from headstart.report import boxes, chat, columns, domains, forecasts, frozen, outcomes, plots, transcripts
from headstart.report.page import fill, sentence
from headstart.tasks.base import LinearTask

THIS = "this model"
N_BINS = 10  # of the calibration curve


def render(record: Record) -> str:
    """The whole page."""
    return fill("template.html.j2", _view(record))


def _view(record: Record) -> dict[str, Any]:
    created = datetime.fromisoformat(record.created).astimezone(UTC)
    return {
        "record": record,
        "created": f"{created.day} {created:%B %Y, %H:%M} UTC",
        "mark": plots.verdict_mark(record.evidence.paid),
        "total_seconds": sum(record.seconds.values()),
        **frozen.view(record.plan),
        **domains.view(record),
        "tables": None if record.tables is None else columns.view(record.tables, record.plan),
        "boxes": None if record.boxes is None else boxes.view(record.boxes, record.slips),
        "chat": None if record.chat is None else chat.view(record.chat),
        "speech": None if record.speech is None else transcripts.view(record.speech, record.utterances),
        "forecasts": None if record.forecasts is None else forecasts.view(record.forecasts, record.evidence),
        "network": "" if record.provenance is None else forecasts.network_name(record.provenance),
        "groups": _groups(record.evidence),
        "is_number": not record.task.score_names,
        "warnings": [f for f in record.findings if f.severity == "warning"],
        "remarks": [f for f in record.findings if f.severity != "warning"],
        "mistakes": record.mistakes,
        "most_classes": outcomes.MOST_CLASSES,
        "made_of": _made_of(record),
        **_outcome(record),
        **_calibration(record),
    }


class Row(NamedTuple):
    """One line of the score plot."""

    who: str
    plot: Markup
    value: str
    interval: str
    comparison: str = ""  # what the paired difference says; empty for the model itself


class Group(NamedTuple):
    """One metric: the model's row, the baselines' rows, the axis under them."""

    title: str
    better: str
    rows: list[Row]
    ticks: Markup


def _groups(evidence: Evidence) -> list[Group]:
    """One group a metric, the primary one first; all shares of one share an axis, every other metric has its own."""
    names = sorted(evidence.metrics, key=lambda name: name != evidence.primary)
    ends = {name: [end for score in _column(evidence, name).values() for end in astuple(score)] for name in names}
    shared = [n for n in names if evidence.better[n] == "higher" and not any(end < 0 or end > 1 for end in ends[n])]
    common = plots.axis([*(end for name in shared for end in ends[name]), 1.0])
    return [_group(evidence, name, common if name in shared else plots.axis([*ends[name], 0.0])) for name in names]


def _column(evidence: Evidence, name: str) -> dict[str, Score]:
    """Who -> score in one metric, the model first."""
    return {THIS: evidence.metrics[name]} | {who: b[name] for who, b in evidence.baselines.items() if name in b}


def _group(evidence: Evidence, name: str, axis: plots.Axis) -> Group:
    rows = []
    for who, score in _column(evidence, name).items():
        plot = plots.interval_row(score, axis, who, "model" if who == THIS else "baseline")
        difference = evidence.differences.get(who, {}).get(name)
        said = words.comparison(difference, evidence.better[name]).text if difference else ""
        rows.append(Row(who, plot, words.value(score), words.interval(score), sentence(said)))
    return Group(sentence(evidence.titles[name]), evidence.better[name], rows, plots.tick_row(axis))


def _outcome(record: Record) -> dict[str, Any]:
    """The picture of right and wrong that fits the labels: a matrix, bars a label, or a scatter."""
    task, test = record.task, record.test
    found: dict[str, Any] = {"confusion": None, "labels": None, "scatter": None, "perfect": None}
    if not isinstance(task, LinearTask):
        return found
    if not task.score_names:
        return found | {"scatter": plots.scatter(test.y, test.scores[:, 0], record.data.label_name)}
    if test.y.ndim == 2:
        return found | {"labels": outcomes.labels(task, test)}
    confusion = outcomes.confusion(task, test)
    n = len(test.y)
    perfect = words.share(1 - 0.05 ** (1 / n)) if n and not confusion.n_wrong else None  # exact upper bound, 0 of n
    return found | {"confusion": confusion, "perfect": perfect}


def _calibration(record: Record) -> dict[str, Any]:
    """The calibration curve, and one sentence that reads its fullest bin aloud."""
    task, test = record.task, record.test
    bins = reliability(test.y, test.scores, N_BINS) if isinstance(task, LinearTask) and task.calibrated else []
    if not bins:
        return {"calibration": None, "calibration_example": None}
    fullest = max(bins, key=lambda b: b.count)
    example = (
        f"For example, {words.count(fullest.count)} answers were given with a confidence of about "
        f"{words.share(fullest.confidence)}; {words.share(fullest.accuracy)} of them were right."
    )
    return {"calibration": plots.calibration(bins), "calibration_example": example}


def _made_of(record: Record) -> list[tuple[str, str | Markup]]:
    plan = record.plan
    return [
        *(_of_rows(plan) if record.provenance is None else _on_backbone(plan, record.provenance)),
        ("Seed", str(plan.seed)),
        ("Bootstrap resamples", words.count(record.evidence.n_resamples)),
        ("Libraries", ", ".join(f"{library} {version}" for library, version in record.versions.items())),
        ("To repeat it", Markup("<code>{}</code>").format(record.command or "the data were in memory")),
    ]


def _of_linear(plan: Plan) -> list[tuple[str, str | Markup]]:
    """What a head has that was chosen by its loss; a detector has a canvas instead."""
    if plan.val_loss is None:
        return [("Pictures are seen as", f"{plan.canvas[1]} × {plan.canvas[0]} pixels")] if plan.canvas else []
    return [
        ("Temperature of calibration", f"{plan.temperature:.3g}"),
        ("Loss on validation", words.number(plan.val_loss)),
    ]


def _of_rows(plan: Plan) -> list[tuple[str, str | Markup]]:
    """A table's model has no pretrained network in it."""
    return [("Pretrained network", "none: its rows are learnt from as they are"), ("Ways", sentence(plan.reason))]


def _on_backbone(plan: Plan, provenance: Provenance) -> list[tuple[str, str | Markup]]:
    if plan.strategy == STRATEGY:
        return [("Backbone", provenance.name), ("Where", provenance.source), ("Its licence", provenance.licence)]
    strategy = f"{plan.strategy}, cut at stage {plan.cut} of {plan.n_stages}"
    ships_classical = plan.ships == "classical"
    strength = [] if plan.strength is None else [("Strength of regularisation", f"{plan.strength:.3g}")]
    return [
        *([("Shipped", plan.classical)] if ships_classical else []),
        ("Backbone, not shipped" if ships_classical else "Backbone", provenance.name),
        ("Its source", provenance.source),
        ("Its licence", provenance.licence),
        ("Its parameters", words.count(provenance.n_parameters)),
        ("sha256 of its weights", Markup("<code>{}</code>").format(provenance.sha256)),
        ("Strategy, not shipped" if ships_classical else "Strategy", strategy),
        *strength,
        *_of_linear(plan),
        *([("Classical model beside it", plan.classical)] if plan.classical else []),
    ]
