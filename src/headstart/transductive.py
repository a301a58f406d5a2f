"""Transductive transfer: the same task in a new domain that has no labels.

Ways across are tried (alignments of frozen features, and training with the target beside), judged by scores that need
no target label, and one of them is taken only where several of these agree; source only is always among them. The
target's labels, where the user names them, are looked at after that, to measure.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import inductive
from headstart.across import TOGETHER, Crossed, Crossing, Tried, check, cross
from headstart.data.dataset import Dataset
from headstart.data.threads import in_threads
from headstart.deploy import artifact, examples
from headstart.deploy.card import model_card
from headstart.deploy.model import Model
from headstart.deploy.predictions import prediction_table, table_bytes
from headstart.domains import bring
from headstart.evidence import label_free
from headstart.evidence.adaptation import SOURCE_ONLY, Adaptation, Measured, Way, verdict
from headstart.evidence.base import Evidence, Score, Scores, TestResult
from headstart.evidence.estimate import averaged, estimate_accuracy
from headstart.evidence.gap import Clouds, clouds, domain_gap
from headstart.evidence.intervals import score
from headstart.evidence.plan import Plan
from headstart.evidence.record import Record, find_mistakes, library_versions
from headstart.evidence.weigh import MODEL, Scales, primary_first, weigh_systems
from headstart.progress import Progress
from headstart.report.html import render
from headstart.tasks.base import Metric
from headstart.wishes import Wishes
from headstart.workshop import Workshop, load_backbones, open_workshop

METRIC = "accuracy"  # what is chosen by and spoken of, since accuracy is what can be estimated without labels


def fit(
    dataset: Dataset,
    target: Dataset,
    wishes: Wishes,
    *,
    backbone: Any,
    metric: str | None,
    seed: int,
    out: Path | None,
    progress: Progress,
) -> Model:
    """Carry what the labelled `dataset` teaches over to `target`; labels in `target` measure, and do nothing else."""
    if wishes.plan is not None:
        seed, metric = wishes.plan.seed, metric or wishes.plan.metric
        backbone = wishes.plan.backbone if backbone is None else backbone
    networks = load_backbones(backbone, dataset.modality, progress)
    for network in networks:
        check(wishes, network.n_stages)
    domains = bring(dataset, target, seed, progress)
    metrics = primary_first(domains.source.task.metrics(), metric or METRIC)
    shops = [open_workshop(domains.both, network, metrics, wishes, seed, progress) for network in networks]
    crossing = Crossing(shop=inductive.best_backbone(shops), domains=domains, wishes=wishes, seed=seed)
    crossed = cross(crossing)
    exam = examine(crossed)
    with progress.step("evaluate"):
        found = summarise(crossed, exam)
        scales = Scales(metrics=metrics, naive=exam.naive_title, asked_for=metric, groups=exam.groups, seed=seed)
        evidence = weigh_systems(scales, exam.y, exam.systems, lambda *told: claim(found, exam, *told))
    with progress.step("report"):
        record = tell(crossed, found, exam, evidence, out)
        model = assemble(crossed, exam, record)
    if out is not None:
        model.save(out)
    crossing.shop.trials.forget()
    return model


@dataclass(frozen=True, kw_only=True)
class Exam:
    """What everything is measured on: the labelled target, or the source's own test where the target has no labels."""

    rows: np.ndarray  # of both domains' items
    y: np.ndarray
    systems: dict[str, np.ndarray]  # name -> scores (n, K): the model, source only, the baselines
    ways: dict[str, np.ndarray]  # title of each way -> its scores on the labelled target; empty without labels
    answers: np.ndarray  # (n_target, K) of the model, on the whole target
    naive_title: str
    classical: str
    groups: list[str] | None

    @property
    def scores(self) -> np.ndarray:
        """Of the model that ships."""
        return self.systems[MODEL]


def examine(crossed: Crossed) -> Exam:
    """Answers of every system to the test, called once, after the choice is made."""
    shop, domains = crossed.shop, crossed.domains
    task, problem = shop.problem.linear, shop.problem
    with shop.progress.step("classical baseline"):
        items = in_threads(shop.modality.classical_item, shop.items)
        classical = inductive.solve_classical(problem, items, shop.seed)
    with shop.progress.step("evaluate"):
        rows = domains.rows[domains.known] if domains.measured else problem.rows["test"]
        answers = shop.scores(crossed.chosen.solved, domains.rows)
        said = {crossed.chosen.title: answers[domains.known]} if domains.measured else {}
        for one in crossed.tried if domains.measured else (crossed.chosen, crossed.source_only):
            if one.title not in said:  # each way answers once
                said[one.title] = shop.scores(one.solved, rows)
        own = {MODEL: said[crossed.chosen.title]}
        if crossed.adapts:
            own[SOURCE_ONLY] = said[SOURCE_ONLY]
        own[task.naive_title] = task.naive(problem.y[problem.rows["train"]], len(rows))
        own[classical.title] = classical.scores(task, [items[row] for row in rows])
        return Exam(
            rows=rows,
            y=domains.truth[domains.known] if domains.measured else problem.y[rows],
            systems=own,
            ways=said if domains.measured else {},
            answers=answers,
            naive_title=task.naive_title,
            classical=classical.title,
            groups=None if domains.measured else domains.source.groups("test"),
        )


def summarise(crossed: Crossed, exam: Exam) -> Adaptation:
    """What is known of every way, and of the gap."""
    shop, domains, chosen = crossed.shop, crossed.domains, crossed.chosen
    first = crossed.source_only.outlook
    estimates = estimated(crossed)
    after = domain_gap(chosen.outlook.train, chosen.outlook.target, shop.seed) if has_own_space(crossed) else None
    return Adaptation(
        source=domains.source.dataset.name,
        target=domains.target.name,
        n_target=len(domains.rows),
        n_labelled=len(domains.known),
        metric_title=shop.metric.title,
        gap=domain_gap(first.train, first.target, shop.seed),
        gap_after=after,
        scorers=dict(label_free.SCORERS),
        ways=tuple(_way(crossed, one, exam, estimates[one.title]) for one in crossed.tried),
        trusted=crossed.trusted,
        asked_for=crossed.asked_for,
        reason=crossed.reason,
    )


def _way(crossed: Crossed, one: Tried, exam: Exam, estimate: Score) -> Way:
    shop, choice = crossed.shop, crossed.choice
    return Way(
        title=one.title,
        strategy=one.name,
        settings=one.settings,
        cut=one.solved.cut,
        source_score=shop.judge.score(one.val_scores),
        gains={scorer: gains[one.title] for scorer, gains in choice.gains.items() if one.title in gains},
        votes=tuple(scorer for scorer, votes in choice.votes.items() if votes.get(one.title)),
        estimate=estimate,
        measured=_scored(shop, exam.y, exam.ways[one.title]) if exam.ways else None,
        cost_passes=round(one.cost, 2),
        seconds=round(one.seconds, 2),
        chosen=one is crossed.chosen,
    )


def estimated(crossed: Crossed) -> dict[str, Score]:
    """Title of each way -> its accuracy on the target, estimated; of the mean of several ways, the mean of theirs."""
    found: dict[str, Score] = {}
    by_name: dict[str, Score] = {}
    for one in crossed.tried:  # the mean comes after its members
        if one.name == TOGETHER:
            found[one.title] = averaged([by_name[name] for name in one.settings["members"]])
            continue
        seen, seed = one.outlook, crossed.shop.seed
        guess = estimate_accuracy(
            seen.y_val, seen.val_probabilities, seen.target_probabilities, seed, crossed.consensus
        )
        found[one.title] = by_name[one.name] = guess.estimate
    return found


def _scored(shop: Workshop, y: np.ndarray, scores: np.ndarray) -> Score:
    """The run's metric with its interval."""
    scales = Scales(metrics=(shop.metric,), seed=shop.seed)
    found = score(scales.metrics, y, scores, scales.resamples(len(y)))
    return found.get(shop.metric.name, Score(float("nan"), float("nan"), float("nan")))


def claim(
    found: Adaptation, exam: Exam, metric: Metric, scores: dict[str, Scores], differences: dict[str, Scores]
) -> tuple[str, bool | None]:
    """What the run may claim."""
    if not found.n_labelled:
        return verdict(found, None)
    gain = differences[SOURCE_ONLY][metric.name] if SOURCE_ONLY in differences else None
    if gain is not None and metric.better == "lower":
        gain = Score(-gain.value, -gain.high, -gain.low)
    return verdict(found, Measured(title=metric.title, score=scores[MODEL][metric.name], gain=gain, n=len(exam.y)))


def tell(crossed: Crossed, found: Adaptation, exam: Exam, evidence: Evidence, out: Path | None) -> Record:
    """Everything that this fit has to say."""
    shop, domains = crossed.shop, crossed.domains
    summary = inductive.summarise(domains.source)
    n = {**summary.n, "test": len(exam.rows), "target": len(domains.rows)}
    test = TestResult(
        y=exam.y, scores=exam.scores, naive=exam.systems[exam.naive_title], classical=exam.systems[exam.classical]
    )
    items = [shop.items[row] for row in exam.rows]
    return Record(
        data=replace(summary, n=n),
        findings=(*domains.source.findings, *domains.findings),
        task=shop.problem.linear,
        plan=make_plan(crossed, found, exam),
        provenance=shop.backbone.provenance,
        evidence=evidence,
        test=test,
        mistakes=find_mistakes(shop.problem.linear, test, shop.modality, items, _names(shop, exam.y)),
        seconds=dict(shop.progress.seconds),
        command=command(crossed, evidence.primary, out),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        adaptation=found,
        clouds=clouds_of(crossed),
    )


def command(crossed: Crossed, metric: str, out: Path | None) -> str:
    """The command line that makes the run again; "" for data in memory."""
    target = crossed.domains.target
    again = inductive.command(crossed.domains.source.dataset, metric, out)
    if not again or target.source.endswith(" in memory"):
        return ""
    labels = target.overruled.get("target-labels")
    return f"{again} --to {shlex.quote(target.source)}" + (f" --target-labels {shlex.quote(labels)}" if labels else "")


def has_own_space(crossed: Crossed) -> bool:
    """Whether the chosen head reads features that were moved; the mean of several heads reads them as they are."""
    return crossed.adapts and crossed.chosen.name != TOGETHER


def clouds_of(crossed: Crossed) -> tuple[tuple[str, Clouds], ...]:
    """Both domains in two dimensions: as they are, and as the chosen head reads them."""
    seen = [("Before", crossed.source_only.outlook)]
    if has_own_space(crossed):
        seen.append((f"After: {crossed.chosen.title}", crossed.chosen.outlook))
    return tuple((title, clouds(outlook.train, outlook.target)) for title, outlook in seen)


def _names(shop: Workshop, y: np.ndarray) -> list[str]:
    return [shop.problem.linear.score_names[k] for k in y]


def make_plan(crossed: Crossed, found: Adaptation, exam: Exam) -> Plan:
    """What was decided, and why."""
    shop, own = crossed.shop, crossed.chosen.solved
    return Plan(
        backbone=shop.backbone.provenance.name,
        backbone_sha256=shop.backbone.provenance.sha256,
        strategy=crossed.chosen.name,
        cut=own.cut,
        n_stages=shop.backbone.n_stages,
        stage_names=tuple(stage.name for stage in shop.backbone.stages),
        strength=own.adapted.strength,
        temperature=own.temperature,
        val_loss=own.adapted.val_loss,
        classical=exam.classical,
        seed=shop.seed,
        reason=found.reason,
        settings=crossed.chosen.settings,
        metric=shop.metric.name,
        metric_title=shop.metric.title,
        depth=tuple(one.point for one in shop.probed),
        way=shop.runner.way,
        crosswise=False,
    )


def assemble(crossed: Crossed, exam: Exam, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    shop, domains, chosen = crossed.shop, crossed.domains, crossed.chosen
    task, last = shop.problem.linear, shop.backbone.n_stages - 1

    def names(items: list[Any]) -> list[str]:
        return [shop.modality.name_in_full(item) for item in items]

    answers = prediction_table(task, names(domains.target.inputs), exam.answers)
    tested = prediction_table(task, names([shop.items[row] for row in exam.rows]), exam.scores)
    tested.insert(1, "label", _names(shop, exam.y))
    kept = examples.draw(domains.source, lambda rows: shop.frozen.stage(last, rows), shop.seed)
    return Model(
        task=task,
        modality=shop.modality,
        head=chosen.solved.adapted.head,
        stages=chosen.solved.stages,
        changes=chosen.solved.adapted.changes,
        plan=record.plan,
        provenance=shop.backbone.provenance,
        fingerprint=shop.backbone.fingerprint,
        evidence=record.evidence,
        columns=inductive.columns_of(domains.source.dataset),
        seen=domains.source.seen,
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "predictions.parquet": table_bytes(tested),
            "target.parquet": table_bytes(answers),
            examples.FILE: kept.to_bytes(),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
        },
        _pretrained=shop.backbone,
    )
