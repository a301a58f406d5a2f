"""An adapted model: a backbone by reference, what was learnt on top of it, and the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart import __version__, registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone, Provenance
from headstart.data.dataset import Dataset
from headstart.data.read import Reading, read
from headstart.deploy import artifact
from headstart.engine import freeze
from headstart.errors import BackboneError, DataError, RunError
from headstart.evidence.base import Evidence, Scores
from headstart.evidence.intervals import resamples, score
from headstart.evidence.plan import Plan
from headstart.modalities.base import Modality
from headstart.progress import Progress
from headstart.tasks.base import LinearHead, Task


@dataclass
class Model:
    """What `headstart.fit` and `headstart.load` return."""

    task: Task
    modality: Modality
    head: LinearHead
    plan: Plan
    provenance: Provenance
    fingerprint: str  # of the backbone: weights, preprocessing, stages
    evidence: Evidence
    files: dict[str, bytes] = field(default_factory=dict, repr=False)  # the run folder's other files
    run: Path | None = None  # where it is saved, None when it is not
    moved_to: str | None = None  # where the backbone is found now, when not under its old name
    _backbone: Backbone | None = field(default=None, repr=False)

    @property
    def backbone(self) -> Backbone:
        """The frozen network, loaded on first use. RunError when it is not the one that the head was solved on."""
        if self._backbone is None:
            try:
                found = catalog.load(self.moved_to or self.provenance.name, Progress())
            except BackboneError as error:
                raise BackboneError(
                    f"This model stands on the backbone {self.provenance.name!r} (sha256 "
                    f"{self.provenance.sha256[:12]}…), which cannot be loaded. {error} "
                    "If it has moved, say where it is now with --backbone (in Python: headstart.load(run, backbone=…))."
                ) from error
            if found.fingerprint != self.fingerprint:
                raise RunError(
                    f"This model was fitted on {self.provenance.name} with weights {self.provenance.sha256[:12]}…, but "
                    f"the one found here has {found.provenance.sha256[:12]}… (or another preprocessing), so "
                    "its answers would be wrong. Bring back the original backbone, or fit again."
                )
            self._backbone = found
        return self._backbone

    def predict(self, items: Any) -> list[Any]:
        """A class name, a list of class names or a number for each item (a text, file name, array, PIL image …)."""
        return self.task.decode(self.predict_proba(items))

    def predict_proba(self, items: Any) -> np.ndarray:
        """Calibrated probabilities (N, K) in the order of `task.score_names`; for a number (N, 1), the number itself.

        `items` is a list of N items, or one item. DataError names the items that cannot be read.
        """
        return self.scores([self.modality.store(item, None) for item in as_items(items)])

    def scores(self, stored: Sequence[Any]) -> np.ndarray:
        """Like `predict_proba`, for items as the modality stores them."""
        problems = [(i, p) for i, item in enumerate(stored) if (p := self.modality.examine(item).problem)]
        if problems:
            first, why = problems[0]
            raise DataError(
                f"{len(problems)} of {len(stored)} items cannot be read; the first is number {first}: {why}"
            )
        if not stored:
            return np.empty((0, len(self.head.bias)), dtype=np.float32)
        features = freeze.embed(self.backbone, self.modality, stored, self.plan.cut)
        return self.task.scores(self.head.logits(features), self.plan.temperature)

    def evaluate(self, data: Any, seed: int = 0) -> Scores:
        """Every metric with its 95 % interval on labelled `data` (a Dataset, or anything that `headstart.read` takes).

        Data that come with a test split are measured on it alone. Items that cannot be read and examples without a
        label are left out. DataError when nothing is left, or a label is unknown to the model.
        """
        dataset = (
            data if isinstance(data, Dataset) else read(data, reading=Reading(task=registry.plugin_name(self.task)))
        )
        if dataset.task is None:
            raise DataError(f"{dataset.source} has no labels to measure against. Name their column with --label.")
        rows = dataset.rows("test") if len(dataset.rows("test")) else np.arange(len(dataset))
        tested = dataset.select(rows)
        usable = [
            row
            for row, (item, label) in enumerate(zip(tested.inputs, tested.column("label"), strict=True))
            if label not in (None, "") and self.modality.examine(item).problem is None
        ]
        if not usable:
            raise DataError(f"{dataset.source} has no example that can be read and has a label.")
        tested = tested.select(usable)
        labels = [label.strip() if isinstance(label, str) else label for label in tested.column("label")]
        y, scores = self.task.encode(labels), self.scores(tested.inputs)
        weights = resamples(len(y), self.evidence.n_resamples, seed, tested.groups)
        return score(self.task.metrics(), y, scores, weights)

    def save(self, folder: str | Path) -> Path:
        """Write the run folder, complete or not at all; RunError when something is there already."""
        folder = Path(folder)
        card = {
            "format": artifact.FORMAT,
            "headstart": __version__,
            "task": {"name": registry.plugin_name(self.task), **self.task.to_json()},
            "modality": registry.plugin_name(self.modality),
            "backbone": {**vars(self.provenance), "fingerprint": self.fingerprint},
        }
        own = {
            artifact.CARD: artifact.to_bytes(card),
            artifact.WEIGHTS: artifact.head_bytes(self.head),
            "plan.json": artifact.to_bytes(self.plan.to_json()),
        }
        artifact.write_run(folder, own | self.files)
        self.run = folder
        return folder


def load(folder: str | Path, backbone: str | None = None) -> Model:
    """The model of a run folder. RunError when the run is not whole.

    Its backbone is looked for on first use: under its name, or in the folder `backbone` when it has moved.
    """
    folder = Path(folder)
    card = artifact.read_json(folder, artifact.CARD)
    if card.get("format") != artifact.FORMAT:
        raise RunError(
            f"{folder} has format {card.get('format')!r}, and this version ({__version__}) reads {artifact.FORMAT}. "
            "Install the version of headstart that wrote it, or fit again."
        )
    stands_on, task = card["backbone"], card["task"]
    named = {artifact.CARD, artifact.WEIGHTS, "plan.json"}
    return Model(
        task=registry.TASKS.get(task.pop("name")).from_json(task),
        modality=registry.modality(card["modality"]),
        head=artifact.read_head(folder),
        plan=Plan.from_json(artifact.read_json(folder, "plan.json")),
        fingerprint=stands_on.pop("fingerprint"),
        provenance=Provenance(**stands_on),
        evidence=Evidence.from_json(artifact.read_json(folder, "metrics.json")),
        files={p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name not in named},
        run=folder,
        moved_to=backbone,
    )


def as_items(items: Any) -> list[Any]:
    """A list of items; one text, path, picture or two-dimensional array counts as one item."""
    if isinstance(items, np.ndarray) and items.ndim >= 3 and not (items.ndim == 3 and items.shape[-1] in (3, 4)):
        return list(items)
    if isinstance(items, str | bytes | Path | np.ndarray) or hasattr(items, "getpixel"):
        return [items]
    return list(items)
