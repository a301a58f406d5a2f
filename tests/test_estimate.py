"""Estimated accuracy: exact where confidence means what it says, and bounded where it does not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headstart.evidence.base import Score
from headstart.evidence.estimate import AccuracyEstimate, averaged, differing, estimate_accuracy, thresholded


def calibrated(n: int, seed: int, low: float) -> tuple[np.ndarray, np.ndarray]:
    """(y, probabilities (n, 2)) whose confidence, between `low` and 1, is how often they are right."""
    rng = np.random.default_rng(seed)
    sure = rng.uniform(low, 1.0, n)
    predicted, right = rng.integers(0, 2, n), rng.random(n) < sure
    probabilities = np.where(np.arange(2) == predicted[:, None], sure[:, None], 1 - sure[:, None])
    return np.where(right, predicted, 1 - predicted), probabilities


def test_a_calibrated_model_is_estimated_well() -> None:
    y_val, val = calibrated(3000, 0, 0.8)
    found = estimate_accuracy(y_val, val, calibrated(3000, 1, 0.6)[1])
    truth = 0.8  # the mean of confidences between 0.6 and 1
    assert found.difference.value == pytest.approx(truth, abs=0.03)
    assert found.difference.low < truth < found.difference.high
    assert found.estimate.low <= truth <= found.estimate.high


def test_the_same_distribution_gives_validation_s_accuracy() -> None:
    y_val, val = calibrated(500, 0, 0.5)
    found = estimate_accuracy(y_val, val, val)
    accuracy = (val.argmax(axis=1) == y_val).mean()
    assert found.threshold.value == pytest.approx(accuracy)
    assert found.difference.value == pytest.approx(accuracy)


def test_the_interval_spans_both_ways() -> None:
    y_val, val = calibrated(200, 0, 0.8)
    found = estimate_accuracy(y_val, val, calibrated(200, 1, 0.5)[1])
    ways = (found.threshold, found.difference)
    assert found.estimate.low <= min(way.low for way in ways)
    assert found.estimate.high >= max(way.high for way in ways)
    assert found.estimate.value == pytest.approx(np.mean([way.value for way in ways]))


def test_threshold_by_hand() -> None:
    right = np.array([True, True, False, False])
    assert thresholded(right, np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.95, 0.85, 0.8, 0.5])) == 0.75
    assert thresholded(np.zeros(4, bool), np.ones(4), np.ones(3)) == 0
    assert thresholded(np.ones(4, bool), np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.65, 0.55])) == 0.5


def test_difference_by_hand_stays_a_share() -> None:
    right = np.array([True, False])
    assert differing(right, np.array([0.9, 0.7]), np.array([0.6])) == pytest.approx(0.3)
    assert differing(~right & False, np.array([0.9, 0.7]), np.array([0.1])) == 0


def test_json_round_trip_and_seed() -> None:
    y_val, val = calibrated(50, 0, 0.6)
    found = estimate_accuracy(y_val, val, val, seed=2)
    assert AccuracyEstimate.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert estimate_accuracy(y_val, val, val, seed=2) == found


def test_the_consensus_of_several_candidates_holds_an_estimate_down() -> None:
    """A candidate that is sure of everything, but that the others contradict in half of its answers."""
    y = np.array([0, 1] * 20)
    val = np.where(np.eye(2)[y] == 1, 0.99, 0.01)
    sure = np.where(np.eye(2)[np.zeros(60, dtype=int)] == 1, 0.999, 0.001)
    others = np.eye(2)[np.repeat([0, 1], 30)]
    alone = estimate_accuracy(y, val, sure)
    held = estimate_accuracy(y, val, sure, consensus=others)
    assert alone.estimate.value > 0.95
    assert held.estimate.value == held.agreement.value == 0.5
    assert held.estimate.low <= 0.5 <= held.estimate.high == alone.estimate.high
    agreeing = estimate_accuracy(y, val, sure, consensus=sure)
    assert agreeing.estimate.value == alone.estimate.value
    assert AccuracyEstimate.from_json(held.to_json()) == held


def test_the_mean_of_candidates_is_estimated_by_the_mean_of_theirs() -> None:
    mean = averaged([Score(0.4, 0.2, 0.6), Score(0.8, 0.7, 0.9)])
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.6, 0.45, 0.75))
