"""What the OpenAPI page says of the routes under /v1: bodies, answers and errors in the shape of OpenAI's service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from headstart.deploy.serve.problems import MEDIA_TYPE


class TranscriptionForm(BaseModel):
    """As OpenAI's; other fields are taken and left unused."""

    file: Annotated[str, Field(json_schema_extra={"format": "binary"})]
    model: Annotated[str, Field(description="The name of a model here that transcribes.")]
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    granularities: Annotated[
        list[Literal["word", "segment"]],
        Field(alias="timestamp_granularities[]", description="With verbose_json alone; segments where it is left out."),
    ] = []
    language: Annotated[str, Field(description="Not used: a model knows the language that it learnt.")] = ""
    temperature: Annotated[float, Field(description="Not used.")] = 0.0


class Segment(BaseModel):
    """What is said between two pauses, with the fields of OpenAI's."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class SpokenWord(BaseModel):
    """A word of a verbose answer."""

    word: str
    start: float
    end: float


class Usage(BaseModel):
    """What OpenAI's clients count by."""

    type: str
    seconds: int


class Transcript(BaseModel):
    """The text; in a verbose answer with segments, with words, or with both."""

    text: str
    usage: Usage
    task: str | None = None
    language: str | None = None
    duration: float | None = None
    words: list[SpokenWord] | None = None
    segments: list[Segment] | None = None


class OpenAIError(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrors(BaseModel):
    """Errors of the routes under /v1, as OpenAI's clients read them."""

    error: OpenAIError


class Answer(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str
    refusal: str | None


class Choice(BaseModel):
    """The one answer; `finish_reason` is "length" where the limit of tokens ended it."""

    index: int
    message: Answer
    logprobs: None
    finish_reason: Literal["stop", "length"]


class TokenUsage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """An answer at once; with `stream` it comes as server-sent events of `chat.completion.chunk` objects."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: TokenUsage


class ServedModel(BaseModel):
    """A model that a route under /v1 asks."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[ServedModel]


def in_openai_shape(route: dict[str, Any]) -> None:
    """Let a route's errors be told as OpenAI's clients read them."""
    for response in route["responses"].values():
        response["content"].pop(MEDIA_TYPE, None)
        response["content"].setdefault("application/json", {"schema": {"$ref": "#/components/schemas/OpenAIErrors"}})
