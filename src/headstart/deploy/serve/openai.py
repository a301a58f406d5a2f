"""`POST /v1/audio/transcriptions` as OpenAI's clients send it: forms read, answers in its shape."""

from __future__ import annotations

import math
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from headstart.deploy import subtitles
from headstart.deploy.serve.batcher import Item
from headstart.deploy.serve.items import read_body, sound
from headstart.deploy.serve.problems import Problem
from headstart.deploy.serve.settings import Settings
from headstart.errors import MissingExtraError, listed
from headstart.tasks.heard import Heard, Word

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
GRANULARITIES = ("word", "segment")
MOST_FIELDS, FIELD_BYTES = 32, 64 << 10
LANGUAGE = "unknown"  # of a verbose answer where the request names none


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a form asks for."""

    item: Item
    model: str
    response_format: str
    granularities: frozenset[str]
    language: str


async def read_form(request: Request, settings: Settings) -> Asked:
    """The form of a request. Problem for all that is not as it should be."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Problem(415, "Unsupported media type", "Send a form as multipart/form-data, with a file and a model.")
    fields = await _fields(request, await read_body(request, settings))
    file = fields.get("file", [None])[0]
    if not isinstance(file, bytes):
        raise _wrong("file", "Send the sound as the form's field 'file', with a file name.")
    try:
        item = sound(file, 0, settings)
    except Problem as problem:
        raise _wrong("file", problem.errors[0]["detail"]) from None
    said = {name: values[-1] for name, values in fields.items() if isinstance(values[-1], str)}
    if not said.get("model"):
        raise _wrong("model", "Name the model to ask in the form's field 'model'.")
    response_format = said.get("response_format", "json")
    if response_format not in FORMATS:
        raise _wrong("response_format", f"{response_format!r} is not one of {listed(FORMATS)}.")
    if said.get("stream", "false").lower() not in ("false", "0", ""):
        raise _wrong("stream", "Answers are not streamed here. Leave 'stream' out.")
    return Asked(
        item=item,
        model=said["model"],
        response_format=response_format,
        granularities=_granularities(fields, response_format),
        language=said.get("language", LANGUAGE),
    )


async def _fields(request: Request, body: bytes) -> dict[str, list[Any]]:
    """Name -> its values in order, texts and the bytes of files."""
    try:
        import python_multipart  # noqa: F401  (what the parser stands on)
    except ImportError:
        raise MissingExtraError("python-multipart", "serve") from None

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=MOST_FIELDS, max_part_size=FIELD_BYTES)
    parser.spool_max_size = len(body) + 1  # in memory, where it is already
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:  # KeyError: a form without a boundary
        raise Problem(400, "The form cannot be read", f"The form cannot be read: {error}.") from None
    found: dict[str, list[Any]] = {}
    for name, value in form.multi_items():
        found.setdefault(name, []).append(await value.read() if isinstance(value, UploadFile) else value)
    await form.close()
    return found


def _granularities(fields: Mapping[str, Sequence[Any]], response_format: str) -> frozenset[str]:
    given = [*fields.get("timestamp_granularities[]", ()), *fields.get("timestamp_granularities", ())]
    if unknown := [one for one in given if one not in GRANULARITIES]:
        raise _wrong("timestamp_granularities", f"{str(unknown[0])[:50]!r} is not one of {listed(GRANULARITIES)}.")
    if given and response_format != "verbose_json":
        raise _wrong("timestamp_granularities", "Times come with response_format=verbose_json.")
    return frozenset(given or ["segment"])


def _wrong(param: str, detail: str) -> Problem:
    return Problem(400, "Invalid request", detail, param=param)


def heard_of(answer: Mapping[str, Any]) -> Heard:
    """What a lane's answer says."""
    return Heard(answer["text"], answer["confidence"], tuple(Word(**word) for word in answer["words"]))


def response(asked: Asked, heard: Heard) -> Response:
    """The transcript in the form that was asked for."""
    if asked.response_format in WRITTEN:
        write, kind = WRITTEN[asked.response_format]
        return PlainTextResponse(write(heard), media_type=kind)
    usage = {"type": "duration", "seconds": math.ceil(asked.item.seconds)}
    if asked.response_format == "json":
        return JSONResponse({"text": heard.text, "usage": usage})
    told: dict[str, Any] = {"task": "transcribe", "language": asked.language, "duration": asked.item.seconds}
    told |= {"text": heard.text, "usage": usage}
    if "word" in asked.granularities:
        told["words"] = [{"word": word.text, "start": word.start, "end": word.end} for word in heard.words]
    if "segment" in asked.granularities:
        told["segments"] = [_segment(i, one) for i, one in enumerate(subtitles.segments(heard))]
    return JSONResponse(told)


def _segment(number: int, heard: Heard) -> dict[str, Any]:
    """With every field that OpenAI's has; what such a model does not know (tokens, silence) is empty or 0."""
    text = heard.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": heard.words[0].start,
        "end": heard.words[-1].end,
        "text": heard.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": math.log(max(heard.confidence, 1e-9)),
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": 0.0,
    }


WRITTEN: dict[str, tuple[Callable[[Heard], str], str]] = {
    "text": (lambda heard: heard.text + "\n", "text/plain"),
    "srt": (subtitles.as_srt, "application/x-subrip"),
    "vtt": (subtitles.as_vtt, "text/vtt"),
}
