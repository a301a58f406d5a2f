"""The verdict says what the paired interval allows, and not more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart.errors import PlanError
from headstart.evidence import words
from headstart.evidence.base import Score, TestResult
from headstart.evidence.verdict import Measured, verdict
from headstart.evidence.weigh import SCRATCH, Scales, primary_first, weigh
from headstart.tasks.base import Metric
from headstart.tasks.classification import Classification

TASK = Classification(class_names=("a", "b"), positive="b")
AUC = next(metric for metric in TASK.metrics() if metric.name == "roc_auc")
LOSS = next(metric for metric in TASK.metrics() if metric.name == "log_loss")


def say(metric: Metric, difference: Score, n_groups: int | None = None) -> tuple[str, bool | None]:
    return verdict(Measured(metric, Score(0.8, 0.7, 0.9), difference, "TF-IDF"), 200, n_groups)


@pytest.mark.parametrize(
    ("metric", "difference", "paid", "said"),
    [
        (AUC, Score(0.1, 0.02, 0.2), True, "better than TF-IDF by 0.100 (0.020 to 0.200)"),
        (AUC, Score(-0.1, -0.2, -0.02), False, "worse than TF-IDF by 0.100 (0.020 to 0.200)"),
        (AUC, Score(0.1, -0.01, 0.2), None, "includes zero"),
        (AUC, Score(0.0, 0.0, 0.0), None, "just as well"),
        (LOSS, Score(-0.1, -0.2, -0.02), True, "better than TF-IDF by 0.100 (0.020 to 0.200)"),
        (LOSS, Score(0.1, 0.02, 0.2), False, "worse than TF-IDF by 0.100 (0.020 to 0.200)"),
    ],
)
def test_the_sentence_follows_the_interval(metric: Metric, difference: Score, paid: bool | None, said: str) -> None:
    sentence, decided = say(metric, difference)
    assert decided is paid
    assert said in sentence
    assert "0.800 (0.700 to 0.900) on 200 test examples" in sentence


def test_few_groups_decide_nothing() -> None:
    sure = Score(0.3, 0.3, 0.3)
    assert say(AUC, sure, n_groups=10)[1] is True
    sentence, paid = say(AUC, sure, n_groups=1)
    assert paid is None
    assert "1 group only" in sentence


def test_an_interval_without_width_is_explained() -> None:
    sentence, _ = verdict(Measured(AUC, Score(1.0, 1.0, 1.0), Score(0.3, 0.2, 0.4), "TF-IDF"), 24)
    assert "no variation" in sentence


def result(n: int = 40) -> TestResult:
    """A model that is always right, a rival that is right three times of four, a guess that knows nothing."""
    y = np.arange(n) % 2
    sure, weak = np.where(y == 1, 0.99, 0.01), np.where(np.arange(n) % 4 == 1, 0.1, np.where(y == 1, 0.8, 0.2))
    half = np.full(n, 0.5)
    both = [np.stack([1 - p, p], axis=1) for p in (sure, half, weak)]
    return TestResult(y=y, scores=both[0], naive=both[1], classical=both[2])


def test_no_mistake_is_not_certainty() -> None:
    """All 40 right: the resamples do not vary, and accuracy gets the Wilson interval of 40 of 40."""
    score = weigh(Scales(metrics=TASK.metrics()), result(), "TF-IDF").metrics["accuracy"]
    z2 = 1.959964**2
    assert (score.value, score.high) == (1.0, 1.0)
    assert score.low == pytest.approx(40 / (40 + z2))


def test_no_mistake_in_few_groups_is_even_less() -> None:
    groups = [str(i % 10) for i in range(40)]
    score = weigh(Scales(metrics=TASK.metrics(), groups=groups), result(), "TF-IDF").metrics["accuracy"]
    assert score.low == pytest.approx(10 / (10 + 1.959964**2))  # ten of ten, not forty of forty


def test_groups_are_resampled_whole() -> None:
    """Ten copies of four examples are four examples: resampled singly they would promise too much."""
    test = result(40)
    groups = [str(i % 4) for i in range(40)]
    single = weigh(Scales(metrics=TASK.metrics()), test, "TF-IDF").baselines["TF-IDF"]["accuracy"]
    whole = weigh(Scales(metrics=TASK.metrics(), groups=groups), test, "TF-IDF").baselines["TF-IDF"]["accuracy"]
    assert whole.high - whole.low > 1.5 * (single.high - single.low)
    one = weigh(Scales(metrics=TASK.metrics(), groups=["p"] * 40), test, "TF-IDF")
    assert one.paid is None
    assert one.baselines["TF-IDF"]["accuracy"].low < one.baselines["TF-IDF"]["accuracy"].high


def test_a_metric_asked_for_is_never_replaced() -> None:
    test = result()
    arrays = {name: value for name, value in vars(test).items() if isinstance(value, np.ndarray)}
    assert arrays.keys() == {"y", "scores", "naive", "classical"}
    ones = TestResult(**{name: value[test.y == 1] for name, value in arrays.items()})
    metrics = TASK.metrics()
    assert weigh(Scales(metrics=metrics), ones, "TF-IDF").primary != "roc_auc"
    with pytest.raises(PlanError, match="not defined"):
        weigh(Scales(metrics=primary_first(metrics, "roc_auc"), asked_for="roc_auc"), ones, "TF-IDF")
    assert weigh(Scales(metrics=primary_first(metrics, "ece"), asked_for="ece"), test, "TF-IDF").primary == "ece"


def test_both_baselines_are_there() -> None:
    evidence = weigh(Scales(metrics=TASK.metrics()), result(), "TF-IDF")
    assert list(evidence.baselines) == list(evidence.differences) == ["majority guess", "TF-IDF"]
    assert evidence.paid is True
    assert evidence.baselines["majority guess"]["roc_auc"].value == 0.5


@pytest.mark.parametrize(
    ("over_scratch", "paid", "said"),
    [
        (Score(0.05, 0.01, 0.1), True, "better than the same network from scratch by 0.050 (0.010 to 0.100)"),
        (Score(0.05, -0.01, 0.1), None, "the difference to the same network from scratch is 0.050"),
        (Score(-0.05, -0.1, -0.01), None, "the difference to the same network from scratch is −0.050"),
    ],
)
def test_better_than_the_rival_but_not_than_from_scratch_has_not_paid(
    over_scratch: Score, paid: bool | None, said: str
) -> None:
    gain = Score(0.1, 0.02, 0.2)
    measured = Measured(AUC, Score(0.8, 0.7, 0.9), gain, "TF-IDF", over_scratch=over_scratch)
    sentence, decided = verdict(measured, 200)
    assert decided is paid
    assert said in sentence
    assert "better than TF-IDF by 0.100" in sentence


def with_scratch() -> TestResult:
    """As `result`, beside a network from scratch that is right nine times of ten."""
    test = result()
    p = np.where((np.arange(40) % 10 == 3) != (test.y == 1), 0.7, 0.3)
    return replace(test, scratch=np.stack([1 - p, p], axis=1))


def test_the_same_network_from_scratch_is_a_baseline_where_it_was_trained() -> None:
    test = with_scratch()
    evidence = weigh(Scales(metrics=TASK.metrics()), test, "TF-IDF")
    assert list(evidence.baselines) == list(evidence.differences) == ["majority guess", "TF-IDF", SCRATCH]
    assert evidence.baselines[SCRATCH]["accuracy"].value == pytest.approx(0.9)
    difference = evidence.differences[SCRATCH]["accuracy"]
    assert difference.value == pytest.approx(0.1)
    assert difference.low <= difference.value <= difference.high
    assert "from scratch" in evidence.verdict


def test_where_the_classical_model_ships_the_verdict_is_still_about_transfer() -> None:
    """The roles are changed: the strong scores are the classical ones, and the run ships them."""
    test = with_scratch()
    turned = replace(test, classical=test.scores, transfer=test.classical, ships_classical=True)
    evidence = weigh(Scales(metrics=TASK.metrics()), turned, "TF-IDF", "minilm, linear probe")
    assert list(evidence.baselines) == ["majority guess", "minilm, linear probe", SCRATCH]
    assert evidence.metrics["accuracy"].value == 1.0  # of what is shipped
    assert evidence.baselines["minilm, linear probe"]["accuracy"].value == pytest.approx(0.75)
    assert evidence.paid is False
    straight = weigh(Scales(metrics=TASK.metrics()), test, "TF-IDF").differences["TF-IDF"]["roc_auc"]
    turned_round = evidence.differences["minilm, linear probe"]["roc_auc"]
    assert (turned_round.value, turned_round.low, turned_round.high) == (straight.value, straight.low, straight.high)
    assert "worse than TF-IDF" in evidence.verdict
    assert "this run ships it: TF-IDF" in evidence.verdict
    beside = weigh(Scales(metrics=TASK.metrics()), replace(test, scores=test.classical), "TF-IDF").differences[SCRATCH]
    expected = f"the difference to the same network from scratch is {words.score(beside['roc_auc'])}"
    assert expected in evidence.verdict  # of the adapted network, not of what is shipped
