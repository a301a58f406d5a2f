"""The models that are served and the lanes that run them: what the routes call, and whoever is mounted beside them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from headstart.deploy.model import Model
from headstart.deploy.restore import load
from headstart.deploy.serve.batcher import Batcher, Item, Ticket
from headstart.deploy.serve.members import Answer
from headstart.deploy.serve.metrics import Metrics
from headstart.deploy.serve.series import Desk
from headstart.deploy.serve.settings import Settings
from headstart.deploy.serve.shared import Fleet
from headstart.deploy.serve.talks import AT_ONCE, WAITING
from headstart.errors import PlanError, RunError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Answers = Sequence[Mapping[str, Answer]]  # of each item: model -> answer


class Engine:
    """Predicts with several models at once. Safe to use from any thread."""

    def __init__(self, models: Mapping[str, Model], settings: Settings, n_lanes: int | None = None) -> None:
        for name, model in models.items():
            check_name(name)
            check_kind(name, model)
        self.settings, self.metrics = settings, Metrics()
        self.batcher = Batcher(settings, self.metrics, n_lanes)
        self.desk = Desk()
        self.talks = Desk("answers", AT_ONCE, WAITING)
        self.fleet = Fleet.of(models, self.batcher.n_lanes)
        self.since = int(time.time())
        self._loading = threading.Lock()

    def submit(self, fleet: Fleet, items: Sequence[Item], modality: str, names: frozenset[str]) -> Ticket:
        """Let items wait for answers by these models, which `Ticket.future` has; BusyError when there is no room."""
        ticket = Ticket(fleet=fleet, modality=modality, names=names, items=items)
        self.batcher.submit(ticket)
        return ticket

    def load(self, name: str, run: Path) -> bool:
        """Serve the model of a run under this name; whether it replaces another. It takes seconds.

        Requests in flight end on the model that they began with. RunError or BackboneError when it cannot be loaded,
        and then nothing has changed.
        """
        check_name(name)
        self.check_allowed(run)
        with self._loading:
            known = {known: one.model for known, one in self.fleet.members.items()}
            model = load(run)
            check_kind(name, model)
            fleet = Fleet.of(known | {name: model}, self.batcher.n_lanes, self.fleet)
            self.warm(fleet, name)
            self.fleet = fleet
        return name in known

    def warm(self, fleet: Fleet, name: str) -> None:
        """Predict once with a model, in a lane, before anyone waits for it."""
        member = fleet.members[name]
        if member.model.seer is not None or member.model.talker is not None:  # loaded since the fleet is
            return
        example = member.model.modality.example()
        stored = member.model.modality.store(example, None)
        ticket = Ticket(fleet=fleet, modality=member.modality, names=frozenset({name}), items=[Item(stored, "")])
        self.batcher.submit(ticket, forced=True)
        ticket.future.result()

    def check_allowed(self, run: Path) -> None:
        """RunError unless the folder lies in one that runs may be loaded from."""
        if not any(run.resolve().is_relative_to(folder.resolve()) for folder in self.settings.allowed):
            raise ForbiddenError(
                f"{run} does not lie in a folder that this server may load from. Put the run beside those that it was "
                "started with, or start it with --allow FOLDER."
            )

    def start(self) -> None:
        """Open the lanes, and predict once with each model."""
        self.batcher.start()
        for name in self.fleet.members:
            self.warm(self.fleet, name)

    def close(self) -> None:
        """Finish what was accepted, and take nothing more."""
        self.batcher.close()
        self.desk.close()
        self.talks.close()


class ForbiddenError(RunError):
    """The run lies where the server may not look."""


def check_kind(name: str, model: Model) -> None:
    """PlanError for a model of a table: requests hold texts, pictures, sounds or series."""
    if model.table is not None:
        raise PlanError(
            f"The run {name} takes {model.modality.noun[1]}, and the server takes texts, pictures, sounds and series. "
            "Use `headstart predict RUN TABLE.csv`, or headstart.load(RUN).predict(rows) in your own server."
        )


def check_name(name: str) -> None:
    """PlanError unless a model may be called so: its name is a part of a URL."""
    if not NAME.fullmatch(name):
        raise PlanError(
            f"{name!r} cannot be a model's name: take letters, digits, '-', '_' and '.', at most 64, a letter or digit "
            "first."
        )
