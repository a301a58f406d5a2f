from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.evidence.curves import Comparison, CurvePoint, labels_saved


def curve(system: str, means: dict[int, float]) -> list[CurvePoint]:
    return [CurvePoint(system=system, n_labels=n, scores=(m - 0.01, m + 0.01), seconds=1.0) for n, m in means.items()]


def test_mean_and_sd():
    point = CurvePoint(system="probe", n_labels=64, scores=(0.8, 0.9), seconds=1.0)
    assert point.mean == pytest.approx(0.85)
    assert point.sd == pytest.approx(0.1 / math.sqrt(2))
    assert CurvePoint(system="probe", n_labels=64, scores=(0.8,), seconds=1.0).sd == 0


def test_systems_keep_their_order_and_sort_labels():
    points = curve("probe", {64: 0.8, 16: 0.7}) + curve("full", {32: 0.5})
    comparison = Comparison(
        data="d", backbone="b", metric="m", metric_title="M", better="higher", n_test=9, points=tuple(points), saved=()
    )
    assert {name: [p.n_labels for p in own] for name, own in comparison.systems().items()} == {
        "probe": [16, 64],
        "full": [32],
    }


def test_sentences_for_most_and_fewest_labels():
    points = curve("probe", {64: 0.862, 1574: 0.93}) + curve("scratch", {64: 0.5, 1574: 0.8})
    assert labels_saved(points, "higher", "probe") == (
        "scratch needs more than 1,574 labels for what probe scores with 1,574 (0.930).",
        "scratch needs more than 1,574 labels for what probe scores with 64 (0.862).",
    )


@pytest.mark.parametrize(
    ("rival", "better", "goal", "needs"),
    [
        ({16: 0.4, 64: 0.6, 256: 0.8}, "higher", 0.7, "about 128 labels"),  # half-way between 2^6 and 2^8
        ({16: 0.4, 64: 0.6, 256: 0.8}, "higher", 0.6, "about 64 labels"),
        ({16: 0.4, 64: 0.6, 256: 0.8}, "higher", 0.45, "about 23 labels"),  # 2^4.5
        ({16: 0.4, 64: 0.6, 256: 0.8}, "higher", 0.4, "16 or fewer labels"),
        ({16: 0.4, 64: 0.6, 256: 0.8}, "higher", 0.81, "more than 256 labels"),
        ({256: 0.8, 16: 0.4, 64: 0.6}, "higher", 0.7, "about 128 labels"),  # in any order
        ({16: 0.4, 64: 0.8, 256: 0.6, 1024: 0.9}, "higher", 0.7, "about 45 labels"),  # first arrival: 2^5.5
        ({16: 0.9, 64: 0.7, 256: 0.5}, "lower", 0.6, "about 128 labels"),
        ({16: 0.9, 64: 0.7, 256: 0.5}, "lower", 0.95, "16 or fewer labels"),
        ({16: 0.9, 64: 0.7, 256: 0.5}, "lower", 0.4, "more than 256 labels"),
        ({1024: 0.4, 4096: 0.8}, "higher", 0.6, "about 2,048 labels"),
        ({64: 0.6}, "higher", 0.7, "more than 64 labels"),
    ],
)
def test_labels_needed(rival, better, goal, needs):
    points = [CurvePoint(system="probe", n_labels=32, scores=(goal,), seconds=1.0)]
    points += [CurvePoint(system="rival", n_labels=n, scores=(m,), seconds=1.0) for n, m in rival.items()]
    assert labels_saved(points, better, "probe") == (
        f"rival needs {needs} for what probe scores with 32 ({goal:.3f}).",
    )


def test_undefined_points_say_nothing():
    points = curve("probe", {64: 0.7, 128: math.nan}) + curve("scratch", {16: math.nan, 64: 0.6, 256: 0.8})
    assert labels_saved(points, "higher", "probe") == (
        "scratch needs about 128 labels for what probe scores with 64 (0.700).",
    )
    assert labels_saved(points, "higher", "full") == ()
    assert labels_saved(curve("probe", {64: 0.7}), "higher", "probe") == ()


def test_direction_must_be_known():
    with pytest.raises(ValueError, match="'higher' or 'lower'"):
        labels_saved(curve("probe", {64: 0.7}), "up", "probe")


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6, unique=True), st.floats(0.01, 0.99))
def test_lower_is_the_mirror_of_higher(means, goal):
    def said(sign: int, better: str) -> list[str]:
        points = [CurvePoint(system="probe", n_labels=8, scores=(sign * goal,), seconds=1.0)]
        points += [
            CurvePoint(system="rival", n_labels=2**i, scores=(sign * m,), seconds=1.0) for i, m in enumerate(means, 3)
        ]
        return [sentence.split(" for what")[0] for sentence in labels_saved(points, better, "probe")]

    assert said(1, "higher") == said(-1, "lower")
