"""The workspace behind the page: what was uploaded, how it is understood, its fit, and the model that came of it.

One workspace for all who have the page open: it holds one upload and does one fit at a time.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from headstart import transfer
from headstart.data.archive import unpack
from headstart.data.dataset import Dataset
from headstart.data.describe import describe
from headstart.data.read import columns_to_choose
from headstart.deploy import artifact, examples
from headstart.deploy.bundle import bundle
from headstart.deploy.model import Model
from headstart.errors import DataError, HeadstartError, PlanError
from headstart.problem import Problem, pose, read
from headstart.progress import Progress


class Stopped(Exception):  # noqa: N818  (a signal, not an error)
    """Ends a fit whose owner does not want it any more."""


class Watched(Progress):
    """Keeps what a fit says for those who look, and ends the fit where it next speaks once `stop` was called."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.doing = "read"
        self.share: float | None = None  # of the bar that is under way
        self.started = time.monotonic()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the fit where it next speaks."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping.is_set()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time it."""
        self._check()
        self.doing = name
        with super().step(name):
            yield

    @contextmanager
    def bar(self, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Keep how far it got."""
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            self._check()
            done += n
            self.share = min(1.0, done / max(1, total))

        self.share = 0.0
        yield advance
        self.share = None

    def say(self, text: str) -> None:
        """Keep one line."""
        self._check()
        self.lines.append(text)

    def _check(self) -> None:
        if self.stopping:
            raise Stopped


@dataclass(frozen=True, kw_only=True)
class Understood:
    """What the reader and the audit make of an upload."""

    name: str  # of the file that was dropped
    path: Path
    columns: list[str] = field(default_factory=list)  # to choose from; none where the layout says what is what
    input: str | None = None  # the column that was chosen, by the user or by the reader
    label: str | None = None
    dataset: Dataset | None = None
    problem: Problem | None = None
    trouble: str = ""  # why it cannot be fitted

    @property
    def line(self) -> str:
        """The reader's description, without where the upload lies."""
        assert self.dataset is not None, "nothing was read"
        return describe(replace(self.dataset, source=self.name))


def understand(path: Path, name: str, input: str | None = None, label: str | None = None) -> Understood:
    """Read and audit a folder or a table; what is wrong with it is told, not raised."""
    seen = Understood(name=name, path=path, input=input, label=label)
    try:
        seen = replace(seen, columns=columns_to_choose(path))
        dataset = read(path, input=input, label=label)
        seen = replace(seen, dataset=dataset, input=dataset.input_name)
        if dataset.task is None:
            raise DataError("There is nothing to learn yet: " + _no_label(seen.columns))
        return replace(seen, label=dataset.label_name, problem=pose(dataset, 0, Progress()))
    except HeadstartError as error:
        return replace(seen, trouble=without_options(str(error)).replace(f"{path.parent}/", ""))


def without_options(text: str) -> str:
    """A message without the sentences that name an option of the command line, which this page has not."""
    return re.sub(r"(^|[.;:])[^.;:]*\s--[a-z][^.;]*", "", text).strip()


def _no_label(columns: list[str]) -> str:
    if columns:
        return "choose the column that is to be predicted."
    return "put the files of each class into a folder of its own, and pack those folders."


class Fit(threading.Thread):
    """One fit, in a thread of its own: `done` gets the saved model, or `trouble` says why there is none."""

    def __init__(self, dataset: Dataset, runs: Path, done: Callable[[Model], None]) -> None:
        super().__init__(name="fit", daemon=True)
        self.dataset, self.runs, self.done = dataset, runs, done
        self.progress = Watched()
        self.trouble = ""

    def stop(self) -> None:
        """End it as Ctrl-C would; should something swallow that, it ends where the fit next speaks."""
        if self.ident is not None and not self.progress.stopping:
            self.progress.stop()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(Stopped))

    def run(self) -> None:
        """Fit and save; nothing is raised."""
        try:
            model = transfer.fit(self.dataset, progress=self.progress)
            _with_its_pictures(model).save(artifact.free_folder(self.runs, self.dataset.name))
            self.done(model)
        except Stopped:
            self.trouble = "Stopped. What was computed is kept: the next fit on these data goes on from there."
        except HeadstartError as error:
            self.trouble = without_options(str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self.trouble = f"Something unexpected happened ({type(error).__name__}: {error}). The terminal says more."


def _with_its_pictures(model: Model) -> Model:
    """The model with small copies of its examples: the upload will not be there when they are to be shown."""
    kept = model.examples
    if kept is not None:
        model.files[examples.FILE] = kept.shrunk(model.modality).to_bytes()
    return model


class Studio:
    """The workspace: an upload, a fit, a model. Uploads are unpacked in `folder`, runs are written in `runs`."""

    def __init__(self, folder: Path, runs: Path) -> None:
        self.folder, self.runs = folder, runs
        self.understood: Understood | None = None
        self.fit: Fit | None = None
        self.models: dict[str, Model] = {}  # run name -> the model that can be tried, looked at and taken home
        self._lock = threading.Lock()
        self._n_uploads = 0

    def take(self, upload: Path) -> None:
        """Look at a file that was dropped: a zip, or a table."""
        with self._lock:
            self._refuse_while_fitting()
            self._forget()
            self._n_uploads += 1
            shutil.rmtree(self.folder / f"upload-{self._n_uploads - 1}", ignore_errors=True)
            self.understood = self._looked_at(upload, self.folder / f"upload-{self._n_uploads}")

    def clear(self) -> None:
        """An empty slate."""
        with self._lock:
            self._refuse_while_fitting()
            self._forget()
            self.understood = None

    def choose(self, input: str | None, label: str | None) -> None:
        """Look at the same file again, with other columns."""
        with self._lock:
            self._refuse_while_fitting()
            self._forget()
            if self.understood is not None:
                self.understood = understand(self.understood.path, self.understood.name, input or None, label or None)

    def start(self) -> None:
        """Fit what was understood. PlanError when there is nothing to fit, or a fit is under way."""
        with self._lock:
            self._refuse_while_fitting()
            if self.understood is None or self.understood.dataset is None or self.understood.trouble:
                raise PlanError("There is nothing to fit yet: drop a .zip of class folders, or a table.")
            # not the path: uploads are removed in the end, so that no command could make the run again from there
            dataset = replace(self.understood.dataset, source=f"{self.understood.name}, uploaded, in memory")
            self._forget()
            self.fit = Fit(dataset, self.runs, self._keep)
            self.fit.start()

    def stop(self) -> None:
        """End the fit that is under way, if there is one."""
        if self.fit is not None and self.fitting:
            self.fit.stop()

    @property
    def fitting(self) -> bool:
        """Whether a fit is under way."""
        return self.fit is not None and self.fit.is_alive()

    @property
    def model(self) -> Model | None:
        """What the last fit made, once it is done."""
        return next(iter(self.models.values()), None)

    def bundle(self, name: str) -> Path:
        """A zip of a run of this studio, to take home. KeyError when there is none of that name."""
        with self._lock:
            model, packed = self.models[name], self.folder / f"{name}.zip"
            return packed if packed.exists() else bundle(model, packed)

    def _keep(self, model: Model) -> None:
        assert model.run is not None, "it was saved"
        self.models[model.run.name] = model

    def _forget(self) -> None:
        """What an earlier fit left on the page; its run stays on the disk."""
        self.fit = None
        self.models.clear()

    def _looked_at(self, upload: Path, folder: Path) -> Understood:
        if upload.suffix.lower() != ".zip":
            return understand(upload, upload.name)
        try:
            return understand(unpack(upload, folder / upload.stem), upload.name)
        except DataError as error:
            return Understood(name=upload.name, path=upload, trouble=str(error))

    def _refuse_while_fitting(self) -> None:
        if self.fitting:
            raise PlanError("A fit is under way: wait for it, or stop it first.")
