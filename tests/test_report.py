from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from headstart.evidence import words
from headstart.evidence.base import Score, TestResult
from headstart.evidence.calibration import reliability
from headstart.evidence.curves import Comparison, CurvePoint
from headstart.evidence.plan import Candidate, DepthPoint, Plan
from headstart.modalities.base import Preview
from headstart.report import frozen, lines, outcomes, plots
from headstart.report.comparison import render_comparison
from headstart.report.html import render
from tests import samples

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "formaction", "poster", "background", "ping"}
FINITE = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-9)


class Page(HTMLParser):
    """The parsed page: every element with its attributes; an AssertionError where tags do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.parents: list[tuple[str, ...]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute stands twice in <{tag}>: {attrs}"
        self.elements.append((tag, dict(attrs)))
        self.parents.append(tuple(self._open))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.parents.append(tuple(self._open))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not (self._open and self._open[-1] == "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(
    scope="module", params=[(kind, paid) for kind in samples.KINDS for paid in (True, False, None)], ids=str
)
def page(request) -> Page:
    return Page(render(samples.record(*request.param)))


def test_page_is_balanced_and_in_order(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["aria-labelledby"] for attrs in page.all("section")} == set(ids)
    assert page.all("html") == [{"lang": "en"}]


def test_page_loads_nothing(page):
    assert not {"script", "link", "iframe", "object", "embed", "form"} & {tag for tag, _ in page.elements}
    for tag, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")], tag
        for name in LOADING & set(attrs):
            assert str(attrs[name]).startswith("data:image/"), (tag, name)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
    style = files("headstart.report").joinpath("style.css").read_text()
    assert not re.search(r"url\(|@import|https?:|@font-face", style)


def test_every_picture_has_words(page):
    whole = [i for i, (tag, _) in enumerate(page.elements) if tag == "svg" and "svg" not in page.parents[i]]
    assert len(whole) > 10
    for i in whole:
        assert page.elements[i][1]["role"] == "img"
        assert page.elements[i + 1][0] == "title"
    assert all(attrs["alt"] for attrs in page.all("img"))


def test_mistakes_in_sounds_can_be_played():
    uri = "data:audio/mpeg;base64,SUQz"
    heard = tuple(replace(one, preview=Preview(audio_uri=uri)) for one in samples.mistakes("texts", 2))
    found = Page(render(replace(samples.record("texts"), mistakes=heard)))
    assert [one["src"] for one in found.all("audio")] == [uri, uri]
    assert all("controls" in one and one["preload"] == "none" and one["aria-label"] for one in found.all("audio"))


@pytest.mark.parametrize(
    ("paid", "mark"), [(True, "Transfer paid"), (False, "Transfer lost"), (None, "Cannot be told")]
)
def test_verdict_comes_first(paid, mark):
    record = samples.record("images", paid)
    said = Page(render(record)).words
    assert said.index(mark) < said.index(record.evidence.verdict) < said.index("The key facts")


def test_hostile_names_are_harmless():
    nasty = '<script>alert(1)</script>" onerror="alert(2)'
    text = """She said "it's <b>fine</b>" & left </style></title></svg><script>alert(3)</script>"""
    task = samples.task("images", [nasty, "bee"])
    mistakes = samples.mistakes("images", 2)
    mistakes = (
        replace(mistakes[0], name=nasty, truth=nasty),
        replace(mistakes[1], preview=Preview(text=text), predicted=nasty),
    )
    record = samples.record("images")
    data = replace(record.data, name=nasty, label_name=text, source=nasty, class_counts={nasty: {"test": 3}})
    plan = replace(record.plan, stage_names=(text,) * 8, reason=text)
    record = replace(record, task=task, mistakes=mistakes, data=data, plan=plan, command=text)
    page = Page(render(record))
    assert not page.all("script")
    assert not page.all("b")
    assert not [attrs for _, attrs in page.elements if "onerror" in attrs]
    assert page.all("img")[0]["alt"] == nasty
    assert text in page.words
    assert page.words.count(nasty) >= 5


def test_small_file():
    for kind in ("texts", "many_classes", "multilabel"):
        assert len(render(samples.record(kind)).encode()) < 300_000
    large = samples.record("regression", test=samples.result("regression", n=20_000))
    assert len(render(large).encode()) < 300_000
    classes = [f"class {i:02d}" for i in range(30)]  # the largest matrix that is drawn whole
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(30), 2000)
    test = TestResult(y=rng.integers(0, 30, 2000), scores=scores, naive=scores, classical=scores)
    page = render(samples.record("texts", task=samples.task("texts", classes), test=test))
    assert page.count("<td class=") == 900
    assert len(page.encode()) < 300_000


def test_many_classes_are_said_in_pairs():
    record = samples.record("many_classes")
    confusion = outcomes.confusion(record.task, record.test)
    pairs = confusion.pairs()
    truth, predicted = record.test.y, record.test.scores.argmax(axis=1)
    counted: dict[tuple[str, str], int] = {}
    for t, p in zip(truth, predicted, strict=True):
        if t != p:
            key = record.task.score_names[t], record.task.score_names[p]
            counted[key] = counted.get(key, 0) + 1
    assert [pair.n for pair in pairs] == sorted(counted.values(), reverse=True)[: outcomes.MOST_PAIRS]
    assert all(counted[pair.truth, pair.predicted] == pair.n for pair in pairs)
    page = render(record)
    assert "Confusion matrix" not in page
    assert pairs[0].predicted in page


def test_confusion_matches_scikit_learn():
    record = samples.record("texts")
    found = outcomes.confusion(record.task, record.test)
    expected = confusion_matrix(record.test.y, record.test.scores.argmax(axis=1), labels=range(6))
    np.testing.assert_array_equal(found.counts, expected)
    np.testing.assert_allclose(found.shares, expected / expected.sum(axis=1, keepdims=True))
    assert found.n_wrong == (record.test.y != record.test.scores.argmax(axis=1)).sum()


def test_label_shares_match_scikit_learn():
    record = samples.record("multilabel")
    said = np.array([[n in names for n in record.task.score_names] for names in record.task.decode(record.test.scores)])
    recall = recall_score(record.test.y, said, average=None)
    precision = precision_score(record.test.y, said, average=None)
    found = {label.name: label for label in outcomes.labels(record.task, record.test)}
    for k, name in enumerate(record.task.score_names):
        assert found[name].found.fraction == pytest.approx(recall[k])
        assert found[name].right.fraction == pytest.approx(precision[k])


def test_perfect_is_not_called_perfect():
    names = ["ant", "bee"]
    y = np.arange(60) % 2
    scores = np.where(np.eye(2)[y] > 0, 0.99, 0.01)
    test = TestResult(y=y, scores=scores, naive=scores, classical=scores)
    page = Page(render(samples.record("images", task=samples.task("images", names), test=test, mistakes=())))
    bound = binomtest(0, 60, 0.5, alternative="less").proportion_ci(0.95, method="exact").high
    assert f"up to {100 * bound:.1f}\u00a0% would still fit".replace("\u00a0", " ") in page.words
    assert "surest of" not in page.words


def test_undefined_scores_are_said_so():
    record = samples.record("images")
    nan = Score(math.nan, math.nan, math.nan)
    evidence = record.evidence
    evidence = replace(
        evidence,
        metrics=evidence.metrics | {"roc_auc": nan},
        differences={who: scores | {"roc_auc": nan} for who, scores in evidence.differences.items()},
    )
    said = Page(render(replace(record, evidence=evidence, mistakes=()))).words
    assert not re.search(r"\bnan\b", said, re.IGNORECASE)
    assert words.UNDEFINED in said


def test_strip_shows_what_was_frozen():
    def kinds(**plan):
        page = Page(render(samples.record("images", plan=samples.plan(**plan))))
        shapes = [attrs.get("class") for attrs in page.all("rect")]
        return [shape for shape in shapes if shape in ("frozen", "trained", "head", "unused")]

    assert kinds(cut=8) == ["frozen"] * 8 + ["head"]
    assert kinds(cut=5) == ["frozen"] * 5 + ["head"] + ["unused"] * 3
    assert kinds(cut=5, strategy="partial") == ["frozen"] * 5 + ["trained"] * 3 + ["head"]
    assert kinds(cut=0, strategy="full") == ["trained"] * 8 + ["head"]
    assert kinds(cut=0, strategy="scratch") == ["trained"] * 8 + ["head"]
    assert kinds(cut=3, strategy="lora") == ["frozen"] * 8 + ["head"]
    assert kinds(cut=3, ships="classical") == []


NASTY = """<script>alert("x")</script>' onload='y </title></svg><b>"""


def searched(**changes) -> Plan:
    """A plan with a depth profile and candidates: four stages, one pair side by side."""
    names = ("stem", "low", "middle", "high")
    values = (0.611, 0.742, 0.853, 0.834)
    depth = [
        DepthPoint(stages=(i,), name=name, score=Score(v, v - 0.03, v + 0.03), val_loss=0.5)
        for i, (name, v) in enumerate(zip(names, values, strict=True))
    ]
    pair = DepthPoint(stages=(1, 2), name="low + middle", score=Score(0.866, 0.836, 0.896), val_loss=0.4)
    base = Candidate(
        backbone="minilm",
        strategy="partial",
        settings={"freeze": 2},
        title="stages above low trained",
        cut=2,
        n_train=1234,
        round=1,
        cost_passes=14.2,
        seconds=83.0,
        score=Score(0.877, 0.851, 0.9),
        outcome="chosen: the best on validation",
    )
    skipped = replace(
        base, title="everything trained", score=None, outcome="not run: too dear", cost_passes=0.41, seconds=0.0
    )
    settings = {
        "stage_names": names,
        "n_stages": 4,
        "cut": 2,
        "strategy": "partial",
        "strength": None,
        "metric_title": "ROC AUC",
        "depth": (*depth, pair),
        "candidates": (base, skipped),
        "budget_passes": 60.0,
    }
    return samples.plan(**(settings | changes))


def shown(**changes) -> Page:
    return Page(render(samples.record("images", plan=searched(**changes))))


def test_plan_is_shown_only_where_there_is_one():
    assert "How much was frozen" not in Page(render(samples.record("images"))).words
    only_candidates, only_depth = shown(depth=()).words, shown(candidates=()).words
    assert "What was considered" in only_candidates
    assert "What each depth" not in only_candidates
    assert "What each depth" in only_depth
    assert "What was considered" not in only_depth


def test_candidates_say_score_cost_and_outcome():
    page = shown()
    said = page.words[page.words.index("What was considered") :]
    assert "the search was allowed 60 passes" in said
    chosen = "stages above low trained 1 1,234 0.877 0.851 to 0.900 14 1 min 23 s chosen the best on validation"
    assert chosen in said
    assert "everything trained 1 1,234 not run 0.4 – not run: too dear" in said
    assert [attrs for attrs in page.all("tr") if attrs.get("class") == "chosen"] == [{"class": "chosen"}]
    assert "Strength of regularisation" not in page.words


def test_candidate_that_ran_without_a_score_is_not_called_not_run():
    one, other = searched().candidates
    said = shown(candidates=(one, replace(other, seconds=2.0, outcome="worse"))).words
    assert "1,234 not defined 0.4 2.00 s worse" in said


def test_backbones_are_named_where_they_differ():
    one, other = searched().candidates
    assert "minilm" not in shown().words
    assert "everything trained modernbert" in shown(candidates=(one, replace(other, backbone="modernbert"))).words


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({}, ["cut before stage 2"]),
        ({"strategy": "lora", "cut": 1}, ["cut before stage 1"]),
        ({"strategy": "full", "cut": 0}, ["cut before stage 0"]),
        ({"strategy": "probe", "cut": 3}, ["middle: 0.853 (0.823 to 0.883), chosen", "cut before stage 3"]),
        ({"strategy": "probe", "cut": 3, "settings": {"stages": [1, 2]}}, ["cut before stage 3"]),
        ({"ships": "classical"}, []),
    ],
)
def test_depth_profile_marks_what_was_chosen(changes, mark):
    drawn = render(samples.record("images", plan=searched(**changes)))
    desc = re.search(r"<title>ROC AUC on validation, against depth</title><desc>(.*?)</desc>", drawn)[1]
    said = desc.split("; ")
    assert [one.split(" (")[0] for one in said[:4]] == ["stem: 0.611", "low: 0.742", "middle: 0.853", "high: 0.834"]
    assert [one for one in said if "chosen" in one or "cut" in one] == mark
    row = Page(drawn).words
    assert ("low + middle chosen 0.866 (0.836 to 0.896)" in row) == ("settings" in changes)
    assert "low + middle" in row


def test_depth_plot_places_dots_in_order():
    points = [point for point in searched().depth if len(point.stages) == 1]
    dots = [lines.Dot(point.stages[0], point.name, point.score, False) for point in points]
    drawn = lines.depth(dots, 4, lines.Cut(2, "frozen", "trained"), "score")
    across, down = zip(*re.findall(r'cx="([\d.]+)%" cy="([\d.]+)"', drawn), strict=True)
    assert np.allclose(np.diff(np.array(across, float)), 91 / 4, atol=0.011)
    up = plots.axis([end for dot in dots for end in (dot.score.low, dot.score.high)])
    expected = [lines.BAND + lines.DEPTH_HEIGHT * (1 - up.at(dot.score.value)) for dot in dots]
    assert [float(y) for y in down] == pytest.approx(expected, abs=0.06)
    cut = float(re.search(r'x1="([\d.]+)%"[^>]*class="diagonal"', drawn)[1])
    assert float(across[1]) < cut < float(across[2])


def test_undefined_depth_and_many_stages_are_drawn():
    nan = Score(math.nan, math.nan, math.nan)
    depth = tuple(DepthPoint(stages=(i,), name=f"layer {i}", score=nan, val_loss=1.0) for i in range(40))
    page = shown(depth=depth, stage_names=tuple(p.name for p in depth), n_stages=40)
    assert "layer 39: not defined" in page.words
    assert not re.search(r"\bnan\b", page.words)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": "lora"}, "2 stages frozen, with trained low-rank adapters (middle to high)"),
        ({"strategy": "scratch", "cut": 0}, "4 stages trained from random weights (stem to high)"),
        ({"strategy": "full", "cut": 0}, "4 stages trained (stem to high)"),
        (
            {"strategy": "probe", "cut": 3, "settings": {"stages": [2, 0]}},
            "the head reads stem and middle side by side",
        ),
        ({"strategy": "probe", "cut": 3, "settings": {"stages": None}}, "1 stage left out (high)"),
    ],
)
def test_key_says_what_the_strategy_did(changes, said):
    page = shown(**changes)
    assert said in page.words
    reads = [box.name for box in frozen.boxes(searched(**changes)) if box.kind == "read"]
    assert reads == (["stem", "middle"] if "reads" in said else [])


def test_classical_run_says_so_and_draws_no_strip():
    page = shown(ships="classical")
    assert "This run ships the classical model: HOG + logistic regression ." in page.words
    assert not [attrs for attrs in page.all("svg") if attrs.get("class") == "strip"]
    assert "tried, not shipped" in page.words
    assert "the run ships the classical model in its place" in page.words


def test_hostile_plan_is_harmless():
    plan = searched()
    depth = tuple(replace(point, name=NASTY) for point in plan.depth)
    candidates = tuple(replace(one, title=NASTY, outcome=NASTY, backbone=NASTY + one.title) for one in plan.candidates)
    page = shown(depth=depth, candidates=candidates, metric_title=NASTY, stage_names=(NASTY,) * 4)
    assert not page.all("script")
    assert not page.all("b")
    assert not [attrs for _, attrs in page.elements if "onload" in attrs]
    assert page.words.count(" ".join(NASTY.split())) > 10


@pytest.mark.parametrize(
    ("cost", "said"), [(0.0, "0"), (0.01, "< 0.1"), (0.41, "0.4"), (1.0, "1"), (9.96, "10"), (1234.5, "1,234")]
)
def test_passes_in_words(cost, said):
    assert frozen.passes(cost) == said


def compared(**changes) -> Comparison:
    scores = {"probe": (0.70, 0.86), "TF-IDF of words + logistic regression": (0.55, 0.80), "scratch": (0.5, 0.61)}
    points = [
        CurvePoint(system=system, n_labels=n, scores=(mean - 0.02, mean, mean + 0.02), seconds=3.2)
        for system, means in scores.items()
        for n, mean in zip((64, 1024), means, strict=True)
    ]
    base = Comparison(
        data="questions",
        backbone="minilm",
        metric="accuracy",
        metric_title="accuracy",
        better="higher",
        n_test=500,
        points=tuple(points),
        saved=("scratch needs more than 1,024 labels for what probe scores with 64 (0.700).",),
    )
    return replace(base, **changes)


def test_comparison_page_says_every_number():
    drawn = render_comparison(compared())
    page = Page(drawn)
    assert "Scratch needs more than 1,024 labels for what probe scores with 64 (0.700)." in page.words
    assert "scratch 0.500 ± 0.020 0.610 ± 0.020" in page.words
    assert "probe: 0.700 ± 0.020 with 64 labels, 0.860 ± 0.020 with 1,024 labels" in page.words
    assert "the same 500 test examples" in page.words
    assert "with 3 seeds for each dot" in page.words
    dashes = re.findall(r'class="line" stroke-dasharray="(.*?)"', drawn)
    assert len(set(dashes)) == len(dashes) == 3
    test_page_is_balanced_and_in_order(page)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?://|<script|<link", drawn)


def test_learning_curve_is_drawn_to_scale():
    points = tuple(
        CurvePoint(system="a", n_labels=n, scores=(s,), seconds=1) for n, s in ((16, 0.5), (64, 0.7), (256, 1))
    )
    drawn = lines.curves(compared(points=points))
    path = re.search(r'<path d="M([^"]*)" class="line"', drawn)[1]
    places = np.array([place.split() for place in path.split("L")], float)
    assert places[1, 0] - places[0, 0] == pytest.approx(places[2, 0] - places[1, 0], abs=0.11)  # log2
    slope = np.diff(places[:, 1]) / np.diff([0.5, 0.7, 1.0])
    assert slope[0] == pytest.approx(slope[1], abs=1.1)
    assert slope[0] < 0
    assert 'class="sd"' not in drawn  # one seed: no spread
    assert "±" not in drawn


def test_names_at_the_lines_do_not_overlap():
    wanted = [(100.0, 15.0), (101.0, 30.0), (99.0, 15.0), (399.0, 15.0), (398.0, 15.0)]
    middles = lines.apart(wanted, 400.0)
    boxes = sorted((m - h / 2, m + h / 2) for m, (_, h) in zip(middles, wanted, strict=True))
    assert all(low >= high for (_, high), (low, _) in pairwise(boxes))
    assert boxes[-1][1] <= 400


def test_odd_comparisons_are_drawn():
    single = CurvePoint(system="probe", n_labels=64, scores=(0.7,), seconds=1)
    page = Page(render_comparison(compared(points=(single,), saved=())))
    assert "one seed" in page.words
    assert "Nothing can be said" in page.words
    nan = replace(single, system="scratch", scores=(math.nan, math.nan))
    many = [replace(single, system=f"system {i}", n_labels=2**i) for i in range(1, 13)]
    drawn = render_comparison(compared(points=(single, nan, *many)))
    assert not re.search(r"\bnan\b", drawn)
    assert "not defined" in Page(drawn).words
    assert "system 12" in Page(drawn).words
    assert Page(render_comparison(compared(points=()))).words


def test_hostile_comparison_is_harmless():
    points = tuple(replace(point, system=NASTY + point.system) for point in compared().points)
    page = Page(
        render_comparison(compared(points=points, data=NASTY, backbone=NASTY, metric_title=NASTY, saved=(NASTY,)))
    )
    assert not page.all("script")
    assert not page.all("b")
    assert not [attrs for _, attrs in page.elements if "onload" in attrs]
    assert page.words.count("alert") >= 6


def test_warnings_come_before_notes():
    said = Page(render(samples.record("images"))).words
    assert said.index("could not be read") < said.index("exact copies")
    assert "Nothing: no broken" in Page(render(samples.record("images", findings=()))).words


def test_interval_row_places_what_it_says():
    axis = plots.axis([0.5, 1.0])
    drawn = plots.interval_row(Score(0.8, 0.75, 0.9), axis, "this model", "model")
    whisker = re.search(r'<line x1="([\d.]+)%" x2="([\d.]+)%" y1="50%"', drawn)
    place = lambda x: 100 * (x - axis.low) / (axis.high - axis.low)  # noqa: E731
    assert [float(end) for end in whisker.groups()] == pytest.approx([place(0.75), place(0.9)], abs=0.01)
    assert float(re.search(r'cx="([\d.]+)%"', drawn)[1]) == pytest.approx(place(0.8), abs=0.01)
    assert "this model: 0.800, 95" in drawn


def test_calibration_counts_every_answer():
    record = samples.record("texts")
    drawn = plots.calibration(reliability(record.test.y, record.test.scores, 10))
    assert sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) answers", drawn)) == len(record.test.y)


def test_scatter_draws_each_point_once():
    y = np.linspace(-5, 5, 40)
    drawn = plots.scatter(y, y, "height")
    dots = [(float(x), float(up)) for x, up in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert len(dots) == 40
    assert np.ptp([x + up for x, up in dots]) < 0.21  # equal truth and prediction lie on the diagonal


@given(st.lists(FINITE, min_size=1, max_size=20), st.integers(4, 9))
def test_axis_holds_its_values(values, most_ticks):
    axis = plots.axis(values, most_ticks)
    room = 1e-6 * (axis.high - axis.low)
    assert axis.low - room <= min(values)
    assert max(values) <= axis.high + room
    assert all(0 <= axis.at(v) <= 1 for v in values)
    steps = np.diff(axis.ticks)
    assert np.allclose(steps, steps[0])
    assert len(set(axis.tick_names())) == len(axis.ticks) <= most_ticks + 2


@given(FINITE, FINITE, FINITE, st.sampled_from(["higher", "lower"]))
def test_comparison_claims_no_more_than_its_interval(a, b, c, better):
    low, value, high = sorted((a, b, c))
    gains = (low, high) if better == "higher" else (-high, -low)
    mark = words.comparison(Score(value, low, high), better).mark
    assert mark == ("better" if gains[0] > 0 else "worse" if gains[1] < 0 else "level")


@pytest.mark.parametrize(
    ("difference", "better", "said"),
    [
        (Score(0.07, 0.0531, 0.0874), "higher", "model better by 0.070 (0.053 to 0.087)"),
        (Score(0.07, 0.0531, 0.0874), "lower", "model worse by 0.070 (0.053 to 0.087)"),
        (Score(-1204.2, -1310.0, -1100.0), "lower", "model better by 1,204 (1,100 to 1,310)"),
        (Score(0.01, -0.02, 0.04), "higher", "no clear difference: +0.010 (−0.020 to +0.040)"),
        (Score(0.01, -0.02, 0.04), "lower", "no clear difference: −0.010 (−0.040 to +0.020)"),
        (Score(math.nan, math.nan, math.nan), "lower", "difference not defined"),
    ],
)
def test_comparison_in_words(difference, better, said):
    assert words.comparison(difference, better).text == said


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.number(0.9124), "0.912"),
        (words.number(12345.6), "12,346"),
        (words.number(-0.0249), "−0.025"),
        (words.number(0.00042), "0.00042"),
        (words.number(-0.0001, 2), "0.00"),
        (words.number(0.0), "0.000"),
        (words.value(Score(9.871, 8.2, 11.4)), "9.9"),
        (words.share(0.97), "97\u00a0%"),
        (words.share(0.9951), "99.5\u00a0%"),
        (words.share(0.99996), "> 99.9\u00a0%"),
        (words.share(0.0002), "< 0.1\u00a0%"),
        (words.share(1.0), "100\u00a0%"),
        (words.seconds(0.417), "0.42 s"),
        (words.seconds(59.96), "1 min 00 s"),
        (words.seconds(3725), "1 h 02 min"),
        (words.count(2624), "2,624"),
        (words.count(4_652_008), "4.7 million"),
    ],
)
def test_numbers_in_words(said, expected):
    assert said == expected


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilson_matches_scipy(k, n):
    k = min(k, n)
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert words.wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def luminance(colour: np.ndarray) -> float:
    """Relative luminance of an sRGB colour in 0 to 1 (WCAG 2.2)."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_enough_on_screen_and_paper():
    style = files("headstart.report").joinpath("style.css").read_text()
    light, dark, paper = (
        dict(re.findall(r"--([\w-]+): #?(\w+)", root)) for root in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    for mode in (light, dark, light | paper):
        colours = {
            name: np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255
            for name, code in mode.items()
            if re.fullmatch("[0-9a-f]{6}", code)
        }
        heat = int(mode["heat"]) / 100
        strongest = heat * colours["accent"] + (1 - heat) * colours["faint"]
        systems = [(f"s{i}", "paper") for i in range(1, lines.N_COLOURS)]
        for ink, ground in [
            *systems,
            ("ink", "paper"),
            ("soft", "paper"),
            ("accent", "paper"),
            ("ink", "faint"),
            ("paper", "ink"),
        ]:
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert contrast(colours["ink"], strongest) >= 4.5
