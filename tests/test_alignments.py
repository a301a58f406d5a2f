"""Alignments: a contract for every one of them, and each against skada, POT or the problem that it solves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from headstart.alignments.base import Affine, Alignment
from headstart.alignments.coral import Coral
from headstart.alignments.density import Density
from headstart.alignments.domains import domain_odds
from headstart.alignments.identity import Identity
from headstart.alignments.jdot import Jdot
from headstart.alignments.kernel_mean import KernelMean
from headstart.alignments.moments import Moments
from headstart.alignments.solve import Sides, Solution, common_scale, fold, solve
from headstart.alignments.subspace import Subspace
from headstart.alignments.tca import Tca, transfer_components
from headstart.alignments.transport import Transport
from headstart.errors import DataError, MissingExtraError
from headstart.registry import ALIGNMENTS
from headstart.strategies.base import Part
from headstart.tasks import linear
from headstart.tasks.base import LinearHead
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression

D, K = 6, 3
TASK = Classification(class_names=("a", "b", "c"), positive="c")
MIX = np.linalg.qr(np.random.default_rng(9).normal(size=(D, D)))[0]


def blobs(n: int, seed: int, turn: bool = False) -> Part:
    """K classes in D columns; the target's are stretched, turned and shifted."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    centres = 3 * np.eye(K, D)
    x = centres[y] + rng.normal(size=(n, D)) * np.geomspace(1, 0.3, D)
    if turn:
        x = x @ (np.diag(np.linspace(0.6, 1.7, D)) + 0.3 * MIX) + np.linspace(-1, 2, D)
    return Part(x.astype(np.float32), y)


def domains(turn: bool = True, n: int = 90) -> tuple[Sides, Part]:
    """Source, and a target whose labels only the test sees."""
    target = blobs(n, 3, turn)
    return Sides(train=blobs(n, 1), val=blobs(45, 2), target=target.features), target


def made(name: str) -> Alignment:
    return ALIGNMENTS.get(name)()


@pytest.fixture(scope="module")
def solutions() -> dict[str, Solution]:
    data, _ = domains()
    return {name: solve(made(name), TASK, data, 0) for name in ALIGNMENTS.names()}


@pytest.mark.parametrize("name", ALIGNMENTS.names())
class TestContract:
    """What holds for every alignment."""

    def test_settings_are_plain_json_values(self, name: str) -> None:
        one = made(name)
        assert type(one)(**json.loads(json.dumps(one.settings()))) == one
        assert one.title

    def test_shapes(self, name: str) -> None:
        data, _ = domains()
        aligned = made(name).align(data.train, data.target.astype(float), 0)
        width = aligned.target.matrix.shape[1]
        assert aligned.target.matrix.shape[0] == D
        assert aligned.target.offset.shape == (width,)
        assert aligned.source(data.train.features).shape == (90, width)
        assert aligned.source(data.val.features).shape == (45, width)
        if aligned.weights is not None:
            assert aligned.weights.shape == (90,)
            assert aligned.weights.min() >= 0
            assert aligned.weights.mean() == pytest.approx(1)

    def test_the_folded_head_is_the_head_on_aligned_features(self, name: str, solutions: dict[str, Solution]) -> None:
        data, _ = domains()
        found = solutions[name]
        assert found.head.weight.shape == (K, D)
        probabilities = TASK.scores(found.head.logits(data.target))
        np.testing.assert_allclose(probabilities, found.outlook.target_probabilities, atol=1e-4)
        np.testing.assert_allclose(TASK.scores(found.val_logits), found.outlook.val_probabilities)

    def test_the_outlook_is_whole(self, name: str, solutions: dict[str, Solution]) -> None:
        found = solutions[name].outlook
        d = found.target.shape[1]
        assert (found.train.shape, found.val.shape, found.target.shape) == ((90, d), (45, d), (90, d))
        assert all(np.isfinite(one).all() for one in vars(found).values())

    def test_the_same_seed_gives_the_same_head(self, name: str, solutions: dict[str, Solution]) -> None:
        again = solve(made(name), TASK, domains()[0], 0)
        np.testing.assert_array_equal(again.head.weight, solutions[name].head.weight)

    def test_one_domain_needs_no_alignment(self, name: str) -> None:
        """Where source and target come from one distribution, predictions stay what they were."""
        data, target = domains(turn=False)
        plain = solve(Identity(), TASK, data, 0).head.logits(data.target).argmax(axis=1)
        found = solve(made(name), TASK, data, 0).head.logits(data.target).argmax(axis=1)
        assert (plain == target.y).mean() > 0.9
        assert (found == plain).mean() > 0.9

    def test_units_do_not_matter(self, name: str, solutions: dict[str, Solution]) -> None:
        data, _ = domains()
        unit, zero = np.geomspace(1e-3, 1e3, D), np.linspace(5, -5, D)

        def changed(features: np.ndarray) -> np.ndarray:
            return (features.astype(float) * unit + zero).astype(np.float32)

        other = Sides(
            train=Part(changed(data.train.features), data.train.y),
            val=Part(changed(data.val.features), data.val.y),
            target=changed(data.target),
        )
        found = solve(made(name), TASK, other, 0).outlook.target_probabilities
        assert np.abs(found - solutions[name].outlook.target_probabilities).mean() < 0.02

    def test_more_columns_than_rows(self, name: str) -> None:
        rng = np.random.default_rng(0)
        y = np.arange(20) % K
        wide = Sides(
            train=Part(rng.normal(size=(20, 40)).astype(np.float32), y),
            val=Part(rng.normal(size=(6, 40)).astype(np.float32), y[:6]),
            target=rng.normal(size=(15, 40)).astype(np.float32) * np.r_[np.zeros(5), np.ones(35)].astype(np.float32),
        )
        assert np.isfinite(solve(made(name), TASK, wide, 0).head.weight).all()


@pytest.mark.parametrize("alignment", [Coral(), Moments(), Transport()])
def test_what_moves_the_source_mends_a_shifted_target(alignment: Alignment) -> None:
    data, target = domains()
    plain = (solve(Identity(), TASK, data, 0).head.logits(data.target).argmax(axis=1) == target.y).mean()
    found = (solve(alignment, TASK, data, 0).head.logits(data.target).argmax(axis=1) == target.y).mean()
    assert found > plain + 0.1


def skadas(adapter: object, source: Part, target: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, ...]:
    """(source, target, new source rows) as skada's adapter maps them."""
    both = np.concatenate([source.features, target]).astype(float)
    domain = np.repeat([1, -2], [len(source.features), len(target)])
    y = np.concatenate([source.y, np.full(len(target), -1)])
    adapter.fit(both, y, sample_domain=domain)  # type: ignore[attr-defined]

    def transform(x: np.ndarray, domain: np.ndarray) -> np.ndarray:
        return np.asarray(adapter.transform(x, sample_domain=domain, allow_source=True))  # type: ignore[attr-defined]

    # target rows stand beside new source rows: skada's adapters want both domains
    held_out = transform(np.concatenate([new, target]), np.repeat([1, -2], [len(new), len(target)]))
    whole = transform(both, domain)
    return whole[domain > 0], whole[domain < 0], held_out[: len(new)]


def whole() -> tuple[Part, np.ndarray, np.ndarray]:
    data, _ = domains()
    return Part(data.train.features.astype(float), data.train.y), data.target.astype(float), data.val.features


class TestAgainstSkada:
    """The same maps, but for an origin that both domains share."""

    def test_coral(self) -> None:
        from skada import CORALAdapter

        source, target, new = whole()
        aligned = Coral(shrinkage=0.3).align(source, target, 0)
        expected = skadas(CORALAdapter(reg=0.3), source, target, new)
        found = aligned.source(source.features), aligned.target(target), aligned.source(new)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one - target.mean(axis=0), other, atol=1e-8)

    def test_subspace_alignment(self) -> None:
        from skada import SubspaceAlignmentAdapter

        source, target, new = whole()
        aligned = Subspace(n_components=4).align(source, target, 0)
        expected = skadas(SubspaceAlignmentAdapter(n_components=4), source, target, new)
        signs = np.sign((aligned.target(target) * expected[1]).sum(axis=0))
        found = aligned.source(source.features), aligned.target(target), aligned.source(new)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one * signs, other, atol=1e-8)

    @pytest.mark.filterwarnings("ignore::UserWarning")  # of skada's solver
    @pytest.mark.parametrize("class_weight", [0.0, 0.1])
    def test_transport(self, class_weight: float) -> None:
        from skada import ClassRegularizerOTMappingAdapter, EntropicOTMappingAdapter

        source, target, new = whole()
        unit = np.median(((source.features[:, None] - target[None]) ** 2).sum(axis=2))  # skada leaves the cost's unit
        alignment = Transport(entropy=0.5, class_weight=class_weight)
        if class_weight:
            adapter: object = ClassRegularizerOTMappingAdapter(reg_e=0.5, reg_cl=class_weight)
            source, target, new = Part(source.features / unit**0.5, source.y), target / unit**0.5, new / unit**0.5
        else:
            adapter = EntropicOTMappingAdapter(reg_e=0.5, norm="median")
        aligned = alignment.align(source, target, 0)
        moved, _, held_out = skadas(adapter, source, target, new)
        np.testing.assert_allclose(aligned.source(source.features), moved, atol=1e-6)
        if class_weight:  # without classes skada carries new rows by the dual potentials
            np.testing.assert_allclose(aligned.source(new), held_out, atol=1e-6)

    def test_kernel_mean_matching(self) -> None:
        from skada import KMMReweightAdapter

        source, target, _ = whole()
        adapter = KMMReweightAdapter(gamma=1 / (2 * D), max_iter=1000)
        both = np.concatenate([source.features, target])
        domain = np.repeat([1, -2], [len(source.features), len(target)])
        adapter.fit(both, sample_domain=domain)
        expected = adapter.compute_weights(both, sample_domain=domain)[domain > 0]
        found = KernelMean(width=2).align(source, target, 0).weights
        np.testing.assert_allclose(found, expected / expected.mean())

    @pytest.mark.filterwarnings("ignore")
    def test_jdot(self) -> None:
        from skada import JDOTClassifier

        source, target, _ = whole()
        found = Jdot(c_times_row=5.0).carried(source.features, source.y, target)
        scaled = (target - target.mean(axis=0)) / target.std(axis=0)
        expected = JDOTClassifier(LogisticRegression(C=5.0 / D, tol=1e-8, max_iter=5000))
        # skada's learner sees the target as it stands: both domains go in by the target's scale, ours by none
        both = np.concatenate([(source.features - target.mean(axis=0)) / target.std(axis=0), scaled])
        expected.fit(
            both,
            np.concatenate([source.y, np.full(len(target), -1)]),
            sample_domain=np.repeat([1, -2], [len(source.y), len(target)]),
        )
        again = Jdot(c_times_row=5.0).carried(both[: len(source.y)], source.y, scaled)
        labels = expected.sol_.plan.T @ np.eye(K)[source.y] * len(target)
        np.testing.assert_allclose(again, labels, atol=1e-6)
        assert found.sum(axis=1) == pytest.approx(np.ones(len(target)))


class TestTca:
    """The small problem, against the one of N by N that the paper poses."""

    @pytest.mark.parametrize("closeness", [0.01, 10.0])
    @pytest.mark.parametrize("shape", [(30, 20, 6), (9, 8, 25)])
    def test_components_solve_the_large_problem(self, closeness: float, shape: tuple[int, int, int]) -> None:
        n_source, n_target, width = shape
        rng = np.random.default_rng(0)
        source, target = rng.normal(size=(n_source, width)), rng.normal(size=(n_target, width)) + 0.5
        both = np.concatenate([source, target])
        n = len(both)
        kernel = both @ both.T
        apart = np.repeat([1 / n_source, -1 / n_target], [n_source, n_target])
        centring = np.eye(n) - 1 / n
        left = kernel @ centring @ kernel
        right = np.eye(n) + closeness * kernel @ np.outer(apart, apart) @ kernel
        expected = kernel @ scipy.linalg.eigh(left, right)[1][:, ::-1][:, :5]
        found = both @ transfer_components(source, target, closeness)[:, :5]
        signs = np.sign((found * expected).sum(axis=0))
        np.testing.assert_allclose(found * signs, expected, atol=1e-6 * np.abs(expected).max())

    def test_the_means_come_closer_the_more_it_counts(self) -> None:
        source, target, _ = whole()

        def distance(closeness: float) -> float:
            aligned = Tca(n_components=3, closeness=closeness).align(source, target, 0)
            one, other = aligned.source(source.features), aligned.target(target)
            return float(np.linalg.norm((one.mean(axis=0) - other.mean(axis=0)) / one.std(axis=0)))

        assert distance(1e4) < 0.1 * distance(1e-4)


def test_moments_gives_the_source_the_targets_mean_and_variance() -> None:
    source, target, _ = whole()
    moved = Moments().align(source, target, 0).source(source.features)
    np.testing.assert_allclose(moved.mean(axis=0), target.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(moved.std(axis=0), target.std(axis=0), atol=1e-8)


def test_density_ratios_are_those_of_two_gaussians() -> None:
    """p_target / p_source of N(1, 1) and N(0, 1) is exp(x - 1/2)."""
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2000, 1)), rng.normal(size=(2000, 1)) + 1
    weights = Density().align(Part(source, np.zeros(2000, dtype=int)), target, 0).weights
    assert weights is not None
    expected = np.exp(source[:, 0] - 0.5)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=0.35)
    assert np.corrcoef(np.log(weights), source[:, 0])[0, 1] > 0.99


def test_domain_odds_do_not_see_the_size_of_the_domains() -> None:
    rng = np.random.default_rng(0)
    odds = domain_odds(rng.normal(size=(900, 4)), rng.normal(size=(300, 4)), 0)
    assert abs(np.median(odds.source)) < 0.2
    assert abs(np.median(odds.target)) < 0.2


def test_source_only_is_the_probe_by_another_scale() -> None:
    data, _ = domains()
    found = solve(Identity(), TASK, data, 0)
    mean, scale = (
        f(np.concatenate([data.train.features, data.target]).astype(float), axis=0) for f in (np.mean, np.std)
    )
    exact = LogisticRegression(C=found.strength, tol=1e-8, max_iter=5000)
    exact.fit((data.train.features - mean) / scale, data.train.y)
    expected = exact.predict_proba((data.target - mean) / scale)
    np.testing.assert_allclose(found.outlook.target_probabilities, expected, atol=5e-3)


def test_fold_is_one_map_after_another() -> None:
    rng = np.random.default_rng(0)
    before = Affine(rng.normal(size=(D, 2)), rng.normal(size=2))
    head = LinearHead(rng.normal(size=(K, 2)).astype(np.float32), rng.normal(size=K).astype(np.float32))
    features = rng.normal(size=(5, D))
    np.testing.assert_allclose(fold(head, before).logits(features), head.logits(before(features)), atol=1e-5)


def test_common_scale_makes_both_domains_together_standard() -> None:
    data, _ = domains()
    scale = common_scale(data.train.features, data.target)
    both = np.concatenate([scale(data.train.features), scale(data.target)])
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(both.std(axis=0), 1, atol=1e-6)


def test_a_domain_of_one_and_an_empty_validation_are_errors() -> None:
    data, _ = domains()
    one = Sides(train=data.train, val=data.val, target=data.target[:1])
    with pytest.raises(DataError, match="The target holds 1 examples to align by; it takes at least 2"):
        solve(Identity(), TASK, one, 0)
    empty = Sides(train=data.train, val=Part(data.val.features[:0], data.val.y[:0]), target=data.target)
    with pytest.raises(DataError, match="The val split is empty"):
        solve(Identity(), TASK, empty, 0)


@pytest.mark.parametrize(("alignment", "library"), [(Transport(), "ot"), (Jdot(), "ot"), (KernelMean(), "skada")])
def test_a_missing_library_names_the_extra(alignment: Alignment, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"headstart\[align\]"):
        solve(alignment, TASK, domains()[0], 0)


class TestWeights:
    """Heads whose examples count differently, against scikit-learn's."""

    WEIGHTS = np.random.default_rng(4).exponential(size=120) * (np.arange(120) % 7 > 0)  # some count nothing
    FEATURES = ((blobs(120, 5).features - 1) / 2).astype(np.float32)
    Y = np.random.default_rng(6).integers(0, K, 120)

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
    def test_logistic(self, n_classes: int, kind: Callable[[np.ndarray], object]) -> None:
        y = self.Y % n_classes
        task = Classification(class_names=tuple("abc"[:n_classes]), positive="a")
        scale = self.WEIGHTS[self.WEIGHTS > 0].mean()  # only ratios matter: the mean of what counts is 1
        exact = LogisticRegression(tol=1e-9, max_iter=5000)
        for strength, head in task.heads(kind(self.FEATURES), y, 0, sample_weight=self.WEIGHTS):
            exact.set_params(C=strength).fit(self.FEATURES.astype(float), y, self.WEIGHTS / scale)
            expected = exact.predict_proba(self.FEATURES.astype(float))
            np.testing.assert_allclose(task.scores(head.logits(self.FEATURES)), expected, atol=1e-3)

    def test_a_class_that_counts_nothing_is_one_that_is_not_there(self) -> None:
        weights = (self.Y != 2).astype(float)
        kept = self.Y != 2
        for (_, one), (_, other) in zip(
            TASK.heads(self.FEATURES, self.Y, 0, sample_weight=weights),
            TASK.heads(self.FEATURES[kept], self.Y[kept], 0),
            strict=True,
        ):
            np.testing.assert_allclose(one.weight, other.weight, atol=1e-5)

    def test_several_labels(self) -> None:
        labels = np.stack([self.Y == 0, self.Y == 1], axis=1).astype(np.float32)
        heads = Multilabel(class_names=("a", "b")).heads(self.FEATURES, labels, 0, sample_weight=self.WEIGHTS)
        single = list(linear.logistic_path(*linear.counted(self.FEATURES, self.Y == 1, self.WEIGHTS)[:2]))
        weighed = [head.weight[1] for _, head in heads]
        assert len(weighed) == len(single)
        assert not np.allclose(weighed[5], single[5][1][0][0], atol=1e-3)  # without the weights it is another head

    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
    def test_ridge(self, kind: Callable[[np.ndarray], object]) -> None:
        y = self.FEATURES @ np.arange(D) + np.random.default_rng(0).normal(size=120)
        scale = self.WEIGHTS[self.WEIGHTS > 0].mean()
        for alpha, head in Regression().heads(kind(self.FEATURES), y, 0, sample_weight=self.WEIGHTS):
            exact = Ridge(alpha=alpha).fit(self.FEATURES.astype(float), y, self.WEIGHTS / scale)
            expected = exact.predict(self.FEATURES.astype(float))
            np.testing.assert_allclose(head.logits(self.FEATURES)[:, 0], expected, atol=2e-2)
