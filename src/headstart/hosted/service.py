"""The way to the API, through the `openai` package: key and address come from the environment and are kept nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from headstart import places
from headstart.errors import MissingExtraError, PlanError, ServiceError

KEY, ADDRESS = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
RETRIES = 4  # by the client, with growing pauses, of what the service was too busy for
AGAIN = "Nothing is lost: run the same command again, and it goes on from here."


def address() -> str:
    """Where the API is: `$OPENAI_BASE_URL`, else OpenAI's own; without a name and password that stand in it."""
    parts = urlsplit(os.environ.get(ADDRESS) or OPENAI)
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def library() -> Any:
    """The `openai` package; MissingExtraError when it is not installed."""
    try:
        import openai
    except ImportError:
        raise MissingExtraError("openai", "hosted") from None
    return openai


def connect() -> Any:
    """An `openai.OpenAI` client. PlanError when nothing may reach the network, or no key is set."""
    if places.offline():
        raise PlanError(
            "A hosted model is asked over the network, and HEADSTART_OFFLINE or HF_HUB_OFFLINE is set. Unset it, or "
            "take a backbone that runs here, such as smollm2-135m."
        )
    openai = library()
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise PlanError(f"There is no key for {address()}. Set the environment variable {KEY}; it is kept nowhere.")
    return openai.OpenAI(api_key=key, max_retries=RETRIES)


@contextmanager
def asking(doing: str) -> Iterator[None]:
    """Turn what the API refuses while `doing` ("uploading the conversations") into a ServiceError that says what to do.

    No traceback is chained to it: that would show headers.
    """
    openai = library()
    try:
        yield
    except openai.OpenAIError as error:
        status = getattr(error, "status_code", None)
        raise ServiceError(hidden(_explained(error, doing)), passing=_passing(error), status=status) from None


def hidden(text: str) -> str:
    """The text without the key, should the server have repeated it."""
    key = os.environ.get(KEY, "").strip()
    return text.replace(key, "…") if key else text


def _passing(error: Exception) -> bool:
    """Whether the same request may succeed later: no connection, a busy or a broken server."""
    openai = library()
    if isinstance(error, openai.RateLimitError):
        return error.code != "insufficient_quota"
    return isinstance(error, openai.APIConnectionError | openai.InternalServerError)


def _explained(error: Any, doing: str) -> str:
    """What happened, as the server says it, and what to do."""
    openai, where = library(), address()
    said = _said(error)
    if isinstance(error, openai.AuthenticationError):
        return f"{where} refused the key in {KEY} while {doing}: {said} Set a key that is valid there. {AGAIN}"
    if isinstance(error, openai.PermissionDeniedError):
        return f"The key in {KEY} has no right to this while {doing}: {said} Ask the account's owner for it. {AGAIN}"
    if isinstance(error, openai.NotFoundError):
        return (
            f"{where} does not know what was asked for while {doing}: {said} Check the model's name, that this account "
            f"may use it, and that {ADDRESS} is the server that it belongs to."
        )
    if isinstance(error, openai.RateLimitError) and not _passing(error):
        return f"The account at {where} has no credit left while {doing}: {said} Add some. {AGAIN}"
    if isinstance(error, openai.RateLimitError):
        return f"{where} is asked too often while {doing}: {said} Wait a minute. {AGAIN}"
    if isinstance(error, openai.APIConnectionError):
        return f"{where} cannot be reached while {doing}: {said} Check the network and {ADDRESS}. {AGAIN}"
    if isinstance(error, openai.InternalServerError):
        return f"{where} failed while {doing}: {said} Try again later. {AGAIN}"
    return f"{where} refused while {doing}: {said}"


def _said(error: Any) -> str:
    """The server's own words, as a sentence."""
    body = getattr(error, "body", None)
    words = body.get("message") if isinstance(body, dict) else None
    text = " ".join(str(words or error).split())
    return text if text.endswith((".", "!", "?")) else f"{text}."
