"""The estimators do what scikit-learn expects of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from headstart import TransferClassifier, TransferRegressor
from headstart.backbones.base import Backbone
from headstart.errors import DataError
from tests.conftest import draw, review_rows

TEXTS, LABELS = (list(column) for column in zip(*review_rows(), strict=True))


def test_fit_predict_and_probabilities() -> None:
    model = TransferClassifier().fit(TEXTS[::2], LABELS[::2])
    assert list(model.classes_) == ["bad", "good"]
    probabilities = model.predict_proba(TEXTS[1::2])
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (model.predict(TEXTS[1::2]) == model.classes_[probabilities.argmax(axis=1)]).all()
    assert model.score(TEXTS[1::2], LABELS[1::2]) == accuracy_score(LABELS[1::2], model.predict(TEXTS[1::2])) > 0.9


def test_labels_keep_their_type_and_order() -> None:
    y = np.array([10 if label == "good" else 2 for label in LABELS])
    model = TransferClassifier().fit(TEXTS, y)
    assert model.classes_.tolist() == [2, 10]
    assert model.predict(["what a wonderful film", "a boring, clumsy book"]).tolist() == [10, 2]


def test_more_than_ten_classes_keep_their_columns() -> None:
    things = [text.split()[3].strip(",") for text in TEXTS]
    texts = [*TEXTS, *(f"one more {word} here" for word in ("moon", "moon", "moon", "river", "river", "river"))]
    y = [*things, *("moon",) * 3, *("river",) * 3]
    model = TransferClassifier().fit(texts, y)
    assert model.predict_proba(texts).shape == (126, 12)
    assert model.score(texts, y) > 0.8


def test_clone_and_parameters() -> None:
    model = TransferClassifier("minilm", freeze=4, seed=3)
    assert clone(model).get_params() == {"backbone": "minilm", "freeze": 4, "seed": 3} == model.get_params()


def test_pipelines_and_cross_validation_run_the_backbone_once(monkeypatch: Any) -> None:
    n_run = 0
    collate = Backbone.pooled

    def counted(self: Backbone, inputs: Any, n_frozen: int | None = None) -> Any:
        nonlocal n_run
        n_run += len(inputs["input_ids"])
        return collate(self, inputs, n_frozen)

    monkeypatch.setattr(Backbone, "pooled", counted)
    shouted = [f"{text} indeed" for text in TEXTS]
    model = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), TransferClassifier())
    scores = cross_val_score(model, shouted, LABELS, cv=3)
    assert scores.mean() > 0.9
    assert n_run == len(TEXTS)


def test_grid_search_over_depth() -> None:
    search = GridSearchCV(TransferClassifier(), {"freeze": [1, 7]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_params_["freeze"] in (1, 7)


def test_pictures_as_arrays() -> None:
    rng = np.random.default_rng(4)
    X = np.stack([np.asarray(draw(rng, striped=i % 2 == 1)) for i in range(40)])
    y = np.arange(40) % 2 == 1
    model = TransferClassifier().fit(X[:30], y[:30])
    assert model.predict(X[30:]).dtype == bool
    assert model.score(X[30:], y[30:]) > 0.9


def test_a_number() -> None:
    y = np.array([1.0 if label == "good" else -1.0 for label in LABELS]) + np.linspace(0, 0.1, len(LABELS))
    model = TransferRegressor().fit(TEXTS[::2], y[::2])
    assert model.predict(TEXTS[1::2]).shape == (60,)
    assert model.score(TEXTS[1::2], y[1::2]) > 0.5


def test_an_item_that_cannot_be_read_is_named() -> None:
    with pytest.raises(DataError, match="number 2"):
        TransferClassifier().fit(["a fine day", "a bad day", "  ", "a good one"], [1, 0, 1, 0])
