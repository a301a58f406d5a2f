"""Answers on their way from the thread that writes them to whoever reads: a few at once, stopped where nobody does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from fastapi.responses import StreamingResponse

from headstart.deploy.serve.problems import Problem
from headstart.deploy.serve.series import Desk
from headstart.errors import BackboneError, DataError, HeadstartError

AT_ONCE, WAITING = 2, 8  # answers that are written; requests that wait for them
END = object()


class Streamed(StreamingResponse):
    """A talk as server-sent events; it is left, however the response ends."""

    def __init__(self, talk: Talk, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        self.talk = talk

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.talk.leave()


class Talk:
    """One answer: its pieces, and whether anyone still reads."""

    def __init__(
        self, write: Callable[[], Generator[str, None, None]], within_s: float, late: Callable[[], Problem]
    ) -> None:
        self.write, self.within_s, self.late = write, within_s, late
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.left = threading.Event()
        self.coming: Future[Any] | None = None
        self.first: Any = None

    async def begin(self, desk: Desk) -> None:
        """Wait for the first piece, which says that there is an answer. BusyError where too many wait, else Problem."""
        self.coming = desk.submit(self._work)
        try:
            self.first = await self._next()
        except BaseException:
            self.leave()
            raise

    async def pieces(self) -> AsyncIterator[str]:
        """All of them; who stops reading stops the writing. Problem where one takes too long, or cannot be written."""
        try:
            piece = self.first
            while piece is not END:
                yield piece
                piece = await self._next()
        finally:
            self.leave()

    async def text(self) -> str:
        """All of it at once."""
        return "".join([piece async for piece in self.pieces()])

    def leave(self) -> None:
        """Nobody reads any more."""
        self.left.set()
        if self.coming is not None:
            self.coming.cancel()

    async def _next(self) -> Any:
        try:
            found = await asyncio.wait_for(self.queue.get(), self.within_s)
        except TimeoutError:
            raise self.late() from None
        if isinstance(found, BackboneError | DataError):
            title = "Context length exceeded" if isinstance(found, DataError) else "Invalid request"
            raise Problem(400, title, str(found), param="messages")
        if isinstance(found, HeadstartError):  # of a service that is asked in turn
            raise Problem(503, "No answer could be had", str(found))
        if isinstance(found, BaseException):
            raise found
        return found

    def _work(self) -> None:
        try:
            pieces = self.write()
            for piece in pieces:
                if self.left.is_set():
                    pieces.close()
                    return
                self._put(piece)
            self._put(END)
        except BaseException as error:  # is raised where the answer is read
            self._put(error)

    def _put(self, what: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.queue.put_nowait, what)
