"""What every request passes: the token, the counters, and an answer even where the server is at fault."""

from __future__ import annotations

import logging
import time
from typing import Any

from headstart.deploy.password import CHALLENGE, knows
from headstart.deploy.serve.metrics import Metrics
from headstart.deploy.serve.problems import Problem, of_status

OPEN = {"/healthz", "/readyz"}  # need no token
log = logging.getLogger(__name__)


class Gate:
    """An ASGI middleware."""

    def __init__(self, app: Any, token: str | None, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.token = token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let a request through, and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = 0, time.perf_counter()

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._may_pass(scope):
                await self.app(scope, receive, watched)
            else:
                await _refused().response(scope["path"])(scope, receive, watched)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if status:  # half of an answer is out: all that is left is to end the connection
                raise
            await of_status(500).response(scope["path"])(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if route != "other" else "other"
            self.metrics.requests.labels(method, route, str(status or 499)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)

    def _may_pass(self, scope: Any) -> bool:
        if self.token is None or scope["path"] in OPEN:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return knows(given.decode("latin-1"), self.token)


def _refused() -> Problem:
    return Problem(
        401,
        "A token is needed",
        "Send the server's token as `Authorization: Bearer TOKEN`.",
        headers={"www-authenticate": CHALLENGE},
    )
