"""Every task keeps the contract of `Task`, linear ones that of `LinearTask`; and what is particular to each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from headstart.data.conversation import Conversation, Turn
from headstart.errors import DataError
from headstart.registry import TASKS
from headstart.tasks import linear
from headstart.tasks.base import LinearTask
from headstart.tasks.classification import Classification, natural_order
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression

# A new task adds labels of its own here: 24 of them, and one that it must refuse.
LABELS: dict[str, list[Any]] = {
    "classification": ["cat", "dog", "cat", "owl"] * 6,
    "multilabel": [["red"], ["red", "blue"], [], ["blue"]] * 6,
    "regression": [1.0, 2.5, -3.0, 4.0] * 6,
}
REFUSED: dict[str, Any] = {"classification": "cow", "multilabel": ["green"], "regression": "many"}


LINEAR = [name for name in TASKS.names() if issubclass(TASKS.get(name), LinearTask)]
BOX = {"name": "nut", "x": 1.0, "y": 2.0, "width": 30.0, "height": 40.0, "ignored": False}
BOXED = [{"width": 64, "height": 48, "boxes": [BOX, {**BOX, "name": "bolt"}][: i % 3]} for i in range(24)]

SEEN = [{"past": [1.0, None, 3.0 + i], "future": [4.0, None if i == 3 else 2.5]} for i in range(24)]

OWN: dict[str, list[Any]] = {
    "chat": [["Good day"], ["no", "well, yes"]] * 12,
    "detection": BOXED,
    "forecasting": SEEN,
    "transcription": ["Good day", "no", "well, yes"] * 8,
}
# What stands in for labels where these alone do not say what is predicted: whole conversations.
ENCODED: dict[str, list[Any]] = {
    "chat": [
        Conversation(tuple(t for text in said for t in (Turn("user", "?"), Turn("assistant", text)))).to_text()
        for said in OWN["chat"]
    ]
}


@pytest.fixture(params=LINEAR)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def features_for(n: int, d: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def test_contract_round_trip(name: str) -> None:
    cls = TASKS.get(name)
    task = cls.from_labels(LABELS[name])
    assert cls.from_json(task.to_json()) == task


def test_contract_encode_refuses_what_it_does_not_know(name: str) -> None:
    task = TASKS.get(name).from_labels(LABELS[name])
    refused = REFUSED[name]
    with pytest.raises(DataError, match=refused[0] if isinstance(refused, list) else refused):
        task.encode([*LABELS[name], refused])


def test_contract_decode_gives_back_the_labels(name: str) -> None:
    """Scores that are the encoded labels themselves decode to these labels."""
    labels = LABELS[name]
    task = TASKS.get(name).from_labels(labels)
    y = task.encode(labels)
    certain = np.eye(len(task.score_names))[y] if y.dtype == np.int64 else y.reshape(len(y), -1).astype(float)
    decoded = task.decode(certain)
    assert [sorted(d) if isinstance(d, list) else d for d in decoded] == [
        sorted(label) if isinstance(label, list) else label for label in labels
    ]
    assert not task.wrongness(y, certain).any()


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_contract_heads_scores_and_metrics(name: str, kind: Any) -> None:
    labels = LABELS[name]
    task = TASKS.get(name).from_labels(labels)
    y, features = task.encode(labels), kind(features_for(len(labels)))
    n_columns = len(task.score_names) or 1
    weights = np.random.default_rng(0).multinomial(24, np.full(24, 1 / 24), size=10)
    for scores in [task.naive(y, 24), *(task.scores(h.logits(features)) for _, h in task.heads(features, y, 0))]:
        assert scores.shape == (24, n_columns)
        assert np.isfinite(scores).all()
        assert len(task.decode(scores)) == 24
        for per_example in (task.losses(y, scores), task.wrongness(y, scores)):
            assert per_example.shape == (24,)
            assert np.isfinite(per_example).all()
            assert (per_example >= 0).all()
        for metric in task.metrics():
            values = metric.compute(y, scores, weights)
            assert values.shape == (10,)
            assert np.isfinite(values).all()


def test_contract_heads_go_from_strong_to_weak(name: str) -> None:
    """The weaker the penalty, the smaller the loss on train."""
    labels = LABELS[name]
    task = TASKS.get(name).from_labels(labels)
    y, features = task.encode(labels), features_for(24)
    losses = [task.losses(y, task.scores(head.logits(features))).mean() for _, head in task.heads(features, y, 0)]
    assert len(losses) > 5
    assert all(later <= earlier + 1e-4 for earlier, later in pairwise(losses))
    assert losses[-1] < losses[0]
    naive = task.losses(y, task.naive(y, 24)).mean()
    assert losses[0] == pytest.approx(naive, rel=0.1)  # the strongest is next to the guess that looks at nothing


@pytest.mark.parametrize("name", TASKS.names())
def test_contract_of_every_task(name: str) -> None:
    """Round trip, refusal, the guess under every metric and resample, names that differ."""
    labels: list[Any] = LABELS[name] if name in LINEAR else OWN[name]
    task = TASKS.get(name).from_labels(labels)
    assert type(task).from_json(task.to_json()) == task
    y = task.encode(ENCODED.get(name, labels))
    weights = np.random.default_rng(0).multinomial(len(y), np.full(len(y), 1 / len(y)), size=10)
    guess = task.naive(y, len(y))
    assert len(task.decode(guess)) == len(guess) == len(y)
    for metric in task.metrics():
        assert metric.compute(y, guess, weights).shape == (10,)
    assert len({metric.name for metric in task.metrics()}) == len(task.metrics())


def test_an_unknown_kind_of_object_is_refused() -> None:
    with pytest.raises(DataError, match="screw"):
        TASKS.get("detection").from_labels(BOXED).encode([{**BOXED[1], "boxes": [{**BOX, "name": "screw"}]}])


def test_contract_metric_names_are_unique(name: str) -> None:
    names = [metric.name for metric in TASKS.get(name).from_labels(LABELS[name]).metrics()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "9", "2"], ("2", "9", "10")),
        (["1.5", "1.25", "-3", "-10"], ("-10", "-3", "1.25", "1.5")),
        (["grade 10", "grade 9", "Grade 1"], ("Grade 1", "grade 9", "grade 10")),
        (["b", "nan", "7", "A"], ("7", "A", "b", "nan")),
    ],
)
def test_natural_order(names: list[str], ordered: tuple[str, ...]) -> None:
    assert natural_order(names) == ordered


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "a"]])
def test_one_class_is_no_task(labels: list[str]) -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        Classification.from_labels(labels)


@pytest.mark.parametrize("labels", [[], [1.0, 1.0], [1.0, float("nan")]])
def test_regression_needs_numbers_that_differ(labels: list[float]) -> None:
    with pytest.raises(DataError, match=r"nothing to learn|not a finite number"):
        Regression.from_labels(labels)


def test_no_label_at_all_is_no_task() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        Multilabel.from_labels([[], []])


def test_an_unknown_label_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'catt' is not one of the 2 known classes: cat, dog\. Did you mean 'cat'"):
        Classification.from_labels(["cat", "dog"]).encode(["dog", "catt"])


def test_the_primary_metric_depends_on_the_number_of_classes() -> None:
    assert Classification.from_labels(["a", "b"]).metrics()[0].name == "roc_auc"
    assert Classification.from_labels(["a", "b", "c"]).metrics()[0].name == "accuracy"


@pytest.mark.parametrize(("labels", "positive"), [(["a", "b", "b"], "a"), (["a", "a", "b"], "b"), (["a", "b"], "b")])
def test_average_precision_names_the_rarer_class(labels: list[str], positive: str) -> None:
    titles = [metric.title for metric in Classification.from_labels(labels).metrics()]
    assert f"average precision ({positive})" in titles


def test_a_class_that_train_lacks_is_never_chosen_and_has_a_finite_loss() -> None:
    task = Classification.from_labels(["a", "b", "c", "d"])
    features, y = features_for(30), np.arange(30) % 2 * 2  # classes 0 and 2 of 0 … 3
    for _, head in task.heads(features, y, 0):
        scores = task.scores(head.logits(features))
        assert set(scores.argmax(axis=1)) <= {0, 2}
        assert (scores[:, [1, 3]] <= 0.5 / 30).all()
        assert np.isfinite(task.losses(np.ones(30, dtype=int), scores)).all()
    with pytest.raises(DataError, match="holds only the class 'c'"):
        next(task.heads(features, np.full(30, 2), 0))


def test_a_class_that_train_lacks_counts_half_an_example_in_the_naive_guess() -> None:
    naive = Classification.from_labels(["a", "b", "c"]).naive(np.array([0, 0, 0, 2]), 2)
    np.testing.assert_allclose(naive, np.tile([3 / 4.5, 0.5 / 4.5, 1 / 4.5], (2, 1)))
    no_blue = Multilabel.from_labels([["blue", "red"]]).naive(np.array([[0, 1], [0, 0], [0, 0], [0, 1]]), 1)
    np.testing.assert_allclose(no_blue, [[0.5 / 4, 2 / 4]])


def test_a_label_that_does_not_vary_in_train_gets_a_constant() -> None:
    task = Multilabel.from_labels([["a", "b", "c"]])
    y = np.stack([np.zeros(20), np.arange(20) % 2, np.ones(20)], axis=1).astype(np.float32)
    for _, head in task.heads(features_for(20), y, 0):
        scores = task.scores(head.logits(features_for(20)))
        np.testing.assert_allclose(scores[:, 0], 0.5 / 20, rtol=1e-5)
        np.testing.assert_allclose(scores[:, 2], 1 - 0.5 / 20, rtol=1e-5)


def test_wrongness_is_the_probability_of_the_wrong_answer() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert Classification.from_labels(["a", "b"]).wrongness(np.array([1, 1]), scores).tolist() == [0.9, 0.0]
    assert Multilabel.from_labels([["a", "b"]]).wrongness(np.array([[0, 1], [0, 1]]), scores).tolist() == [0.9, 0.0]
    assert Regression().wrongness(np.array([1.0, 5.0]), np.array([[3.0], [5.0]])).tolist() == [2.0, 0.0]


@pytest.mark.parametrize("shape", [(40, 7), (12, 30)], ids=["tall", "wide"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_ridge_equals_scikit_learn_at_each_strength(shape: tuple[int, int], kind: Any) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(1, 2, shape).astype(np.float32)
    y = (1000 + 50 * features[:, 0] + rng.normal(size=shape[0])).astype(np.float32)
    path = list(Regression().heads(kind(features), y, 0))
    assert len(path) == len(linear.ALPHA_PER_ROW)
    for alpha, head in path:
        expected = Ridge(alpha=alpha, solver="cholesky").fit(features.astype(float), y.astype(float)).predict(features)
        np.testing.assert_allclose(head.logits(kind(features))[:, 0], expected, rtol=2e-5)
