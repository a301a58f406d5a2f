"""Characters from frames: against every path there is, torch's own loss, and jiwer called directly."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import jiwer
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.transcripts import frames_needed
from headstart.errors import DataError
from headstart.tasks.base import one_each
from headstart.tasks.beam import BeamSearch, Language
from headstart.tasks.ctc import Alphabet, aligned, greedy, heard
from headstart.tasks.ctc_head import CtcHead, Frames
from headstart.tasks.heard import Heard, bare
from headstart.tasks.ngram import END, Ngram
from headstart.tasks.transcription import Transcription, word_errors

ALPHABET = Alphabet((" ", "a", "b"))


def log_probs_for(seed: int, n_frames: int, n_out: int = 4, sharp: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=sharp, size=(n_frames, n_out))
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(index for index, _ in itertools.groupby(path) if index != 0)


def all_texts(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Every text with its probability: the sum over all paths that collapse to it."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        found[collapsed(path)] += math.exp(sum(log_probs[t, index] for t, index in enumerate(path)))
    return found


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_best_path_is_that_of_the_surest_frames(seed: int) -> None:
    log_probs = log_probs_for(seed, 12)
    assert tuple(greedy(log_probs)) == collapsed(tuple(log_probs.argmax(1)))


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_beam_search_finds_the_likeliest_text(seed: int) -> None:
    log_probs = log_probs_for(seed, 5)
    texts = all_texts(log_probs)
    best = max(texts, key=lambda ids: texts[ids])
    assert tuple(BeamSearch(ALPHABET, width=1000).decode(log_probs)) == best


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_beam_search_listens_to_the_words(seed: int) -> None:
    """The sum of what is heard and what is usually said, over every text that there is."""
    log_probs = log_probs_for(seed, 5, sharp=1.0)
    language = Language(model=Ngram.of(["a b", "b a", "a ba"], "word"), weight=0.8, bonus=1.0)

    def total(ids: tuple[int, ...], probability: float) -> float:
        *ended, last = ALPHABET.text(ids).split(" ")
        words: list[str] = []
        score = math.log(probability)
        for word in [*ended, *([last] if last else [])]:
            if word:
                score += language.weight * language.model.log_probability(word, words) + language.bonus
                words.append(word)
            else:  # a space that ends no word
                score += language.weight * math.log(1e-4)
        return score + language.weight * language.model.log_probability(END, words)

    texts = all_texts(log_probs)
    best = max(texts, key=lambda ids: total(ids, texts[ids]))
    found = tuple(BeamSearch(ALPHABET, language, width=1000).decode(log_probs))
    assert total(found, texts[found]) == pytest.approx(total(best, texts[best]))


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_beam_search_listens_to_the_characters(seed: int) -> None:
    log_probs = log_probs_for(seed, 5, sharp=1.0)
    language = Language(model=Ngram.of(["a b", "b a", "a ba"], "character"), weight=0.6, bonus=0.6)

    def total(ids: tuple[int, ...], probability: float) -> float:
        text = ALPHABET.text(ids)
        said = sum(language.model.log_probability(one, list(text[:i])) for i, one in enumerate([*text, END]))
        return math.log(probability) + language.weight * said + language.bonus * text.count(" ")

    texts = all_texts(log_probs)
    best = max(texts, key=lambda ids: total(ids, texts[ids]))
    found = tuple(BeamSearch(ALPHABET, language, width=1000).decode(log_probs))
    assert total(found, texts[found]) == pytest.approx(total(best, texts[best]))


@given(st.integers(0, 10_000), st.lists(st.integers(1, 3), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_an_alignment_is_the_best_of_all_paths(seed: int, ids: list[int]) -> None:
    log_probs = log_probs_for(seed, 6)
    paths = [path for path in itertools.product(range(4), repeat=6) if collapsed(path) == tuple(ids)]
    found = aligned(log_probs, ids)
    if not paths:
        assert found == []
        assert frames_needed(ids) > 6
        return
    best = max(paths, key=lambda path: sum(log_probs[t, index] for t, index in enumerate(path)))
    spans, start = [], 0
    for index, run in itertools.groupby(best):
        end = start + len(list(run))
        spans += [(start, end)] if index else []
        start = end
    assert found == spans


def test_words_have_their_times_and_confidence() -> None:
    """a a _ ␣ b _: a word in the first two frames, another in the fifth."""
    log_probs = np.log(np.full((6, 4), 0.02))
    for frame, index in enumerate([2, 2, 0, 1, 3, 0]):
        log_probs[frame, index] = math.log(0.94)
    one = heard(log_probs, greedy(log_probs), ALPHABET, 0.02)
    assert one.text == "a b"
    assert [(word.start, word.end) for word in one.words] == [(0.0, pytest.approx(0.04)), (pytest.approx(0.08), 0.1)]
    assert one.confidence == pytest.approx(0.94)
    assert one.words[1].later(2.0).start == pytest.approx(2.08)


def test_the_word_model_is_a_distribution_that_prefers_what_it_has_read() -> None:
    texts = ["the cat sat", "the cat ran", "a dog ran"]
    model = Ngram.of(texts, "word")
    words = [*{word for text in texts for word in text.split()}, END, "never read"]
    for before in ([], ["the"], ["the", "cat"], ["never", "read"]):
        assert sum(math.exp(model.log_probability(word, before)) for word in words) == pytest.approx(1.0)
    assert model.log_probability("cat", ["the"]) > model.log_probability("dog", ["the"])
    again = Ngram.restore("word", model.state())
    assert again.counts == model.counts


def test_a_model_of_characters_knows_how_words_are_built() -> None:
    model = Ngram.of(["banana bandana"], "character")
    characters = [*set("banana bandana"), END, "x"]
    assert sum(math.exp(model.log_probability(one, list("cab"))) for one in characters) == pytest.approx(1.0)
    assert model.log_probability("n", list("cabana")) > model.log_probability("b", list("cabana"))


def test_a_head_reads_each_utterance_as_if_it_were_alone() -> None:
    torch.manual_seed(0)
    head = CtcHead(Frames(stage=0, width=6, n_out=4, hidden=8)).eval()
    lengths = torch.tensor([9, 5])
    frames = torch.randn(2, 9, 6)
    both, alone = head(frames, lengths), head(frames[1:, :5], lengths[1:])
    torch.testing.assert_close(both[1, :5], alone[0])


def test_training_silences_some_frames_and_prediction_none() -> None:
    torch.manual_seed(0)
    head = CtcHead(Frames(stage=0, width=6, n_out=4, hidden=8))
    frames, lengths = torch.randn(1, 80, 6), torch.tensor([80])
    hidden = torch.stack([head._silenced(lengths, 80)[0] for _ in range(50)])
    assert 0 < hidden.float().mean() < 0.5
    head.eval()
    assert torch.equal(head(frames, lengths), head(frames, lengths))


def test_the_loss_is_torchs_own_a_character() -> None:
    torch.manual_seed(0)
    head = CtcHead(Frames(stage=0, width=6, n_out=4, hidden=8)).eval()
    lengths = torch.tensor([12, 10, 2])
    log_probs = head(torch.randn(3, 12, 6), lengths)
    texts, n = torch.tensor([[1, 2, 3], [2, 2, 0], [1, 2, 3]]), torch.tensor([3, 2, 3])
    own = head.loss(log_probs, lengths, texts, n)
    each = [
        torch.nn.functional.ctc_loss(
            log_probs[i : i + 1].transpose(0, 1), texts[i : i + 1, : n[i]], lengths[i : i + 1], n[i : i + 1]
        )
        for i in range(2)
    ]
    assert own.detach() == pytest.approx(
        float(sum(each).detach() / 3), rel=1e-5
    )  # the third is too short for its text: it teaches nothing


def test_errors_are_jiwers() -> None:
    said = ["the cat sat", "a dog", "yes"]
    texts = ["the cat sat down", "dog", ""]
    task = Transcription.from_labels(said)
    y, scores = task.encode(said), one_each([Heard(text, 1.0) for text in texts])
    plain = np.ones((1, 3))
    found = {metric.name: metric.compute(y, scores, plain)[0] for metric in task.metrics()}
    assert found["wer"] == pytest.approx(jiwer.wer(said, texts))
    assert found["cer"] == pytest.approx(jiwer.cer(said, texts))
    resample = np.array([[2.0, 0.0, 1.0]])
    again = jiwer.wer([said[0], said[0], said[2]], [texts[0], texts[0], texts[2]])
    assert task.metrics()[1].compute(y, scores, resample)[0] == pytest.approx(again)
    assert np.isnan(word_errors(y, scores).rate(np.zeros((1, 3)))[0])


def test_case_and_marks_are_looked_at_apart_where_there_are_any() -> None:
    assert [metric.name for metric in Transcription.from_labels(["a b"]).metrics()] == ["cer", "wer"]
    task = Transcription.from_labels(["Good day, Ann.", "no"])
    scores = one_each([Heard("good day ann", 1.0), Heard("", 0.0)])
    y = task.encode(["Good day, Ann.", "no"])
    found = {metric.name: metric.compute(y, scores, np.ones((1, 2)))[0] for metric in task.metrics()}
    assert found["wer_bare"] == pytest.approx(0.25)
    assert found["wer"] > 0.25
    assert bare("L'Été, 3-4!") == "lété 3 4"


def test_transcripts_are_composed_and_spaced_alike() -> None:
    task = Transcription.from_labels(["e\u0301  a ", "\u00e9"])
    assert task.alphabet == (" ", "a", "\u00e9")
    assert Transcription.from_json(task.to_json()) == task
    assert list(task.encode([" e\u0301\ta"])) == ["\u00e9 a"]
    assert task.naive(task.encode(["a b", "a", "a"]), 2)[1] == Heard("a", pytest.approx(2 / 3))
    with pytest.raises(DataError, match="Every transcript is empty"):
        Transcription.from_labels(["", " "])
