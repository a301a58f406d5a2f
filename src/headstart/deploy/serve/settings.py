"""What a server takes, how long it waits, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headstart.errors import PlanError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The limits of a server; each is a bound on what a stranger can make it do."""

    body_bytes: int = 10 << 20  # of one request
    items: int = 64  # in one request
    characters: int = 50_000  # of one text
    pixels: int = 50_000_000  # of one picture, by its header
    seconds: float = 600.0  # of sound in one request, by the files' headers
    steps: int = 200_000  # of all series of a request together, those without a value too
    horizon: int = 512  # steps ahead that are forecast
    tokens: int = 1024  # of an answer in a chat
    waiting: int = 1024  # items that wait for a lane; more are refused
    batch: int = 32  # items that a lane takes at a time
    wait_s: float = 0.002  # for more items to run with those that are there, while a lane is idle
    answer_s: float = 30.0  # until a request is given up
    body_s: float = 10.0  # for a body to arrive
    header_s: float = 10.0  # for the headers of a request to arrive
    idle_s: float = 30.0  # that a connection may be kept between requests
    retry_s: int = 1  # after which the client of a busy server is told to come back
    token: str | None = None  # that every request must bear, but those for health
    allowed: tuple[Path, ...] = ()  # folders that runs may be loaded from while the server runs

    def __post_init__(self) -> None:
        for name in (
            "body_bytes",
            "items",
            "characters",
            "pixels",
            "seconds",
            "steps",
            "horizon",
            "tokens",
            "waiting",
            "batch",
            "answer_s",
            "body_s",
        ):
            if getattr(self, name) <= 0:
                raise PlanError(f"{name}={getattr(self, name)}, but it must be more than 0.")
        if self.waiting < self.items:
            raise PlanError(
                f"waiting={self.waiting}, but a request may bring {self.items} items, which must all find room. "
                f"Let at least {self.items} wait, or allow fewer items a request."
            )
