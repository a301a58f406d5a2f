"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Response

MEDIA_TYPE = "application/problem+json"
OPENAI = "/v1/"  # paths below it tell errors as OpenAI's service does


class Problem(Exception):  # noqa: N818  (the standard's word)
    """What went wrong with a request: `title` is the same for each of its kind, `detail` is about this one."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.param = param  # the field of a form that is wrong
        self.status, self.title, self.detail, self.errors = status, title, detail, errors
        self.headers = dict(headers or {})

    def body(self, path: str) -> bytes:
        """The problem with the path that it happened at."""
        if path.startswith(OPENAI):
            return json.dumps(self._as_openai(), ensure_ascii=False).encode("utf-8", errors="replace")
        said: dict[str, Any] = {"type": "about:blank", "title": self.title, "status": self.status}
        said |= {"detail": self.detail or self.title, "instance": path}
        if self.errors:
            said["errors"] = list(self.errors)
        return json.dumps(said, ensure_ascii=False).encode("utf-8", errors="replace")

    def response(self, path: str) -> Response:
        """As the server sends it."""
        kind = "application/json" if path.startswith(OPENAI) else MEDIA_TYPE
        return Response(self.body(path), self.status, self.headers, kind)

    def _as_openai(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        code = self.title.lower().replace(" ", "_")
        return {"error": {"message": self.detail or self.title, "type": kind, "param": self.param, "code": code}}


def of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """A problem about which no more is known than its HTTP status."""
    phrase = HTTPStatus(status)
    return Problem(status, phrase.phrase, f"{phrase.description or phrase.phrase}.", headers=headers)


def at_item(position: int, detail: str) -> Problem:
    """The request cannot be answered for the sake of one item."""
    error = {"detail": detail, "pointer": f"#/items/{position}"}
    return Problem(422, "An item cannot be used", f"Item {position}: {detail}.", errors=[error])
