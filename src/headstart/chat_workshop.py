"""A workshop for conversations: a language model in place of a backbone under a head, adapters at several depths.

The head is the backbone's own, so that nothing need be solved first: each way starts from the model as it was
pretrained, which is a way too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from headstart.backbones.base import Backbone
from headstart.backbones.causal_lm import CausalLm
from headstart.engine.allocator import give_back
from headstart.engine.dialogues import Dialogues, Kept
from headstart.engine.fastest import fastest
from headstart.engine.language import nll_of, teach
from headstart.engine.lesson import precision
from headstart.engine.maps import Maps, cached_maps, outputs_fit_on_disk
from headstart.engine.talker import Talker
from headstart.engine.trials import Trainee, dialogues_key
from headstart.engine.ways import light, run_as
from headstart.evidence.planner import Tried, Work
from headstart.head_workshop import HeadWorkshop, Recipe, SolvedHead
from headstart.strategies.base import Trained
from headstart.strategies.full import Full
from headstart.strategies.lora import Lora
from headstart.strategies.partial import Partial
from headstart.strategies.zero_shot import ZeroShot
from headstart.tasks.base import one_each
from headstart.tasks.chat import Said, answer_bytes

RECIPE = Recipe(
    what="conversations",
    passes=9.0,
    items=2_000,
    first_share=0.5,
    scratch_share=0.0,
    fewest=1,
    enough=1,
    most=4,
    ways=("zero_shot", "lora", "partial", "full"),
)
MOST_TOKENS = 1024  # of a conversation that are learnt from
DEPTHS = (0.05, 0.25, 0.5, 0.75, 0.9)  # shares of the stages that are frozen, each tried
STEPS = 150  # that a training takes, about
ADAPTERS: dict[str, Any] = {"rank": 16, "alpha": 32, "learning_rate": 1e-3, "stage_decay": 1.0, "weight_decay": 0.0}
WEIGHTS: dict[str, Any] = {"learning_rate": 1e-4, "stage_decay": 1.0, "weight_decay": 0.01}
BATCH = 8  # conversations


@dataclass(kw_only=True)
class ChatWorkshop(HeadWorkshop):
    """Conversations and a language model, with everything that ways to learn share."""

    recipe = RECIPE
    backbone: CausalLm  # that reads conversations
    kept_at: tuple[int, ...] = ()  # cuts whose outputs are kept, in one pass; of all ways that will be tried

    @cached_property
    def runner(self) -> Backbone:
        """The backbone as its frozen part is run here."""
        if self.way is not None:
            return run_as(self.backbone, self.way)
        return run_as(self.backbone, light(fastest(self.backbone, self.modality, self.items, self.progress).way))

    @cached_property
    def taught(self) -> CausalLm:
        """The backbone in the type that training multiplies in: under adapters, which hold all that moves."""
        half = precision(self.backbone) == "bf16-mixed"
        other = self.runner if half and self.runner.dtype == "bfloat16" else self.backbone.cast("bfloat16")
        return self._language(other if half else self.backbone)

    @property
    def cuts(self) -> tuple[int, ...]:
        """From the one next to everything to the one next to nothing."""
        n = self.backbone.n_stages
        return tuple(sorted({min(n - 1, max(1, round(share * n))) for share in DEPTHS}))

    def ways(self) -> list[Trained]:
        """What is tried unasked: adapters above each cut. Weights did no better (docs/log.md), and take more memory."""
        return [self.at_cut(cut) for cut in self.cuts]

    @property
    def on_demand(self) -> tuple[Trained, ...]:
        """The weights themselves, above the middle or all of them."""
        return (Partial(freeze=self._middle, **WEIGHTS, **self._common), Full(**WEIGHTS, **self._common))

    @property
    def _middle(self) -> int:
        return max(1, round(0.5 * self.backbone.n_stages))

    @property
    def _common(self) -> dict[str, Any]:
        n_train = len(self.problem.rows["train"])
        epochs = int(np.clip(round(STEPS * BATCH / max(1, n_train)), self.recipe.fewest, self.recipe.most))
        return {"epochs": epochs, "batch_size": BATCH}

    def at_cut(self, freeze: int) -> Trained:
        """Adapters on all stages but so many."""
        return Lora(freeze=freeze, **ADAPTERS, **self._common)

    def with_random_weights(self) -> Trained:
        """There is none: a few hundred conversations do not teach a language."""
        raise NotImplementedError("language is not learnt from scratch here")

    @cached_property
    def work(self) -> Work:
        """Counts what training costs; the vocabulary's logits are made of the tokens of answers alone."""
        encoded = [self.backbone.dialogue.encoded(self.items[row]) for row in self.problem.rows["train"]]
        answered = sum(len(one.learnt) for one in encoded) / max(1, sum(len(one.ids) for one in encoded))
        network: Any = self.backbone.network
        head = network.get_output_embeddings().weight.numel()
        rest = sum(one.numel() for one in network.parameters()) - network.get_input_embeddings().weight.numel()
        return replace(super().work, head=answered * head / rest)

    def lesson_for(self, strategy: Trained, rows: np.ndarray, cache: bool) -> Dialogues:
        """What a strategy learns from; with a `cache`, from outputs of the frozen stages that are kept."""
        cut = strategy.cut(self.backbone.n_stages)
        network = self.taught if isinstance(strategy, Lora) else self.backbone
        return self._dialogues(network, rows, self.outputs(cut) if cache and cut else None)

    def _dialogues(self, network: CausalLm, rows: np.ndarray, maps: Maps | None) -> Dialogues:
        return Dialogues(
            backbone=network,
            modality=self.modality,
            items=self.items,
            digests=self.problem.digests,
            train=rows,
            maps=maps,
            seed=self.seed,
        )

    def outputs(self, cut: int) -> Maps | None:
        """Outputs of the stage below a cut for all that teaches and chooses; None where the disk is too small.

        One pass keeps those of every cut that will be tried.
        """
        rows = np.union1d(self.problem.rows["train"], self.problem.rows["val"])
        items, digests = [self.items[row] for row in rows], [self.problem.digests[row] for row in rows]
        cuts = sorted({*self.kept_at, cut})
        stages = tuple(one - 1 for one in cuts)
        size = self._size(rows, len(stages))
        if not outputs_fit_on_disk(size):
            self.progress.say(
                f"  the disk has no room for {size / 1e6:,.0f} MB of outputs: frozen stages run each time"
            )
            return None
        with self.progress.step("frozen outputs"):
            kept = cached_maps(self.runner, self.modality, items, digests, Kept(stages=stages), self.progress)
        return Maps({cut - 1: kept.stages[cut - 1]}).among(rows, len(self.items))

    def _size(self, rows: np.ndarray, n_stages: int) -> int:
        """Bytes that the outputs of so many stages take, at most."""
        n_tokens = sum(self.backbone.lengths([self.items[row] for row in rows]))
        width = int(self.backbone.config.hidden_size)
        return n_stages * n_tokens * width * (2 if precision(self.backbone) == "bf16-mixed" else 4)

    def key(self, strategy: Trained, lesson: Dialogues) -> str:
        """sha256 (hex) of all that decides what training gives."""
        return dialogues_key(strategy, lesson)

    def teach(self, strategy: Trained, lesson: Dialogues) -> Trainee:
        """Train."""
        give_back()
        return teach(strategy, lesson)

    def made(self, strategy: Trained, trainee: Trainee) -> tuple[Talker, np.ndarray]:
        """(what is kept of a training, how likely it makes the answers of validation)."""
        adapted = self.taught if trainee.changes is None else self.taught.adapted(trainee.changes)
        cut = strategy.cut(self.backbone.n_stages)
        give_back()
        return self.talker(trainee), self._said(self._language(adapted), cut)

    def talker(self, trainee: Trainee | None = None) -> Talker:
        """What a run keeps of a training, or of none."""
        return Talker(
            changes=None if trainee is None else trainee.changes,
            most_tokens=self.backbone.dialogue.max_tokens,
            system=self.system,
            chat_template=str(self.backbone.preprocessing["chat_template"]),
        )

    @cached_property
    def system(self) -> str | None:
        """The system's words, where they are the same in every conversation."""
        firsts = {one.turns[0].text if one.turns[0].role == "system" else None for one in self.problem.y}
        return firsts.pop() if len(firsts) == 1 else None

    def untrained(self) -> list[Tried]:
        """The model as it was pretrained."""
        scores = self._said(self.taught, max(self.kept_at or self.cuts))
        solved = SolvedHead(strategy=ZeroShot(), cut=self.backbone.n_stages, trained=self.talker())
        score = self.judge.score(scores)
        return [Tried(strategy=ZeroShot(), solved=solved, scores=scores, score=score, seconds=0.0, n_train=0, cost=1.0)]

    def _said(self, network: CausalLm, cut: int) -> np.ndarray:
        """What a network says of the conversations of validation, (n_val,) of Said; nothing is answered."""
        rows = self.problem.rows["val"]
        dialogues = self._dialogues(network, rows, self.outputs(cut) if cut else None)
        found = nll_of(network, cut, dialogues, rows)
        each = zip(found.tolist(), self.problem.y[rows], strict=True)
        return one_each([Said(nats if n else math.nan, int(n), answer_bytes(one.said)) for (nats, n), one in each])

    def _language(self, network: Backbone) -> CausalLm:
        assert isinstance(network, CausalLm), "a workshop for conversations takes a language model"
        return network


def depths_of(tried: Sequence[Tried]) -> list[tuple[int, Tried]]:
    """(cut, what came of it) of the short runs of adapters, which differ in nothing but the cut."""
    shorts = [one for one in tried if isinstance(one.strategy, Lora) and one.round == 1]
    return sorted(((one.strategy.freeze, one) for one in shorts), key=lambda pair: pair[0])  # type: ignore[attr-defined]
