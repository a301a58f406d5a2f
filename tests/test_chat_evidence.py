"""What a chatbot is held beside: searches, copies, forgetting and the verdict, against brute force and closed forms."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.data.conversation import Conversation, Turn
from headstart.errors import BackboneError
from headstart.evidence import retrieval
from headstart.evidence.base import Score, Scores
from headstart.evidence.chat_verdict import COMMONEST, UNTOUCHED, Beside, Compared, chat_claim, chat_verdict
from headstart.evidence.chats import Lengths, Talks, measure_chat, rivals
from headstart.evidence.forgetting import compared, general, measure_forgetting
from headstart.evidence.parroting import Copying, Parroting, copied, matches, measure_parroting, over_nearest
from headstart.evidence.retrieval import MINILM, TFIDF, Retriever, asked_in, by_tf_idf
from headstart.evidence.weigh import MODEL, Scales, weigh_systems
from headstart.progress import Progress
from headstart.tasks.base import one_each
from headstart.tasks.chat import Chat, Said
from tests.test_backbones import WORDS as VOCABULARY
from tests.test_backbones import save_tiny

SCALES = Scales(metrics=Chat().metrics())
SENTENCE = "the lungs carry air into blood and heart pumps it through every vessel of a body"
WORDS = SENTENCE.split()


def talk(*texts: str, system: str = "") -> Conversation:
    before = (Turn("system", system),) if system else ()
    turns = tuple(Turn("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))
    return Conversation((*before, *turns))


def said(*answers: str | None, nll: float = 1.0) -> np.ndarray:
    return one_each([Said(nll, 4, 12, answer) for answer in answers])


def letters(texts: Sequence[str]) -> np.ndarray:
    """A toy embedding: how often each of three letters occurs."""
    return np.array([[text.count(one) for one in "abc"] for text in texts], float)


def test_the_nearest_question_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    train = [talk("".join(rng.choice(list("abc"), 6)), f"answer {i}") for i in range(40)]
    asked = [talk("".join(rng.choice(list("abc"), 6)), "?") for _ in range(600)]
    search = Retriever.fit(train, letters)
    found = search.nearest(asked)
    known = letters([one.question for one in train])
    for own, row, similarity in zip(letters([one.question for one in asked]), *found, strict=True):
        cosines = [own @ other / np.sqrt((own @ own) * (other @ other)) for other in known]
        assert similarity == pytest.approx(max(cosines), rel=1e-12) == cosines[row]
    assert search.answers(asked) == [f"answer {row}" for row in found.rows]


def test_every_answer_of_a_conversation_is_in_the_pool_with_the_turns_before_it() -> None:
    long = talk("Hello", "Good day", "What is asthma?", "A disease.", system="Be kind.")
    search = Retriever.fit([long], letters)
    assert search.pool == ("Good day", "A disease.")
    assert search.questions == ("Hello", "Good day\nWhat is asthma?")
    assert asked_in(long.before(long.answers[-1])) == "Good day\nWhat is asthma?"


def test_tf_idf_finds_a_question_again() -> None:
    train = [talk(f"What is {word}?", f"{word} it is") for word in ("asthma", "gout", "mumps", "rabies")]
    search = by_tf_idf(train)
    assert search.answers([talk("Tell me what gout is", "…")]) == ["gout it is"]
    found = search.nearest(train)
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.similarity == pytest.approx(np.ones(4))


def test_without_the_encoder_the_search_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    said_so: list[str] = []

    def refuse(*_: object) -> None:
        raise BackboneError("minilm is not on this disk.")

    monkeypatch.setattr("headstart.backbones.catalog.load", refuse)
    progress = Progress()
    monkeypatch.setattr(progress, "say", said_so.append)
    assert retrieval.by_encoder([talk("a", "b")], progress) is None
    assert "not on this disk" in said_so[0]


def test_an_encoder_finds_a_question_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "ENCODER", str(save_tiny("bert", tmp_path)))
    rng = np.random.default_rng(0)
    train = [talk(" ".join(rng.permutation(VOCABULARY)), f"answer {i}") for i in range(6)]
    search = retrieval.by_encoder(train, Progress())
    assert search is not None
    found = search.nearest(train[::-1])
    assert found.rows.tolist() == [5, 4, 3, 2, 1, 0]
    assert found.similarity == pytest.approx(np.ones(6))


def test_runs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(1)

    def texts(n: int) -> list[list[str]]:
        return [rng.choice(list("xyz"), rng.integers(0, 12)).tolist() for _ in range(n)]

    pool, answers = texts(12), [*texts(12), []]
    pool[3] = pool[4]
    inside = {tuple(text[i:j]) for text in pool for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    for answer, found in zip(answers, matches(answers, pool), strict=True):
        brute = [
            max((j - i for j in range(i + 1, len(answer) + 1) if tuple(answer[i:j]) in inside), default=0)
            for i in range(len(answer))
        ]
        assert found.tolist() == brute


def test_a_copy_is_a_copy_and_a_short_answer_says_nothing() -> None:
    pool = [" ".join(WORDS), "something else altogether"]
    half = " ".join([*WORDS[:8], "but", "nobody", "knows", "why", "that", "should", "be", "so"])
    found = copied([" ".join(WORDS).upper(), half, " ".join(reversed(WORDS)), "the lungs carry air"], pool)
    assert found.run.tolist()[:3] == pytest.approx([1.0, 0.5, 1 / len(WORDS)])
    assert found.grams.tolist()[:3] == pytest.approx([1.0, 1 / 9, 0.0])
    assert np.isnan([found.run[3], found.grams[3]]).all()


def made_up(n: int = 40) -> tuple[list[Conversation], np.ndarray]:
    """Training and test conversations about things that are all different, in sentences of their own."""
    rng = np.random.default_rng(3)

    def answer(i: int) -> str:
        return f"item{i} " + " ".join(rng.permutation(WORDS)[:12])

    train = [talk(f"What is item{i}?", answer(i)) for i in range(n)]
    return train, one_each([talk(f"What is item{i}?", answer(i)) for i in range(n, 2 * n)])


def test_a_model_that_repeats_training_answers_parrots() -> None:
    train, y = made_up()
    pool = [one.reference for one in train]
    found = measure_parroting(y, said(*pool), pool, SCALES)
    assert found is not None
    assert found.own.grams.value == found.own.most.value == 1.0
    assert found.true.grams.value == 0.0
    assert found.true.most.high > 0  # Wilson's: none of forty is not never
    assert found.copies
    assert found.parrots
    better = replace(found, over_nearest=Score(0.1, 0.05, 0.15))
    assert better.copies
    assert not better.parrots
    assert replace(found, over_nearest=Score(0.1, -0.05, 0.15)).parrots


def test_boilerplate_that_true_answers_share_is_no_parroting() -> None:
    train, y = made_up()
    same = " ".join(WORDS)
    train = [talk(one.question, same) for one in train]
    y = one_each([talk(one.question, same) for one in y])
    found = measure_parroting(y, said(*[same] * len(y)), [same], SCALES)
    assert found is not None
    assert found.own.grams.value == found.true.grams.value == 1.0
    assert not found.copies


def test_where_every_answer_is_short_nothing_is_said_of_copying() -> None:
    y = one_each([talk("Is it?", "Yes."), talk("Is it not?", "No.")])
    assert measure_parroting(y, said("Yes.", "No."), ["Yes."], SCALES) is None
    assert measure_parroting(y, said(None, None), ["Yes."], SCALES) is None


def test_the_gain_over_the_nearest_answer_is_paired() -> None:
    y = one_each([talk("a", "one two"), talk("b", "three four"), talk("c", "five")])
    found = over_nearest(y, said("one two", "three", None), said("one", "three", "five"), SCALES)
    assert found is not None
    assert found.value == pytest.approx((1 - 2 / 3 + 0) / 2)
    assert over_nearest(y, said(None, None, None), said("one", "three", "five"), SCALES) is None


def test_forgetting_is_the_ratio_of_perplexities() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(150, 250, 40).astype(float)
    before = np.stack([tokens * rng.uniform(2, 4, 40), tokens], axis=1)
    found = compared(before, before * [1.1, 1], ("a",), seed=0)
    mean = before[:, 0].sum() / tokens.sum()
    assert found.before.value == pytest.approx(math.exp(mean))
    assert (
        found.ratio.value == pytest.approx(found.after.value / found.before.value) == pytest.approx(np.exp(0.1 * mean))
    )
    assert found.forgot
    same = compared(before, before, ("a",), seed=0)
    assert (same.ratio.low, same.ratio.value, same.ratio.high) == (1, 1, 1)
    assert not same.forgot


def test_the_general_text_is_enough_and_of_several_kinds() -> None:
    known = general()
    assert len(known) >= 40
    assert len({one["text"] for one in known}) == len(known)
    assert all(90 <= len(one["text"].split()) <= 180 for one in known)
    seen: list[str] = []

    def nll(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return np.array([[2.0 * len(text), len(text)] for text in texts])

    found = measure_forgetting(nll, nll, seed=0)
    assert len(found.works) == 5
    assert found.n_passages == len(known)
    assert found.before.value == pytest.approx(math.exp(2))
    assert seen == 2 * [one["text"] for one in known]


def compared_as(gain: Score, over: Score | None) -> Compared:
    return Compared(Score(8, 7, 9), gain, None if over is None else Score(0.3, 0.2, 0.4), TFIDF, over)


def parroting(copies: bool) -> Parroting:
    own = Copying(half=Score(0.4, 0.3, 0.5), most=Score(0.2, 0.1, 0.3), grams=Score(0.5, 0.4, 0.6))
    true = Copying(half=Score(0.1, 0, 0.2), most=Score(0.1, 0, 0.2), grams=Score(0.2, 0.1, 0.3))
    return Parroting(n=90, own=own, true=true, beyond=Score(0.3, 0.2 if copies else -0.1, 0.4), over_nearest=None)


UP, LEVEL, DOWN = Score(2, 1, 3), Score(0.5, -1, 2), Score(-2, -3, -1)


@pytest.mark.parametrize(
    ("gain", "over", "copies", "n_groups", "paid"),
    [
        (UP, UP, False, None, True),
        (UP, LEVEL, False, 30, True),
        (UP, DOWN, False, None, False),
        (UP, LEVEL, True, None, None),  # it only parrots
        (UP, None, False, None, None),  # its answers are not known
        (LEVEL, UP, False, None, None),
        (LEVEL, DOWN, False, None, False),
        (DOWN, UP, False, None, False),
        (UP, UP, False, 9, None),  # too few groups
        (DOWN, DOWN, True, 9, None),
    ],
)
def test_when_fine_tuning_paid(
    gain: Score, over: Score | None, copies: bool, n_groups: int | None, paid: bool | None
) -> None:
    beside = Beside(n=100, n_groups=n_groups, parroting=parroting(copies))
    sentence, found = chat_verdict(compared_as(gain, over), beside)
    assert found is paid
    assert sentence.startswith({True: "Fine-tuning paid:", False: "Fine-tuning did not", None: "It cannot"}[paid])
    assert ("It parrots" in sentence) == copies
    assert ("too few" in sentence) == (n_groups == 9)


def test_the_verdict_says_where_the_untouched_model_ships() -> None:
    sentence, paid = chat_verdict(compared_as(Score(0, 0, 0), LEVEL), Beside(n=100))
    assert paid is None
    assert "perplexity of 100 held-out conversations 8.00, by the untouched model itself" in sentence
    assert chat_verdict(compared_as(Score(0, 0, 0), DOWN), Beside(n=100))[1] is False


def test_the_verdict_says_what_was_forgotten() -> None:
    before = np.tile([300.0, 100.0], (40, 1))
    forgetting = compared(before, before * [1.05, 1], ("a",), seed=0)
    sentence, _ = chat_verdict(compared_as(UP, UP), Beside(n=100, forgetting=forgetting))
    assert "It forgot: perplexity of general text rose by 16\u00a0% (16 to 16\u00a0%)." in sentence


def test_the_claim_reads_the_scores_by_name_and_takes_the_better_search() -> None:
    scores: dict[str, Scores] = {
        MODEL: {"perplexity": Score(8, 7, 9), "token_f1": Score(0.3, 0.2, 0.4)},
        TFIDF: {"token_f1": Score(0.2, 0.1, 0.3)},
        MINILM: {"token_f1": Score(0.35, 0.3, 0.4)},
    }
    differences: dict[str, Scores] = {
        UNTOUCHED: {"perplexity": Score(-4, -5, -3)},
        TFIDF: {"token_f1": UP},
        MINILM: {"token_f1": Score(-0.05, -0.08, -0.02)},
    }
    sentence, paid = chat_claim(Beside(n=9))(SCALES.metrics[0], scores, differences)
    assert paid is False
    assert "less than untouched by 4.00 (3.00 to 5.00)" in sentence
    assert "worse than the nearest question's answer by MiniLM by 0.050 (0.020 to 0.080)" in sentence


def spoken(n_asked: int = 30) -> Talks:
    """A model that is right half the time, beside its rivals but MiniLM."""
    train, y = made_up()
    rng = np.random.default_rng(5)
    answers = [one.reference if rng.random() < 0.5 else "item" for one in y]
    rows = [Said(20.0 + i % 3, 10, 60, answer if i < n_asked else None) for i, answer in enumerate(answers)]
    own = one_each(rows)
    untouched = one_each(
        [replace(one, nll=one.nll + 8 + i % 5, answer=one.answer and "?") for i, one in enumerate(rows)]
    )
    found = {name: each for name, each in rivals(train, y, own, Progress()).items() if name != MINILM}
    return Talks(train=train, y=y, systems={MODEL: own, UNTOUCHED: untouched, **found}, scales=SCALES)


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BackboneError("minilm is not on this disk.")

    monkeypatch.setattr("headstart.backbones.catalog.load", refuse)


@pytest.mark.usefixtures("no_encoder")
def test_rivals_answer_where_the_model_does_and_are_weighed_with_it() -> None:
    talks = spoken()
    assert set(talks.systems) == {MODEL, UNTOUCHED, TFIDF, COMMONEST}
    assert all(
        [one.answer is not None for one in each] == [i < 30 for i in range(40)] for each in talks.systems.values()
    )
    chat = measure_chat(talks)
    evidence = weigh_systems(
        SCALES, talks.y, talks.systems, chat_claim(Beside(n=len(talks.y), parroting=chat.parroting))
    )
    assert evidence.paid is True
    assert evidence.primary == "perplexity"
    assert set(evidence.baselines[TFIDF]) == {"token_f1", "rouge_l"}
    assert set(evidence.baselines[COMMONEST]) == {"bits_per_byte", "token_f1", "rouge_l"}
    assert evidence.differences[UNTOUCHED]["perplexity"].high < 0


@pytest.mark.usefixtures("no_encoder")
def test_samples_are_the_best_the_worst_the_typical_and_some_at_random() -> None:
    talks = spoken()
    chat = measure_chat(talks)
    kinds = [one.kind for one in chat.samples]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"best": 3, "worst": 3, "median": 3, "random": 3}
    assert len({one.question for one in chat.samples}) == 12
    f1 = {kind: [one.f1[MODEL] for one in chat.samples if one.kind == kind] for kind in kinds}
    assert min(f1["best"]) == 1.0
    assert max(f1["worst"]) < 0.2
    assert next(iter(chat.samples[0].answers)) == MODEL
    assert json.loads(json.dumps(chat.to_json()))["n_asked"] == 30


@pytest.mark.usefixtures("no_encoder")
def test_few_answers_show_each_conversation_once() -> None:
    chat = measure_chat(spoken(n_asked=2))
    assert len(chat.samples) == 2
    assert measure_chat(spoken(n_asked=0)).samples == ()


def test_lengths() -> None:
    found = Lengths.of("train", np.array([10, 30, 25]), np.array([5, 9, 8]), most=20)
    assert (found.n_tokens, found.n_answer_tokens, found.longest, found.median) == (65, 22, 30, 25)
    assert (found.n_cut, found.tokens_cut) == (2, 15)
    assert Lengths.of("test", np.array([], int), np.array([], int), most=20).longest == 0
