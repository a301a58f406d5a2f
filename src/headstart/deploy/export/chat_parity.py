"""Does an exported chatbot say what the model says? Asked on the run's own conversations, with what was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from headstart.backbones.tokens import tokenizing
from headstart.data.conversation import Conversation
from headstart.deploy import talk
from headstart.deploy.model import Model
from headstart.engine.voice import Voice, ends_of
from headstart.errors import RunError

TOLERANCE = 1e-3  # of a token's log-probability
MOST_ROUNDING = 0.01  # nats a token, that 16-bit weights may cost
MOST, MOST_ANSWERED, TOKENS = 16, 4, 24  # conversations, those that are answered, and tokens of an answer


class Spoken(NamedTuple):
    """What a network says of conversations."""

    log_probs: list[np.ndarray]  # (T - 1,) of each one's tokens but the first
    answers: list[str]  # greedy, to the first few


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What an export is asked, and what the model says in float32."""

    texts: list[str]  # conversations as the chat template writes them
    prompts: list[str]  # of the first few
    said: Spoken
    what: str


Runner = Callable[[Sample], Spoken]


@dataclass(frozen=True, kw_only=True)
class ChatParity:
    """What the comparison found."""

    n: int  # conversations
    what: str  # they are: "test conversations"
    n_tokens: int
    n_answers: int  # that are the same, of as many
    largest_difference: float  # of a token's log-probability, from the model with the weights that were written
    rounding: float = 0.0  # nats a token more than the model in float32, by the weights' rounding

    def to_json(self) -> dict[str, Any]:
        """For export.json."""
        return asdict(self)

    def __str__(self) -> str:
        """One line."""
        line = (
            f"log-probabilities of {self.n_tokens:,} tokens of {self.n:,} {self.what} as the model's, largest "
            f"difference {self.largest_difference:.1g}; all {self.n_answers} greedy answers the same"
        )
        return line + (f"; 16-bit weights cost {self.rounding:+.2g} nats a token" if self.rounding else "")


def own_voice(model: Model) -> Voice:
    """The chatbot, whose weights are here."""
    voice = model.voice()
    assert isinstance(voice, Voice), "a hosted one is never exported"
    return voice


def sample(model: Model, data: Any = None) -> Sample:
    """Of given conversations, else the run's own, else a plain one."""
    voice = own_voice(model)
    if data is not None:
        dataset = model.read(data)
        found, what = [Conversation.from_text(one) for one in dataset.inputs], f"conversations of {dataset.source}"
    else:
        found, what = talk.samples(model), "of the run's conversations"
    if not found:
        found, what = [talk.with_answer(Conversation.asking("Who are you?"), "I am a chatbot.")], "plain conversation"
    dialogue = voice.backbone.dialogue
    short = [one for one in found if voice.count(one) + TOKENS < voice.context][:MOST]
    texts = [dialogue.written(one) for one in short]
    prompts = [dialogue.written(one.before(one.answers[-1]), asks=True) for one in short if one.answers]
    asked = Sample(texts=texts, prompts=prompts[:MOST_ANSWERED], said=Spoken([], []), what=what)
    said = spoken(voice.backbone.network, dialogue.tokenizer, asked)
    return Sample(texts=texts, prompts=asked.prompts, said=said, what=what)


@torch.inference_mode()
def spoken(network: Any, tokenizer: Any, asked: Sample) -> Spoken:
    """What a network with its tokenizer says, by transformers alone."""
    with tokenizing:
        ids, prompts = (
            [tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]
            for texts in (asked.texts, asked.prompts)
        )
    log_probs = [
        network(input_ids=one, use_cache=False)
        .logits[0, :-1]
        .float()
        .log_softmax(-1)
        .gather(1, one[0, 1:, None])[:, 0]
        .numpy()
        for one in ids
    ]
    how = {"max_new_tokens": TOKENS, "do_sample": False, "pad_token_id": tokenizer.pad_token_id, "use_cache": True}
    ends = ends_of(network, tokenizer)
    written = [
        network.generate(input_ids=one, attention_mask=torch.ones_like(one), eos_token_id=ends, **how)
        for one in prompts
    ]
    answers = [tokenizer.decode(row[0, one.shape[1] :]) for row, one in zip(written, prompts, strict=True)]
    return Spoken(log_probs, answers)


def check(asked: Sample, said: Spoken, reference: Spoken | None = None) -> ChatParity:
    """RunError unless all tokens are as likely, and all answers the same; `reference` has the weights as rounded."""
    reference = reference or asked.said
    if [len(one) for one in said.log_probs] != [len(one) for one in reference.log_probs]:
        raise RunError(f"The export cuts texts into other tokens than the model does, {NOT_KEPT}")
    apart = max(_apart(said.log_probs, reference.log_probs), default=0.0)
    n_other = sum(one != other for one, other in zip(said.answers, reference.answers, strict=True))
    if not apart <= TOLERANCE or n_other:
        raise RunError(
            f"The export does not say what the model says: a token's log-probability differs by {apart:.2g} (at most "
            f"{TOLERANCE} may be), and {n_other} of {len(said.answers)} answers differ, {NOT_KEPT}"
        )
    n_tokens = sum(map(len, said.log_probs))
    rounding = float(sum((a - b).sum() for a, b in zip(asked.said.log_probs, said.log_probs, strict=True)) / n_tokens)
    if rounding > MOST_ROUNDING:
        raise RunError(f"In 16 bits the export loses {rounding:.2g} nats a token, {NOT_KEPT}")
    return ChatParity(
        n=len(asked.texts),
        what=asked.what,
        n_tokens=n_tokens,
        n_answers=len(said.answers),
        largest_difference=apart,
        rounding=0.0 if reference is asked.said else rounding,
    )


def _apart(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> list[float]:
    return [float(np.abs(one - other).max(initial=0.0)) for one, other in zip(some, others, strict=True)]


NOT_KEPT = "so it was not kept. Please report it with the run's plan.json; `headstart bundle` keeps the model as it is."
