"""What a long run tells the one who waits: steps with their seconds, and how far a pass has got.

The default is silent and only keeps the times; the command line shows them (`headstart.cli`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Times each step; subclasses show it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside; the seconds add up under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @contextmanager
    def bar(self, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A bar over `total` units; the function that it yields moves it on by so many."""
        yield lambda n: None

    def say(self, text: str) -> None:
        """One line for the one who waits."""
