"""The ways to learn a table from another, each against a closed form, scikit-learn, or an example worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from headstart import registry
from headstart.strategies.base import Part
from headstart.tables import coral, density, feature_augmentation, tradaboost, tradaboost_r2
from headstart.tables.base import Domains
from headstart.tables.calibration import calibrate
from headstart.tables.encoder import Encoder
from headstart.tables.folds import folds, strata_of
from headstart.tables.linear import solve
from headstart.tables.mixture import Mixture, TableModel
from headstart.tables.planner import Tried, Way, as_it_is, begin, plan, ship, weigh
from headstart.tables.trees import Boosting, Trees, added, boost, together
from headstart.tasks.base import Task

TWO: Task = registry.TASKS.get("classification").from_labels(["no", "yes"])
THREE: Task = registry.TASKS.get("classification").from_labels(["a", "b", "c"])
NUMBER: Task = registry.TASKS.get("regression").from_labels([1.0, 2.0])
NAMES = registry.TABLES.names()


def drawn(task: Task, n: int, seed: int, shift: float = 0.0, flip: bool = False) -> Part:
    """Rows of five columns, of which the first two say most of the label."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) + shift * np.array([1, 0, 1, 0, 0])
    signal = (X[:, 0] - X[:, 1]) * (-1 if flip else 1) + 0.5 * rng.normal(size=n)
    if not task.score_names:
        return Part(X, signal.astype(np.float32))
    return Part(X, np.digitize(signal, [-0.7, 0.7] if len(task.score_names) == 3 else [0.0]))


def domains(task: Task, n_source: int = 80, flip: bool = False) -> Domains:
    target = drawn(task, 60, 1, shift=0.5)
    return Domains(task=task, target=target.features, source=drawn(task, n_source, 0, flip=flip), seed=0)


# --- every way keeps the contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [TWO, THREE, NUMBER], ids=["two", "three", "number"])
@pytest.mark.parametrize("name", NAMES)
def test_a_way_learns_and_comes_back_from_its_arrays_to_the_last_bit(name: str, task: Task) -> None:
    found = domains(task)
    labelled = drawn(task, 20, 2, shift=0.5)
    ways = begin(found, [name])
    if registry.plugin_name(task) not in registry.TABLES.get(name).tasks:
        assert not ways
        return
    for way in ways:
        learnt = way.transfer.learn(found, way.begun, labelled)
        logits = learnt.logits(found.target)
        assert logits.shape == (60, found.n_outputs)
        assert np.isfinite(logits).all()
        assert (
            learnt.logits(found.target) == way.transfer.learn(found, way.begun, labelled).logits(found.target)
        ).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_way_stands_one_class_and_few_rows(name: str) -> None:
    found = domains(TWO)
    for way in begin(found, [name]):
        for n in (1, 3):
            learnt = way.transfer.learn(found, way.begun, Part(found.target[:n], np.ones(n, dtype=int)))
            assert np.isfinite(learnt.logits(found.target)).all()


# --- linear ways ----------------------------------------------------------------------------------------------------


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    rows, weight = drawn(TWO, 60, 0), np.linspace(0.5, 2, 60)
    logits = solve(TWO, rows, 0.1, weight).logits(rows.features)
    model = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(rows.features, rows.y, sample_weight=weight)
    np.testing.assert_allclose(softmax(logits, axis=1), model.predict_proba(rows.features), atol=1e-4)


def test_ridge_regression_solves_the_normal_equations_in_the_labels_own_unit() -> None:
    rows = drawn(NUMBER, 60, 0)
    told = solve(NUMBER, Part(rows.features, rows.y * 1000 + 5000), 0.5).logits(rows.features)[:, 0]
    scale = rows.y.std()
    expected = Ridge(alpha=2.0).fit(rows.features, rows.y / scale).predict(rows.features) * scale
    np.testing.assert_allclose(told, expected * 1000 + 5000, rtol=1e-4)


def test_a_class_that_is_missing_counts_as_half_a_row() -> None:
    rows = drawn(TWO, 40, 0)
    p = softmax(solve(THREE, rows, 0.1).logits(rows.features), axis=1)
    assert p.shape == (40, 3)
    assert 0 < p[:, 2].max() < 0.05


def test_feature_augmentation_is_ridge_on_three_blocks() -> None:
    """Daumé's columns, written out, with a constant in each side's own block."""
    found, labelled = domains(NUMBER), drawn(NUMBER, 20, 2)
    learnt = feature_augmentation.FeatureAugmentation(strength=0.5).learn(found, None, labelled)
    Xs, Xt = (np.hstack([part.features, np.ones((len(part.y), 1))]) for part in (found.given, labelled))
    wide = np.block([[found.given.features, Xs, np.zeros_like(Xs)], [labelled.features, np.zeros_like(Xt), Xt]])
    y = np.concatenate([found.given.y, labelled.y]).astype(float)
    model = Ridge(alpha=2.0).fit(wide, (y - y.mean()) / y.std())
    ours = np.hstack([labelled.features, np.zeros_like(Xt), Xt])
    np.testing.assert_allclose(
        learnt.logits(labelled.features)[:, 0], model.predict(ours) * y.std() + y.mean(), atol=1e-4
    )


def test_coral_gives_the_source_the_targets_mean_and_covariance() -> None:
    rng = np.random.default_rng(0)
    source, target = (
        rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)),
        rng.normal(size=(400, 3)) @ np.diag([1, 2, 3]) + 1,
    )
    mapped = coral.mapped(source, target, ridge=1e-9)
    np.testing.assert_allclose(mapped.mean(0), target.mean(0), atol=1e-8)
    np.testing.assert_allclose(np.cov(mapped, rowvar=False), np.cov(target, rowvar=False), rtol=0.01, atol=0.02)


def test_density_ratios_are_those_of_two_normal_laws() -> None:
    """N(0, 1) and N(1, 1): the ratio at x is exp(x - 1/2)."""
    rng = np.random.default_rng(0)
    source = Part(rng.normal(size=(4000, 1)), np.zeros(4000, dtype=int))
    found = Domains(task=TWO, target=rng.normal(size=(4000, 1)) + 1, source=source)
    weight = density.importance(found)
    true = np.exp(source.features[:, 0] - 0.5)
    assert np.corrcoef(np.log(weight), np.log(true))[0, 1] > 0.999
    assert (weight * source.features[:, 0]).mean() == pytest.approx(1.0, abs=0.1)  # the target's mean
    assert density.effective(np.ones(7)) == 7
    assert density.effective(np.array([1.0, 0, 0])) == 1


def test_the_source_prediction_alone_is_the_source_model() -> None:
    """With hardly any freedom left for the columns, the order of the rows is the source's."""
    found, labelled = domains(TWO), drawn(TWO, 30, 2, shift=0.5)
    (way, *_) = begin(found, ["source_prediction"])
    logits = way.transfer.learn(found, way.begun, labelled).logits(found.target)
    source = solve(TWO, found.given, 0.1).logits(found.target)
    assert np.corrcoef(logits[:, 1] - logits[:, 0], source[:, 1] - source[:, 0])[0, 1] > 0.97


# --- trees ----------------------------------------------------------------------------------------------------------


def test_trees_as_arrays_end_in_the_leaves_of_scikit_learn() -> None:
    rows = drawn(NUMBER, 300, 0)
    grown = [
        DecisionTreeRegressor(max_depth=depth, random_state=0).fit(rows.features, rows.y) for depth in (1, 4, None)
    ]
    trees = together(grown, [tree.tree_.value[:, 0] for tree in grown], np.zeros(1))
    X = drawn(NUMBER, 100, 1).features.astype(np.float32)
    expected = np.stack([tree.apply(X) for tree in grown], axis=1)
    assert (trees.leaves(X) - trees.roots == expected).all()
    np.testing.assert_allclose(trees.logits(X)[:, 0], sum(tree.predict(X) for tree in grown), rtol=1e-12)
    twice = added(trees, trees)
    np.testing.assert_allclose(twice.logits(X), 2 * trees.logits(X), rtol=1e-12)


def test_boosting_of_numbers_is_that_of_scikit_learn() -> None:
    rows = drawn(NUMBER, 200, 0)
    ours = boost(NUMBER, rows, Boosting(n_trees=20, depth=2, rate=0.1, ridge=0.0), seed=0).logits(rows.features)[:, 0]
    model = GradientBoostingRegressor(n_estimators=20, max_depth=2, min_samples_leaf=5)
    np.testing.assert_allclose(ours, model.fit(rows.features, rows.y).predict(rows.features), atol=1e-12)


def test_boosting_of_two_classes_is_that_of_scikit_learn() -> None:
    rows = drawn(TWO, 200, 0)
    ours = boost(TWO, rows, Boosting(n_trees=10, depth=2, rate=0.1, ridge=0.0), seed=0).logits(rows.features)
    model = GradientBoostingClassifier(n_estimators=10, max_depth=2, min_samples_leaf=5)
    np.testing.assert_allclose(
        softmax(ours, 1), model.fit(rows.features, rows.y).predict_proba(rows.features), atol=1e-12
    )


def test_boosting_goes_on_from_the_source() -> None:
    found, labelled = domains(NUMBER), drawn(NUMBER, 40, 2)
    begun = boost(NUMBER, found.given, Boosting(), 0)
    then = boost(NUMBER, labelled, Boosting(n_trees=40, depth=2), 0, begun)
    assert len(then.roots) == len(begun.roots) + 40
    before, after = (((trees.logits(labelled.features)[:, 0] - labelled.y) ** 2).mean() for trees in (begun, then))
    assert after < before
    none = Part(labelled.features[:0], labelled.y[:0])
    assert (boost(NUMBER, none, Boosting(), 0, begun).logits(found.target) == begun.logits(found.target)).all()


def test_the_weighted_median_is_the_first_value_that_reaches_half() -> None:
    grown = [DecisionTreeRegressor().fit([[0.0]], [value]) for value in (5.0, 1.0, 3.0)]
    values = [tree.tree_.value[:, 0] for tree in grown]
    for weight, expected in (([1, 1, 1], 3.0), ([4, 1, 1], 5.0), ([1, 4, 1], 1.0)):
        trees = together(grown, values, np.zeros(1), np.array(weight, dtype=float))
        assert trees.logits(np.zeros((2, 1))).tolist() == [[expected], [expected]]


# --- TrAdaBoost -----------------------------------------------------------------------------------------------------


def test_tradaboost_weights_by_hand() -> None:
    """Four source rows, two target rows, ten rounds; one of each is wrong, and the target's error is a fifth.

    A wrong source row falls by 1 / (1 + sqrt(2 ln 4 / 10)) = 0.65507, a wrong target row rises by 0.8 / 0.2 = 4.
    """
    weight, wrong = np.ones(6), np.array([True, False, False, False, True, False])
    fall = 1 / (1 + np.sqrt(2 * np.log(4) / 10))
    assert fall == pytest.approx(0.65507, abs=1e-5)
    expected = np.array([fall, 1, 1, 1, 4, 1])
    np.testing.assert_allclose(tradaboost.reweighed(weight, wrong, 4, 10, 0.2), expected / expected.sum())


def test_tradaboost_begins_with_half_of_the_weight_on_each_side() -> None:
    np.testing.assert_allclose(tradaboost.halves(4, 2), [1 / 8] * 4 + [1 / 4] * 2)


def test_tradaboost_follows_the_target_where_the_source_lies() -> None:
    found, labelled = domains(TWO, n_source=60, flip=True), drawn(TWO, 60, 2, shift=0.5)
    (way,) = begin(found, ["tradaboost"])
    said = way.transfer.learn(found, way.begun, labelled).logits(found.target).argmax(axis=1)
    truth = drawn(TWO, 60, 1, shift=0.5).y
    assert (said == truth).mean() > 0.7


def test_a_tree_of_tradaboost_votes_for_what_it_names() -> None:
    rows = drawn(THREE, 60, 0)
    tree = DecisionTreeClassifier(max_depth=2).fit(rows.features, rows.y)
    votes = together([tree], [tradaboost._votes(tree, 1.5, 3)], np.zeros(3)).logits(rows.features)
    assert (votes.argmax(axis=1) == tree.predict(rows.features)).all()
    np.testing.assert_allclose(votes.sum(axis=1), 0, atol=1e-12)


def test_stage_one_of_tradaboost_r2_hands_the_weight_to_the_target() -> None:
    """Each step gives the target's rows the share that the paper asks for, and the last one all of it."""
    n_source, n_target, steps = 30, 10, 5
    weight, off = np.full(40, 1 / 40), np.random.default_rng(0).random(40)
    for step in range(steps):
        held = tradaboost_r2.share(step, steps, n_source, n_target)
        assert held == pytest.approx(min(0.25 + (step + 1) / 4 * 0.75, 1.0))
        weight = tradaboost_r2.lowered(weight, off, n_source, held)
        assert weight.sum() == pytest.approx(1)
        assert weight[n_source:].sum() == pytest.approx(held, abs=1e-6)
    first = tradaboost_r2.lowered(np.full(40, 1 / 40), off, n_source, 0.4)
    np.testing.assert_allclose(  # beta ** error: logarithms of the weights lie on a line over the errors
        np.corrcoef(np.log(first[:n_source]), off[:n_source])[0, 1], -1, atol=1e-6
    )


# --- folds, calibration and weights ---------------------------------------------------------------------------------


def test_folds_hold_every_row_once_and_share_the_classes() -> None:
    y = np.array([0] * 12 + [1] * 3)
    found = folds(y, 5, seed=3)
    assert sorted(np.concatenate(found)) == list(range(15))
    assert all((y[fold] == 1).sum() <= 1 for fold in found)
    assert len(folds(y[:2], 5, 0)) == 2  # fewer rows than folds
    groups = np.array(["a", "b", "c"] * 5)
    assert all(len(set(groups[fold])) == 1 for fold in folds(y, 5, 0, groups))
    assert strata_of(np.array([3.0, 1.0, 2.0, 5.0, 4.0]), is_number=True).tolist() == [2, 0, 1, 4, 3]


def test_calibration_finds_slope_and_shift_and_few_labels_change_little() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, 5000)
    y = (rng.random(5000) < 1 / (1 + np.exp(-(0.5 * z + 1)))).astype(int)
    logits = np.stack([-z, z], axis=1) / 2
    found = calibrate(TWO, logits, y)
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.shift[1] - found.shift[0] == pytest.approx(1.0, abs=0.1)
    assert calibrate(TWO, logits[:1], y[:1]).slope == pytest.approx(1.0, abs=0.3)
    number = calibrate(NUMBER, z[:, None] * 10, z * 20 + 30)
    np.testing.assert_allclose(number.apply(z[:, None] * 10)[:, 0], z * 20 + 30, atol=0.5)


def tried(name: str, losses: Any) -> Tried:
    way = Way(name, registry.TABLES.get("source_only")(strength=0.1), None)
    return Tried(
        way,
        np.asarray(losses, dtype=float),
        np.zeros((len(losses), 2)),
        calibrate(TWO, np.zeros((0, 2)), []),
        len(losses),
    )


def test_ways_that_cannot_be_told_apart_share_the_weight_and_many_labels_decide() -> None:
    rng = np.random.default_rng(0)
    base = rng.exponential(0.5, 1000)
    noise = rng.normal(0, 0.3, 1000)
    alike = weigh([tried("pooled", base[:20]), tried("coral", base[:20])])
    np.testing.assert_allclose(alike, 0.5)
    few = weigh([tried("pooled", base[:20]), tried("coral", (base + 0.05 + noise)[:20])])
    many = weigh([tried("pooled", base), tried("coral", base + 0.05 + noise)])
    assert 0.2 < few[0] < 0.95 < many[0]


def test_settings_of_a_way_share_one_voice() -> None:
    losses = np.full(10, 0.4)
    found = weigh([tried("pooled", losses), tried("pooled", losses), tried("coral", losses)])
    np.testing.assert_allclose(found, [0.25, 0.25, 0.5])


def test_a_source_that_lies_gets_no_say() -> None:
    found = domains(TWO, flip=True)
    labelled = drawn(TWO, 60, 1, shift=0.5)
    planned = plan(found, begin(found), labelled, repeats=1)
    assert planned.of("source_only") < 0.05
    new = drawn(TWO, 400, 5, shift=0.5)
    auto = ship(found, planned, labelled).scores(TWO, new.features).argmax(axis=1)
    alone = ship(found, planned.only(["target_only"]), labelled).scores(TWO, new.features).argmax(axis=1)
    assert (auto == new.y).mean() > (alone == new.y).mean() - 0.05


def test_without_labels_only_ways_that_need_none_are_weighed_and_a_seed_repeats() -> None:
    found = domains(TWO)
    none = Part(found.target[:0], np.zeros(0, dtype=int))
    planned, again = (plan(found, begin(found), none) for _ in range(2))
    assert set(planned.names) == {"source_only", "importance_weighting", "coral"}
    assert (planned.weights == again.weights).all()
    assert planned.row_weights is not None
    scores = ship(found, planned, none).scores(TWO, found.target)
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def test_a_mixture_is_the_weighted_mean_and_comes_back_from_arrays() -> None:
    found, labelled = domains(THREE), drawn(THREE, 40, 2, shift=0.5)
    planned = plan(found, begin(found), labelled, repeats=1)
    mixture = ship(found, planned, labelled)
    expected = sum(part.weight * part.scores(THREE, found.target) for part in mixture.parts)
    assert sum(part.weight for part in mixture.parts) == pytest.approx(1)
    np.testing.assert_allclose(mixture.scores(THREE, found.target), expected)
    model = TableModel(Encoder(columns=()), mixture)
    again = TableModel.restore(model.to_json(), model.state()).mixture
    assert (again.scores(THREE, found.target) == mixture.scores(THREE, found.target)).all()


def test_the_source_as_it_is_looks_at_no_label_of_the_target() -> None:
    found = domains(TWO)
    mixture = as_it_is(begin(found), "source_only", found)
    assert isinstance(mixture, Mixture)
    assert all(part.calibration.slope == 1 and not part.calibration.shift.any() for part in mixture.parts)


def test_trees_without_rows_say_what_they_start_with() -> None:
    trees: Trees = boost(TWO, Part(np.zeros((0, 2)), np.zeros(0, dtype=int)), Boosting(), 0)
    assert trees.logits(np.zeros((3, 2))).tolist() == [[0, 0]] * 3
