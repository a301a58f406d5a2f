"""A client that keeps many connections busy, in a process of its own; it must never be what is slow.

    python -m benchmarks.load PORT PATH BODIES SECONDS CLIENTS [CONTENT-TYPE]

BODIES is a file of JSON: a list of request bodies in base64. Prints latencies, rate and statuses as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

WARM_S = 3.0  # requests that begin in this time are not counted


async def client(
    port: int, requests: list[bytes], start: int, until: float, told: list[tuple[float, float, int]]
) -> None:
    """One connection that asks again as soon as it is answered; (began, seconds, status) of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = start
    while (began := time.perf_counter()) < until:
        writer.write(requests[number % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        at = lower.index(b"content-length: ") + 16
        await reader.readexactly(int(lower[at : lower.index(b"\r", at)]))
        told.append((began, time.perf_counter() - began, int(head[9:12])))
        number += 1
    writer.close()


async def load(port: int, requests: list[bytes], seconds: float, n_clients: int) -> dict[str, object]:
    """What n clients see in so many seconds."""
    told: list[tuple[float, float, int]] = []
    first = time.perf_counter() + WARM_S
    share = max(1, len(requests) // n_clients)
    await asyncio.gather(*(client(port, requests, i * share, first + seconds, told) for i in range(n_clients)))
    counted = [(took, status) for began, took, status in told if began >= first]
    good = np.array([took for took, status in counted if status == 200]) * 1000
    return {
        "clients": n_clients,
        "seconds": seconds,
        "per_s": len(good) / seconds,
        "ms": {f"p{p}": float(np.percentile(good, p)) for p in (50, 95, 99)} if len(good) else {},
        "statuses": {str(status): n for status, n in sorted(Counter(status for _, status in counted).items())},
    }


def main() -> None:
    """From the command line's words to JSON."""
    port, path, bodies, seconds, n_clients, *kind = sys.argv[1:]
    content_type = kind[0] if kind else "application/json"
    requests = []
    for body in map(base64.b64decode, json.loads(Path(bodies).read_text())):
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}"
        requests.append(head.encode() + b"\r\n\r\n" + body)
    print(json.dumps(asyncio.run(load(int(port), requests, float(seconds), int(n_clients)))))


if __name__ == "__main__":
    main()
