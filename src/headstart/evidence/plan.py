"""A plan is backbone + cut + strategy and the evidence they were chosen on; JSON, reproducible."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headstart.errors import PlanError
from headstart.evidence.base import Score


@dataclass(frozen=True, kw_only=True)
class DepthPoint:
    """What a linear probe on some frozen stages scores on validation."""

    stages: tuple[int, ...]  # indices, from 0 at the input; several are laid side by side
    name: str  # "layer 5", "layer 3 + layer 5"
    score: Score  # of the plan's metric
    val_loss: float | None = None  # of a head that was solved


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to adapt that was considered, and what validation said of it."""

    backbone: str
    strategy: str  # "partial"
    settings: dict[str, Any]  # of the strategy
    title: str  # for people: "stages above layer 3 trained"
    cut: int
    n_train: int  # examples that it learnt from: fewer in an early round
    round: int  # 1, 2 …; 0 is what was solved, not trained
    cost_passes: float  # what it cost, in frozen passes over train and validation, by counting work
    seconds: float  # what it took
    score: Score | None  # of the plan's metric on validation; None when it was not run
    outcome: str  # "chosen", or why not, for people


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was decided, and why; enough to do it again."""

    backbone: str  # "" where there is none: plain tables
    backbone_sha256: str
    strategy: str  # "probe"; for tables the way with the most to say
    cut: int  # index of the first trained stage: stages 0 … cut-1 are frozen
    n_stages: int
    stage_names: tuple[str, ...]
    strength: float | None  # regularisation strength of a solved head, chosen on validation; None when it was trained
    temperature: float  # calibration, fitted on validation
    val_loss: float | None  # mean, of a head that was chosen by it
    classical: str  # the baseline: "HOG + logistic regression"
    seed: int
    reason: str  # one sentence for people
    settings: dict[str, Any] = field(default_factory=dict)  # of the strategy
    metric: str = ""  # what the candidates were compared by
    metric_title: str = ""
    ships: str = "transfer"  # or "classical": which model the run folder holds
    budget_passes: float = 0.0  # what the search might cost, in frozen passes
    depth: tuple[DepthPoint, ...] = ()  # the depth profile of the chosen backbone
    candidates: tuple[Candidate, ...] = ()  # everything that was considered, the chosen one included
    scratch: dict[str, Any] = field(default_factory=dict)  # settings of the comparison with random weights
    way: str = "float32"  # in which the frozen network was run
    first: dict[str, Any] = field(default_factory=dict)  # settings of training the head alone, that came before
    reads: tuple[int, ...] = ()  # stages that a trained head reads, where they were chosen
    canvas: tuple[int, int] | None = None  # height and width that pictures were resized to, where boxes are looked for
    upside_down: bool = False  # whether random views turned pictures upside down
    crosswise: bool = True  # whether cross-validation chooses where labels are few

    @property
    def solved(self) -> bool:
        """Whether the backbone stayed as it was under a head that was solved on its frozen features."""
        return self.strategy == "probe" or "stages" in self.settings

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        saved = {{"dtype": "way"}.get(name, name): value for name, value in saved.items()}  # its name at first
        depth = tuple(
            DepthPoint(**{**point, "stages": tuple(point["stages"]), "score": Score(**point["score"])})
            for point in saved.get("depth", ())
        )
        candidates = tuple(
            Candidate(**{**one, "score": Score(**one["score"]) if one["score"] else None})
            for one in saved.get("candidates", ())
        )
        saved |= {
            "stage_names": tuple(saved["stage_names"]),
            "reads": tuple(saved.get("reads", ())),
            "depth": depth,
            "candidates": candidates,
        }
        canvas = saved.get("canvas")
        return cls(**{**saved, "canvas": (canvas[0], canvas[1]) if canvas else None})

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """The plan in a JSON file, or in a run folder; PlanError when there is none."""
        path = Path(path)
        path = path / "plan.json" if path.is_dir() else path
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PlanError(
                f"{path} is not a plan that this version reads ({error}). Give the plan.json of a run folder, or fit "
                "without --plan."
            ) from error
