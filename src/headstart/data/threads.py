"""Look at many items at once: decoding and hashing let other threads run meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

CHUNK = 64  # items that a thread takes at a time
MOST_THREADS = 16
Result = TypeVar("Result")


def in_threads(
    look: Callable[[Any], Result], items: Sequence[Any], done: Callable[[int], None] = lambda n: None
) -> list[Result]:
    """What `look` makes of each item, in their order; `done` is told how many more there are."""

    def look_at(start: int) -> list[Result]:
        return [look(item) for item in items[start : start + CHUNK]]

    found: list[Result] = []
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        for chunk in pool.map(look_at, range(0, len(items), CHUNK)):
            found += chunk
            done(len(chunk))
    return found
