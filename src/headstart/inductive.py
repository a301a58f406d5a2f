"""Inductive transfer, a new labelled task: audit → split → freeze → adapt → evaluate → assemble."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import adapt, registry
from headstart.adapt import Chosen
from headstart.backbones.base import Backbone
from headstart.data.audit import class_counts
from headstart.data.dataset import Dataset
from headstart.data.threads import in_threads
from headstart.deploy import artifact, examples
from headstart.deploy.card import model_card
from headstart.deploy.model import Model
from headstart.deploy.predictions import test_table
from headstart.evidence import words
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.baselines import Classical, fit_classical
from headstart.evidence.lengths import N_COMPARED, compare_lengths
from headstart.evidence.plan import Plan
from headstart.evidence.planner import Solved
from headstart.evidence.record import DataSummary, Record, find_mistakes, library_versions
from headstart.evidence.transferability import score_features
from headstart.evidence.weigh import Scales, defined_on, primary_first, weigh
from headstart.problem import Problem, pose, some_of_each
from headstart.progress import Progress
from headstart.report.html import render
from headstart.strategies.base import Part
from headstart.tasks.base import LinearTask, Metric
from headstart.wishes import Wishes
from headstart.workshop import Workshop, load_backbones, open_workshop


@dataclass(frozen=True, kw_only=True)
class Systems:
    """Everything that is to be measured on the test split."""

    chosen: Chosen
    scratch: Solved | None
    classical: Classical
    ships_classical: bool


def fit(
    dataset: Dataset,
    wishes: Wishes,
    *,
    backbone: str | Sequence[str] | None,
    metric: str | None,
    seed: int,
    out: Path | None,
    progress: Progress,
) -> Model:
    """Adapt a backbone, or the best of several, to a labelled data set; write the run folder `out` if one is named.

    `metric` is what models are chosen by and what the verdict speaks of; None is the task's own, or the plan's.
    """
    seed, primary, backbone = as_planned(wishes.plan, seed, metric, backbone)
    networks = load_backbones(backbone, dataset.modality, progress)
    for network in networks:  # a wrong choice fails here, not after the long pass
        wishes.check(network.n_stages)
    problem = pose(dataset, seed, progress, wishes.crosswise)
    metrics = primary_first(problem.linear.metrics(), primary)
    networks = [of_best_length(problem, network, metrics, wishes, seed, progress) for network in networks]
    shop = best_backbone([open_workshop(problem, network, metrics, wishes, seed, progress) for network in networks])
    with progress.step("classical baseline"):
        items = in_threads(problem.modality.classical_item, problem.dataset.inputs)
        classical = solve_classical(problem, items, seed)
    chosen = adapt.choose(shop, wishes)
    systems = Systems(
        chosen=chosen,
        scratch=adapt.from_scratch(shop, chosen, wishes),
        classical=classical,
        ships_classical=classical_is_better(shop, chosen, classical, wishes),
    )
    with progress.step("evaluate"):
        test = test_once(shop, systems, items)
        scales = scales_of(problem, metrics, metric, seed)
        evidence = weigh(scales, test, classical.title, transfer_title(shop, systems))
    with progress.step("report"):
        record = tell(shop, make_plan(shop, systems, wishes), evidence, test, out)
        model = assemble(shop, systems, record)
    if out is not None:
        model.save(out)
    shop.trials.forget()
    return model


def as_planned(
    plan: Plan | None, seed: int, metric: str | None, backbone: str | Sequence[str] | None
) -> tuple[int, str | None, str | Sequence[str] | None]:
    """(seed, metric, backbone) of a plan that is done again, as far as the user does not name others."""
    if plan is None:
        return seed, metric, backbone
    return plan.seed, metric or plan.metric, plan.backbone if backbone is None else backbone


def scales_of(problem: Problem, metrics: tuple[Metric, ...], asked_for: str | None, seed: int) -> Scales:
    """What systems are weighed on: the test split, in whole groups where there are some."""
    return Scales(
        metrics=metrics,
        naive=problem.task.naive_title,
        asked_for=asked_for,
        groups=problem.groups("test"),
        seed=seed,
    )


def of_best_length(
    problem: Problem, network: Backbone, metrics: tuple[Metric, ...], wishes: Wishes, seed: int, progress: Progress
) -> Backbone:
    """The network on a clip's own length, or on clips filled up as it was trained: as probes on some examples say."""
    padded = network.padded() if wishes.plan is None else None
    if padded is None or padded.provenance.name == network.provenance.name:
        return network
    rows = np.unique(np.concatenate([problem.rows["train"], problem.rows["val"]]))
    rows = rows[some_of_each(problem.y[rows], N_COMPARED, seed)]
    groups = None if problem.all_groups is None else problem.all_groups[rows]
    some = Part([problem.dataset.inputs[row] for row in rows], problem.y[rows], groups=groups)
    metric = defined_on(metrics, problem.linear, some.y, some.y)
    with progress.step("compare lengths"):
        digests, asked = [problem.digests[row] for row in rows], (problem.linear, metric, seed)
        found = compare_lengths(network, padded, problem.modality, some, digests, asked, progress)
    progress.say(
        f"  on {len(rows)} of the {problem.modality.noun[1]}: {metric.title} {words.score(found.own)} at their own "
        f"length, {words.score(found.padded)} filled up with silence as in training: "
        f"{'filled up, so that only probes are tried' if found.pays else 'their own length is kept'}"
    )
    return padded if found.pays else network


def best_backbone(shops: Sequence[Workshop]) -> Workshop:
    """The backbone whose best probe is best on validation; LogME is said beside it."""
    if len(shops) == 1:
        return shops[0]
    found = []
    for shop in shops:
        best = max(shop.judge.gain(one.point.score.value) for one in shop.probed)
        rows = shop.problem.rows["train"]
        last = score_features(
            shop.frozen.stage(shop.backbone.n_stages - 1, rows), shop.problem.y[rows], stage=0, name="last"
        )
        found.append((best, shop))
        shop.progress.say(
            f"  {shop.backbone.provenance.name}: best probe {shop.judge.gain(best):.3f} {shop.metric.title}, "
            f"LogME of the last stage {last.logme:.3f}"
        )
    return max(found, key=lambda pair: pair[0])[1]


def solve_classical(problem: Problem, items: list[Any], seed: int) -> Classical:
    """The classical model of the same data; `items` are all N as its features take them."""
    train, val = (problem.part(name, lambda rows: [items[row] for row in rows]) for name in ("train", "val"))
    val = train if problem.crosswise else val
    return fit_classical(problem.modality, problem.linear, train, val, seed)


def classical_is_better(shop: Workshop, chosen: Chosen, classical: Classical, wishes: Wishes) -> bool:
    """Whether the run ships the classical model: it is better on validation, and the user has not said otherwise."""
    if wishes.plan is not None:
        return wishes.plan.ships == "classical"
    if wishes.overruled:
        return False
    assert classical.val_scores is not None, "fitted here, so that it knows validation"
    gain, error = shop.judge.gain_over(classical.val_scores, chosen.val_scores)
    return bool(gain > (1.96 * error if shop.problem.crosswise else 0))  # few labels differ by chance alone


def test_once(shop: Workshop, systems: Systems, items: list[Any]) -> TestResult:
    """What every system says of the test split: called once, after every choice is made."""
    problem = shop.problem
    rows = problem.rows["test"]
    transfer = shop.scores(systems.chosen.solved, rows)
    classical = systems.classical.scores(problem.linear, [items[row] for row in rows])
    return TestResult(
        y=problem.y[rows],
        scores=classical if systems.ships_classical else transfer,
        naive=problem.linear.naive(problem.y[problem.rows["train"]], len(rows)),
        classical=classical,
        transfer=transfer,
        scratch=None if systems.scratch is None else shop.scores(systems.scratch, rows),
        scratch_epochs=systems.scratch.strategy.settings()["epochs"] if systems.scratch is not None else None,
        ships_classical=systems.ships_classical,
    )


def transfer_title(shop: Workshop, systems: Systems) -> str:
    """The adapted model for people, where the run ships the classical one."""
    names = [stage.name for stage in shop.backbone.stages]
    return f"{shop.backbone.provenance.name}, {adapt.title_of(systems.chosen.solved.strategy, names)}"


def make_plan(shop: Workshop, systems: Systems, wishes: Wishes) -> Plan:
    """What was decided, and why."""
    network, chosen = shop.backbone, systems.chosen
    solved = chosen.solved
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
        classical=systems.classical.title,
        seed=shop.seed,
        reason=chosen.reason,
        settings=solved.strategy.settings(),
        metric=shop.metric.name,
        metric_title=shop.metric.title,
        ships="classical" if systems.ships_classical else "transfer",
        budget_passes=round(chosen.budget, 2),
        depth=chosen.depth,
        candidates=chosen.candidates,
        scratch=systems.scratch.strategy.settings() if systems.scratch is not None else {},
        way=shop.runner.way,
        crosswise=wishes.crosswise,
    )


def tell(shop: Workshop, plan: Plan, evidence: Evidence, test: TestResult, out: str | Path | None) -> Record:
    """Everything that this fit has to say."""
    problem = shop.problem
    tested = problem.dataset.select(problem.rows["test"])
    return Record(
        data=summarise(problem),
        findings=problem.findings,
        task=problem.task,
        plan=plan,
        provenance=shop.backbone.provenance,
        evidence=evidence,
        test=test,
        mistakes=find_mistakes(problem.task, test, problem.modality, tested.inputs, tested.column("label"))
        if isinstance(problem.task, LinearTask)
        else (),
        seconds=dict(shop.progress.seconds),
        command=command(problem.dataset, evidence.primary, out),
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
        n={name: 0 if name == "val" and problem.crosswise else len(rows) for name, rows in problem.rows.items()},
        class_counts=class_counts(dataset),
        notes=dataset.notes,
    )


def command(dataset: Dataset, metric: str, out: str | Path | None) -> str:
    """The command line that makes the run again, in the folder where it was made; "" for data in memory.

    The plan is in the run folder `out`; None is a run that is not saved yet.
    """
    if dataset.source.endswith(" in memory"):
        return ""
    words = ["headstart", "fit", dataset.source, "--plan", str(Path(out or "") / "plan.json")]
    for name, value in dataset.overruled.items():
        words += [f"--{name}", *([] if name == "redact" else [value])]
    return shlex.join([*words, "--metric", metric])


def columns_of(dataset: Dataset) -> dict[str, str]:
    """Option -> column that the data were read with, so that new data of the same kind are read alike."""
    named = {"input": dataset.input_name, "label": dataset.label_name, "group": dataset.overruled.get("group")}
    return {option: column for option, column in named.items() if column}


def assemble(shop: Workshop, systems: Systems, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    problem, network, solved = shop.problem, shop.backbone, systems.chosen.solved
    tested = problem.dataset.select(problem.rows["test"])

    def last_stage(rows: np.ndarray) -> np.ndarray:
        return shop.frozen.stage(network.n_stages - 1, rows)

    return Model(
        task=problem.linear,
        modality=problem.modality,
        head=solved.adapted.head,
        stages=solved.stages,
        changes=solved.adapted.changes,
        classical=systems.classical if systems.ships_classical else None,
        plan=record.plan,
        provenance=network.provenance,
        fingerprint=network.fingerprint,
        evidence=record.evidence,
        columns=columns_of(problem.dataset),
        seen=problem.seen,
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "predictions.parquet": test_table(problem.linear, problem.modality, tested, record.test),
            examples.FILE: examples.draw(problem, last_stage, shop.seed).to_bytes(),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
        },
        _pretrained=network,
    )
