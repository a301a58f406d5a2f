"""An adapted model: a backbone by reference and what was learnt on top of it, or a table's model; and the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart import registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone, Provenance
from headstart.backbones.changes import Changes
from headstart.data.dataset import Dataset
from headstart.data.prompts import conversations
from headstart.data.read import Reading, read
from headstart.data.threads import in_threads
from headstart.deploy import artifact, examples, forecasts, saved, talk
from headstart.deploy.ahead import Ahead, ahead
from headstart.deploy.evaluation import Evaluation, held_out
from headstart.deploy.examples import Examples
from headstart.deploy.forecasts import Seer
from headstart.engine import freeze
from headstart.engine.decoder import AdaptedDecoder
from headstart.engine.detector import Detector, detect, sized
from headstart.engine.recognizer import Recognizer
from headstart.engine.recordings import Ear, hear
from headstart.engine.talker import Talker
from headstart.engine.voice import Sampling
from headstart.engine.ways import in_float32, light, run_as
from headstart.errors import BackboneError, DataError, PlanError, RunError
from headstart.evidence.base import Evidence
from headstart.evidence.baselines import Classical
from headstart.evidence.intervals import score
from headstart.evidence.plan import Plan
from headstart.evidence.weigh import Scales
from headstart.hosted.voice import AnyVoice, HostedTalker
from headstart.modalities.base import Examined, Modality
from headstart.modalities.tabular import rows_of
from headstart.progress import Progress
from headstart.tables.mixture import TableModel
from headstart.tasks.base import LinearHead, LinearTask, Task, one_each


@dataclass
class Model:
    """What `headstart.fit` and `headstart.load` return."""

    task: Task
    modality: Modality
    plan: Plan
    evidence: Evidence
    head: LinearHead | None = None  # None for a table's model
    provenance: Provenance | None = None  # of the backbone; None where there is none
    fingerprint: str = ""  # of the backbone: weights, preprocessing, stages
    stages: tuple[int, ...] = ()  # whose pooled features the head reads
    changes: Changes | None = None  # what training changed in the backbone
    classical: Classical | None = None  # the classical model, where that is what the run ships
    table: TableModel | None = None  # what predicts from the rows of a plain table
    detector: Detector | None = None  # what finds boxes in the maps of the backbone
    seer: Seer | None = None  # what forecasts series
    recognizer: Recognizer | AdaptedDecoder | None = None  # what hears words in the frames of the backbone
    talker: Talker | HostedTalker | None = None  # what answers conversations
    columns: dict[str, str] = field(default_factory=dict)  # option -> column that the data were read with
    seen: frozenset[str] = field(default=frozenset(), repr=False)  # digests of what it was fitted on
    files: dict[str, bytes] = field(default_factory=dict, repr=False)  # the run folder's other files
    run: Path | None = None  # where it is saved, None when it is not
    moved_to: str | None = None  # where the backbone is found now, when not under its old name
    _pretrained: Backbone | None = field(default=None, repr=False)
    _backbone: Backbone | None = field(default=None, repr=False)
    _network: Any = field(default=None, repr=False)  # of the detector, recogniser or chatbot

    def __repr__(self) -> str:
        """One line."""
        on = self.provenance.name if self.provenance else self.modality.noun[1]
        return f"<Model on {on}, {self.plan.reason}: {self.evidence.verdict}>"

    @property
    def origin(self) -> Provenance:
        """Where the backbone comes from. PlanError for a model of plain tables, which stands on none."""
        if self.provenance is None:
            raise PlanError(
                f"This model takes {self.modality.noun[1]} and stands on no pretrained network, which this needs. "
                "Use predict, evaluate, report or bundle."
            )
        return self.provenance

    @property
    def linear(self) -> LinearHead:
        """The head. PlanError for a model of plain tables, and for one that finds boxes or hears words."""
        if self.own is not None:
            raise PlanError(f"This works for labels and numbers, and this model gives {self.task.title}.")
        if self.head is None:
            raise PlanError(f"This model takes {self.modality.noun[1]} and has no head on a pretrained network.")
        return self.head

    @property
    def linear_task(self) -> LinearTask:
        """The task, whose scores are numbers (N, K). PlanError where they are objects: boxes."""
        if not isinstance(self.task, LinearTask):
            raise PlanError(f"This works for labels and numbers, and this model gives {self.task.title}.")
        return self.task

    @property
    def own(self) -> Detector | Recognizer | AdaptedDecoder | Seer | Talker | HostedTalker | None:
        """The head where it cannot be solved, None where it is linear."""
        return self.detector or self.recognizer or self.seer or self.talker

    @property
    def direct(self) -> Classical | TableModel | None:
        """What predicts without a backbone, from items as `Modality.classical_item` gives them; None where one is."""
        return self.classical or self.table

    @property
    def backbone(self) -> Backbone:
        """The network with what training changed, loaded on first use. RunError when it is not the one adapted."""
        if self._backbone is None:
            found = self.load_pretrained()
            changes = self.own.changes if self.own is not None else self.changes
            if self.detector is not None and self.detector.levels is None:  # it brings its own head
                self._backbone = found if changes is None else found.adapted(changes)
            elif changes is not None:  # small changes would be lost in bfloat16
                self._backbone = run_as(found.adapted(changes), in_float32(self.plan.way))
            else:
                self._backbone = run_as(found, light(self.plan.way))
        return self._backbone

    @property
    def pretrained(self) -> Backbone:
        """The network as it was before training, loaded on first use. RunError when it is not the one adapted."""
        if self._pretrained is None:
            self._pretrained = self._load()
        return self._pretrained

    @property
    def examples(self) -> Examples | None:
        """Some of the train and val examples; None for a run that kept none."""
        kept = self.files.get(examples.FILE)
        return None if kept is None else examples.read(kept)

    def load_pretrained(self) -> Backbone:
        """That network for a moment: it is not kept here."""
        return self._pretrained or self._load()

    def _load(self) -> Backbone:
        origin = self.origin
        if isinstance(self.talker, HostedTalker):
            raise PlanError(
                f"{origin.name} is run by others, and its weights are not here. Use chat, predict or serve."
            )
        bundled = self.run / catalog.BUNDLED if self.run else None
        try:
            if bundled and bundled.is_dir() and self.moved_to is None:
                found = catalog.load_copy(bundled)
            else:
                found = catalog.load(self.moved_to or origin.name, Progress())
        except BackboneError as error:
            raise BackboneError(
                f"This model stands on the backbone {origin.name!r} (sha256 "
                f"{origin.sha256[:12]}…), which cannot be loaded. {error} "
                "If it has moved, say where it is now with --backbone (in Python: headstart.load(run, backbone=…))."
            ) from error
        if self.plan.canvas is not None:
            found = found.at(self.plan.canvas)
        if found.fingerprint != self.fingerprint:
            raise RunError(
                f"This model was fitted on {origin.name} with weights {origin.sha256[:12]}…, but "
                f"the one found here has {found.provenance.sha256[:12]}… (or another preprocessing), so "
                "its answers would be wrong. Bring back the original backbone, or fit again."
            )
        return found

    def predict(self, items: Any) -> list[Any]:
        """A class name, a list of class names, a number or a transcript for each item (a text, file name, row …).

        A detector gives a list of boxes in pixels, those that are sure enough for their class, the surest first. A run
        that forecasts takes series (anything that `read_panel` takes) and gives a data frame, a row a step ahead. A
        chatbot takes prompts or conversations (lists of messages) and gives the likeliest answers.
        """
        if self.seer is not None:
            return self.forecast(items)
        if self.talker is not None:
            return self.answer(items)
        return self.task.decode(self.shown(self.predict_proba(items)))

    def answer(self, prompts: Any, how: Sampling | None = None, progress: Progress | None = None) -> list[str]:
        """What a chatbot answers to each prompt or conversation (`data.prompts.conversations`), drawn as `how` says."""
        asked = conversations(prompts)
        return self.voice().answers(asked, how or Sampling(), progress)

    def voice(self) -> AnyVoice:
        """The chatbot, ready to talk; its backbone is loaded on first use. PlanError for any other run."""
        if self.talker is None:
            raise PlanError(f"This run gives {self.task.title}, and does not chat. Use model.predict(items).")
        if self._network is None:
            if isinstance(self.talker, HostedTalker):
                self._network = self.talker.network()
            else:
                self._network = self.talker.network(self.load_pretrained())
        voice: AnyVoice = self._network
        return voice

    def forecast(self, data: Any = None, horizon: int | None = None, progress: Progress | None = None) -> Any:
        """Forecasts of the steps after the last one of `data` as a data frame; without `data`, of what it learnt from.

        Columns are the series, the time, the median, and the ends of the 80 % and 95 % bands. `horizon` is as many
        steps as the run was fitted for; more are forecast, but no test measured them. Errors as in
        `deploy.ahead.ahead`.
        """
        return self.ahead(data, horizon, progress).table()

    def ahead(self, data: Any = None, horizon: int | None = None, progress: Progress | None = None) -> Ahead:
        """Like `forecast`, with all quantiles as an array and the panel that they follow on."""
        if self.seer is None:
            raise PlanError(f"This run gives {self.task.title}, not forecasts. Use model.predict(items).")
        panel = forecasts.history(self) if data is None else forecasts.read(self, data)
        return ahead(self, panel, horizon, progress)

    def shown(self, scores: np.ndarray) -> np.ndarray:
        """The scores that answers are made of: of a detector, what is sure enough; else all."""
        return scores if self.detector is None else one_each([self.detector.shown(one) for one in scores])

    def predict_proba(self, items: Any) -> np.ndarray:
        """Calibrated probabilities (N, K) in the order of `task.score_names`; for a number (N, 1), the number itself.

        A detector gives (N,) `Detections`, all that it found, with calibrated confidence; a recogniser (N,) `Heard`,
        words with their times. `items` is a list of N items,
        or one item; for a table's model also a data frame. DataError names the items that cannot be read.
        """
        if self.seer is not None:
            raise PlanError("A run that forecasts gives quantiles, not probabilities: use model.forecast(data).")
        if self.talker is not None:
            raise PlanError("A chatbot gives answers, not probabilities: use model.answer(prompts) or model.evaluate.")
        each = as_items(items) if self.table is None else rows_of(items)
        stored = [self.modality.store(item, None) for item in each]
        examined = [self.examine(item) for item in stored]
        problems = [(i, one.problem) for i, one in enumerate(examined) if one.problem]
        if problems:
            first, why = problems[0]
            raise DataError(
                f"{len(problems)} of {len(stored)} items cannot be read; the first is number {first}: {why}"
            )
        return self.scores(stored, [one.digest for one in examined])

    def examine(self, item: Any) -> Examined:
        """A look at a stored item; a recogniser takes longer recordings than those that it learnt from."""
        if self.recognizer is not None:
            found: Examined = registry.modality("audio").examine(item, longest_s=None)
            return found
        return self.modality.examine(item)

    def scores(self, stored: Sequence[Any], digests: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Like `predict_proba`, for items as the modality stores them, which were examined and have these digests."""
        bar = (progress or Progress()).bar
        if self.detector is not None:
            return self._found(self.detector, stored, bar)
        if self.recognizer is not None:
            return self._heard(self.recognizer, stored, bar)
        if self.talker is not None:
            return talk.said(self.voice(), stored, progress)
        if not stored:
            return np.empty((0, len(self.task.score_names) or 1), dtype=np.float32)
        if self.direct is not None:
            return self.direct.scores(self.linear_task, in_threads(self.modality.classical_item, stored))
        features = freeze.embed(self.backbone, self.modality, stored, digests, self.stages, bar)
        return self.linear_task.scores(self.linear.logits(features), self.plan.temperature)

    def _found(self, detector: Detector, stored: Sequence[Any], bar: freeze.Bar) -> np.ndarray:
        """What the detector finds in stored pictures."""
        sizes = [registry.modality("image").size(item) for item in stored]
        if detector.classical is not None:
            found = detector.classical.found(self.modality, stored, sizes)
        else:
            if self._network is None:
                self._network = detector.network(self.backbone)
            found = sized(detect(self._network, self.backbone, self.modality, stored, bar), sizes)
        return one_each([detector.calibrated(one) for one in found])

    def _heard(self, recognizer: Recognizer | AdaptedDecoder, stored: Sequence[Any], bar: freeze.Bar) -> np.ndarray:
        """What the recogniser hears in stored sounds of any length."""
        if self._network is None:
            self._network = recognizer.network(self.backbone)
        (found,) = hear([Ear(recognizer, self._network)], self.backbone, stored, bar)
        return np.asarray(found)

    def read(self, data: Any, **reading: Any) -> Dataset:
        """Data of the kind that the model was fitted on: the same columns, where they are there, and the same task.

        Keywords as in `headstart.read` overrule. DataError as there.
        """
        said = {"task": registry.plugin_name(self.task), **{k: v for k, v in reading.items() if v is not None}}
        if self.table is not None:
            said["modality"] = registry.plugin_name(self.modality)
        without_group = {option: column for option, column in self.columns.items() if option != "group"}
        for columns in (self.columns, without_group):
            with suppress(DataError):  # other column names, or no columns at all: found out anew
                return read(data, reading=Reading(**{**columns, **said}))
        return read(data, reading=Reading(**said))

    def evaluate(self, data: Any, seed: int = 0, progress: Progress | None = None) -> Evaluation:
        """Every metric with its 95 % interval on labelled `data` (a Dataset, or anything that `read` takes).

        Data that come with a test split (or with train and val alone) are measured on what `fit` would test on. Left
        out, and counted in the notes: what cannot be read, has no label or one that the model does not know, and
        what the model was fitted on. DataError when nothing is left. A run that forecasts is measured on the steps
        that come after those that it was fitted on (`deploy.rolling`).
        """
        if self.seer is not None:
            from headstart.deploy import rolling

            return rolling.measure(self, forecasts.read(self, data), seed, progress)
        dataset = data if isinstance(data, Dataset) else self.read(data)
        if registry.plugin_name(self.modality) != dataset.modality:
            raise DataError(
                f"{dataset.source} holds {registry.modality(dataset.modality).noun[1]}, but this model takes "
                f"{self.modality.noun[1]}."
            )
        held = held_out(self, dataset)
        if self.talker is not None:  # whole conversations: answers alone do not say what was asked
            y, scores = (
                self.task.encode(held.dataset.inputs),
                talk.measured(self.voice(), held.dataset.inputs, progress),
            )
        else:
            y, scores = self.task.encode(held.labels), self.scores(held.dataset.inputs, held.digests, progress)
        scales = Scales(metrics=self.task.metrics(), groups=held.dataset.groups, seed=seed)
        found = score(scales.metrics, y, scores, scales.resamples(len(y)), scales.n_groups)
        return Evaluation(found, len(y), held.notes)

    def save(self, folder: str | Path) -> Path:
        """Write the run folder, complete or not at all; RunError when something is there already."""
        folder = Path(folder)
        artifact.write_run(folder, saved.own_files(self) | self.files)
        self.run = folder
        return folder


def as_items(items: Any) -> list[Any]:
    """A list of items; one text, path, picture or two-dimensional array counts as one item."""
    if hasattr(items, "columns") or isinstance(items, Mapping):
        raise DataError("A table has several columns: give one of them, such as model.predict(table['text']).")
    if isinstance(items, np.ndarray):
        one_picture = items.ndim == 2 or (items.ndim == 3 and items.shape[-1] in (3, 4))
        return [items] if one_picture else list(items)
    return [items] if isinstance(items, str | bytes | Path) or hasattr(items, "getpixel") else list(items)
