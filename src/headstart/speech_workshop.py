"""A workshop for transcripts: frames of frozen stages in place of pooled features, recognisers for linear heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from headstart.backbones.base import Backbone
from headstart.engine.maps import Maps, cached_maps, sounds_fit_on_disk
from headstart.engine.recognizer import OnFrames, Recognizer, Said, frames_of, head_cost, listen
from headstart.engine.trials import Trainee, recognizer_key
from headstart.engine.utterances import Sayings, Utterances
from headstart.engine.ways import in_float32, run_as
from headstart.evidence.planner import Work
from headstart.head_workshop import HeadWorkshop, Recipe, SolvedHead
from headstart.strategies.base import Trained
from headstart.strategies.frozen import Frozen
from headstart.strategies.full import Full
from headstart.strategies.partial import Partial
from headstart.strategies.scratch import Scratch
from headstart.tasks.beam import choices
from headstart.tasks.ctc import Alphabet
from headstart.tasks.ctc_head import Frames
from headstart.tasks.ngram import WordModel
from headstart.tasks.transcription import Transcription

RECIPE = Recipe(
    what="transcripts",
    passes=60.0,
    items=30_000,
    first_share=0.5,
    scratch_share=1.0,
    fewest=4,
    enough=30,
    most=80,
)
N_VIEWS = 3  # cached views of each sound below a cut, the plain one among them
ON_FRAMES: dict[str, Any] = {"learning_rate": 1e-4, "head_rate": 10.0, "weight_decay": 0.01, "batch_size": 16}
AFTERWARDS: dict[str, Any] = {**ON_FRAMES, "head_rate": 5.0}  # of a head that is trained already
FROM_SCRATCH: dict[str, Any] = {"learning_rate": 5e-4, "head_rate": 2.0, "weight_decay": 0.01, "batch_size": 16}


class Reading(NamedTuple):
    """A way to make texts of frames."""

    solved: SolvedHead
    heard: np.ndarray  # (n_val,) of Heard
    name: str
    value: float  # of the metric on validation


@dataclass(kw_only=True)
class SpeechWorkshop(HeadWorkshop):
    """A problem of transcripts and a speech encoder, with everything that strategies share."""

    recipe = RECIPE

    @property
    def task(self) -> Transcription:
        """What the transcripts are written in."""
        assert isinstance(self.problem.task, Transcription), "a workshop for transcripts takes transcripts"
        return self.problem.task

    @cached_property
    def alphabet(self) -> Alphabet:
        """The characters that can be written."""
        return Alphabet(self.task.alphabet)

    @cached_property
    def example(self) -> Any:
        """A sound, opened."""
        return self.modality.open(self.items[int(self.problem.rows["train"][0])], self.backbone.detail)

    @cached_property
    def frames(self) -> Frames:
        """What the head reads and writes."""
        return frames_of(self.backbone, len(self.alphabet), self.example)

    @cached_property
    def work(self) -> Work:
        """Counts what training costs, the head included."""
        return replace(super().work, head=head_cost(self.backbone, self.frames, self.example))

    @property
    def cuts(self) -> tuple[int, ...]:
        """The head alone, the upper half too, everything."""
        n_stages = self.backbone.n_stages
        return n_stages, (n_stages + 1) // 2, 0

    def at_cut(self, freeze: int) -> Trained:
        """The way that freezes so many stages."""
        if freeze == self.backbone.n_stages:
            return Frozen(views=N_VIEWS, **ON_FRAMES)
        return Partial(freeze=freeze, views=N_VIEWS, **AFTERWARDS) if freeze else Full(augment=True, **AFTERWARDS)

    def with_random_weights(self) -> Trained:
        """How the same network is trained from scratch."""
        return Scratch(augment=True, **FROM_SCRATCH)

    def lesson_for(self, strategy: Trained, rows: np.ndarray, cache: bool) -> Utterances:
        """What a strategy learns from; with a `cache`, from outputs of the frozen stages that are kept."""
        cut = strategy.cut(self.backbone.n_stages)
        stages = tuple(
            sorted({*(stage for stage in self.frames.stages if stage < cut), *self.backbone.read_above(cut)})
        )
        sayings = Sayings(stages=stages, modality=self.modality)
        return Utterances(
            backbone=self.backbone,
            modality=self.modality,
            alphabet=self.alphabet,
            items=self.items,
            digests=self.problem.digests,
            y=self.problem.y,
            train=rows,
            views=self._kept(sayings, strategy.views, rows) if cache else (),
            seed=self.seed,
            head=self.first[1].head if self.first is not None and strategy.from_probe else None,
        )

    def _kept(self, sayings: Sayings, n_views: int, rows: np.ndarray) -> tuple[Maps, ...]:
        """Outputs of these rows in every view, told of all items; none where the disk is too small."""
        items, digests = [self.items[row] for row in rows], [self.problem.digests[row] for row in rows]
        if not sounds_fit_on_disk(self.runner, self.modality, items, sayings.stages, n_views):
            self.progress.say("  the disk has no room for the outputs of the frozen stages: they run each time")
            return ()
        found = []
        with self.progress.step("frozen outputs"):
            for view in range(n_views):
                seen_as = sayings.seen_as(view)
                kept = cached_maps(self.runner, self.modality, items, digests, seen_as, self.progress)
                found.append(kept.among(rows, len(self.items)))
        return tuple(found)

    def key(self, strategy: Trained, lesson: Utterances) -> str:
        """sha256 (hex) of all that decides what training gives."""
        return recognizer_key(strategy, lesson, self.frames)

    def teach(self, strategy: Trained, lesson: Utterances) -> Trainee:
        """Train a recogniser."""
        from headstart.engine.heads import train_head

        return train_head(strategy, lesson, lambda upper: OnFrames(upper, self.frames))

    def made(self, trainee: Trainee) -> tuple[Recognizer, np.ndarray]:
        """(the recogniser, what it hears in validation)."""
        plain = Recognizer(alphabet=self.alphabet, frames=self.frames, head=trainee.head, changes=trainee.changes)
        return plain, plain.read(self.said(plain, self.problem.rows["val"]))

    def network_of(self, recognizer: Recognizer) -> Backbone:
        """The backbone with what training changed in it."""
        if recognizer.changes is None:
            return self.runner
        return run_as(self.backbone.adapted(recognizer.changes), in_float32(self.runner.way))

    def said(self, recognizer: Recognizer, rows: np.ndarray) -> list[Said]:
        """What a recogniser's head says of each frame of the sounds at `rows`."""
        items = [self.items[row] for row in rows]
        return listen(recognizer.network(), self.network_of(recognizer), self.modality, items, self.progress.bar)

    def scores(self, solved: Any, rows: np.ndarray, source: bool = False) -> np.ndarray:
        """What is heard in the sounds at `rows`, (n,) of Heard."""
        return solved.trained.read(self.said(solved.trained, rows))

    def on_log_mel(self, strategy: Trained) -> SolvedHead:
        """The head alone, trained as on the network, with the reading that is best on validation."""
        self.way = "float32"
        alone = Frozen(**{**ON_FRAMES, "epochs": strategy.epochs, "views": N_VIEWS})
        return self.best_reading(self.train(alone, cache=True).solved).solved

    def best_reading(self, solved: SolvedHead) -> Reading:
        """With the decoding that is best on validation.

        The best path is read first; a search for texts, with or without the words of the transcripts, takes its place
        where it makes fewer errors.
        """
        plain: Recognizer = solved.trained
        said = self.said(plain, self.problem.rows["val"])
        words = WordModel.of([str(text) for text in self.problem.y[self.problem.rows["train"]]])
        ways = [("best path", plain), ("beam search", replace(plain, beam=True))]
        ways += [
            (f"beam search, words of the transcripts at {one.weight:g}", replace(plain, beam=True, language=one))
            for one in choices(words)
        ]
        found = []
        for name, recognizer in ways:
            heard = recognizer.read(said)
            found.append(Reading(replace(solved, trained=recognizer), heard, name, self.judge.score(heard).value))
        return max(found, key=lambda one: self.judge.gain(one.value))
