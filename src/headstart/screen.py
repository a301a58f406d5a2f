"""What a run looks like in a terminal: progress on standard error, results on standard output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from rich.bar import Bar
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBar
from rich.table import Table
from rich.text import Text

from headstart.evidence import words
from headstart.evidence.adaptation import Adaptation
from headstart.evidence.agreement import TITLES
from headstart.evidence.base import Evidence, Scores
from headstart.evidence.curves import Comparison
from headstart.evidence.forecast_verdict import p_value
from headstart.evidence.forecasts import ForecastEvidence
from headstart.evidence.plan import DepthPoint, Plan
from headstart.evidence.weigh import MODEL
from headstart.progress import Progress
from headstart.report import frozen
from headstart.report.forecasts import ordered, scores_of
from headstart.report.lines import mean_sd
from headstart.tasks.forecasting import BANDS

BAR = 24  # columns of a bar in the depth profile
MOST_GROUPS = 40  # that the screen lists; the files have them all


if TYPE_CHECKING:
    from headstart.evidence.clusters import Clusters
    from headstart.study import Ranking

SCORES = {
    "logme": "LogME",
    "h_score": "H-score",
    "transrate": "TransRate",
    "probe_cv": "cross-validated",
    "leep": "LEEP",
    "nce": "NCE",
}


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        """'41.2/s', or nothing before the first step."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class Screen(Progress):
    """Shows steps, bars with rate and time left, and lines, on standard error."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__()
        self.doing = ""
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time it; a bar inside carries its name."""
        self.doing = name
        with super().step(name):
            yield

    @contextmanager
    def bar(self, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A bar over `total` units; bytes ("B") are shown as megabytes."""
        columns = [DownloadColumn()] if unit == "B" else [MofNCompleteColumn(), TextColumn(unit), _Rate()]
        columns = [TextColumn("{task.description}"), BarColumn(30), *columns, TimeRemainingColumn()]
        silent = not self.console.is_terminal  # a bar is no use in a log file
        if silent and total:
            amount = f"{total / 1e6:.0f} MB" if unit == "B" else f"{total:,} {unit}"
            self.say(f"  {self.doing or 'fetch'}: {amount}")
        with RichBar(*columns, console=self.console, transient=True, disable=silent) as bars:
            task = bars.add_task(self.doing, total=total)
            yield lambda n: bars.advance(task, n)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False)


def score_table(evidence: Evidence) -> Table:
    """Metrics down, systems across, each with its 95 % interval."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    systems: dict[str, Scores] = {"this model": evidence.metrics, **evidence.baselines}
    table.add_column("")
    for name in systems:
        table.add_column(name, vertical="bottom", max_width=24)
    for metric, title in evidence.titles.items():
        cells = [words.score(scores[metric]) if metric in scores else "–" for scores in systems.values()]
        table.add_row(title, *cells, style="bold" if metric == evidence.primary else None)
    return table


def forecast_table(evidence: Evidence, found: ForecastEvidence) -> Table:
    """Systems down; metrics, the primary one with its interval, and what their bands cover across."""
    names = sorted(evidence.titles, key=lambda name: name != found.metric)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", max_width=24)
    for name in names:
        table.add_column(evidence.titles[name], max_width=None if name == found.metric else 10, vertical="bottom")
    for band in BANDS:
        table.add_column(f"in {band} % band", max_width=8, vertical="bottom")
    table.add_column("against the model", max_width=10, vertical="bottom")  # Diebold-Mariano
    by_name = {one.name: one for one in found.systems}
    for name in ordered(found, evidence):
        scores, one = scores_of(evidence, name), by_name[name]
        cells = [(words.score if n == found.metric else words.value)(scores[n]) if n in scores else "–" for n in names]
        cells += [words.share(share.value) if (share := one.bands[band].share) else "–" for band in BANDS]
        cells.append(p_value(one.test.p) if one.test else "–")
        table.add_row(
            *map(Text, ["this model" if name == MODEL else name, *cells]), style="bold" if name == MODEL else None
        )
    return table


def chat_table(evidence: Evidence) -> Table:
    """Systems down; metrics across, the primary one and the first of answers with their intervals."""
    with_interval = {evidence.primary, "token_f1"}
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", max_width=24)
    for name, title in evidence.titles.items():
        table.add_column(title, max_width=None if name in with_interval else 12, vertical="bottom")
    for who, scores in {"this model": evidence.metrics, **evidence.baselines}.items():
        cells = [
            (words.score if name in with_interval else words.value)(scores[name]) if name in scores else "–"
            for name in evidence.titles
        ]
        table.add_row(*map(Text, [who, *cells]), style="bold" if who == "this model" else None)
    return table


def depth_lines(plan: Plan) -> Table:
    """The depth profile: a line a probe with its score as a bar, its interval, and a mark on what was chosen."""
    ends = [end for point in plan.depth for end in astuple(point.score) if math.isfinite(end)] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    span = f"bars from {words.number(low)} to {words.number(high)}"
    solved = any(point.val_loss is not None for point in plan.depth)
    head = "Head trained on" if plan.reads else "Linear probe on" if solved else "Adapted above"
    table = _plain_table(head, span, f"{frozen.metric_title(plan)} on validation", "")
    for point in plan.depth:
        share = (point.score.value - low) / (high - low) if high > low else 1.0
        bar = Bar(1.0, 0.0, share if math.isfinite(share) else 0.0, width=BAR)
        mark = _depth_mark(plan, point)
        table.add_row(Text(point.name), bar, Text(words.score(point.score)), mark, style="bold" if mark else None)
    return table


def _depth_mark(plan: Plan, point: DepthPoint) -> str:
    """'← chosen' on the probe that was chosen, '← cut here' on the last frozen stage of what was trained above it."""
    if frozen.is_read(plan, point):
        return "← chosen"
    if frozen.as_pretrained(plan):
        return ""
    last_frozen = point.stages == (plan.cut - 1,) and not plan.solved and plan.ships != "classical"
    return "← last frozen stage" if last_frozen else ""


def candidate_table(plan: Plan) -> Table:
    """What was considered, what it cost, and what became of it; the chosen one in bold."""
    if not plan.n_stages:
        return way_table(plan)
    score = f"{frozen.metric_title(plan)} on validation"
    table = _plain_table("Way to adapt", "Round", "Labels", score, "Passes", "Time", "Outcome")
    for column in (1, 2, 4, 5):
        table.columns[column].justify = "right"
    for one in plan.candidates:
        cells = [
            one.title,
            frozen.round_of(one),
            words.count(one.n_train),
            words.score(one.score) if one.score else frozen.unscored(one),
            frozen.passes(one.cost_passes),
            words.seconds(one.seconds) if one.score or one.seconds else "–",
            one.outcome,
        ]
        table.add_row(*map(Text, cells), style="bold" if frozen.is_chosen(one) else None)
    return table


def ways_table(found: Adaptation) -> Table:
    """Ways across to a target: how many label-free scores vote for each, estimates, and what was measured."""
    headers = [f"{found.metric_title} in the source", "Votes", "Accuracy in the target, estimated"]
    measured = [f"{found.metric_title} in the target, measured"] if found.n_labelled else []
    table = _plain_table("Way across", *headers, *measured, "Time", "")
    for way in found.ways:
        cells = [way.title, words.value(way.source_score)]
        cells += [f"{len(way.votes)} of {len(found.scorers)}" if way.gains else "–", words.score(way.estimate)]
        cells += [words.score(way.measured)] if way.measured else []
        cells += [words.seconds(way.seconds), "← chosen" if way.chosen else ""]
        table.add_row(*map(Text, cells), style="bold" if way.chosen else None)
    return table


def way_table(plan: Plan) -> Table:
    """The ways to learn a plain table, with their cross-validated scores and what say each has."""
    table = _plain_table("Way to learn", f"{frozen.metric_title(plan)}, cross-validated", "Outcome")
    for one in plan.candidates:
        table.add_row(Text(one.title), Text(words.score(one.score) if one.score else "–"), Text(one.outcome))
    return table


def curve_table(comparison: Comparison) -> Table:
    """Systems down, label budgets across; mean ± standard deviation over the seeds."""
    budgets = sorted({point.n_labels for point in comparison.points})
    title = f"{comparison.metric_title} on test ({comparison.better} is better)"
    table = _plain_table(title, *(f"{words.count(n)} labels" for n in budgets))
    for system, points in comparison.systems().items():
        at = {point.n_labels: point for point in points}
        table.add_row(Text(system), *(Text(mean_sd(at[n]) if n in at else "–") for n in budgets))
    return table


def _plain_table(*headers: str) -> Table:
    """A table without lines; names in it are text, never markup."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(Text(header))
    return table


def print_table(rows: Sequence[Mapping[Any, Any]]) -> None:
    """Rows of the same keys as a table on standard output; a pipe gets lines as long as they need to be."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ():
        table.add_column(str(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row.values()))
    show(table)


def show(table: Table) -> None:
    """Print a table on standard output; what does not fit a narrow terminal runs on rather than break apart."""
    console = Console(highlight=False)
    wanted = console.measure(table, options=console.options.update(width=1000)).maximum
    Console(highlight=False, width=max(wanted, console.width)).print(table)


def shown(value: Any) -> str:
    """A table cell: probabilities with three digits, lists joined, a missing value empty."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def show_ranking(ranking: Ranking) -> None:
    """Backbones in order, the depth profile of the first, and what a fit would try on it."""
    first = ranking.ranked[0]
    print_table(
        [
            {
                "backbone": one.backbone,
                "parameters": f"{one.n_parameters / 1e6:.1f} M",
                "best stage": one.best.name,
                f"{ranking.metric_title}, probe": words.score(one.best.score),
                **{title: _number(getattr(one.at_best, name)) for name, title in SCORES.items()},
            }
            for one in ranking.ranked
        ]
    )
    print(f"\n{first.backbone}, stage by stage ({ranking.n_train:,} to learn from, {ranking.n_val:,} to choose by):")
    print_table(
        [
            {
                "stage": point.name,
                ranking.metric_title: words.score(point.score),
                **(
                    {title: _number(getattr(first.stages[point.stages[0]], name)) for name, title in SCORES.items()}
                    if len(point.stages) == 1
                    else dict.fromkeys(SCORES.values(), "")
                ),
            }
            for point in first.depth
        ]
    )
    print("\nNothing was trained. `headstart fit` would go on to try, within its budget:")
    print_table([{"way": title, "cost in frozen passes": f"{cost:.1f}"} for title, cost in first.ways])


def show_clusters(found: Clusters) -> None:
    """Groups with size, stability and words; then what stands alone or twice, and the labels where there are any."""
    rows = [
        {
            "group": group.name,
            "items": words.count(group.size),
            "stability (middle 95 %)": words.score(group.stability),
            "stands for it": ", ".join(group.keywords) or group.exemplars[0].name,
        }
        for group in found.groups
    ]
    if rows:
        print_table(rows[:MOST_GROUPS])
        print(f"… and {len(rows) - MOST_GROUPS} smaller ones\n" if len(rows) > MOST_GROUPS else "")
    print(found.verdict)
    print(f"{found.n_outliers:,} stand alone, {found.n_duplicates:,} are nearly the same as another.")
    if found.shaping:
        print(found.shaping.said)
    if found.measured:
        print(f"\nAgainst the labels in {found.measured.label_name!r}, which were not used:")
        print_table(
            [
                {"grouping": who, **{TITLES[name]: words.score(score) for name, score in scores.items()}}
                for who, scores in found.measured.scores.items()
            ]
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
