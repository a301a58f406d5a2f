from __future__ import annotations

import math
from dataclasses import replace

import pytest
from rich.console import Console

from headstart.evidence.base import Score
from headstart.evidence.curves import Comparison, CurvePoint
from headstart.evidence.plan import Candidate, DepthPoint, Plan
from headstart.screen import BAR, candidate_table, curve_table, depth_lines
from tests import samples


def printed(table) -> list[str]:
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip().splitlines()


def plan(**changes) -> Plan:
    scores = {"stem": 0.6, "[red]low": 0.7, "high": 0.8}
    depth = [
        DepthPoint(stages=(i,), name=name, score=Score(v, v - 0.1, v + 0.1), val_loss=0.5)
        for i, (name, v) in enumerate(scores.items())
    ]
    pair = DepthPoint(stages=(0, 2), name="stem + high", score=Score(0.85, 0.75, 0.9), val_loss=0.4)
    settings = {"n_stages": 3, "stage_names": tuple(scores), "cut": 3, "metric_title": "ROC AUC"}
    return samples.plan(**(settings | {"depth": (*depth, pair)} | changes))


@pytest.mark.parametrize(
    ("changes", "marks"),
    [
        ({}, [2]),
        ({"cut": 2}, [1]),
        ({"settings": {"stages": [2, 0]}}, [3]),
        ({"strategy": "partial", "cut": 1}, [0]),
        ({"strategy": "lora", "cut": 2}, [1]),
        ({"strategy": "full", "cut": 0}, []),
        ({"ships": "classical"}, []),
    ],
)
def test_depth_lines_mark_what_was_chosen(changes, marks):
    header, *rows = printed(depth_lines(plan(**changes)))
    assert "ROC AUC on validation" in header
    assert "0.500 to 0.900" in header
    assert [i for i, row in enumerate(rows) if "←" in row] == marks
    assert all(("last frozen stage" in row) == ("strategy" in changes) for row in rows if "←" in row)


def test_depth_lines_draw_scores_to_scale():
    _, *rows = printed(depth_lines(plan()))
    eighths = [sum(" ▏▎▍▌▋▊▉█".find(c) for c in row if c in "▏▎▍▌▋▊▉█") for row in rows]
    expected = [8 * BAR * (value - 0.5) / 0.4 for value in (0.6, 0.7, 0.8, 0.85)]
    assert eighths == pytest.approx(expected, abs=1)
    assert "[red]low" in rows[1]
    assert "0.700 (0.600 to 0.800)" in rows[1]


def test_depth_lines_without_range_or_value():
    nan = Score(math.nan, math.nan, math.nan)
    first = plan().depth[0]
    _, row = printed(depth_lines(plan(depth=(replace(first, score=nan),))))
    assert "not defined" in row
    assert "█" not in row
    _, row = printed(depth_lines(plan(depth=(replace(first, score=Score(0.5, 0.5, 0.5)),))))
    assert row.count("█") == 24
    assert len(printed(depth_lines(plan(depth=())))) == 1


def test_candidate_table_says_cost_and_outcome():
    run = Candidate(
        backbone="minilm",
        strategy="partial",
        settings={},
        title="stages above [bold]low trained",
        cut=2,
        n_train=1234,
        round=2,
        cost_passes=14.2,
        seconds=83.0,
        score=Score(0.877, 0.851, 0.9),
        outcome="chosen: the best",
    )
    skipped = replace(run, title="probe", round=0, score=None, outcome="not run", cost_passes=0.5, seconds=0.0)
    header, chosen, other = (" ".join(row.split()) for row in printed(candidate_table(plan(candidates=(run, skipped)))))
    assert header == "Way to adapt Round Labels ROC AUC on validation Passes Time Outcome"
    assert chosen == "stages above [bold]low trained 2 1,234 0.877 (0.851 to 0.900) 14 1 min 23 s chosen: the best"
    assert other == "probe solved 1,234 not run 0.5 – not run"


def test_curve_table():
    points = (
        CurvePoint(system="probe [x]", n_labels=1024, scores=(0.8, 0.9), seconds=1.0),
        CurvePoint(system="probe [x]", n_labels=64, scores=(0.7,), seconds=1.0),
        CurvePoint(system="scratch", n_labels=64, scores=(0.5, 0.6), seconds=1.0),
    )
    comparison = Comparison(
        data="d",
        backbone="b",
        metric="mae",
        metric_title="mean absolute error",
        better="lower",
        n_test=9,
        points=points,
        saved=(),
    )
    header, probe, scratch = (" ".join(row.split()) for row in printed(curve_table(comparison)))
    assert header == "mean absolute error on test (lower is better) 64 labels 1,024 labels"
    assert probe == "probe [x] 0.700 0.850 ± 0.071"
    assert scratch == "scratch 0.550 ± 0.071 –"
