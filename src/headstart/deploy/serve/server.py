"""The process: sockets, signals, and connections that say nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headstart.deploy.app import mount
from headstart.deploy.model import Model
from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.problems import MEDIA_TYPE, Problem
from headstart.deploy.serve.settings import Settings
from headstart.errors import PlanError, listed

HEADER_BYTES = 64 << 10
BACKLOG = 2048  # connections that the system holds until they are accepted


def serve(
    models: Mapping[str, Model],
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    access_log: bool = False,
    page: bool = False,
) -> None:
    """Serve the models until SIGTERM or SIGINT, then finish what was accepted and return.

    With `page`, people find the page of `headstart app` at /app.

    PlanError for an address beyond this machine without a token, and for one that is taken.
    """
    check_token(host, settings.token)
    allow_many_connections()
    listening = _listening(host, port)
    app = create_app(models, settings)
    config = uvicorn.Config(
        mount(app, models, "/app") if page else app,
        http=_protocol(settings),
        ws="none",
        log_level="info" if access_log else "warning",
        access_log=access_log,
        timeout_keep_alive=int(settings.idle_s),
        timeout_graceful_shutdown=int(settings.answer_s + settings.body_s),
        backlog=BACKLOG,
        server_header=False,
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    server = _Server(config)
    server.said = (
        f"Serving {listed(models)} at {address}: POST /models/NAME/predict (of series /forecast), POST "
        f"/predict, /v1/chat/completions, GET /models, /docs, /metrics"
        f"{', /app' if page else ''}"
    )
    server.run([listening])


def check_token(host: str, token: str | None) -> None:
    """PlanError where others than this machine could reach a server that asks for no token."""
    if token is None and not _is_loopback(host):
        raise PlanError(
            f"--host {host} lets other machines in, and no token is set. Set one with HEADSTART_TOKEN=SECRET, or serve "
            "this machine alone with --host 127.0.0.1."
        )


def allow_many_connections() -> None:
    """As many open files as the system lets this process have: each connection is one."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise PlanError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}. Choose another --port, or --host."
        ) from error


class _Server(uvicorn.Server):
    """Says when it is ready, and ends a stop that was asked for with exit code 0."""

    said: str

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the doors."""
        await super().startup(sockets)
        if self.started:
            print(self.said, flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Both signals ask for a clean stop; uvicorn itself would raise them again after it."""
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Uvicorn's HTTP/1.1, which ends connections whose headers are slow (slowloris) or endless."""

    class Protocol(HttpToolsProtocol):
        timer: asyncio.TimerHandle | None = None
        n_header_bytes = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._have_headers()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._await_headers()

        def on_headers_complete(self) -> None:
            self._have_headers()
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.timer is not None:
                self.n_header_bytes += len(data)
                if self.n_header_bytes > HEADER_BYTES:
                    self.transport.close()

        def send_400_response(self, msg: str) -> None:
            body = Problem(400, "Bad Request", msg).body("/")
            head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
            self.transport.close()

        def _await_headers(self) -> None:
            self._have_headers()
            self.n_header_bytes = 0
            self.timer = self.loop.call_later(settings.header_s, self.transport.close)

        def _have_headers(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return Protocol


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the operator must know: that a stranger sent nonsense is told to the stranger."""
    return not str(record.msg).startswith(("Invalid HTTP request", "Unsupported upgrade request"))
