"""Run a frozen backbone over several batches at once, each in a thread with its share of the processor's cores.

One batch on all cores waits at every operation for the slowest of them, and while items are read and resized most
have nothing to do. Batches beside each other do not wait. On two cores this took 12 to 16 % off a pass (docs/log.md).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from headstart.backbones.base import Backbone

MOST_LANES = 4  # Python runs one thread at a time between operations
Task = TypeVar("Task")
Result = TypeVar("Result")


def in_lanes(backbone: Backbone, work: Callable[[Backbone, Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """What `work` makes of each task, in their order. It must not depend on what other tasks do.

    Each lane has a backbone of its own with the same tensors. No more is kept waiting than one result a lane.
    """
    n_threads = torch.get_num_threads()
    n_lanes = min(n_threads, MOST_LANES, len(tasks))
    if n_lanes < 2:
        yield from (work(backbone, task) for task in tasks)
        return
    own = threading.local()

    def begin() -> None:
        torch.set_num_threads(n_threads // n_lanes)
        own.backbone = backbone.beside()

    pending: deque[Future[Result]] = deque()
    lanes = ThreadPoolExecutor(n_lanes, "lane", begin)
    try:
        for task in tasks:
            if len(pending) > n_lanes:
                yield pending.popleft().result()
            pending.append(lanes.submit(lambda task: work(own.backbone, task), task))
        while pending:
            yield pending.popleft().result()
    finally:
        lanes.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)  # MKL's is one for all threads
