"""`POST /v1/chat/completions` as OpenAI's clients send it: bodies read, answers in its shape, whole or in pieces.

A field that would change what kind of answer comes (tools, pictures, several choices) is refused; other fields that
are not known here are taken and left unused.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from headstart.data.conversation import ASSISTANT, Conversation
from headstart.data.prompts import asked as up_to_the_question
from headstart.data.prompts import of_messages
from headstart.deploy.serve.items import parsed, read_json
from headstart.deploy.serve.problems import Problem
from headstart.deploy.serve.settings import Settings
from headstart.engine.voice import Sampling, Tally
from headstart.errors import DataError, PlanError
from headstart.hosted.voice import AnyVoice

MOST_STOPS = 4
TEMPERATURE = 1.0  # where the request names none, as OpenAI's service has it
REFUSED = {  # what would change the kind of answer: what is said of it
    "tools": "Tools are not called here",
    "functions": "Functions are not called here",
    "audio": "Answers are texts here",
    "logprobs": "Log-probabilities are not told here",
    "top_logprobs": "Log-probabilities are not told here",
    "logit_bias": "Single tokens are not favoured here",
}


class Part(BaseModel):
    """A piece of a message's content; texts are read, all else is refused."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str
    text: str | None = None


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1)]


class StreamOptions(BaseModel):
    """What a stream says beside the answer."""

    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """As OpenAI's; fields that are not listed are taken and left unused, but for tools and the like."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: Annotated[str, Field(min_length=1, description="The name of a chatbot here: GET /v1/models.")]
    messages: Annotated[list[Message], Field(min_length=1)]
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    n: Annotated[int | None, Field(ge=1, le=1)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request asks for."""

    model: str
    conversation: Conversation
    how: Sampling
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool


async def read_asked(request: Request, settings: Settings) -> Asked:
    """Of a request's body. Problem (400, naming the field) for all that is not as it should be."""
    try:
        given = parsed(ChatRequest, await read_json(request, settings))
    except Problem as problem:
        if problem.status != 422:
            raise
        raise _wrong(_named(problem.errors[0]["pointer"]), problem.detail) from None
    _check_kind(given)
    options = given.stream_options or StreamOptions()
    stops = [given.stop] if isinstance(given.stop, str) else given.stop or []
    return Asked(
        model=given.model,
        conversation=_conversation(given.messages, settings),
        how=_sampling(given, settings),
        stops=tuple(filter(None, stops)),
        stream=bool(given.stream),
        include_usage=bool(options.include_usage),
    )


def _check_kind(given: ChatRequest) -> None:
    """Problem where another kind of answer is asked for than a text."""
    more = given.model_extra or {}
    for name, why in REFUSED.items():
        if more.get(name):
            raise _wrong(name, f"{why}. Leave {name!r} out.")
    form = more.get("response_format")
    if form is not None and not (isinstance(form, dict) and form.get("type") == "text"):
        raise _wrong("response_format", "Answers are plain texts here. Leave 'response_format' out.")


def _conversation(messages: Sequence[Message], settings: Settings) -> Conversation:
    turns = [{"role": one.role, "content": _text(one.content, i)} for i, one in enumerate(messages)]
    n_characters = sum(len(one["content"]) for one in turns)
    if n_characters > settings.characters:
        raise _wrong(
            "messages", f"A conversation may have {settings.characters:,} characters, and this has {n_characters:,}."
        )
    if messages[-1].role == ASSISTANT:
        raise _wrong("messages", "The last message is the assistant's; end with one of the user's.")
    try:
        return up_to_the_question(of_messages(turns))
    except DataError as error:
        raise _wrong("messages", str(error)) from None


def _text(content: str | list[Part], position: int) -> str:
    if isinstance(content, str):
        return content
    if odd := next((part for part in content if part.type != "text" or part.text is None), None):
        raise _wrong(
            f"messages.{position}.content", f"Parts of the type {odd.type[:40]!r} are not read here; send texts alone."
        )
    return "".join(part.text or "" for part in content)


def _sampling(given: ChatRequest, settings: Settings) -> Sampling:
    """An answer is never longer than the server allows; `finish_reason` tells."""
    wanted = given.max_completion_tokens or given.max_tokens or settings.tokens
    try:
        return Sampling(
            temperature=TEMPERATURE if given.temperature is None else given.temperature,
            top_p=1.0 if given.top_p is None else given.top_p,
            seed=uuid.uuid4().int % 2**63 if given.seed is None else given.seed,
            max_tokens=min(wanted, settings.tokens),
        )
    except PlanError as error:
        raise _wrong(None, str(error)) from None


def _named(pointer: str) -> str | None:
    """OpenAI's name of a place: 'messages.0.content'."""
    parts = pointer.removeprefix("#/").split("/")  # pydantic also names the kind that it tried
    return ".".join(part for part in parts if part and part != "str") or None


def _wrong(param: str | None, detail: str) -> Problem:
    return Problem(400, "Invalid request", detail, param=param)


def about(name: str, since: int) -> dict[str, Any]:
    """A model, as a list for clients has it."""
    return {"id": name, "object": "model", "created": since, "owned_by": "headstart"}


class Stopped:
    """Pieces of an answer up to the first of some strings; what may be the beginning of one is held back."""

    def __init__(self, stops: Iterable[str]) -> None:
        self.stops, self.held, self.found = tuple(stops), "", False

    def pieces(self, given: Iterable[str]) -> Iterator[str]:
        """Those that may be shown; `found` says whether a string ended it."""
        for piece in given:
            self.held += piece
            at = min((i for stop in self.stops if (i := self.held.find(stop)) >= 0), default=-1)
            if at >= 0:
                self.held, self.found = self.held[:at], True
                break
            keep = max(
                (n for stop in self.stops for n in range(1, len(stop)) if self.held.endswith(stop[:n])), default=0
            )
            shown, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
            if shown:
                yield shown
        if self.held:
            yield self.held


@dataclass(kw_only=True)
class Reply:
    """One answer in OpenAI's shape."""

    model: str
    fingerprint: str
    stopped: Stopped
    tally: Tally = field(default_factory=Tally)
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def written(self, voice: AnyVoice, asked: Asked) -> Generator[str, None, None]:
        """The answer in pieces; who stops reading ends it. DataError where the conversation is too long."""
        writing = voice.stream(asked.conversation, asked.how, self.tally)
        with closing(writing):  # it writes no further than a string that stops it, and has counted then
            yield from self.stopped.pieces(writing)

    @property
    def finish_reason(self) -> str:
        """Of an answer that has ended."""
        return "stop" if self.tally.ended or self.stopped.found else "length"

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, once it has ended."""
        n_prompt, n_answer = self.tally.n_prompt, self.tally.n_answer
        return {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer}

    def whole(self, text: str) -> dict[str, Any]:
        """The answer at once."""
        message = {"role": ASSISTANT, "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage}

    async def events(self, pieces: AsyncIterator[str], include_usage: bool) -> AsyncIterator[bytes]:
        """The answer as server-sent events."""
        more = {"usage": None} if include_usage else {}
        yield self._event([self._delta({"role": ASSISTANT, "content": "", "refusal": None})], more)
        try:
            async for piece in pieces:
                yield self._event([self._delta({"content": piece})], more)
        except Problem as problem:  # the head is out: the error is told in the stream, as OpenAI's service does
            yield b"data: " + problem.body("/v1/") + b"\n\n"
            return
        yield self._event([self._delta({}, self.finish_reason)], more)
        if include_usage:
            yield self._event([], {"usage": self.usage})
        yield b"data: [DONE]\n\n"

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    def _event(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> bytes:
        said = {**self._head("chat.completion.chunk"), "choices": choices, **more}
        return f"data: {json.dumps(said, ensure_ascii=False)}\n\n".encode("utf-8", "replace")

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": f"fp_{self.fingerprint[:12]}",
        }
