"""A language model that talks: it answers conversations, and says how likely given answers are.

transformers generates, with a key-value cache. What is sampled is the largest of the logits with Gumbel noise added
(Gumbel 1954), drawn from the call's own seed, so that several threads can sample at once and each gets what it would
have got alone. Nucleus sampling is Holtzman et al. 2019 (arXiv:1904.09751).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.causal_lm import CausalLm, unembed
from headstart.backbones.dialogue import Encoded
from headstart.backbones.tokens import tokenizing
from headstart.data.conversation import SYSTEM, Conversation, Turn
from headstart.errors import DataError, PlanError
from headstart.progress import Progress
from headstart.tasks.chat import Said, answer_bytes

AT_ONCE = 24  # prompts that are answered in one batch
MOST_TOGETHER = 4096  # tokens, padding counted, of which likelihoods are computed together
CHUNK = 128  # tokens whose logits over the vocabulary are held at once: few enough for the processor's cache


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn. PlanError when a setting is out of range."""

    temperature: float = 0.0  # 0 takes the likeliest token
    top_p: float = 1.0  # of the likeliest tokens that make up this probability
    seed: int = 0
    max_tokens: int = 256  # of an answer

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2:
            raise PlanError(f"temperature={self.temperature}, but it must be from 0 (the likeliest token) to 2.")
        if not 0 < self.top_p <= 1:
            raise PlanError(f"top_p={self.top_p}, but it must be above 0, and at most 1 (all tokens).")
        if self.max_tokens < 1:
            raise PlanError(f"max_tokens={self.max_tokens}, but an answer must be allowed at least one token.")


@dataclass
class Tally:
    """What an answer took, known when it has ended."""

    n_prompt: int = 0  # tokens
    n_answer: int = 0  # tokens, the end of the turn among them
    ended: bool = False  # by an end of the turn; else by the limit, or by who listened


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A language model and how conversations are put to it."""

    backbone: CausalLm  # that reads conversations, with what was learnt in it
    system: str | None = None  # what stands before a conversation that has no system's words of its own

    @property
    def context(self) -> int:
        """How many tokens the network can see at once."""
        return self.backbone.context

    def count(self, conversation: Conversation) -> int:
        """Tokens of the prompt."""
        return len(self._prompt(conversation))

    def stream(
        self, conversation: Conversation, how: Sampling, tally: Tally | None = None
    ) -> Generator[str, None, None]:
        """The answer in pieces, as they are written; `tally` is filled in when it has ended.

        DataError where the conversation fills the network's context.
        """
        from transformers import TextIteratorStreamer

        prompt = self._prompt(conversation)
        room = self._room(len(prompt), how)
        streamer = TextIteratorStreamer(self.backbone.dialogue.tokenizer, skip_prompt=True, skip_special_tokens=True)
        left, failed, tally = threading.Event(), list[BaseException](), tally or Tally()
        tally.n_prompt = len(prompt)

        def write() -> None:
            try:
                (written,) = self._generate([prompt], how, room, streamer=streamer, stop=left.is_set).tolist()
                tally.n_answer, tally.ended = len(written), written[-1] in self._ends
            except BaseException as error:  # is raised where the answer is read
                failed.append(error)
                streamer.end()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        try:
            yield from filter(None, streamer)
        finally:
            left.set()
            writer.join()
        if failed:
            raise failed[0]

    def answer(self, conversation: Conversation, how: Sampling) -> str:
        """The whole answer."""
        return "".join(self.stream(conversation, how)).strip()

    def answers(
        self, conversations: Sequence[Conversation], how: Sampling, progress: Progress | None = None
    ) -> list[str]:
        """The answer to each, in batches of prompts of like length."""
        prompts = [self._prompt(conversation) for conversation in conversations]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found = [""] * len(prompts)
        with (progress or Progress()).bar(len(prompts), "answers") as advance:
            for start in range(0, len(order), AT_ONCE):
                rows = order[start : start + AT_ONCE]
                room = min(self._room(len(prompts[row]), how) for row in rows)
                written = self._generate([prompts[row] for row in rows], how, room)
                texts = self.backbone.dialogue.tokenizer.batch_decode(written, skip_special_tokens=True)
                for row, text in zip(rows, texts, strict=True):
                    found[row] = text.strip()
                advance(len(rows))
        return found

    def said(self, conversations: Sequence[Conversation], progress: Progress | None = None) -> list[Said]:
        """How likely the answers of these conversations are; nothing is generated."""
        stored = [self._with_system(conversation).to_text() for conversation in conversations]
        encoded = [self.backbone.dialogue.encoded(text) for text in stored]
        nll = self._nll([one.ids for one in encoded], [one.learnt for one in encoded], progress)
        return [
            Said(float(sum(each)), len(each), self._bytes(talk, one))
            for talk, one, each in zip(conversations, encoded, nll, strict=True)
        ]

    def _bytes(self, conversation: Conversation, encoded: Encoded) -> int:
        """Of the answers, as far as they are seen."""
        if not encoded.lost:
            return answer_bytes(conversation.said)
        return answer_bytes([self.backbone.dialogue.tokenizer.decode([encoded.ids[i] for i in encoded.learnt])])

    def nll(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """(N, 2): of each plain text, nats and the number of tokens; the first token is not foretold."""
        tokenizer = self.backbone.dialogue.tokenizer
        with tokenizing:
            ids = [tuple(tokenizer(text, verbose=False)["input_ids"][: self.context]) for text in texts]
        found = self._nll(ids, [tuple(range(1, len(one))) for one in ids], progress)
        return np.array([[float(sum(each)), len(each)] for each in found]).reshape(-1, 2)

    @property
    def _ends(self) -> list[int]:
        return ends_of(self.backbone.network, self.backbone.dialogue.tokenizer)

    def _with_system(self, conversation: Conversation) -> Conversation:
        if self.system is None or any(turn.role == SYSTEM for turn in conversation.turns):
            return conversation
        return Conversation((Turn(SYSTEM, self.system), *conversation.turns))

    def _prompt(self, conversation: Conversation) -> list[int]:
        return self.backbone.dialogue.prompt(self._with_system(conversation))

    def _room(self, n_tokens: int, how: Sampling) -> int:
        """Tokens that an answer may have after so many."""
        if n_tokens >= self.context:
            raise DataError(
                f"The conversation has {n_tokens:,} tokens, and the network sees {self.context:,} at once. "
                "Shorten it, or begin anew."
            )
        return min(how.max_tokens, self.context - n_tokens)

    @torch.inference_mode()
    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        how: Sampling,
        room: int,
        streamer: Any = None,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        """(N, T): what comes after each prompt, up to `room` tokens, or the end of the turn and padding."""
        network: Any = self.backbone.network
        tokenizer, longest = self.backbone.dialogue.tokenizer, max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        ids = torch.tensor([[tokenizer.pad_token_id] * n + list(p) for n, p in zip(padding, prompts, strict=True)])
        mask = torch.tensor([[0] * n + [1] * len(p) for n, p in zip(padding, prompts, strict=True)])
        written = network.generate(
            input_ids=ids.to(network.device),
            attention_mask=mask.to(network.device),
            max_new_tokens=room,
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=self._ends,
            logits_processor=sampler(how),
            stopping_criteria=None if stop is None else [Stops(stop)],
            streamer=streamer,
        )
        tokens: Tensor = written[:, longest:]
        return tokens

    def _nll(
        self, ids: Sequence[tuple[int, ...]], learnt: Sequence[tuple[int, ...]], progress: Progress | None
    ) -> list[list[float]]:
        """Nats of the learnt tokens of each sequence."""
        order, found = sorted(range(len(ids)), key=lambda i: len(ids[i])), [list[float]()] * len(ids)
        with (progress or Progress()).bar(len(ids), "texts") as advance:
            while order:
                n = max(1, MOST_TOGETHER // max(1, len(ids[order[-1]])))
                rows, order = order[-n:], order[:-n]  # the longest first: what does not fit fails at once
                for row, each in zip(rows, self._nll_of(rows, ids, learnt), strict=True):
                    found[row] = each
                advance(len(rows))
        return found

    def _nll_of(
        self, rows: Sequence[int], ids: Sequence[tuple[int, ...]], learnt: Sequence[tuple[int, ...]]
    ) -> list[list[float]]:
        longest = max(len(ids[row]) for row in rows)
        if longest < 2:
            return [[] for _ in rows]
        device = next(self.backbone.network.parameters()).device
        tokens = torch.tensor([[*ids[row], *[0] * (longest - len(ids[row]))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(ids[row]) + [0] * (longest - len(ids[row])) for row in rows], device=device)
        last = self.backbone.n_stages
        _, whole = self.backbone.outputs({"input_ids": tokens, "attention_mask": mask}, (), (last,))
        which = [(i, position) for i, row in enumerate(rows) for position in learnt[row]]
        if not which:
            return [[] for _ in rows]
        at = torch.tensor(which, device=device)
        nll = token_nll(self.backbone.network, whole[last][at[:, 0], at[:, 1] - 1], tokens[at[:, 0], at[:, 1]]).tolist()
        ends = np.cumsum([0] + [len(learnt[row]) for row in rows])
        return [nll[start:end] for start, end in itertools.pairwise(ends)]


@torch.inference_mode()
def token_nll(network: Any, states: Tensor, ids: Tensor) -> Tensor:
    """(M,) float32 nats of tokens (M,), each foretold from the last stage's output (M, D) before it."""
    parts = [
        nn.functional.cross_entropy(unembed(network, some).float(), some_ids, reduction="none")
        for some, some_ids in zip(states.split(CHUNK), ids.split(CHUNK), strict=True)
    ]
    return torch.cat(parts)


def ends_of(network: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: those that the model's own settings name, and the tokenizer's."""
    named = getattr(network.generation_config, "eos_token_id", None)
    ends = [named] if isinstance(named, int) else list(named or [])
    return sorted({*ends, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])})


def sampler(how: Sampling) -> Any:
    """What is done to logits before the largest is taken."""
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    if how.temperature == 0:
        return LogitsProcessorList()
    nucleus = [TopPLogitsWarper(how.top_p)] if how.top_p < 1 else []
    return LogitsProcessorList([TemperatureLogitsWarper(float(how.temperature)), *nucleus, Gumbel(how.seed)])


class Gumbel:
    """Noise under which the largest logit is a sample of their softmax."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (N, V) with noise."""
        noise = torch.empty(scores.shape).exponential_(generator=self.generator).log_().neg_()
        return scores + noise.to(scores)


class Stops:
    """Ends a generation that nobody reads any more."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **rest: Any) -> Tensor:
        """(N,) whether each is done."""
        return torch.full((len(input_ids),), self.stop(), dtype=torch.bool, device=input_ids.device)
