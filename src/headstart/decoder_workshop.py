"""A workshop for transcripts with one way more: low-rank adapters on the decoder that the backbone comes with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from headstart.backbones.costs import stage_costs
from headstart.backbones.spelling import Spelling
from headstart.backbones.whisper import FRAME
from headstart.backbones.whisper_decoder import decoder_of, spelling_of
from headstart.engine.decoder import AdaptedDecoder, adapting, as_written, decoder_cost, densest, factors
from headstart.engine.recognizer import listen
from headstart.engine.trials import Trainee, recognizer_key
from headstart.engine.utterances import Sayings, Utterances
from headstart.evidence.mishearings import calibrated
from headstart.evidence.planner import Work
from headstart.head_workshop import SolvedHead
from headstart.speech_workshop import N_VIEWS, Reading, SpeechWorkshop
from headstart.strategies.base import Trained
from headstart.strategies.lora import Lora, peft
from headstart.tasks.base import one_each

ON_DECODER: dict[str, Any] = {"decoder": True, "rank": 16, "alpha": 32, "weight_decay": 0.01, "batch_size": 8}
FEWEST_EPOCHS, MOST_EPOCHS = 4, 12
MOST_PADDED = 400  # sounds that the untouched decoder hears on 30 seconds, which takes most encoders a second each


@dataclass(kw_only=True)
class DecoderWorkshop(SpeechWorkshop):
    """Where `Lora` is the decoder's; all else is as for any recogniser."""

    @property
    def on_demand(self) -> tuple[Trained, ...]:
        """Adapters on the decoder."""
        return (Lora(views=N_VIEWS, **ON_DECODER),)

    def check(self) -> None:
        """PlanError, BackboneError or MissingExtraError where the decoder cannot learn these transcripts."""
        peft()
        self.spelling.covers([str(text) for text in self.problem.y[self.problem.rows["train"]]])
        decoder_of(self.backbone)

    @cached_property
    def spelling(self) -> Spelling:
        """How the decoder writes."""
        return spelling_of(self.backbone)

    @cached_property
    def untouched(self) -> AdaptedDecoder:
        """The decoder as it was pretrained; what it writes is no denser than the transcripts of train, by half."""
        rows = self.problem.rows["train"]
        n_frames = [-(-self.modality.outline(self.items[row]).shape[0] // FRAME) for row in rows]
        return AdaptedDecoder(
            stage=self.backbone.n_stages - 1,
            tokens_a_frame=densest(self.spelling, [str(text) for text in self.problem.y[rows]], n_frames),
            tokenizer=self.spelling.sha256,
            head={},
        )

    def as_pretrained(self, rows: np.ndarray) -> np.ndarray | None:
        """What the untouched decoder hears in the sounds at `rows` on 30 seconds, as it was trained, (n,) of Heard.

        It is written as the transcripts are. None where too many sounds would take too long, and where nothing tells
        the decoder which language to expect.
        """
        padded = self.backbone.padded()
        if padded is None or not self.spelling.as_trained or len(rows) > MOST_PADDED:
            self.progress.say("  what the untouched decoder hears is left out: too many sounds, or no known language")
            return None
        network, items = self.untouched.network(self.backbone), [self.items[row] for row in rows]
        heard = self.untouched.read(listen(network, padded, self.modality, items, self.progress.bar))
        return one_each([as_written(one, self.task.alphabet) for one in heard])

    def most_epochs(self, way: Trained) -> int:
        """After which a training has learnt what it can."""
        return MOST_EPOCHS if isinstance(way, Lora) else super().most_epochs(way)

    def fewest_epochs(self, way: Trained) -> int:
        """Below which a training is not worth its while."""
        return FEWEST_EPOCHS if isinstance(way, Lora) else super().fewest_epochs(way)

    def start_of(self, strategy: Trained) -> tuple[Trained, Trainee] | None:
        """The trained head that a strategy starts from; a decoder starts from its own weights."""
        return None if isinstance(strategy, Lora) else super().start_of(strategy)

    def work_of(self, strategy: Trained) -> Work:
        """Counts what a training costs; a decoder reads the last stage."""
        return self._work_of_decoder if isinstance(strategy, Lora) else self.work

    @cached_property
    def _work_of_decoder(self) -> Work:
        shares, moves = stage_costs(self.backbone, [self.example])
        text = str(self.problem.y[int(self.problem.rows["train"][0])])
        head = decoder_cost(self.backbone, self.spelling, text, self.example)
        return replace(self.work, shares=tuple(shares), moves=tuple(moves), head=head)

    def lesson_for(self, strategy: Trained, rows: np.ndarray, cache: bool) -> Utterances:
        """What a strategy learns from; a decoder learns tokens."""
        if not isinstance(strategy, Lora):
            return super().lesson_for(strategy, rows, cache)
        sayings = Sayings(stages=(self.backbone.n_stages - 1,), modality=self.modality)
        views = self._kept(sayings, strategy.views, rows) if cache else ()
        return replace(super().lesson_for(strategy, rows, cache=False), alphabet=self.spelling, views=views)

    def key(self, strategy: Trained, lesson: Utterances) -> str:
        """sha256 (hex) of all that decides what training gives."""
        if not isinstance(strategy, Lora):
            return super().key(strategy, lesson)
        return recognizer_key(strategy, lesson, [self.spelling.prompt, self.spelling.sha256])

    def teach(self, strategy: Trained, lesson: Utterances) -> Trainee:
        """Train a recogniser."""
        from headstart.engine.heads import train_head

        if not isinstance(strategy, Lora):
            return super().teach(strategy, lesson)
        trainee = train_head(strategy, lesson, lambda upper: adapting(upper, strategy, self.spelling))
        return replace(trainee, head=factors(trainee.head, strategy))

    def made(self, strategy: Trained, trainee: Trainee) -> tuple[Any, np.ndarray]:
        """(the recogniser, what it hears in validation)."""
        if not isinstance(strategy, Lora):
            return super().made(strategy, trainee)
        plain = replace(self.untouched, head=trainee.head)
        return plain, plain.read(self.said(plain, self.problem.rows["val"]))

    def best_reading(self, solved: SolvedHead, heard: np.ndarray) -> Reading:
        """A decoder is read greedily; its confidence is calibrated on validation, where this was heard (n_val,)."""
        if not isinstance(solved.strategy, Lora):
            return super().best_reading(solved, heard)
        sure = replace(solved.trained, sure=calibrated(self.judge.y, heard))
        return Reading(replace(solved, trained=sure), heard, "likeliest tokens", self.judge.score(heard).value)
