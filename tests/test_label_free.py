"""Scorers that see no target label, against skada's and closed forms; and the choice among candidates."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from headstart.alignments.base import Outlook
from headstart.errors import DataError
from headstart.evidence import label_free
from headstart.evidence.label_free import SCORERS, Choice, Judged, choose, val_ratio

K = 3


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def outlook(shift: float = 0.5, seed: int = 0, n: int = 120) -> Outlook:
    """Three classes in four columns; the target is shifted, and read by the source's head."""
    rng = np.random.default_rng(seed)
    centres = 2 * np.eye(K, 4)

    def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(size) % K
        return centres[y] + rng.normal(size=(size, 4)), y

    (train, y_train), (val, y_val), (target, _) = draw(n), draw(60), draw(90)
    target = target + shift
    head = LogisticRegression().fit(train, y_train)
    return Outlook(
        train=train,
        y_train=y_train,
        val=val,
        y_val=y_val,
        val_probabilities=head.predict_proba(val),
        target=target,
        target_probabilities=head.predict_proba(target),
    )


def plain(judged: Judged) -> float:
    """On the examples as they are."""
    return float(judged.compute(np.ones((1, judged.n)))[0])


class Said:
    """A skada pipeline's stand-in: says the probabilities that it was given, of target rows."""

    def __init__(self, probabilities: np.ndarray) -> None:
        self.probabilities = probabilities

    def predict_proba(self, features: np.ndarray, **_: object) -> np.ndarray:
        assert len(features) == len(self.probabilities)
        return self.probabilities


def skada_scores(scorer: object, seen: Outlook) -> float:
    features = np.concatenate([seen.train, seen.target])
    y = np.concatenate([seen.y_train, np.full(len(seen.target), -1)])
    domain = np.repeat([1, -2], [len(seen.train), len(seen.target)])
    said = Said(seen.target_probabilities)
    return float(scorer._score(None, said, features, y, sample_domain=domain))  # type: ignore[attr-defined]


class TestScorers:
    """Each on one candidate."""

    def test_entropy_is_skadas_when_predictions_are_balanced(self) -> None:
        from skada.metrics import PredictionEntropyScorer

        seen = outlook()
        balanced = np.concatenate([np.roll(seen.target_probabilities, k, axis=1) for k in range(K)])
        seen = replace(seen, target=np.tile(seen.target, (K, 1)), target_probabilities=balanced)
        expected = skada_scores(PredictionEntropyScorer(), seen) * K  # it takes the mean over classes too
        assert plain(label_free.entropy(seen)) == pytest.approx(np.log(K) + expected)

    def test_entropy_of_a_collapsed_classifier_is_nothing(self) -> None:
        sure = np.tile([1.0, 0.0, 0.0], (90, 1))
        assert plain(label_free.entropy(replace(outlook(), target_probabilities=sure))) == pytest.approx(0)

    def test_density_is_skadas_but_for_the_example_itself(self) -> None:
        """skada negates the diagonal, as the paper's code does; here an example is no neighbour of its own."""
        from skada.metrics import SoftNeighborhoodDensity

        seen = outlook()
        found, expected = plain(label_free.density(seen)), skada_scores(SoftNeighborhoodDensity(), seen)
        assert found == pytest.approx(expected, rel=1e-3)

    def test_density_of_equal_predictions_is_that_of_all_the_others(self) -> None:
        seen = replace(outlook(), target_probabilities=np.full((90, K), 1 / K))
        assert plain(label_free.density(seen)) == pytest.approx(np.log(89))

    def test_importance_is_plain_accuracy_where_all_count_the_same(self) -> None:
        seen = outlook()
        right = seen.val_probabilities.argmax(axis=1) == seen.y_val
        assert plain(label_free.importance(seen, np.ones(60))) == pytest.approx(right.mean())
        only = np.zeros(60)
        only[~right] = 2.0
        assert plain(label_free.importance(seen, only)) == pytest.approx(0)

    def test_dev_is_the_paper_s_formula(self) -> None:
        seen, ratio = outlook(), np.random.default_rng(1).exponential(size=60)
        loss = -np.log(seen.val_probabilities[np.arange(60), seen.y_val])
        weighed = ratio * loss
        eta = -np.cov(weighed, ratio, ddof=0)[0, 1] / np.var(ratio)
        expected = weighed.mean() + eta * ratio.mean() - eta
        assert plain(label_free.dev(seen, ratio)) == pytest.approx(-expected)

    def test_dev_is_skadas_given_its_ratio(self) -> None:
        """skada draws its own validation from the source and fits its own domain classifier; both are repeated here.

        Its own loss has the shape (n,), which its weights (n, 1) turn into a table of all pairs: it is given a column.
        """
        from skada.metrics import DeepEmbeddedValidation
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import FunctionTransformer

        seen = outlook()
        pipeline = make_pipeline(FunctionTransformer(), LogisticRegression()).fit(seen.train, seen.y_train)
        features = np.concatenate([seen.train, seen.target])
        y = np.concatenate([seen.y_train, np.full(90, -1)])
        domain = np.repeat([1, -2], [120, 90])

        class Routed(type(pipeline)):  # type: ignore[misc]
            def predict_proba(self, x: np.ndarray, **_: object) -> np.ndarray:
                return np.asarray(super().predict_proba(x))

        routed = Routed(pipeline.steps)

        def loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
            return -np.log(p[np.arange(len(y)), y])[:, None]

        scorer = DeepEmbeddedValidation(loss_func=loss, random_state=0)
        expected = scorer._score(None, routed, features, y, sample_domain=domain)
        rng = np.random.RandomState(0)
        train, val, _, y_val = train_test_split(seen.train, seen.y_train, test_size=0.33, random_state=rng)
        teller = LogisticRegression().fit(
            np.concatenate([train, seen.target]), np.repeat([1, 0], [len(train), len(seen.target)])
        )
        p = teller.predict_proba(val)
        ratio = len(train) / len(seen.target) * p[:, 0] / p[:, 1]
        mine = replace(seen, val=val, y_val=y_val, val_probabilities=pipeline.predict_proba(val))
        # skada divides a covariance of n - 1 by a variance of n - 1, which is the same ratio
        assert plain(label_free.dev(mine, ratio)) == pytest.approx(expected, rel=1e-6)

    def test_circular_is_high_where_the_labels_hold_and_low_where_they_are_mixed(self) -> None:
        seen = outlook()
        mixed = seen.target_probabilities[:, [1, 2, 0]]
        assert plain(label_free.circular(seen)) > 0.8
        assert plain(label_free.circular(replace(seen, target_probabilities=mixed))) < 0.2

    def test_circular_of_one_label_for_all_is_its_share(self) -> None:
        seen = outlook()
        one = np.tile([0.2, 0.7, 0.1], (90, 1))
        assert plain(label_free.circular(replace(seen, target_probabilities=one))) == pytest.approx(1 / 3)

    def test_the_ratio_grows_towards_the_target(self) -> None:
        seen = outlook(shift=2.0)
        ratio = val_ratio(seen, 0)
        assert ratio.mean() == pytest.approx(1)
        assert np.corrcoef(ratio, seen.val.sum(axis=1))[0, 1] > 0.4

    @pytest.mark.parametrize("scorer", ["density", "circular", "entropy"])
    def test_resampling_is_repeating_rows(self, scorer: str) -> None:
        """A weight of 2 is an example that is there twice: for statistics that are means of what was fixed before."""
        judged = getattr(label_free, scorer)(outlook())
        weights = np.random.default_rng(0).integers(0, 3, (1, judged.n))
        assert np.isfinite(judged.compute(weights)).all()
        np.testing.assert_allclose(judged.compute(weights), judged.compute(2 * weights))


def candidates() -> dict[str, Outlook]:
    """Source only errs on some of the target, two others do not, one is collapsed."""
    good = outlook(shift=0.0)
    poor = good.target_probabilities.copy()
    poor[:30] = np.roll(poor[:30], 1, axis=1)
    return {
        "source only": replace(good, target_probabilities=poor),
        "good": good,
        "near": replace(good, target_probabilities=softmax(np.log(good.target_probabilities) * 0.9)),
        "collapsed": replace(good, target_probabilities=np.tile([0.98, 0.01, 0.01], (90, 1))),
    }


class TestChoice:
    """What ships."""

    def test_a_better_candidate_takes_the_place(self) -> None:
        choice = choose(candidates())
        assert choice.name in ("good", "near")
        assert choice.trusted
        assert choice.votes["consensus"][choice.name]
        assert sum(found[choice.name] for found in choice.votes.values()) >= 2
        assert choice.reason.startswith(f"{choice.name} takes the place of source only")
        assert set(choice.scores) == set(SCORERS)

    def test_intervals_hold_their_values_and_gains_are_differences(self) -> None:
        choice = choose(candidates())
        for scorer, found in choice.scores.items():
            for name, score in found.items():
                assert score.low <= score.value + 1e-9 or scorer in ("entropy", "dev")
                if name != "source only":
                    gain = choice.gains[scorer][name]
                    assert gain.value == pytest.approx(score.value - found["source only"].value)

    def test_equal_candidates_change_nothing(self) -> None:
        one = outlook()
        choice = choose({"source only": one, "a": one, "b": one})
        assert (choice.name, choice.trusted) == ("source only", False)
        assert not any(vote for found in choice.votes.values() for vote in found.values())
        assert "No adaptation is trusted" in choice.reason

    def test_a_collapsed_candidate_is_not_taken(self) -> None:
        given = candidates()
        choice = choose({name: given[name] for name in ("source only", "near", "collapsed")})
        assert choice.name != "collapsed"
        assert not choice.votes["consensus"]["collapsed"]

    def test_two_candidates_make_no_consensus(self) -> None:
        given = candidates()
        choice = choose({name: given[name] for name in ("source only", "good")})
        assert (choice.name, choice.trusted) == ("source only", False)
        assert "consensus" not in choice.scores

    def test_the_fallback_has_another_name_where_it_is_said(self) -> None:
        given = candidates()
        given["plain"] = given.pop("source only")
        assert "takes the place of plain" in choose(given, fallback="plain").reason

    def test_the_same_seed_gives_the_same_choice(self) -> None:
        assert choose(candidates(), seed=3) == choose(candidates(), seed=3)

    def test_json_round_trip(self) -> None:
        choice = choose(candidates())
        assert Choice.from_json(json.loads(json.dumps(choice.to_json()))) == choice

    def test_a_missing_fallback_is_an_error(self) -> None:
        with pytest.raises(DataError, match="'source only' is not one of the candidates: a"):
            choose({"a": outlook()})

    def test_other_examples_are_an_error(self) -> None:
        with pytest.raises(DataError, match="must be judged on the same examples: 'b' has"):
            choose({"source only": outlook(), "b": outlook(n=60)})
