"""Chat with a model that others run: audit → split → estimate, agree → fine-tune at the API → ask both → weigh.

What the fine-tuning was worth is told by the untouched model, which is asked the same, and by the nearest training
question's answer. The API gives no likelihoods of given answers, so that only answers are compared.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headstart.backbones.base import Provenance
from headstart.data.conversation import SYSTEM, Conversation
from headstart.data.dataset import Dataset
from headstart.deploy import artifact
from headstart.deploy.card import model_card
from headstart.deploy.model import Model
from headstart.deploy.predictions import table_bytes
from headstart.engine.voice import Sampling
from headstart.errors import DataError, PlanError, listed
from headstart.evidence import chats
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.chat_verdict import COMMONEST, UNTOUCHED
from headstart.evidence.chats import ChatEvidence, measure_chat, rivals
from headstart.evidence.hosted_verdict import hosted_claim
from headstart.evidence.plan import Plan
from headstart.evidence.record import Record, library_versions
from headstart.evidence.retrieval import TFIDF
from headstart.evidence.weigh import MODEL, primary_first, weigh_systems
from headstart.hosted.consent import agree
from headstart.hosted.cost import counter_of, epochs_for, estimate, price_of
from headstart.hosted.job import Order, tuned
from headstart.hosted.ledger import Ledger
from headstart.hosted.offer import Talks, offer
from headstart.hosted.rules import prepare
from headstart.hosted.service import address, connect
from headstart.hosted.voice import HostedTalker, HostedVoice
from headstart.hosted.wishes import PREFIX, STRATEGY, model_of
from headstart.inductive import columns_of, scales_of, summarise
from headstart.problem import Problem, pose
from headstart.progress import Progress
from headstart.report.html import render
from headstart.tasks.base import one_each
from headstart.wishes import Wishes

LIKELIHOODS = ("perplexity", "bits_per_byte")  # metrics that the API's answers do not give
HOW = Sampling()


def fit(
    dataset: Dataset,
    wishes: Wishes,
    *,
    backbone: object,
    metric: str | None,
    seed: int,
    out: Path | None,
    progress: Progress,
) -> Model:
    """Fine-tune `openai:MODEL` at the API on chat data; write the run folder `out` if one is named.

    Nothing is sent before what leaves and what it costs is agreed to. A fit that was broken off goes on where it was:
    nothing is uploaded or paid for twice. HeadstartError says what does not fit.
    """
    model = model_of(backbone)
    check(dataset, wishes, metric)
    with connect() as client:
        problem = pose(dataset, seed, progress, crosswise=False).in_fixed_order()
        metrics = primary_first(problem.task.metrics(), metric)
        talks = talks_of(problem)
        order, asked = plan_order(model, talks, wishes, seed, dataset.name)
        ledger = Ledger(order.key)
        if not ledger.read().agreed:
            agree(asked, wishes.hosted.yes, progress.say)
            ledger.write(agreed=True)
        with progress.step("fine-tune at the service"):
            job = tuned(client, order, ledger, progress)
        with progress.step("evaluate"):
            systems = ask_all(client, job.fine_tuned_model, model, talks, ledger, progress)
            y, scales = one_each(talks.test), scales_of(problem, metrics, metric, seed)
            chat = measure_chat(chats.Talks(train=talks.train, y=y, systems=systems, scales=scales))
            evidence = weigh_systems(scales, y, systems, hosted_claim(len(y), scales.n_groups, chat.parroting))
    with progress.step("report"):
        made = Made(problem=problem, talks=talks, order=order, job=job, systems=systems, chat=chat, evidence=evidence)
        record = tell(made, progress)
        fitted = assemble(made, record)
    if out is not None:
        fitted.save(out)
    return fitted


def check(dataset: Dataset, wishes: Wishes, metric: str | None) -> None:
    """What can be said before anything is looked at. DataError for other data than chats, PlanError for odd wishes."""
    if dataset.task != "chat":
        raise DataError(
            f"A hosted model learns to answer in conversations, and {dataset.source} poses {dataset.task}. Give chats, "
            "or say with --task chat that a table holds prompts and answers; or take a backbone that runs here."
        )
    asked = {
        "--strategy": wishes.strategy,
        "--freeze": wishes.freeze,
        "--budget": wishes.budget,
        "--learning-rate": wishes.learning_rate,
        "--class-weight": wishes.class_weight,
        "--plan": wishes.plan,
    }
    if odd := [name for name, value in asked.items() if value is not None]:
        raise PlanError(
            f"{listed(odd)} mean{'s' * (len(odd) == 1)} nothing to a hosted model, whose training is the service's "
            "own. Leave it out; --epochs says how long it learns."
        )
    if metric in LIKELIHOODS:
        raise PlanError(f"{metric!r} needs likelihoods, which the API does not give. Use --metric token_f1 or rouge_l.")


def talks_of(problem: Problem) -> Talks:
    """The conversations of each split, in the problem's order."""
    stored = problem.dataset.inputs
    each = {name: [Conversation.from_text(stored[row]) for row in problem.rows[name]] for name in problem.rows}
    return Talks(train=each["train"], val=each["val"], test=each["test"])


def plan_order(model: str, talks: Talks, wishes: Wishes, seed: int, name: str) -> tuple[Order, list[str]]:
    """What is to be bought, and the offer that its owner has to agree to."""
    counter, asked = counter_of(model), wishes.hosted
    price = price_of(model, asked.price)
    sending = prepare(talks.train, talks.val, model, counter)
    n_epochs = asked.n_epochs or epochs_for(sending.n_train)
    order = Order(model=model, sending=sending, n_epochs=n_epochs, seed=seed, suffix=suffix_of(name))
    costs = estimate(counter, price, n_epochs * sending.n_tokens, talks.prompts, HOW.max_tokens)
    return order, offer(order, talks, costs)


def suffix_of(name: str) -> str:
    """The data's name as a model's name may end: letters of ASCII, digits and hyphens, at most 18."""
    kept = "".join(one if one.isascii() and one.isalnum() else "-" for one in name.lower())
    return "-".join(filter(None, kept.split("-")))[:18].strip("-") or "headstart"


def ask_all(
    client: Any, fine_tuned: str, base: str, talks: Talks, ledger: Ledger, progress: Progress
) -> dict[str, np.ndarray]:
    """What every system answers to the test's prompts, (N,) of `Said` by name: asked once, after every choice."""

    def asked(model: str) -> np.ndarray:
        voice = HostedVoice(model, ledger=ledger, _client=client)
        each = zip(voice.said(talks.test), voice.answers(talks.prompts, HOW, progress), strict=True)
        return one_each([replace(one, answer=answer) for one, answer in each])

    own = asked(fine_tuned)
    others = rivals(talks.train, one_each(talks.test), own, progress)
    return {MODEL: own, UNTOUCHED: asked(base), **others}


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a hosted fit has made."""

    problem: Problem
    talks: Talks
    order: Order
    job: Any  # openai.types.fine_tuning.FineTuningJob
    systems: dict[str, np.ndarray]  # name -> (N,) of Said
    chat: ChatEvidence
    evidence: Evidence

    @property
    def base(self) -> str:
        """The model that was fine-tuned."""
        return self.order.model


def tell(made: Made, progress: Progress) -> Record:
    """Everything that this fit has to say."""
    problem, systems = made.problem, made.systems
    return Record(
        data=summarise(problem),
        findings=problem.findings,
        task=problem.task,
        plan=plan_of(made),
        provenance=provenance(made.base),
        evidence=made.evidence,
        test=TestResult(
            y=one_each(made.talks.test),
            scores=systems[MODEL],
            naive=systems[COMMONEST],
            classical=systems[TFIDF],
            pretrained=systems[UNTOUCHED],
        ),
        mistakes=(),
        chat=made.chat,
        seconds=dict(progress.seconds),
        command=command(made),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
    )


def provenance(base: str) -> Provenance:
    """Of a model whose weights no one here has seen."""
    return Provenance(
        name=PREFIX + base, source=f"hosted at {address()}", licence="the service's terms", sha256="", n_parameters=0
    )


def plan_of(made: Made) -> Plan:
    """What was decided."""
    order = made.order
    return Plan(
        backbone=PREFIX + order.model,
        backbone_sha256="",
        strategy=STRATEGY,
        cut=0,
        n_stages=0,
        stage_names=(),
        strength=None,
        temperature=1.0,
        val_loss=None,
        classical=TFIDF,
        seed=order.seed,
        reason=f"{order.model} fine-tuned at {address()} for {order.n_epochs} epochs",
        settings={"n_epochs": order.n_epochs, "suffix": order.suffix},
        metric=made.evidence.primary,
        metric_title=made.evidence.titles[made.evidence.primary],
        crosswise=False,
    )


def command(made: Made) -> str:
    """The command line that makes the run again, and pays for it again elsewhere; "" for data in memory."""
    dataset, order = made.problem.dataset, made.order
    if dataset.source.endswith(" in memory"):
        return ""
    words = ["headstart", "fit", dataset.source, "--backbone", PREFIX + order.model]
    for name, value in dataset.overruled.items():
        words += [f"--{name}", value]
    words += ["--epochs", str(order.n_epochs), "--metric", made.evidence.primary, "--seed", str(order.seed)]
    return shlex.join(words)


def talker_of(made: Made) -> HostedTalker:
    """What the run keeps of the model."""
    job = made.job
    return HostedTalker(
        base=made.base,
        tuned=str(job.fine_tuned_model),
        job=str(job.id),
        files=tuple(str(one) for one in (job.training_file, job.validation_file) if one),
        server=address(),
        n_epochs=made.order.n_epochs,
        trained_tokens=job.trained_tokens,
        system=common_system(made.talks),
    )


def common_system(talks: Talks) -> str | None:
    """What the system says in every conversation that teaches; None where that differs."""
    said = {one.turns[0].text if one.turns[0].role == SYSTEM else None for one in talks.train}
    return said.pop() if len(said) == 1 else None


def assemble(made: Made, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    problem = made.problem
    return Model(
        task=problem.task,
        modality=problem.modality,
        talker=talker_of(made),
        plan=record.plan,
        provenance=record.provenance,
        evidence=record.evidence,
        columns=columns_of(problem.dataset),
        seen=problem.seen,
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "predictions.parquet": table_bytes(answers_table(made)),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
        },
    )


def answers_table(made: Made) -> pd.DataFrame:
    """A row a test conversation: the prompt, the true answer, and what each system answers."""
    asked = {
        "input": [one.to_text() for one in made.talks.prompts],
        "label": [one.reference for one in made.talks.test],
    }
    names = {MODEL: "prediction", **{name: name for name in made.systems if name != MODEL}}
    return pd.DataFrame(asked | {names[name]: [one.answer for one in said] for name, said in made.systems.items()})
