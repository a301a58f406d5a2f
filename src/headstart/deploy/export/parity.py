"""Does an export answer as the model does? Asked on the run's own validation examples, with what was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.deploy.model import Model
from headstart.errors import DataError, RunError, listed
from headstart.evidence.base import Score
from headstart.evidence.intervals import compare
from headstart.evidence.weigh import Scales, defined_on

TOLERANCE = 1e-3  # of a probability; for numbers, of their standard deviation
MOST_INT8_LOSS = 0.05  # of the metric, beyond the interval: more than rounding costs
Runner = Callable[[Sequence[Any]], np.ndarray]  # opened items -> scores (N, K)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What an export is asked: N examples that can be read."""

    names: list[str]
    opened: list[Any]
    labels: list[Any]
    scores: np.ndarray  # (N, K) of the model in float32
    as_run: np.ndarray  # (N, K) of the model as `predict` runs it here
    way: str  # in which that is
    what: str  # "validation examples"


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What the comparison found."""

    n: int
    what: str  # they are: "validation examples"
    largest_difference: float  # from the model in float32
    way: str  # in which `headstart predict` runs the model here
    largest_difference_as_run: float
    labels_that_differ_as_run: int
    metric: str = ""  # in 8 bits: what it cost
    lost: Score | None = None  # by the export, more is worse

    def to_json(self) -> dict[str, Any]:
        """For export.json."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}

    def __str__(self) -> str:
        """One line."""
        beside = f"{self.n:,} {self.what}"
        if self.lost is not None:
            lost = f"{self.lost.value:+.4f} ({self.lost.low:+.4f} to {self.lost.high:+.4f})"
            return f"in 8 bits it loses {lost} {self.metric} on {beside}"
        line = f"all labels as the model's on {beside}, largest difference {self.largest_difference:.1g}"
        if self.way != "float32":
            line += (
                f"; beside {self.way}, in which `predict` runs it here: {self.largest_difference_as_run:.1g}, "
                f"{self.labels_that_differ_as_run} labels differ"
            )
        return line


def sample(model: Model, exact: Model, data: Any = None) -> Sample:
    """The run's own validation examples, or labelled `data`; DataError when none can be read."""
    what, stored, labels = _given(model, data) if data is not None else _kept(model)
    examined = [model.modality.examine(item) for item in stored]
    good = [i for i, one in enumerate(examined) if one.problem is None]
    if not good:
        raise DataError(
            "The run's validation examples cannot be read any more "
            f"({examined[0].problem if examined else 'it kept none'}), and an export is only left where it was "
            "checked. Give labelled examples with --data."
        )
    items, digests = [stored[i] for i in good], [examined[i].digest for i in good]
    return Sample(
        names=[model.modality.describe(item) for item in items],
        opened=[model.modality.open(item, exact.backbone.detail) for item in items],
        labels=[labels[i] for i in good],
        scores=exact.scores(items, digests),
        as_run=model.scores(items, digests),
        way=model.backbone.way,
        what=what + (f" ({len(stored) - len(good):,} more could not be read)" if len(good) < len(stored) else ""),
    )


def check(model: Model, asked: Sample, scores: np.ndarray) -> Parity:
    """RunError, naming the rows, unless every label is the model's and every score within the tolerance."""
    _check_numbers(asked, scores)
    is_number = model.linear_task.final == "identity"
    scale = float(asked.scores.std()) or 1.0 if is_number else 1.0
    apart = np.abs(scores - asked.scores).max(axis=1) / scale
    other = np.zeros(len(apart), dtype=bool) if is_number else _differ(model, scores, asked.scores)
    wrong = np.flatnonzero(other | (apart > TOLERANCE))
    if len(wrong):
        shown = [f"{asked.names[i]!r} ({apart[i]:.3g}{', another label' if other[i] else ''})" for i in wrong]
        raise RunError(
            f"The export does not answer as the model does, so it was not kept: {len(wrong)} of {len(apart)} "
            f"{asked.what} differ by more than {TOLERANCE} or in the label: {listed(shown, 3)}. "
            "Please report it with the run's plan.json; `headstart bundle` keeps the model as it is."
        )
    return _parity(model, asked, scores)


def check_int8(model: Model, asked: Sample, scores: np.ndarray, seed: int = 0) -> Parity:
    """What 8 bits cost on validation; RunError where that is more than rounding can explain."""
    _check_numbers(asked, scores)
    y = model.task.encode(asked.labels)
    metric = defined_on(model.task.metrics(), model.task, y, y)
    weights = Scales(metrics=(metric,), seed=seed).resamples(len(y))
    systems = {"model": asked.scores, "export": scores.astype(np.float64)}
    found = compare([metric], y, systems, "model", weights)[1]["export"][metric.name]
    sign = 1 if metric.better == "higher" else -1
    low, high = sorted((sign * found.low, sign * found.high))
    lost = Score(sign * found.value, low, high)
    if lost.low > MOST_INT8_LOSS:
        raise RunError(
            f"In 8 bits the export loses {lost.value:.3f} {metric.title} ({lost.low:.3f} to {lost.high:.3f}) on "
            f"{len(y)} {asked.what}, so it was not kept. Export without --int8."
        )
    parity = _parity(model, asked, scores)
    return Parity(**{**vars(parity), "metric": metric.title, "lost": lost})


def _parity(model: Model, asked: Sample, scores: np.ndarray) -> Parity:
    return Parity(
        n=len(scores),
        what=asked.what,
        largest_difference=float(np.abs(scores - asked.scores).max()),
        way=asked.way,
        largest_difference_as_run=float(np.abs(scores - asked.as_run).max()),
        labels_that_differ_as_run=int(_differ(model, scores, asked.as_run).sum()) if model.task.score_names else 0,
    )


def _check_numbers(asked: Sample, scores: np.ndarray) -> None:
    if scores.shape != asked.scores.shape or not np.isfinite(scores).all():
        raise RunError(
            f"The export answers with scores of the shape {scores.shape}, {np.isnan(scores).sum()} of them no numbers, "
            f"where the model gives {asked.scores.shape}; it was not kept. Please report it."
        )


def _differ(model: Model, scores: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) whether the decoded answers differ."""
    pairs = zip(model.task.decode(scores), model.task.decode(other), strict=True)
    return np.array([a != b for a, b in pairs])


def _kept(model: Model) -> tuple[str, list[Any], list[Any]]:
    """What they are, items, labels: of val; of train where labels were too few to spare some."""
    if model.examples is None:
        return "examples", [], []
    kept, what = model.examples.of("val"), "validation examples"
    if not kept.items:
        kept, what = model.examples.of("train"), "training examples (none were spared for validation)"
    return what, kept.items, kept.labels


def _given(model: Model, data: Any) -> tuple[str, list[Any], list[Any]]:
    dataset = model.read(data)
    return f"examples of {dataset.source}", dataset.inputs, dataset.column("label")
