"""Chat, inductive transfer where the output is text: audit → split → frozen outputs → adapters at several depths →
choose → evaluate → save.

The depth question is the usual one, asked of adapters: they learn for a short while above each of several cuts, from
outputs of the frozen stages that one pass has kept, and the best go on to all conversations. What the pretrained model
says untouched is a way too, and stands in the place of random weights: nobody learns a language from a small data set.
The classical rival is a search among the training questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart import adapt, adapt_head, registry
from headstart.adapt import Chosen
from headstart.backbones import catalog
from headstart.backbones.causal_lm import CausalLm
from headstart.chat_workshop import MOST_TOKENS, RECIPE, ChatWorkshop, depths_of
from headstart.data.audit_chat import audit_lengths
from headstart.data.dataset import SPLITS, Dataset
from headstart.deploy import artifact, examples
from headstart.deploy.card import model_card
from headstart.deploy.model import Model
from headstart.engine.allocator import give_back
from headstart.engine.talker import Talker
from headstart.engine.voice import Sampling
from headstart.errors import PlanError
from headstart.evidence import planner
from headstart.evidence.base import Evidence, TestResult
from headstart.evidence.chat_verdict import COMMONEST, UNTOUCHED, Beside, chat_claim
from headstart.evidence.chats import ChatEvidence, Lengths, Talks, measure_chat, rivals
from headstart.evidence.plan import DepthPoint, Plan
from headstart.evidence.planner import Search, Tried
from headstart.evidence.record import Record
from headstart.evidence.retrieval import TFIDF, fetch_encoder
from headstart.evidence.weigh import MODEL, Scales, primary_first, weigh_systems
from headstart.inductive import as_planned, columns_of, scales_of, tell
from headstart.problem import Problem, pose
from headstart.progress import Progress
from headstart.report.html import render
from headstart.strategies.base import Trained
from headstart.strategies.zero_shot import ZeroShot
from headstart.tasks.base import one_each
from headstart.tasks.chat import Said
from headstart.wishes import AUTO, Wishes
from headstart.workshop import load_backbone, open_workshop

DEFAULT = "smollm2-135m"
CHOSEN_BY = ("perplexity", "bits_per_byte")  # on validation nothing is answered
N_ASKED = 48  # conversations of test in which the systems answer
FIRST_EXAMPLES = 96  # conversations that every way learns from before the better ones go on
LONGEST, SHORTEST, SLACK = 192, 32, 1.25  # tokens of an answer; so much more than the long ones of train


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
    """Adapt a language model to conversations; write the run folder `out` if one is named."""
    seed, primary, backbone = as_planned(wishes.plan, seed, metric, backbone)
    given = [backbone] if backbone is None or isinstance(backbone, str) else list(backbone)
    plain = language_model(given[0], dataset, progress)
    adapt_head.check(wishes, RECIPE, plain.n_stages, len(given))
    network = plain.of_conversations(MOST_TOKENS)
    with progress.step("load the backbone"):
        fetch_encoder(progress)
    problem = pose(dataset, seed, progress, crosswise=False).in_fixed_order()
    problem = with_lengths(problem, network, progress)
    metrics = primary_first(problem.task.metrics(), primary)
    shop: ChatWorkshop = open_workshop(problem, network, metrics, wishes, seed, progress, ChatWorkshop)
    shop.metric = next(one for one in metrics if one.name in CHOSEN_BY)
    chosen = choose(shop, wishes)
    give_back()
    with progress.step("evaluate"):
        tested = test_once(shop, chosen)
        scales = scales_of(problem, metrics, metric, seed)
        evidence, chat = weighed(shop, tested, scales)
    with progress.step("report"):
        record = told(shop, chosen, evidence, chat, tested, out)
        model = assemble(plain, shop, chosen, record)
    if out is not None:
        model.save(out)
    shop.trials.forget()
    return model


def language_model(reference: str | None, dataset: Dataset, progress: Progress) -> CausalLm:
    """The backbone; PlanError for one that does not write."""
    entry = catalog.ENTRIES.get(reference or DEFAULT)
    other = entry is not None and entry.family != "causal_lm"  # is not fetched first
    found = None if other else load_backbone(reference or DEFAULT, registry.modality(dataset.modality), progress)
    if not isinstance(found, CausalLm):
        raise PlanError(
            f"{reference} does not write, so that it cannot chat. Leave --backbone out for {DEFAULT!r}, or "
            "give a language model: a folder, a hub id or a GGUF file of the GPT-2, Llama, Qwen, Gemma, Phi, Mistral "
            "or SmolLM family."
        )
    return found


def with_lengths(problem: Problem, network: CausalLm, progress: Progress) -> Problem:
    """With what is cut off long conversations among the findings."""
    known = [network.dialogue.encoded(stored) for stored in problem.dataset.inputs]
    most = network.dialogue.max_tokens
    found = audit_lengths([one.whole for one in known], most, [one.lost for one in known])
    for finding in found:
        progress.say(f"  {finding.severity}: {finding.text}")
    return replace(problem, findings=(*problem.findings, *found))


def choose(shop: ChatWorkshop, wishes: Wishes) -> Chosen:
    """The best way on validation: adapters at several depths, a short while each; then the best of them on all."""
    if wishes.plan is not None:
        return again(shop, wishes.plan)
    asked_for = None if wishes.budget is None else adapt.passes(shop, wishes.budget)
    budget = adapt_head.default_budget(shop) if asked_for is None else asked_for
    ways = ways_of(shop, wishes)
    n_stages = shop.backbone.n_stages
    shop.kept_at = tuple(sorted({way.cut(n_stages) for way in ways} - {0}))
    with shop.progress.step("try strategies"):
        as_it_is = adapt_head.untrained(shop, wishes)
        named = len(ways) == 1 and asked_for is None
        search = Search(
            work=shop.work,
            judge=shop.judge,
            trial=shop.train,
            budget=math.inf if named else budget,
            say=shop.progress.say,
            first_examples=FIRST_EXAMPLES,
        )
        tried = [*as_it_is, *(search.run(ways) if ways else [])]
    final = [one for one in tried if one.n_train in (0, shop.work.n_train)]
    if wishes.strategy is not None and wishes.strategy != adapt_head.ZERO_SHOT:
        final = [one for one in final if one.n_train] or final
    chosen = planner.choose(final, shop.judge)
    return Chosen(
        solved=chosen.solved,
        val_scores=chosen.scores,
        depth=depth_of(shop, tried),
        candidates=tuple(adapt.candidate(shop, one, chosen) for one in tried),
        budget=budget,
        reason=adapt.reason_for(shop, chosen, final),
    )


def ways_of(shop: ChatWorkshop, wishes: Wishes) -> list[Trained]:
    """What is trained: all that is worth a try, or what the user asked for."""
    if wishes.strategy == adapt_head.ZERO_SHOT:
        return []
    ways = shop.ways()
    if wishes.strategy not in (None, AUTO):
        ways = [way for way in (*ways, *shop.on_demand) if registry.plugin_name(way) == wishes.strategy]
    if wishes.freeze is not None:
        ways = frozen_at(ways, wishes.freeze, shop.backbone.n_stages)
    if isinstance(wishes.learning_rate, int | float):
        ways = [replace(way, learning_rate=float(wishes.learning_rate)) for way in ways]
    return ways


def frozen_at(ways: Sequence[Trained], freeze: int, n_stages: int) -> list[Trained]:
    """Each kind of way once, with the cut that the user chose."""
    if freeze == n_stages:
        raise PlanError(
            f"freeze={freeze} freezes everything, and above it a language model has no head to train. Pass a value "
            f"from 0 to {n_stages - 1}, or --strategy zero_shot to use it as it is."
        )
    found: dict[type, Trained] = {}
    for way in ways:
        if "freeze" in way.settings():
            found.setdefault(type(way), replace(way, freeze=freeze))  # type: ignore[call-arg]
        elif freeze == way.cut(n_stages):
            found.setdefault(type(way), way)
    if not found:
        raise PlanError(f"No way that was asked for can freeze {freeze} of {n_stages} stages. Leave --strategy out.")
    return list(found.values())


def depth_of(shop: ChatWorkshop, tried: Sequence[Tried]) -> tuple[DepthPoint, ...]:
    """What adapters above each cut make of validation, after as short a while; nothing where one alone was tried."""
    names = [stage.name for stage in shop.backbone.stages]
    points = [(cut, one) for cut, one in depths_of(tried) if cut]
    if len(points) == 1:
        return ()
    return tuple(DepthPoint(stages=(cut - 1,), name=names[cut - 1], score=one.score) for cut, one in points)


def again(shop: ChatWorkshop, plan: Plan) -> Chosen:
    """What a plan says, done again."""
    with shop.progress.step("try strategies"):
        strategy = registry.STRATEGIES.get(plan.strategy)(**plan.settings)
        shop.kept_at = (plan.cut,) if 0 < plan.cut < plan.n_stages else ()
        tried = shop.untrained()[0] if isinstance(strategy, ZeroShot) else shop.train(strategy)
    return adapt_head.as_planned(tried, plan)


@dataclass(frozen=True, kw_only=True)
class Tested:
    """What every system says of the test conversations, and the two models for what else is asked of them."""

    y: np.ndarray
    systems: dict[str, np.ndarray]  # name -> (N,) of Said
    voices: tuple[Any, Any]  # untouched, adapted


def test_once(shop: ChatWorkshop, chosen: Chosen) -> Tested:
    """What every system says of the test split: called once, after every choice is made."""
    problem, say = shop.problem, shop.progress
    rows = problem.rows["test"]
    y, train = problem.y[rows], problem.y[problem.rows["train"]]
    how = Sampling(max_tokens=longest_answer(shop))
    untouched, adapted = shop.talker().network(shop.backbone), chosen.solved.trained.network(shop.backbone)
    say.say(f"  {len(rows):,} test conversations are measured, and {min(N_ASKED, len(rows)):,} of them answered")
    systems = {MODEL: heard(adapted, y, how, say)}
    if is_untouched(chosen.solved.trained):
        systems[UNTOUCHED] = systems[MODEL]
    else:
        say.say("  the same by the model as it was pretrained")
        systems[UNTOUCHED] = heard(untouched, y, how, say)
    return Tested(y=y, systems=systems | rivals(train, y, systems[MODEL], say), voices=(untouched, adapted))


def is_untouched(talker: Talker) -> bool:
    """Whether nothing was learnt."""
    return talker.changes is None


def heard(voice: Any, y: np.ndarray, how: Sampling, progress: Progress) -> np.ndarray:
    """How likely a model makes the true answers, and its own ones in the first conversations, (N,) of Said."""
    said = voice.said(list(y), progress)
    some = y[:N_ASKED]  # sorted by content, which is as good as drawn
    answers = voice.answers([one.before(one.asked) for one in some], how, progress)
    return one_each([*map(lambda one, text: replace(one, answer=text), said, answers), *said[len(some) :]])


def longest_answer(shop: ChatWorkshop) -> int:
    """Tokens that an answer may take in the test, by the long ones of train."""
    tokens = [len(shop.backbone.dialogue.encoded(shop.items[row]).learnt) for row in shop.problem.rows["train"]]
    each = np.array(tokens) / [max(1, len(one.answers)) for one in shop.problem.y[shop.problem.rows["train"]]]
    return int(np.clip(SLACK * np.quantile(each, 0.95), SHORTEST, LONGEST))


def weighed(shop: ChatWorkshop, tested: Tested, scales: Scales) -> tuple[Evidence, ChatEvidence]:
    """The scores, and what else the test says."""
    train = shop.problem.y[shop.problem.rows["train"]]
    untouched, adapted = tested.voices
    talks = Talks(
        train=train,
        y=tested.y,
        systems=tested.systems,
        scales=scales,
        nll=None if tested.systems[MODEL] is tested.systems[UNTOUCHED] else (untouched.nll, adapted.nll),
        lengths=tuple(lengths_of(shop, split) for split in SPLITS),
    )
    chat = measure_chat(talks)
    beside = Beside(n=len(tested.y), n_groups=scales.n_groups, parroting=chat.parroting, forgetting=chat.forgetting)
    return weigh_systems(scales, tested.y, tested.systems, chat_claim(beside)), chat


def lengths_of(shop: ChatWorkshop, split: str) -> Lengths:
    """How long the conversations of a split are."""
    rows, reads = shop.problem.rows[split], shop.backbone.dialogue
    known = [reads.encoded(shop.items[row]) for row in rows]
    answers = np.array([len(one.learnt) + one.lost for one in known])
    return Lengths.of(split, np.array([one.whole for one in known]), answers, reads.max_tokens)


def told(
    shop: ChatWorkshop, chosen: Chosen, evidence: Evidence, chat: ChatEvidence, tested: Tested, out: Path | None
) -> Record:
    """Everything that this fit has to say."""
    plan = adapt_head.plan_of(shop, chosen, None, TFIDF)
    test = TestResult(
        y=tested.y,
        scores=tested.systems[MODEL],
        naive=tested.systems[COMMONEST],
        classical=tested.systems[TFIDF],
        pretrained=tested.systems[UNTOUCHED],
    )
    return replace(tell(shop, plan, evidence, test, out), chat=chat)


def assemble(plain: CausalLm, shop: ChatWorkshop, chosen: Chosen, record: Record) -> Model:
    """The model with the files of its run folder, ready to be saved."""
    problem = shop.problem
    return Model(
        task=problem.task,
        modality=problem.modality,
        talker=chosen.solved.trained,
        plan=record.plan,
        provenance=plain.provenance,
        fingerprint=plain.fingerprint,
        evidence=record.evidence,
        columns=columns_of(problem.dataset),
        seen=problem.seen,
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "answers.jsonl": answers_file(record.test),
            examples.FILE: examples.draw(problem, lambda rows: np.zeros((len(rows), 0)), shop.seed).to_bytes(),
            "report.html": render(record).encode(),
            "README.md": model_card(record).encode(),
        },
        _pretrained=plain,
    )


def answers_file(test: TestResult) -> bytes:
    """A line for each test conversation that was answered: question, true answer, the model's."""
    lines = [
        artifact.to_line({"question": one.question, "truth": one.reference, "answer": said.answer})
        for one, said in zip(test.y, test.scores, strict=True)
        if isinstance(said, Said) and said.answer is not None
    ]
    return "".join(lines).encode()
