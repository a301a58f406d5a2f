"""Speech to text, inductive transfer where labels are transcripts: audit → split → frozen outputs → train → evaluate.

The depth question is the usual one: a head alone on frozen stages, the upper stages too, or everything; and the same
network from random weights for comparison. Adapters on the decoder that Whisper comes with are tried where they are
named; beside these stands what it hears untouched, in place of random weights, with which no decoder learns words from
a small data set. What the pretrained network adds is told by the same head on log-mel frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headstart import adapt, adapt_head
from headstart.adapt import Chosen
from headstart.backbones.log_mel import LogMel
from headstart.data.dataset import Dataset
from headstart.decoder_workshop import DecoderWorkshop
from headstart.deploy import artifact, examples
from headstart.deploy.card import model_card
from headstart.deploy.model import Model
from headstart.deploy.predictions import table_bytes
from headstart.deploy.transcripts import tested_table
from headstart.engine.decoder import AdaptedDecoder
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.mishearings import measure_speech, worst
from headstart.evidence.record import Record
from headstart.evidence.weigh import Scales, primary_first, weigh
from headstart.head_workshop import SolvedHead
from headstart.inductive import as_planned, columns_of, scales_of, tell
from headstart.problem import pose
from headstart.progress import Progress
from headstart.report.html import render
from headstart.speech_workshop import RECIPE, SpeechWorkshop
from headstart.wishes import Wishes
from headstart.workshop import load_backbones, open_workshop

RIVAL, RIVAL_OF_DECODER = "the same head on log-mel frames", "a head on log-mel frames"
ADVICE = "Give more speech, a longer --budget or another --backbone."
ADVICE_OF_DECODER = "Leave --strategy out, so that a head on frames is learnt."


@dataclass(frozen=True, kw_only=True)
class Systems:
    """Everything that is to be measured on the test split."""

    chosen: Chosen  # with the reading of its frames that is best on validation
    scratch: SolvedHead | None
    rival: SolvedHead  # on log-mel frames


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
    """Adapt a speech encoder to transcribed sounds; write the run folder `out` if one is named."""
    seed, primary, backbone = as_planned(wishes.plan, seed, metric, backbone)
    networks = load_backbones(backbone, dataset.modality, progress)
    adapt_head.check(wishes, RECIPE, networks[0].n_stages, len(networks))
    problem = pose(dataset, seed, progress, crosswise=False).in_fixed_order()
    metrics = primary_first(problem.task.metrics(), primary)
    kind = DecoderWorkshop if wants_decoder(wishes) else SpeechWorkshop
    shop: SpeechWorkshop = open_workshop(problem, networks[0], metrics, wishes, seed, progress, kind)
    if wishes.plan is not None and wishes.plan.reads:
        shop.read = wishes.plan.reads[0]
    if isinstance(shop, DecoderWorkshop):
        shop.check()
    chosen = adapt_head.choose(shop, wishes)
    with progress.step("choose how frames are read"):
        reading = shop.best_reading(chosen.solved, chosen.val_scores)
        progress.say(f"  {reading.name}: {shop.metric.title} {reading.value:.3f} on validation")
    chosen = replace(chosen, solved=reading.solved, val_scores=reading.heard)
    beside = open_workshop(problem, LogMel(), metrics, wishes, seed, progress, SpeechWorkshop)
    with progress.step("classical baseline"):
        rival = beside.read_alike(beside.on_log_mel(), chosen.solved.trained)
    scratch = None if isinstance(shop, DecoderWorkshop) else adapt_head.from_scratch(shop, chosen, wishes)
    scratch = None if scratch is None else shop.read_alike(scratch, chosen.solved.trained)
    systems = Systems(chosen=chosen, scratch=scratch, rival=rival)
    with progress.step("evaluate"):
        test = test_once(shop, beside, systems)
        scales = scales_of(problem, metrics, metric, seed)
        advice = ADVICE_OF_DECODER if isinstance(shop, DecoderWorkshop) else ADVICE
        evidence = weigh(scales, test, rival_of(chosen), transfer_title(shop, chosen), advice)
    with progress.step("report"):
        record = told(shop, systems, evidence, test, scales, out)
        model = assemble(shop, systems, record)
    if out is not None:
        model.save(out)
    shop.trials.forget()
    beside.trials.forget()
    return model


def wants_decoder(wishes: Wishes) -> bool:
    """Whether the backbone's decoder is to be adapted: so it is named, or so says the plan."""
    if wishes.plan is not None:
        return bool(wishes.plan.settings.get("decoder"))
    return wishes.strategy in RECIPE.on_demand


def rival_of(chosen: Chosen) -> str:
    """What stands beside the network, for people."""
    return RIVAL_OF_DECODER if isinstance(chosen.solved.trained, AdaptedDecoder) else RIVAL


def transfer_title(shop: SpeechWorkshop, chosen: Chosen) -> str:
    """The adapted network, for people."""
    names = [stage.name for stage in shop.backbone.stages]
    return f"{shop.backbone.provenance.name}, {adapt.title_of(chosen.solved.strategy, names)}"


def test_once(shop: SpeechWorkshop, beside: SpeechWorkshop, systems: Systems) -> TestResult:
    """What every system says of the test split: called once, after every choice is made."""
    problem, scratch = shop.problem, systems.scratch
    rows = problem.rows["test"]
    return TestResult(
        y=problem.y[rows],
        scores=shop.scores(systems.chosen.solved, rows),
        naive=problem.task.naive(problem.y[problem.rows["train"]], len(rows)),
        classical=beside.scores(systems.rival, rows),
        scratch=None if scratch is None else shop.scores(scratch, rows),
        scratch_epochs=None if scratch is None else scratch.strategy.settings()["epochs"],
        pretrained=shop.as_pretrained(rows) if isinstance(shop, DecoderWorkshop) else None,
    )


def told(
    shop: SpeechWorkshop, systems: Systems, evidence: Evidence, test: TestResult, scales: Scales, out: Path | None
) -> Record:
    """Everything that this fit has to say."""
    problem = shop.problem
    trained = systems.chosen.solved.trained
    plan = adapt_head.plan_of(shop, systems.chosen, systems.scratch, rival_of(systems.chosen))
    plan = replace(plan, reads=trained.stages)
    tested = problem.dataset.select(problem.rows["test"])
    metric = next(one for one in scales.metrics if one.name == evidence.primary)
    return replace(
        tell(shop, plan, evidence, test, out),
        speech=measure_speech(shop.task, test.y, test.scores, metric, problem.groups("test"), shop.seed),
        utterances=worst(test.y, test.scores, metric, problem.modality, tested.inputs),
    )


def assemble(shop: SpeechWorkshop, systems: Systems, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    problem = shop.problem
    tested = problem.dataset.select(problem.rows["test"])
    return Model(
        task=problem.task,
        modality=problem.modality,
        recognizer=systems.chosen.solved.trained,
        plan=record.plan,
        provenance=shop.backbone.provenance,
        fingerprint=shop.backbone.fingerprint,
        evidence=record.evidence,
        columns=columns_of(problem.dataset),
        seen=problem.seen,
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "predictions.parquet": table_bytes(tested_table(problem.modality, tested, record.test.scores)),
            examples.FILE: examples.draw(problem, lambda rows: np.zeros((len(rows), 0)), shop.seed).to_bytes(),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
        },
        _pretrained=shop.backbone,
    )
