"""A supervised fine-tuning job at the API: upload the files, create it, follow it; begun once, gone on with ever after.

The calls are those of the `openai` package: files.create, fine_tuning.jobs.create, .retrieve, .list_events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from headstart.errors import RunError, ServiceError
from headstart.hosted.ledger import Bought, Ledger, key_of
from headstart.hosted.rules import Sending
from headstart.hosted.service import address, asking, hidden
from headstart.progress import Progress

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
GROWTH = 1.5  # of the pause, while nothing happens
PATIENCE = 10  # looks in a row that may fail in passing
ENDED = frozenset({"succeeded", "failed", "cancelled"})
WRONG = frozenset({400, 404, 422})  # statuses of a request that will never do
MARK = "headstart"  # in a job's metadata: the key of the ledger
MOST_JOBS = 500  # that are looked through for one whose name was lost


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be bought."""

    model: str
    sending: Sending
    n_epochs: int
    seed: int
    suffix: str  # in the tuned model's name

    @property
    def key(self) -> str:
        """sha256 (hex) of all that decides it, the server included."""
        decides = [address(), self.model, self.n_epochs, self.seed, self.suffix]
        return key_of({"order": decides}, [self.sending.train, self.sending.val or b""])


def tuned(client: Any, order: Order, ledger: Ledger, progress: Progress) -> Any:
    """The job (`openai.types.fine_tuning.FineTuningJob`) that succeeded, begun or gone on with.

    RunError when it failed or was cancelled, or when the wait is broken off; ServiceError when the API refuses.
    """
    name = ledger.read().job or begin(client, order, ledger, progress)
    try:
        job = follow(client, name, progress)
    except KeyboardInterrupt:
        raise RunError(
            f"The job {name} goes on at {address()} without you. Run the same command again to go on from there, "
            f"which pays for nothing twice; or stop it at the service: client.fine_tuning.jobs.cancel({name!r})."
        ) from None
    if job.status != "succeeded" or not job.fine_tuned_model:
        ledger.write(job="", creating=False, agreed=False)
        raise RunError(f"The job {name} {_end_of(job)} What was learnt from is still there as {job.training_file}.")
    return job


def _end_of(job: Any) -> str:
    """How it ended, in the API's own words where it has some."""
    if job.status == "cancelled":
        return "was cancelled. Run the same command again to begin another."
    if job.error and job.error.message:
        return hidden(f"failed: {job.error.message} ({job.error.code}).")
    return f"ended as {job.status!r} without a model, and the API does not say why."


def begin(client: Any, order: Order, ledger: Ledger, progress: Progress) -> str:
    """Upload what is not there yet, create the job, and give its name."""
    bought = ledger.read()
    if bought.creating and (name := find(client, ledger.key)):
        progress.say(f"  found the job {name}, which was begun before")
        return ledger.write(job=name, creating=False).job
    if not bought.training_file:
        bought = ledger.write(training_file=upload(client, order.sending.train, "train.jsonl"))
    if order.sending.val and not bought.validation_file:
        bought = ledger.write(validation_file=upload(client, order.sending.val, "validation.jsonl"))
    name = create(client, order, bought, ledger)
    progress.say(f"  job {name} was created")
    return name


def upload(client: Any, content: bytes, name: str) -> str:
    """The file's id."""
    with asking(f"uploading {name}"):
        return str(client.files.create(file=(name, content, "application/jsonl"), purpose="fine-tune").id)


def create(client: Any, order: Order, bought: Bought, ledger: Ledger) -> str:
    """Ask for the job once: a request that got no answer is looked for, never repeated."""
    more = {"validation_file": bought.validation_file} if bought.validation_file else {}
    supervised = {"hyperparameters": {"n_epochs": order.n_epochs}}
    ledger.write(creating=True)
    try:
        with asking("creating the job"):
            job = client.with_options(max_retries=0).fine_tuning.jobs.create(
                model=order.model,
                training_file=bought.training_file,
                method={"type": "supervised", "supervised": supervised},
                seed=order.seed,
                suffix=order.suffix,
                metadata={MARK: ledger.key},
                **more,
            )
    except ServiceError as error:
        if error.status is not None and error.status < 500:  # there is no job
            ledger.write(creating=False)
        if error.status in WRONG:  # the files may be what is wrong
            ledger.write(training_file="", validation_file="")
        raise
    return ledger.write(job=str(job.id), creating=False).job


def find(client: Any, key: str) -> str:
    """The job that bears this mark and has not come to nothing; "" where there is none."""
    with asking("looking for the job"):
        for job in islice(client.fine_tuning.jobs.list(metadata={MARK: key}), MOST_JOBS):
            if (job.metadata or {}).get(MARK) == key and job.status not in ("failed", "cancelled"):
                return str(job.id)
    return ""


def follow(client: Any, name: str, progress: Progress, wait: Callable[[float], None] | None = None) -> Any:
    """Tell what happens to the job until it has ended, and give it."""
    wait = wait or time.sleep
    last, pause, failures = "", FIRST_PAUSE_S, 0
    while True:
        try:
            job, events = look(client, name, last)
            failures = 0
        except ServiceError as error:
            failures += 1
            if not error.passing or failures > PATIENCE:
                raise
            progress.say(f"  {error} Trying again.")
            wait(pause := min(pause * GROWTH, LONGEST_PAUSE_S))
            continue
        for line in told(events):
            progress.say(f"  {line}")
        if job.status in ENDED:
            return job
        last, pause = (events[-1].id, FIRST_PAUSE_S) if events else (last, min(pause * GROWTH, LONGEST_PAUSE_S))
        wait(pause)


def look(client: Any, name: str, last: str) -> tuple[Any, list[Any]]:
    """The job, and what happened after the event `last`, in order; the job is asked first, so that no end is untold."""
    with asking(f"following the job {name}"):
        job = client.fine_tuning.jobs.retrieve(name)
        newest_first = client.fine_tuning.jobs.list_events(name, limit=100)
        return job, list(takewhile(lambda event: event.id != last, newest_first))[::-1]


def told(events: list[Any]) -> list[str]:
    """What is worth a line: every message, and of the many measurements the latest."""
    measured = [event for event in events if event.type == "metrics"]
    return [hidden(event.message) for event in events if event.type != "metrics" or event is measured[-1]]
