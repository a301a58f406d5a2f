"""Conversations as tokens, by a language model's own chat template; and which of the tokens are answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from headstart.backbones.tokens import Tokens, tokenizing
from headstart.data.conversation import Conversation
from headstart.errors import BackboneError

# of a model that was never taught to chat: names, and its own end of text after what the assistant says
PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + '\n\n' }}"
    "{% elif m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\n' }}"
    "{% else %}{{ 'Assistant: ' + m['content'] + eos_token + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


@dataclass(frozen=True)
class Encoded:
    """A conversation of T tokens, and which of them are learnt."""

    ids: tuple[int, ...]  # (T,)
    learnt: tuple[int, ...]  # positions of the tokens of answers, the end of each turn among them; never 0
    whole: int = 0  # tokens before it was cut
    lost: int = 0  # tokens of answers that were cut off


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """A tokenizer with a chat template, in the place of one that reads plain texts. Texts are stored conversations."""

    tokenizer: Any
    sha256: str  # of the whole tokenizer as JSON
    max_tokens: int  # longer conversations are cut here
    known: dict[str, Encoded] = field(
        default_factory=dict, repr=False, compare=False
    )  # stored conversation: its tokens

    @classmethod
    def of(cls, tokens: Tokens, max_tokens: int) -> Dialogue:
        """With the tokenizer of a reader of plain texts."""
        return cls(tokenizer=tokens.tokenizer, sha256=tokens.sha256, max_tokens=max_tokens)

    @cached_property
    def template(self) -> str:
        """The model's own, or a plain one where it was never taught to chat."""
        own = self.tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        return str(own) if own else PLAIN

    @property
    def is_own(self) -> bool:
        """Whether the model has a template of its own."""
        return bool(self.tokenizer.chat_template)

    def to_json(self) -> dict[str, Any]:
        """What decides the tokens of a conversation."""
        template = hashlib.sha256(self.template.encode()).hexdigest()
        return {"tokenizer": self.sha256, "max_tokens": self.max_tokens, "chat_template": template}

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each stored conversation after truncation."""
        return [len(self.encoded(text).ids) for text in texts]

    def tensors(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (N, T), padded to the longest."""
        rows = [torch.tensor(self.encoded(text).ids) for text in texts]
        masks = [torch.ones(len(row), dtype=torch.int64) for row in rows]
        return {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id),
            "attention_mask": pad_sequence(masks, batch_first=True),
        }

    def prompt(self, conversation: Conversation) -> list[int]:
        """The tokens after which an answer is to be given."""
        with tokenizing:
            return self.tokenizer(self.written(conversation, asks=True), add_special_tokens=False, verbose=False)[
                "input_ids"
            ]

    def encoded(self, stored: str) -> Encoded:
        """A stored conversation, its answers marked. BackboneError where the template hides where answers stand."""
        if stored not in self.known:
            self.known[stored] = self._encoded(Conversation.from_text(stored))
        return self.known[stored]

    def written(self, conversation: Conversation, asks: bool = False) -> str:
        """The conversation in the model's own form; `asks` opens the assistant's next turn."""
        try:
            return self.tokenizer.apply_chat_template(
                conversation.messages, chat_template=self.template, add_generation_prompt=asks, tokenize=False
            )
        except Exception as error:  # a template raises whatever its author liked
            raise BackboneError(
                f"This model's chat template refuses a conversation: {error}. Some know no system prompt: leave it out."
            ) from error

    def _encoded(self, conversation: Conversation) -> Encoded:
        whole = self.written(conversation)
        spans = [self._span(conversation, position, whole) for position in conversation.answers]
        with tokenizing:
            tokens = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        known = [span for span in spans if span is not None]
        learnt = [
            position
            for position, (start, end) in enumerate(tokens["offset_mapping"])
            if position and any(low <= start and end <= high and start < end for low, high in known)
        ]
        kept = tuple(position for position in learnt if position < self.max_tokens)
        ids = tokens["input_ids"]
        return Encoded(tuple(ids[: self.max_tokens]), kept, whole=len(ids), lost=len(learnt) - len(kept))

    def _span(self, conversation: Conversation, position: int, whole: str) -> tuple[int, int] | None:
        """Where the answer at `position` stands in the whole, its end of turn included.

        None where the template writes earlier turns otherwise once there are later ones, as some do: such an answer
        is not learnt. The last one must be found.
        """
        before = self.written(conversation.before(position), asks=True)
        so_far = self.written(conversation.before(position + 1))
        if so_far.startswith(before) and whole.startswith(so_far):
            return len(before), len(so_far.rstrip())
        if position == conversation.answers[-1]:
            raise BackboneError(
                "This model's chat template writes answers otherwise than it asks for them, so that they cannot be "
                "told from the prompt. Give another --backbone."
            )
        return None
