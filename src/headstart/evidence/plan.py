"""A plan is backbone + cut + strategy and the evidence they were chosen on; JSON, reproducible."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was decided, and why; enough to do it again."""

    backbone: str
    backbone_sha256: str
    strategy: str  # "probe"
    cut: int  # index of the first trained stage: stages 0 … cut-1 are frozen
    n_stages: int
    stage_names: tuple[str, ...]
    strength: float  # regularisation strength of the head, chosen on validation
    temperature: float  # calibration, fitted on validation
    val_loss: float
    classical: str  # the baseline: "HOG + logistic regression"
    seed: int
    reason: str  # one sentence for people

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        return cls(**{**saved, "stage_names": tuple(saved["stage_names"])})
