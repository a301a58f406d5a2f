"""Items of many requests, run together: a bounded queue, and lanes that each take what waits.

A lane that has nothing to do waits a moment for more items to come; while all lanes are busy the queue fills by
itself. Lanes are threads with a share of the cores each (`engine/lanes.py` says why).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from headstart.deploy.serve.members import Answer
from headstart.deploy.serve.metrics import Metrics
from headstart.deploy.serve.settings import Settings
from headstart.deploy.serve.shared import Fleet, Pass
from headstart.engine.allocator import keep_memory
from headstart.engine.lanes import MOST_LANES
from headstart.errors import DataError, HeadstartError

log = logging.getLogger(__name__)
MOST_SECONDS = 60.0  # of sound that a lane takes at a time; one that is longer alone


class BusyError(HeadstartError):
    """There is no room for more work now."""


class UnreadableError(DataError):
    """An item cannot be read."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"Item {position} cannot be read: {problem}.")
        self.position, self.problem = position, problem


@dataclass(frozen=True)
class Item:
    """One thing to predict for."""

    stored: Any  # as its modality stores it
    key: Hashable  # equal keys are the same item
    seconds: float = 0.0  # of a sound


@dataclass(kw_only=True, eq=False)
class Ticket:
    """The items of one request on their way."""

    fleet: Fleet
    modality: str
    names: frozenset[str]  # of the models that are asked
    items: Sequence[Item]
    future: Future[list[Mapping[str, Answer]]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.answers: list[Mapping[str, Answer]] = [{}] * len(self.items)
        self.n_left, self._lock = len(self.items), threading.Lock()

    def answer(self, position: int, answers: Mapping[str, Answer]) -> None:
        """What the models say of one item; the last one settles the request."""
        with self._lock:  # two lanes may each have some of the items
            self.answers[position] = answers
            self.n_left -= 1
        if self.n_left == 0:
            self.settle(None)

    def settle(self, error: BaseException | None) -> None:
        """Done, or failed; nothing where the request has been given up."""
        with suppress(InvalidStateError):
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(self.answers)


Waiting = tuple[Ticket, int]  # and which of its items


class Batcher:
    """Runs items in lanes. Safe to use from any thread."""

    def __init__(self, settings: Settings, metrics: Metrics, n_lanes: int | None = None) -> None:
        keep_memory()
        self.settings, self.metrics = settings, metrics
        self.n_lanes = n_lanes or min(torch.get_num_threads(), MOST_LANES)
        self.lines: dict[tuple[Fleet, str], deque[Waiting]] = {}  # what can be run together
        self.n_waiting = self.n_idle = 0
        self.closed = True  # until it is started
        self.ready = threading.Condition()
        metrics.waiting.set_function(lambda: self.n_waiting)
        self.lanes: list[threading.Thread] = []

    def start(self) -> None:
        """Open the lanes."""
        self.closed = False
        share = max(1, torch.get_num_threads() // self.n_lanes)
        self.lanes = [
            threading.Thread(target=self._work, args=(lane, share), name=f"lane-{lane}", daemon=True)
            for lane in range(self.n_lanes)
        ]
        for thread in self.lanes:
            thread.start()

    def submit(self, ticket: Ticket, forced: bool = False) -> None:
        """Let the items of a request wait for a lane; BusyError when there is no room for all, unless forced."""
        with self.ready:
            if self.closed:
                raise BusyError("The server is not started, or it is stopping.")
            if not forced and self.n_waiting + len(ticket.items) > self.settings.waiting:
                raise BusyError(f"{self.n_waiting} items wait, and {self.settings.waiting} may.")
            line = self.lines.setdefault((ticket.fleet, ticket.modality), deque())
            line.extend((ticket, position) for position in range(len(ticket.items)))
            self.n_waiting += len(ticket.items)
            self.ready.notify()

    def close(self) -> None:
        """Finish what waits, take nothing more, and end the lanes."""
        with self.ready:
            self.closed = True
            self.ready.notify_all()
        for thread in self.lanes:
            thread.join()

    def _work(self, lane: int, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        while batch := self._next():
            self.metrics.batch.observe(len(batch))
            self.metrics.items.inc(len(batch))
            _run(lane, batch)
            del batch  # it holds a fleet, which may have been replaced

    def _next(self) -> list[Waiting]:
        """What a lane runs next; nothing when the lanes end."""
        with self.ready:
            self.n_idle += 1
            try:
                while not (batch := self._taken()):
                    if self.closed and not self.lines:
                        return []
                    self.ready.wait(self._pause())
                return batch
            finally:
                self.n_idle -= 1

    def _oldest(self) -> deque[Waiting] | None:
        return min(self.lines.values(), key=lambda line: line[0][0].since, default=None)

    def _pause(self) -> float | None:
        """Seconds until the oldest items have waited for others long enough; None where there are none."""
        line = self._oldest()
        return None if line is None else max(0.0, line[0][0].since + self.settings.wait_s - time.monotonic())

    def _taken(self) -> list[Waiting]:
        """A lane's share of what may run together, the oldest first; nothing where others may still join."""
        line = self._oldest()
        if line is None or (len(line) < self.settings.batch and self._pause() and not self.closed):
            return []
        n_taken = min(self.settings.batch, math.ceil(len(line) / self.n_idle))
        batch: list[Waiting] = []
        seconds = 0.0  # of sound: what no one waits for any more is seen between batches
        while line and len(batch) < n_taken and (not batch or seconds + _seconds(line[0]) <= MOST_SECONDS):
            seconds += _seconds(line[0])
            batch.append(line.popleft())
        self.n_waiting -= len(batch)
        self.lines = {key: line for key, line in self.lines.items() if line}
        if self.lines:
            self.ready.notify()  # the other lanes, of the rest
        return [one for one in batch if not one[0].future.done()]


def _seconds(waiting: Waiting) -> float:
    ticket, position = waiting
    return ticket.items[position].seconds


def _run(lane: int, batch: Sequence[Waiting]) -> None:
    """Answer a batch; what goes wrong is told to those who wait for it."""
    try:
        _answer(lane, batch)
    except Exception as error:
        tickets = list({id(ticket): ticket for ticket, _ in batch}.values())
        if len(tickets) > 1:  # one item's fault is not that of its neighbours
            for one in tickets:
                _run(lane, [waiting for waiting in batch if waiting[0] is one])
            return
        tickets[0].settle(error)


def _answer(lane: int, batch: Sequence[Waiting]) -> None:
    together: dict[Hashable, list[Waiting]] = {}  # identical items, which run once
    for ticket, position in batch:
        together.setdefault(ticket.items[position].key, []).append((ticket, position))
    alike = list(together.values())
    asked = [frozenset[str]().union(*(ticket.names for ticket, _ in some)) for some in alike]
    stored = [some[0][0].items[some[0][1]].stored for some in alike]
    found: list[dict[str, Answer]] = [{} for _ in alike]
    problems: dict[int, str] = {}
    for one in batch[0][0].fleet.passes:
        wanted = [row for row, names in enumerate(asked) if names & one.names and row not in problems]
        opened = {row: item for row in wanted if (item := _opened(one, stored[row], row, problems)) is not None}
        rows = list(opened)
        for member, positions, scores in one.run(lane, list(opened.values()), [asked[row] for row in rows]):
            for position, answer in zip(positions, member.answers(scores), strict=True):
                found[rows[position]][member.name] = answer
    for row, some in enumerate(alike):
        for ticket, position in some:
            if row in problems:
                ticket.settle(UnreadableError(position, problems[row]))
            else:
                ticket.answer(position, found[row])


def _opened(one: Pass, stored: Any, row: int, problems: dict[int, str]) -> Any:
    """The item as the pass takes it; None where it cannot be read, and `problems` says why."""
    problem = one.examine(stored).problem if one.looks_first else None
    if problem is None:
        try:
            return one.open(stored)
        except Exception:  # decoders raise nearly anything on damaged data
            problem = one.examine(stored).problem
            if problem is None:
                raise
    problems[row] = problem
    return None
