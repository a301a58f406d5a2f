"""Items as they come in over HTTP: JSON, or the bytes of one file. Limits are held before anything is decoded."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from headstart.deploy.serve.batcher import Item
from headstart.deploy.serve.problems import Problem, at_item
from headstart.deploy.serve.settings import Settings
from headstart.errors import DataError, listed
from headstart.modalities.files import sounds
from headstart.modalities.headers import FORMATS, size_of
from headstart.modalities.waves import opened

SMALL = 64 << 10  # a body of so many bytes is read in less time than it takes to hand it to a thread
MOST_ERRORS = 10  # that an answer lists
Body = TypeVar("Body", bound=BaseModel)


class Encoded(BaseModel):
    """A picture's or a sound's file in base64."""

    model_config = ConfigDict(extra="forbid", strict=True)

    base64: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Items(BaseModel):
    """Texts as strings, or pictures or sounds as their files in base64."""

    model_config = ConfigDict(extra="forbid", strict=True)

    items: Annotated[list[str] | list[Encoded], Field(min_length=1)]


class Load(BaseModel):
    """A run folder, as the server sees it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    run: Annotated[str, Field(min_length=1)]


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body. Problem where it is too large (413), too slow (408) or compressed (415)."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "Unsupported encoding", "Send the body as it is, without Content-Encoding.")
    too_large = Problem(
        413,
        "The body is too large",
        f"A body may have {settings.body_bytes:,} bytes. Send fewer items at a time.",
        headers={"connection": "close"},
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > settings.body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > settings.body_bytes:
                    raise too_large
    except TimeoutError:
        raise Problem(
            408,
            "The body took too long",
            f"It must arrive within {settings.body_s:g} s.",
            headers={"connection": "close"},
        ) from None
    except ClientDisconnect:
        raise Problem(400, "The client went away") from None
    return bytes(body)


async def read_items(request: Request, settings: Settings) -> tuple[str, list[Item]]:
    """(modality, items) of a request. Problem for all that is not as it should be."""
    if kind_of(request).startswith("image/"):
        read, body = one_picture, await read_body(request, settings)
    elif kind_of(request).startswith("audio/"):
        read, body = one_sound, await read_body(request, settings)
    else:
        read, body = items_of, await read_json(request, settings)
    return read(body, settings) if len(body) <= SMALL else await asyncio.to_thread(read, body, settings)


async def read_json(request: Request, settings: Settings) -> bytes:
    """The whole body of a request that says that it is JSON. Problem where it says otherwise (415)."""
    if kind_of(request) != "application/json":
        given = f"this is {kind_of(request)!r}" if kind_of(request) else "there is no Content-Type"
        raise Problem(
            415,
            "Unsupported media type",
            f"Send application/json, a picture as image/*, or a sound as audio/*; {given}.",
        )
    return await read_body(request, settings)


def kind_of(request: Request) -> str:
    """The media type of a request's body."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def one_picture(body: bytes, settings: Settings) -> tuple[str, list[Item]]:
    """(modality, items) of a body that is a picture's file."""
    return "image", [picture(body, 0, settings)]


def one_sound(body: bytes, settings: Settings) -> tuple[str, list[Item]]:
    """(modality, items) of a body that is a sound's file."""
    return "audio", [sound(body, 0, settings)]


def items_of(body: bytes, settings: Settings) -> tuple[str, list[Item]]:
    """(modality, items) of a JSON body."""
    items = parsed(Items, body).items
    if len(items) > settings.items:
        raise Problem(
            422,
            "Too many items",
            f"There are {len(items):,} items, and a request may have {settings.items:,}. Send several requests.",
            errors=[{"detail": f"at most {settings.items:,} items", "pointer": "#/items"}],
        )
    if isinstance(items[0], str):
        return "text", [text(str(one), i, settings) for i, one in enumerate(items)]
    return files_in([one for one in items if isinstance(one, Encoded)], settings)


def text(given: str, position: int, settings: Settings) -> Item:
    """A text that is neither empty nor too long."""
    if len(given) > settings.characters:
        raise at_item(position, f"a text may have {settings.characters:,} characters, and this has {len(given):,}")
    if not (key := given.strip()):
        raise at_item(position, "empty text")
    return Item(given, key)


def files_in(given: Sequence[Encoded], settings: Settings) -> tuple[str, list[Item]]:
    """(modality, items) of files in base64: sounds where the first one is a sound, else pictures."""
    decoded = [_decoded(one, i) for i, one in enumerate(given)]
    if not sounds(decoded[0][:16]):
        return "image", [picture(data, i, settings) for i, data in enumerate(decoded)]
    found = [sound(data, i, settings) for i, data in enumerate(decoded)]
    if (seconds := sum(one.seconds for one in found)) > settings.seconds:
        raise Problem(
            422,
            "Too much sound",
            f"The sounds last {seconds:,.0f} s, and those of a request may last {settings.seconds:,.0f} s together. "
            "Send several requests.",
        )
    return "audio", found


def _decoded(given: Encoded, position: int) -> bytes:
    """A file out of its base64."""
    try:
        return base64.b64decode(given.base64, validate=True)
    except (binascii.Error, ValueError):
        raise at_item(position, "not valid base64") from None


def sound(data: bytes, position: int, settings: Settings) -> Item:
    """A sound whose header tells a length within the limits."""
    if not data:
        raise at_item(position, "empty file")
    try:
        with opened(data) as (_, header):
            seconds = header.seconds
    except (DataError, OSError, ValueError) as error:
        raise at_item(position, str(error)) from None
    if seconds > settings.seconds:
        raise at_item(position, f"{seconds:,.0f} s, and the sounds of a request may last {settings.seconds:,.0f} s")
    return Item({"path": None, "bytes": data}, data, seconds)


def picture(data: bytes, position: int, settings: Settings) -> Item:
    """A picture whose header tells a size within the limits."""
    if not data:
        raise at_item(position, "empty file")
    size = size_of(data)
    if size is None:
        raise at_item(position, f"not a picture in one of these formats: {listed(FORMATS)}")
    if size[0] * size[1] > settings.pixels:
        raise at_item(position, f"{size[0]:,} × {size[1]:,} pixels, and a picture may have {settings.pixels:,} in all")
    return Item({"path": None, "bytes": data}, data)


def parsed(kind: type[Body], body: bytes) -> Body:
    """A JSON body as what it should be. Problem where it is not JSON (400), or not that (422)."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        raise Problem(400, "The body is not JSON", found[0]["msg"])
    told = dict.fromkeys((one["msg"], _pointer(one["loc"])) for one in found)  # once, though two kinds were tried
    errors = [{"detail": detail, "pointer": pointer} for detail, pointer in list(told)[:MOST_ERRORS]]
    raise Problem(422, "The body is not as it should be", errors[0]["detail"], errors=errors)


def _pointer(place: Sequence[int | str]) -> str:
    """A JSON pointer (RFC 6901) as a URI fragment; pydantic also names the alternative that it tried."""
    return "#/" + "/".join(str(part) for part in place if not str(part).startswith("list["))
