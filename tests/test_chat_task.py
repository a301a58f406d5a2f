"""What is said of a conversation, and how far answers agree: beside closed forms, brute force and rouge-score."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from headstart.data.conversation import Conversation, Turn
from headstart.errors import DataError
from headstart.tasks.base import one_each
from headstart.tasks.chat import Chat, Said, answer_bytes, commonest, guess
from headstart.tasks.overlap import longest_common, rouge_l, token_f1, tokens

METRICS = {metric.name: metric for metric in Chat().metrics()}


def talk(*texts: str) -> Conversation:
    return Conversation(tuple(Turn("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)))


def measured(name: str, y: list[Conversation], scores: list[Said], weights: np.ndarray | None = None) -> list[float]:
    weights = np.ones((1, len(y))) if weights is None else weights
    return METRICS[name].compute(one_each(y), one_each(scores), weights).tolist()


def test_perplexity_and_bits_are_those_of_all_tokens_together() -> None:
    y = [talk("a", "b"), talk("c", "d")]
    scores = [Said(6.0, 2, 4), Said(1.0, 3, 8)]
    weights = np.array([[1, 1], [2, 0], [0, 5]])
    assert measured("perplexity", y, scores, weights) == pytest.approx(np.exp([7 / 5, 3, 1 / 3]))
    assert measured("bits_per_byte", y, scores, weights) == pytest.approx(np.array([7 / 12, 12 / 8, 1 / 8]) / np.log(2))


def test_a_uniform_guess_has_the_perplexity_of_its_vocabulary() -> None:
    scores = [Said(n * math.log(50), n, 9) for n in (1, 7, 30)]
    assert measured("perplexity", [talk("a", "b")] * 3, scores) == pytest.approx([50])


def test_systems_without_probabilities_or_answers_have_no_such_score() -> None:
    y = [talk("a", "b"), talk("c", "d e")]
    silent, asked = [Said(1.0, 2, 2), Said(1.0, 2, 4)], [Said(math.nan, 0, 0, "b"), Said(math.nan, 0, 0)]
    assert np.isnan(measured("perplexity", y, asked) + measured("bits_per_byte", y, asked)).all()
    assert np.isnan(measured("token_f1", y, silent) + measured("rouge_l", y, silent)).all()
    assert measured("token_f1", y, asked) == [1.0]  # of the one that was asked
    assert np.isnan(measured("token_f1", y, asked, np.array([[0, 2]]))).all()


def test_answers_are_held_beside_the_one_that_was_asked_for() -> None:
    y = [talk("a", "one", "b", "two", "c", "three")]
    assert measured("token_f1", y, [Said(1.0, 1, 1, y[0].reference)]) == [1.0]
    others = {"one", "two", "three"} - {y[0].reference}
    assert all(measured("token_f1", y, [Said(1.0, 1, 1, other)]) == [0.0] for other in others)


@pytest.mark.parametrize(
    ("one", "other", "f1"),
    [
        ("The cat sat.", "a cat sat", 1.0),  # articles, case and punctuation aside
        ("cat sat mat", "mat cat", 0.8),  # 2 of 3, 2 of 2
        ("no no no", "no", 0.5),
        ("cat", "dog", 0.0),
        ("", "", 1.0),
        ("", "dog", 0.0),
        ("我喜欢猫", "我喜欢狗", 0.75),  # a character a token
        ("猫 (cat)", "猫cat", 1.0),
    ],
)
def test_token_f1(one: str, other: str, f1: float) -> None:
    assert token_f1(one, other) == token_f1(other, one) == pytest.approx(f1)


# (reference, answer, F-measure): given by rouge-score 0.1.2, rougeL without stemming
ROUGE = [
    ("The cat sat on the mat.", "the cat is on a mat", 2 / 3),
    (
        "Asthma is a chronic disease of the lungs (airways).",
        "A chronic, non-contagious disease: asthma affects lungs & airways.",
        5 / 9,
    ),
    ("state-of-the-art 3.5 mg", "state of the art: 3,5 mg", 1.0),
    ("one two three four five", "five four three two one", 0.2),
    ('He said: "don\'t"!', "He didn't say it.", 4 / 9),
    ("alpha beta", "gamma", 0.0),
]


@pytest.mark.parametrize(("reference", "answer", "expected"), ROUGE)
def test_rouge_l_is_that_of_rouge_score(reference: str, answer: str, expected: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(expected, abs=1e-12)


def test_the_longest_common_subsequence_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        a, b = (rng.choice(list("xyz"), rng.integers(0, 8)).tolist() for _ in range(2))
        within = {part for n in range(len(b) + 1) for part in combinations(b, n)}
        brute = max(n for n in range(len(a) + 1) for part in combinations(a, n) if part in within)
        assert longest_common(a, b) == brute


def test_a_long_text_with_itself() -> None:
    text = [str(i % 7) for i in range(500)]
    assert longest_common(text, text) == 500
    assert longest_common(text, text[::2]) == 250


def test_marks_belong_to_their_words() -> None:
    assert tokens("नमस्ते दुनिया!") == ["नमस्ते", "दुनिया"]
    assert tokens("Cafe\u0301, x_y") == ["café", "x", "y"]


def test_the_guess_knows_the_commonest_answer_and_how_often_bytes_occur() -> None:
    train = [talk("q", "aab"), talk("q", "b"), talk("r", "b")]
    said = guess(train, [talk("z", "ab"), talk("z", "é")])
    counts = {"a": 2 + 1, "b": 3 + 1, "end": 3 + 1, "é": 1}
    total = 5 + 3 + 257
    assert commonest(train) == said[0].answer == "b"
    assert said[0].nll == pytest.approx(-sum(math.log(counts[one] / total) for one in ("a", "b", "end")))
    assert said[1].nll == pytest.approx(-2 * math.log(1 / total) - math.log(4 / total))
    assert [one.n_bytes for one in said] == [3, 3] == [answer_bytes(["ab"]), answer_bytes(["é"])]
    assert np.isnan(measured("perplexity", [talk("z", "ab"), talk("z", "é")], list(said)))


def test_conversations_without_an_answer_pose_no_task() -> None:
    with pytest.raises(DataError, match="messages"):
        Chat.from_labels([[], [" "]])


def test_y_is_whole_conversations() -> None:
    one = talk("What?", "That.")
    assert Chat.from_labels([["That."]]).encode([one.to_text()]).tolist() == [one]
    assert Chat().decode(one_each([Said(1.0, 1, 1, "x"), Said(1.0, 1, 1)])) == ["x", ""]
