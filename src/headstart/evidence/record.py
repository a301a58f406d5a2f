"""Everything that one fit has to tell: the report, the model card and the run folder are written from it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from headstart.backbones.base import Provenance
from headstart.data.audit import Finding
from headstart.evidence import words
from headstart.evidence.adaptation import Adaptation
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.boxes import BoxEvidence
from headstart.evidence.chats import ChatEvidence
from headstart.evidence.forecasts import ForecastEvidence
from headstart.evidence.gap import Clouds
from headstart.evidence.mishearings import SpeechEvidence, Utterance
from headstart.evidence.plan import Plan
from headstart.evidence.sides import Sides
from headstart.evidence.slips import Slip
from headstart.hosted.wishes import STRATEGY
from headstart.modalities.base import Modality, Preview
from headstart.tasks.base import LinearTask, Task

LIBRARIES = ("headstart", "torch", "transformers", "scikit-learn", "numpy", "datasets")


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What was read, after the audit."""

    name: str  # "reviews"
    source: str  # a path, or "3,771 texts in memory"
    modality: str  # "text"
    task: str  # "classification"
    label_name: str
    n: dict[str, int]  # split -> examples
    class_counts: dict[str, dict[str, int]]  # class name -> split -> examples, or objects in boxes; empty for a number
    notes: tuple[str, ...]  # what the reader decided


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test example that the model got wrong; for a number, one that it missed by far."""

    name: str  # file name or start of the text
    preview: Preview
    truth: str
    predicted: str
    confidence: float  # probability of the wrong answer, or the absolute error


@dataclass(frozen=True, kw_only=True)
class Record:
    """One fit, complete."""

    data: DataSummary
    findings: tuple[Finding, ...]
    task: Task
    plan: Plan
    provenance: Provenance | None  # None where there is no backbone: plain tables
    evidence: Evidence
    test: TestResult
    mistakes: tuple[Mistake, ...]  # the ones it was surest of, first
    seconds: dict[str, float]  # step -> seconds
    command: str  # what makes this run again
    created: str  # ISO 8601, UTC
    versions: dict[str, str]  # library -> version
    adaptation: Adaptation | None = None  # the way to an unlabelled target, where there is one
    clouds: tuple[tuple[str, Clouds], ...] = ()  # title, both domains in two dimensions
    tables: Sides | None = None  # how the columns of two tables differ
    boxes: BoxEvidence | None = None  # of a detector, beside its metrics
    slips: tuple[Slip, ...] = ()  # its worst ones, as pictures
    speech: SpeechEvidence | None = None  # of a recogniser, beside its metrics
    forecasts: ForecastEvidence | None = None  # of a forecaster, beside its metrics
    utterances: tuple[Utterance, ...] = ()  # those with the most errors
    chat: ChatEvidence | None = None  # of a chatbot, beside its metrics

    @property
    def hosted(self) -> bool:
        """Whether the network is run by others, so that its size and its weights are not known."""
        return self.plan.strategy == STRATEGY

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json, and what `headstart fit --json` prints beside the run's path."""
        return {
            "task": self.data.task,
            "modality": self.data.modality,
            "backbone": self.provenance.name if self.provenance else None,
            "strategy": self.plan.strategy,
            "cut": self.plan.cut,
            "n": self.data.n,
            **self.evidence.to_json(),
            "seconds": {step: round(seconds, 4) for step, seconds in self.seconds.items()},
            "findings": [vars(finding) for finding in self.findings],
            "data": vars(self.data),
            "command": self.command,
            "created": self.created,
            "versions": self.versions,
            **({"adaptation": self.adaptation.to_json()} if self.adaptation else {}),
            **({"tables": asdict(self.tables)} if self.tables else {}),
            **({"boxes": self.boxes.to_json()} if self.boxes else {}),
            **({"forecasts": self.forecasts.to_json()} if self.forecasts else {}),
            **({"speech": self.speech.to_json()} if self.speech else {}),
            **({"chat": self.chat.to_json()} if self.chat else {}),
        }


def find_mistakes(
    task: LinearTask, test: TestResult, modality: Modality, items: Sequence[Any], labels: Sequence[Any], most: int = 12
) -> tuple[Mistake, ...]:
    """The wrong predictions that the model was surest of, first; `items` and `labels` are the test rows as stored."""
    wrongness = task.wrongness(test.y, test.scores)
    worst = [int(row) for row in np.argsort(-wrongness, kind="stable")[:most] if wrongness[row] > 0]
    return tuple(
        Mistake(
            name=modality.describe(items[row]),
            preview=modality.preview(items[row]),
            truth=shown(labels[row]),
            predicted=shown(task.decode(test.scores[[row]])[0]),
            confidence=float(wrongness[row]),
        )
        for row in worst
    )


def shown(prediction: Any) -> str:
    """A prediction for people: a class name, 'a, b', or a number with four digits."""
    if isinstance(prediction, list):
        return ", ".join(prediction) or "none"
    return words.number(prediction) if isinstance(prediction, float) else str(prediction)


def library_versions() -> dict[str, str]:
    """What was installed when the run was made."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
