"""read → audit → split → freeze → adapt → evaluate → save: the only place where the parts meet."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.data.audit import Finding, audit, class_counts
from headstart.data.audit_splits import audit_splits
from headstart.data.dataset import SPLITS, Dataset
from headstart.data.read import Reading, describe
from headstart.data.read import read as read_data
from headstart.data.split import split
from headstart.deploy import artifact
from headstart.deploy.card import model_card
from headstart.deploy.model import Model
from headstart.deploy.predictions import test_table
from headstart.engine.features import Features
from headstart.engine.freeze import features as run_frozen
from headstart.errors import DataError, PlanError
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.baselines import Classical, fit_classical
from headstart.evidence.calibration import fit_temperature
from headstart.evidence.plan import Plan
from headstart.evidence.record import DataSummary, Record, find_mistakes, library_versions
from headstart.evidence.weigh import Scales, primary_first, weigh
from headstart.modalities.base import Modality
from headstart.progress import Progress
from headstart.report.html import render
from headstart.strategies.base import Adapted, Part, Strategy
from headstart.strategies.probe import Probe
from headstart.tasks.base import Task


def read(
    data: Any,
    labels: Any = None,
    *,
    input: str | None = None,
    label: str | None = None,
    task: str | None = None,
    group: str | None = None,
    time: str | None = None,
) -> Dataset:
    """Examples from a folder, a table file, a `datasets` data set, or Python objects with their `labels`.

    What the data are is found out; the keywords overrule: `input` and `label` name columns, `task` is
    "classification", "multilabel" or "regression", `group` names the column whose values stay on one side of every
    split (a patient, a speaker), `time` the column to split by. DataError says what was found and what is needed.
    """
    said = {"input": input, "label": label, "task": task, "group": group, "time": time}
    dataset = read_data(data, labels, reading=Reading(**said))
    return replace(dataset, overruled={name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Audited, split and encoded data, with the axes that they ask for."""

    dataset: Dataset  # every example has its split
    digests: list[str]
    findings: tuple[Finding, ...]
    modality: Modality
    task: Task
    y: np.ndarray  # (N, …) encoded labels
    rows: dict[str, np.ndarray]  # split -> indices of its examples

    @property
    def seen(self) -> frozenset[str]:
        """Digests of the examples that taught or chose; the model must not be measured on them."""
        return frozenset(self.digests[row] for name in ("train", "val") for row in self.rows[name])

    def part(self, name: str, features: Callable[[np.ndarray], Any]) -> Part:
        """One split, with `features` of its rows."""
        return Part(features(self.rows[name]), self.y[self.rows[name]])


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A calibrated head, and the strategy and cut that it belongs to."""

    strategy: Strategy
    cut: int
    adapted: Adapted
    temperature: float


def fit(
    data: Any,
    *,
    backbone: str | None = None,
    freeze: int | None = None,
    metric: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Model:
    """Adapt a pretrained backbone to `data`, and measure what the transfer was worth.

    `data` is a Dataset, or anything that `read` takes. `backbone` is a catalog name, a hub id or a folder (default:
    the modality's own); `freeze` how many stages, counted from the input, are run frozen under the head (default:
    all); `metric` the one that the verdict speaks of. With `out` a run folder is written there: complete or not at
    all. HeadstartError says what to do when something does not fit.
    """
    progress = progress or Progress()
    if out is not None:
        artifact.check_writable(Path(out))
    dataset = labelled(data, progress)
    network = load_backbone(backbone, registry.modality(dataset.modality), progress)
    strategy = Probe(freeze=freeze)
    strategy.cut(network.n_stages)  # a wrong choice fails here, not after the long pass
    problem = pose(dataset, seed, progress)
    metrics = primary_first(problem.task.metrics(), metric)
    with progress.step("frozen pass"):
        frozen = run_frozen(network, problem.modality, problem.dataset.inputs, problem.digests, progress)
    with progress.step("solve the head"):
        solved = solve(problem, strategy, network, frozen, seed)
    with progress.step("classical baseline"):
        items = [problem.modality.classical_item(item) for item in problem.dataset.inputs]
        classical = solve_classical(problem, items, seed)
    with progress.step("evaluate"):
        test = test_once(problem, solved, frozen, classical, items)
        groups = problem.dataset.select(problem.rows["test"]).groups
        scales = Scales(metrics=metrics, naive=problem.task.naive_title, asked_for=metric, groups=groups, seed=seed)
        evidence = weigh(scales, test, classical.title)
    with progress.step("report"):
        plan = make_plan(network, solved, classical, seed)
        record = tell(problem, network, plan, evidence, test, progress)
        model = assemble(problem, network, solved, record)
    if out is not None:
        model.save(out)
    return model


def labelled(data: Any, progress: Progress) -> Dataset:
    """What was given, read if it is not yet; DataError when it has no labels."""
    with progress.step("read"):
        dataset = data if isinstance(data, Dataset) else read(data)
    if dataset.task is None:
        raise DataError(
            f"{dataset.source} has no labels, and there is nothing to learn without them. "
            "Name the label column with --label (in Python: headstart.read(data, label=…)). "
            + " ".join(f"{note[:1].upper()}{note[1:]}." for note in dataset.notes)
        )
    progress.say(describe(dataset))
    return dataset


def pose(dataset: Dataset, seed: int, progress: Progress) -> Problem:
    """Audit, split and encode; DataError when there is nothing to learn from."""
    with progress.step("audit"):
        audited = audit(dataset, progress)
    with progress.step("split"):
        dataset = split(audited.dataset, seed)
        findings = (*audited.findings, *audit_splits(dataset))
        for line in (*(f"{finding.severity}: {finding.text}" for finding in findings), *dataset.notes):
            progress.say(f"  {line}")
        labels = dataset.column("label")
        task = registry.TASKS.get(str(dataset.task)).from_labels(labels)
        return Problem(
            dataset=dataset,
            digests=audited.digests,
            findings=findings,
            modality=registry.modality(dataset.modality),
            task=task,
            y=task.encode(labels),
            rows={name: dataset.rows(name) for name in SPLITS},
        )


def load_backbone(reference: str | None, modality: Modality, progress: Progress) -> Backbone:
    """The backbone called `reference` (default: the modality's); PlanError when it takes another kind of input."""
    with progress.step("load the backbone"):
        network = catalog.load(reference or modality.default_backbone, progress)
    if network.modality != registry.plugin_name(modality):
        raise PlanError(
            f"The backbone {reference!r} takes {registry.modality(network.modality).noun[1]}, but the data are "
            f"{modality.noun[1]}. `headstart models` lists the others; the default is {modality.default_backbone!r}."
        )
    return network


def solve(problem: Problem, strategy: Strategy, network: Backbone, frozen: Features, seed: int) -> Solved:
    """The head on the last frozen stage: learnt on train; strength and temperature chosen on validation."""
    cut = strategy.cut(network.n_stages)
    train, val = (problem.part(name, lambda rows: frozen.stage(cut - 1, rows)) for name in ("train", "val"))
    adapted = strategy.adapt(problem.task, train, val, seed)
    temperature = fit_temperature(problem.task, adapted.head.logits(val.features), val.y)
    return Solved(strategy=strategy, cut=cut, adapted=adapted, temperature=temperature)


def solve_classical(problem: Problem, items: list[Any], seed: int) -> Classical:
    """The classical model of the same data; `items` are all N as its features take them."""
    train, val = (problem.part(name, lambda rows: [items[row] for row in rows]) for name in ("train", "val"))
    return fit_classical(problem.modality, problem.task, train, val, seed)


def test_once(problem: Problem, solved: Solved, frozen: Features, classical: Classical, items: list[Any]) -> TestResult:
    """What every system says of the test split: called once, after every choice is made."""
    rows = problem.rows["test"]
    logits = solved.adapted.head.logits(frozen.stage(solved.cut - 1, rows))
    return TestResult(
        y=problem.y[rows],
        scores=problem.task.scores(logits, solved.temperature),
        naive=problem.task.naive(problem.y[problem.rows["train"]], len(rows)),
        classical=classical.scores(problem.task, [items[row] for row in rows]),
    )


def make_plan(network: Backbone, solved: Solved, classical: Classical, seed: int) -> Plan:
    """What was decided, and why."""
    return Plan(
        backbone=network.provenance.name,
        backbone_sha256=network.provenance.sha256,
        strategy=registry.plugin_name(solved.strategy),
        cut=solved.cut,
        n_stages=network.n_stages,
        stage_names=tuple(stage.name for stage in network.stages),
        strength=solved.adapted.strength,
        temperature=solved.temperature,
        val_loss=solved.adapted.val_loss,
        classical=classical.title,
        seed=seed,
        reason=f"a linear head on stage {solved.cut} of {network.n_stages} ({network.stages[solved.cut - 1].name})",
    )


def tell(
    problem: Problem, network: Backbone, plan: Plan, evidence: Evidence, test: TestResult, progress: Progress
) -> Record:
    """Everything that this fit has to say."""
    tested = problem.dataset.select(problem.rows["test"])
    return Record(
        data=summarise(problem),
        findings=problem.findings,
        task=problem.task,
        plan=plan,
        provenance=network.provenance,
        evidence=evidence,
        test=test,
        mistakes=find_mistakes(problem.task, test, problem.modality, tested.inputs, tested.column("label")),
        seconds=dict(progress.seconds),
        command=command(problem.dataset, plan, evidence.primary),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
    )


def summarise(problem: Problem) -> DataSummary:
    """The data after the audit and the split."""
    dataset = problem.dataset
    return DataSummary(
        name=dataset.name,
        source=dataset.source,
        modality=dataset.modality,
        task=str(dataset.task),
        label_name=dataset.label_name,
        n={name: len(rows) for name, rows in problem.rows.items()},
        class_counts=class_counts(dataset),
        notes=dataset.notes,
    )


def command(dataset: Dataset, plan: Plan, metric: str) -> str:
    """The command line that makes the run again; "" for data in memory."""
    if dataset.source.endswith(" in memory"):
        return ""
    words = ["headstart", "fit", dataset.source, "--backbone", plan.backbone, "--freeze", str(plan.cut)]
    for name, value in dataset.overruled.items():
        words += [f"--{name}", value]
    return shlex.join([*words, "--metric", metric, "--seed", str(plan.seed)])


def columns_of(dataset: Dataset) -> dict[str, str]:
    """Option -> column that the data were read with, so that new data of the same kind are read alike."""
    named = {"input": dataset.input_name, "label": dataset.label_name, "group": dataset.overruled.get("group")}
    return {option: column for option, column in named.items() if column}


def assemble(problem: Problem, network: Backbone, solved: Solved, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    tested = problem.dataset.select(problem.rows["test"])
    return Model(
        task=problem.task,
        modality=problem.modality,
        head=solved.adapted.head,
        plan=record.plan,
        provenance=network.provenance,
        fingerprint=network.fingerprint,
        evidence=record.evidence,
        columns=columns_of(problem.dataset),
        seen=problem.seen,
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "predictions.parquet": test_table(problem.task, problem.modality, tested, record.test),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
        },
        _backbone=network,
    )
