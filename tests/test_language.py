"""Teaching a language model conversations: cached equals uncached, packed equals alone, and gradients by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from headstart import registry
from headstart.backbones import catalog
from headstart.backbones.causal_lm import CausalLm
from headstart.data.conversation import ASSISTANT, USER, Conversation, Turn
from headstart.engine.dialogues import Dialogues, Kept
from headstart.engine.language import FrozenHead, lanes_for, nll_of, sum_of_losses, teach
from headstart.engine.maps import cached_maps
from headstart.engine.talker import Talker
from headstart.engine.voice import Sampling
from headstart.progress import Progress
from headstart.strategies.base import Trained
from headstart.strategies.full import Full
from headstart.strategies.lora import Lora
from headstart.strategies.partial import Partial
from tests.language_models import CONFIGS, save_language_model

KINDS = ("llama", "gpt2", "gemma2", "qwen3")  # grouped queries, transposed matrices, caps and windows, norms of heads


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")


@pytest.fixture(scope="module", params=KINDS)
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CausalLm:
    folder = save_language_model(tmp_path_factory.mktemp(request.param), request.param)
    return catalog.load(str(folder), Progress()).of_conversations()  # type: ignore[attr-defined]


def talks(n: int) -> list[str]:
    """Conversations of one to three questions, of different lengths."""
    found = []
    for i in range(n):
        turns = []
        for k in range(1 + i % 3):
            turns += [Turn(USER, f"what is {i} and {k}" + " please" * (i % 4)), Turn(ASSISTANT, f"it is {i * k}")]
        found.append(Conversation(tuple(turns)).to_text())
    return found


def lesson(backbone: CausalLm, items: Sequence[str], cut: int = 0) -> Dialogues:
    digests = [hashlib.sha256(one.encode()).hexdigest() for one in items]
    modality = registry.modality("text")
    maps = None
    if cut:
        maps = cached_maps(backbone, modality, items, digests, Kept(stages=(cut - 1,)), Progress())
    rows = np.arange(len(items))
    return Dialogues(backbone=backbone, modality=modality, items=items, digests=digests, train=rows, maps=maps, seed=3)


@pytest.mark.parametrize(
    "strategy",
    [
        Lora(freeze=2, epochs=2, batch_size=4, rank=4),
        Partial(freeze=1, epochs=2, batch_size=4),
        Lora(freeze=3, epochs=1, batch_size=4, rank=4),
    ],
    ids=["lora", "partial", "lora above"],
)
def test_cached_equals_uncached(backbone: CausalLm, strategy: Trained) -> None:
    items = talks(8)
    cached = teach(strategy, lesson(backbone, items, strategy.cut(backbone.n_stages)))
    plain = teach(strategy, lesson(backbone, items))
    assert cached.changes is not None
    assert plain.changes is not None
    assert cached.changes.tensors.keys() == plain.changes.tensors.keys()
    moved = 0.0
    for name, one in cached.changes.tensors.items():
        torch.testing.assert_close(one, plain.changes.tensors[name], rtol=0, atol=1e-5)
        moved += float(one.abs().sum())
    assert moved > 0


def test_what_is_kept_is_what_was_trained(backbone: CausalLm) -> None:
    """The likelihoods above the cut are those of the whole network, whose weights were changed as the run says."""
    items = talks(8)
    dialogues = lesson(backbone, items, 2)
    trainee = teach(Lora(freeze=2, epochs=3, batch_size=4, rank=4, learning_rate=1e-2), dialogues)
    adapted = backbone.adapted(trainee.changes)  # type: ignore[arg-type]
    assert isinstance(adapted, CausalLm)
    above = nll_of(adapted, 2, dialogues, np.arange(8))
    said = (
        Talker(changes=trainee.changes, most_tokens=512)
        .network(backbone)
        .said([Conversation.from_text(one) for one in items])
    )
    np.testing.assert_allclose(above[:, 0], [one.nll for one in said], rtol=1e-4)
    assert above[:, 1].tolist() == [one.n_tokens for one in said]
    before = nll_of(backbone, 2, dialogues, np.arange(8))
    assert above[:, 0].sum() < before[:, 0].sum()


def test_packed_is_as_alone(backbone: CausalLm) -> None:
    """Nothing leaks from one conversation of a row to the next, whatever stands there."""
    items = talks(6)
    dialogues = lesson(backbone, items, 1)
    together = nll_of(backbone, 1, dialogues, np.arange(6))
    alone = np.concatenate([nll_of(backbone, 1, dialogues, [row]) for row in range(6)])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_parts_of_a_batch_add_up(backbone: CausalLm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient accumulation: a batch that is learnt in parts gives the weights of one learnt at once."""
    items = talks(8)
    strategy = Lora(freeze=2, epochs=1, batch_size=8, rank=4, learning_rate=1e-2)
    whole = teach(strategy, lesson(backbone, items))
    monkeypatch.setattr("headstart.engine.dialogues.MOST_AT_ONCE", 40)
    assert len(lesson(backbone, items).batch(range(8))) > 2
    parts = teach(strategy, lesson(backbone, items))
    for name, one in whole.changes.tensors.items():  # type: ignore[union-attr]
        torch.testing.assert_close(one, parts.changes.tensors[name], rtol=0, atol=1e-5)  # type: ignore[union-attr]


def test_side_by_side_is_as_one_after_the_other(backbone: CausalLm) -> None:
    """Two lanes of one thread each, twice: the same weights to the bit, and those of one lane but for rounding."""
    items, strategy = talks(8), Lora(freeze=2, epochs=2, batch_size=4, rank=4)
    alone = teach(strategy, lesson(backbone, items, 2))
    torch.set_num_threads(2)
    try:
        assert lanes_for(backbone.network) == 2
        twice = [teach(strategy, lesson(backbone, items, 2)) for _ in range(2)]
    finally:
        torch.set_num_threads(1)
    for name, one in alone.changes.tensors.items():  # type: ignore[union-attr]
        first, again = (trainee.changes.tensors[name] for trainee in twice)  # type: ignore[union-attr]
        assert torch.equal(first, again)
        torch.testing.assert_close(first, one, rtol=0, atol=1e-5)


def test_everything_is_trained_the_head_too(backbone: CausalLm) -> None:
    items = talks(8)
    trainee = teach(Full(epochs=1, batch_size=4), lesson(backbone, items))
    embedding = backbone.stages[0].modules[0]
    assert trainee.changes is not None
    own = backbone.network.get_submodule(embedding).weight
    assert not torch.equal(trainee.changes.tensors[f"{embedding}.weight"], own)  # type: ignore[arg-type]


class Plain(nn.Module):
    """A head without a network under it."""

    def __init__(self) -> None:
        super().__init__()
        self.output, self.config = nn.Linear(5, 11, bias=False), None

    def get_output_embeddings(self) -> nn.Linear:
        return self.output


def test_the_gradient_of_a_frozen_head_is_that_of_the_plain_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.engine.language.CHUNK", 3)
    torch.manual_seed(0)
    head, ids = Plain().requires_grad_(False), torch.randint(11, (7,))
    states = torch.randn(7, 5, requires_grad=True)
    wanted = nn.functional.cross_entropy(head.output(states), ids, reduction="sum")
    (gradient,) = torch.autograd.grad(wanted, states)
    for loss in (FrozenHead.apply(states, ids, head), sum_of_losses(head, states, ids)):
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(torch.autograd.grad(3 * loss, states)[0], 3 * gradient)


def test_a_long_conversation_is_cut_and_its_lost_answers_are_counted(backbone: CausalLm) -> None:
    stored = talks(3)[2]
    whole = backbone.dialogue.encoded(stored)
    short = replace(backbone.dialogue, max_tokens=12, known={}).encoded(stored)
    assert short.ids == whole.ids[:12]
    assert short.whole == len(whole.ids)
    assert len(short.learnt) + short.lost == len(whole.learnt)


def test_only_answers_are_learnt(backbone: CausalLm) -> None:
    """What is learnt, read again, is the answers and what ends them."""
    reads, talk = backbone.dialogue, Conversation.from_text(talks(3)[2])
    encoded = reads.encoded(talk.to_text())
    text = reads.tokenizer.decode([encoded.ids[i] for i in encoded.learnt])
    parts = [part.strip() for part in text.split(reads.tokenizer.eos_token) if part.strip()]
    assert parts == talk.said


def test_an_answer_streams_as_it_is_given(backbone: CausalLm, tmp_path: Path) -> None:
    voice = Talker(changes=None, most_tokens=512).network(backbone)
    asked, how = Conversation.asking("what is 3"), Sampling(max_tokens=8)
    whole = voice.answers([asked, Conversation.asking("what is 4 and 5 please")], how)
    assert "".join(voice.stream(asked, how)).strip() == whole[0]
    drawn = replace(how, temperature=1.5, seed=1)
    assert voice.answer(asked, drawn) == voice.answer(asked, drawn)


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in KINDS])
def test_other_families_know_their_stages(kind: str, tmp_path: Path) -> None:
    """What is computed above a cut is what transformers itself gives for the whole network."""
    plain = catalog.load(str(save_language_model(tmp_path, kind)), Progress())
    assert plain.n_stages == 4
    backbone = plain.of_conversations()  # type: ignore[attr-defined]
    items = talks(3)
    found = nll_of(backbone, 2, lesson(backbone, items, 2), np.arange(3))
    for stored, (nats, n) in zip(items, found.tolist(), strict=True):
        encoded = backbone.dialogue.encoded(stored)
        with torch.no_grad():
            logits = backbone.network(input_ids=torch.tensor([encoded.ids])).logits[0]
        at = torch.tensor(encoded.learnt)
        wanted = nn.functional.cross_entropy(logits[at - 1], torch.tensor(encoded.ids)[at], reduction="sum")
        assert nats == pytest.approx(float(wanted), rel=1e-4)
        assert n == len(at)
