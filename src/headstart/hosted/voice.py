"""A hosted language model, ready to talk: the interface of `headstart.engine.voice.Voice`, over chat.completions.

The API gives no probabilities of a given answer, so that its negative log-likelihood is NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from headstart.data.conversation import SYSTEM, Conversation, Turn
from headstart.engine.voice import Sampling, Tally, Voice
from headstart.hosted.cost import counter_of
from headstart.hosted.ledger import Ledger
from headstart.hosted.service import OPENAI, address, asking, connect
from headstart.progress import Progress
from headstart.tasks.chat import Said, answer_bytes

KIND = "hosted"  # of what a run keeps of a language model
AT_ONCE = 8  # requests
CONTEXT = 128_000  # tokens: of OpenAI's models that can be tuned; what is too long elsewhere is refused by the server


@dataclass
class HostedVoice:
    """A model at the API by its name; the key is read from the environment when it is first asked."""

    model: str
    system: str | None = None  # what stands before conversations that say nothing of the kind themselves
    ledger: Ledger | None = None  # keeps answers, so that none is paid for twice
    _client: Any = field(default=None, repr=False)

    @property
    def context(self) -> int:
        """Most tokens that it can see."""
        return CONTEXT

    @property
    def client(self) -> Any:
        """The way to it, opened on first use."""
        if self._client is None:
            self._client = connect()
        return self._client

    def stream(
        self, conversation: Conversation, how: Sampling, tally: Tally | None = None
    ) -> Generator[str, None, None]:
        """The answer, piece by piece; `tally` is filled in as the service counts, or else as `count` does."""
        tally = tally or Tally()
        tally.n_prompt = self.count(conversation)
        request = self.request(conversation, how) | {"stream": True, "stream_options": {"include_usage": True}}
        with asking(f"asking {self.model}"), self.client.chat.completions.create(**request) as pieces:
            for piece in pieces:
                if piece.usage:
                    tally.n_prompt, tally.n_answer = piece.usage.prompt_tokens, piece.usage.completion_tokens
                if piece.choices:
                    tally.ended = tally.ended or piece.choices[0].finish_reason == "stop"
                    if text := piece.choices[0].delta.content:
                        tally.n_answer += 1  # a piece is a token, as a rule
                        yield text

    def answer(self, conversation: Conversation, how: Sampling) -> str:
        """The whole answer."""
        return "".join(self.stream(conversation, how)).strip()

    def answers(
        self, conversations: Sequence[Conversation], how: Sampling, progress: Progress | None = None
    ) -> list[str]:
        """The answer to each, several asked at once. One that fails ends it; those that came are kept in the ledger."""
        known = self.ledger.answers() if self.ledger else {}
        client = self.client  # opened by one thread
        bar = (progress or Progress()).bar(len(conversations), "answer")
        with bar as advance, ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = [pool.submit(self._answer, client, one, how, known) for one in conversations]
            try:
                found = []
                for one in waiting:
                    found.append(one.result())
                    advance(1)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return found

    def _answer(self, client: Any, conversation: Conversation, how: Sampling, known: dict[str, str]) -> str:
        """One answer, of those known or of the model."""
        request = self.request(conversation, how)
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        if digest in known:
            return known[digest]
        with asking(f"asking {self.model}"):
            choices = client.chat.completions.create(**request).choices
        answer = (choices[0].message.content or "").strip() if choices else ""
        if self.ledger is not None:
            self.ledger.keep(digest, answer)
        return answer

    def request(self, conversation: Conversation, how: Sampling) -> dict[str, Any]:
        """The arguments of chat.completions.create. Servers other than OpenAI's know the older name of a limit."""
        if self.system is not None and not any(turn.role == SYSTEM for turn in conversation.turns):
            conversation = Conversation((Turn(SYSTEM, self.system), *conversation.turns))
        return {
            "model": self.model,
            "messages": conversation.messages,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "seed": how.seed,
            "max_completion_tokens" if address() == OPENAI else "max_tokens": how.max_tokens,
        }

    def said(self, conversations: Sequence[Conversation], progress: Progress | None = None) -> list[Said]:
        """Their answers' lengths alone: the API does not tell how likely they are."""
        each = ([one.turns[i].text for i in one.answers] for one in conversations)
        return [Said(math.nan, 0, answer_bytes(texts)) for texts in each]

    def nll(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """(N, 2) nats and tokens: NaN and 0."""
        return np.array([[math.nan, 0.0]] * len(texts)).reshape(-1, 2)

    def count(self, conversation: Conversation) -> int:
        """Tokens of a prompt, as they are counted for its price."""
        return counter_of(self.model).conversation(conversation)


AnyVoice = Voice | HostedVoice


@dataclass(frozen=True, kw_only=True)
class HostedTalker:
    """What a run keeps of a hosted model: names, no weights and no key.

    Where it was tuned is told, and never connected to: a run folder from others must not say where the key is sent.
    """

    base: str  # "gpt-4.1-mini"
    tuned: str  # "ft:gpt-4.1-mini-2025-04-14:org:suffix:id"
    job: str
    files: tuple[str, ...]  # ids of the training file, and of the validation file where one was sent
    server: str  # its address
    n_epochs: int
    trained_tokens: int | None  # that were billed, as the API says
    system: str | None = None  # what stands before conversations that say nothing of the kind themselves

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": KIND, **asdict(self), "files": list(self.files)}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> HostedTalker:
        """The inverse of `to_json`."""
        return cls(**{**{k: v for k, v in saved.items() if k != "kind"}, "files": tuple(saved["files"])})

    @property
    def changes(self) -> None:
        """What was learnt is not here."""

    def network(self, backbone: object = None) -> HostedVoice:
        """The tuned model, ready to talk; it needs no backbone."""
        return HostedVoice(self.tuned, self.system)
