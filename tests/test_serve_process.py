"""The server as a process of its own: its one line, its clean stop, and connections that mean no good."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests import serving

LIMITS = ("--header-within", "0.5", "--body-within", "0.5", "--max-body", "200000")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    bert = serving.backbone("bert", folder / "models")
    serving.model(bert).save(folder / "runs" / "first run")
    serving.model(bert, changed=2, seed=1).save(folder / "runs" / "second")
    return folder / "runs"


class Server:
    """A process that serves both runs."""

    def __init__(self, runs: Path) -> None:
        command = [sys.executable, "-m", "headstart.cli", "serve", str(runs / "first run"), f"two={runs / 'second'}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, "--port", "0", *LIMITS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.line)
        assert found, self.line + self.process.communicate()[1]
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def stop(self) -> tuple[int, str]:
        """Exit code, and what stands on standard error."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Server]:
    made = Server(runs)
    yield made
    code, errors = made.stop()
    assert (code, errors) == (0, "")


def received(connection: socket.socket) -> bytes:
    """All until the server ends the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_it_says_where_it_is_and_what_it_serves(server: Server) -> None:
    assert "first-run, two" in server.line
    assert [one["name"] for one in httpx.get(f"{server.url}/models").json()["models"]] == ["first-run", "two"]
    answer = httpx.post(f"{server.url}/predict", json={"items": ["a cat"]}).json()
    assert set(answer["models"]) == {"first-run", "two"}


def test_slow_headers_end_the_connection(server: Server) -> None:
    with server.connect() as silent, server.connect() as slow, server.connect() as second:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n")
        second.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        while b"ok" not in second.recv(65536):
            pass
        second.sendall(b"GET /hea")  # the second request of a connection that is kept
        assert received(silent) == received(slow) == received(second) == b""


def test_endless_headers_end_the_connection(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        line = b"a: " + b"b" * 4096 + b"\r\n"
        with suppress(OSError):  # it is cut while we write
            for _ in range(1000):
                connection.sendall(line)
        with suppress(OSError):
            assert received(connection) == b""


def test_a_slow_body_is_a_408(server: Server) -> None:
    with server.connect() as connection:
        head = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
        connection.sendall(head + b'{"items":')
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer


def test_a_large_body_is_refused_before_it_is_sent(server: Server) -> None:
    with server.connect() as connection:
        head = (
            b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 999999999\r\n\r\n"
        )
        connection.sendall(head)
        assert received(connection).startswith(b"HTTP/1.1 413 ")


def test_what_is_not_http_is_told_so(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_idle_connections_do_not_stop_the_service(server: Server) -> None:
    idle = [server.connect() for _ in range(1000)]
    try:
        answer = httpx.post(f"{server.url}/models/two/predict", json={"items": ["a cat"]}, timeout=60)
        assert answer.status_code == 200
    finally:
        for one in idle:
            one.close()


def test_a_client_that_goes_away_disturbs_no_one(server: Server) -> None:
    body = json.dumps({"items": serving.texts(60)}).encode()
    head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(head.encode() + body)
    assert httpx.post(f"{server.url}/predict", json={"items": ["a cat"]}, timeout=60).status_code == 200


def test_a_stop_finishes_what_was_accepted(runs: Path) -> None:
    server = Server(runs)
    began, stopping = threading.Semaphore(0), threading.Event()

    def ask() -> list[int]:
        found = []
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not stopping.is_set():
                found.append(client.post("/predict", json={"items": serving.texts(20)}).status_code)
                began.release()
                time.sleep(0)
        return found

    def ask_while_it_stops() -> int | None:
        """The status of a request that was sent before the signal."""
        with server.connect() as connection:
            body = json.dumps({"items": serving.texts(60)}).encode()
            head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            connection.sendall(head.encode() + b"\r\n\r\n" + body[:-1])
            connection.sendall(body[-1:])
            stopping.wait(60)
            return int(received(connection).split()[1])

    with ThreadPoolExecutor(8) as pool:
        loops = [pool.submit(ask) for _ in range(3)]
        for _ in range(3):
            assert began.acquire(timeout=60)
        stopping.set()
        assert {status for loop in loops for status in loop.result(60)} == {200}
        stopping.clear()
        asked = [pool.submit(ask_while_it_stops) for _ in range(5)]
        text = ""
        while "headstart_batch_items_count" not in text:
            text = httpx.get(f"{server.url}/metrics").text
        code = server.stop()
        stopping.set()
        assert [one.result(60) for one in asked] == [200] * 5
    assert code == (0, "")
