"""Everything that one fit has to tell: the report, the model card and the run folder are written from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headstart.backbones.base import Provenance
from headstart.data.audit import Finding
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.plan import Plan
from headstart.modalities.base import Preview
from headstart.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What was read, after the audit."""

    name: str  # "reviews"
    source: str  # a path, or "3,771 texts in memory"
    modality: str  # "text"
    task: str  # "classification"
    label_name: str
    n: dict[str, int]  # split -> examples
    class_counts: dict[str, dict[str, int]]  # class name -> split -> examples; empty for a number
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
    provenance: Provenance
    evidence: Evidence
    test: TestResult
    mistakes: tuple[Mistake, ...]  # the ones it was surest of, first
    seconds: dict[str, float]  # step -> seconds
    command: str  # what makes this run again
    created: str  # ISO 8601, UTC
    versions: dict[str, str]  # library -> version

    def to_json(self) -> dict[str, Any]:
        """What `headstart fit --json` prints, but for the run's path."""
        return {
            "task": self.data.task,
            "modality": self.data.modality,
            "backbone": self.provenance.name,
            "strategy": self.plan.strategy,
            "cut": self.plan.cut,
            "n": self.data.n,
            **self.evidence.to_json(),
            "seconds": {step: round(s, 4) for step, s in self.seconds.items()},
            "findings": [vars(finding) for finding in self.findings],
            "data": vars(self.data),
            "created": self.created,
            "versions": self.versions,
        }
