"""A workshop for transcripts: frames of frozen stages in place of pooled features, recognisers for linear heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from headstart.backbones.base import Backbone
from headstart.engine.decoder import AdaptedDecoder
from headstart.engine.maps import Maps, cached_maps, sounds_fit_on_disk
from headstart.engine.recognizer import OnFrames, Recognizer, depths_of, head_cost, listen
from headstart.engine.trials import Trainee, recognizer_key
from headstart.engine.utterances import Sayings, Utterances
from headstart.engine.ways import in_float32, run_as
from headstart.evidence.mishearings import calibrated
from headstart.evidence.plan import DepthPoint
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
from headstart.tasks.transcription import Transcription

RECIPE = Recipe(
    what="transcripts",
    passes=24.0,
    items=6_000,
    first_share=0.7,
    scratch_share=1.0,
    fewest=2,
    enough=4,
    most=400,
    on_demand=("lora",),
)
PROFILE_STEPS, FEWEST_STEPS = 120, 150  # of a head on each depth; of any that starts from nothing
STEPS, STEPS_AFTERWARDS = 300, 150  # at most: of what starts from nothing; of what goes on from a trained head
PROFILE_SHARE = 0.5  # of a budget, that trying each depth may take
ENOUGH_EPOCHS = 8  # however few steps that would take
N_VIEWS = 3  # cached views of each sound below a cut, the plain one among them
ON_FRAMES: dict[str, Any] = {"learning_rate": 1e-4, "head_rate": 20.0, "weight_decay": 0.01, "batch_size": 16}
AFTERWARDS: dict[str, Any] = {**ON_FRAMES, "head_rate": 5.0}  # of a head that is trained already
FROM_SCRATCH: dict[str, Any] = {"learning_rate": 5e-4, "head_rate": 2.0, "weight_decay": 0.01, "batch_size": 16}


def epochs_of(steps: int, n_train: int) -> int:
    """In which a training takes about so many steps."""
    return max(1, round(steps * ON_FRAMES["batch_size"] / max(1, n_train)))


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
    read: int | None = None  # the stage that the head reads, once it is chosen

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
    def depths(self) -> dict[int, int]:
        """The stages that a head can read, those that hand on frames; and the width of these."""
        return depths_of(self.backbone, self.example)

    @property
    def frames(self) -> Frames:
        """What the head reads and writes: the stage that was chosen, else the last."""
        stage = max(self.depths) if self.read is None else self.read
        return Frames(stage=stage, width=self.depths[stage], n_out=len(self.alphabet))

    @property
    def reads(self) -> tuple[int, ...]:
        """The stage that the head reads."""
        return (self.frames.stage,)

    def profile(self, budget: float | None) -> tuple[DepthPoint, ...]:
        """A head trained for a short while on each stage; the one that is best on validation is read from now on.

        Deep stages of a network that was trained on another language know its words, and shallow ones sounds.
        """
        if len(self.depths) == 1:
            return ()
        rows = self.problem.rows["train"]
        short = Frozen(**ON_FRAMES, epochs=epochs_of(PROFILE_STEPS, len(rows)))
        cost, n = self.work.passes(short, len(rows)), len(self.depths)
        if budget is not None and n * cost > PROFILE_SHARE * budget:
            self.read = sorted(self.depths)[n // 2]
            del self.work
            name = self.backbone.stages[self.read].name
            self.progress.say(f"  the budget is too short to try each depth: {name}, in the middle, is read")
            return ()
        del self.work  # of another depth
        self.progress.say(f"  a head on each of {n} depths, {short.epochs} epochs: about {n * cost:.0f} passes")
        found = []
        with self.progress.step("depth profile"):
            for stage in self.depths:
                self.read = stage
                tried = self.told(short, self.trainee(short, rows, cache=True), len(rows))
                found.append(DepthPoint(stages=(stage,), name=self.backbone.stages[stage].name, score=tried.score))
                self.progress.say(f"  a head on {found[-1].name}: {self.metric.title} {tried.score.value:.3f}")
        self.read = max(found, key=lambda point: self.judge.gain(point.score.value)).stages[0]
        return tuple(found)

    @cached_property
    def work(self) -> Work:
        """Counts what training costs, the head included; stages above the one that is read are not run."""
        work, top = super().work, self.frames.stage
        shares = tuple(share if stage <= top else 0.0 for stage, share in enumerate(work.shares))
        return replace(work, shares=shares, head=head_cost(self.backbone, self.frames, self.example))

    @property
    def cuts(self) -> tuple[int, ...]:
        """The head alone, the upper half of the stages below it too, everything."""
        top = self.frames.stage
        return self.backbone.n_stages, (top + 1) // 2, 0

    def at_cut(self, freeze: int) -> Trained:
        """The way that freezes so many stages; those above the one that is read are left out anyway."""
        if freeze > self.frames.stage:
            return Frozen(views=N_VIEWS, **ON_FRAMES)
        return Partial(freeze=freeze, views=N_VIEWS, **AFTERWARDS) if freeze else Full(augment=True, **AFTERWARDS)

    def most_epochs(self, way: Trained) -> int:
        """As many as give so many steps."""
        steps = STEPS if isinstance(way, Frozen) or way.from_scratch else STEPS_AFTERWARDS
        return max(ENOUGH_EPOCHS, epochs_of(steps, self.work.n_train))

    def fewest_epochs(self, way: Trained) -> int:
        """A head that starts from nothing needs so many steps to write more than blanks."""
        starts = isinstance(way, Frozen) or way.from_scratch
        return epochs_of(FEWEST_STEPS, self.work.n_train) if starts else self.recipe.fewest

    def with_random_weights(self) -> Trained:
        """How the same network is trained from scratch."""
        return Scratch(augment=True, **FROM_SCRATCH)

    def lesson_for(self, strategy: Trained, rows: np.ndarray, cache: bool) -> Utterances:
        """What a strategy learns from; with a `cache`, from outputs of the frozen stages that are kept."""
        cut, start = strategy.cut(self.backbone.n_stages), self.start_of(strategy)
        kept = (self.frames.stage,) if self.frames.stage < cut else self.backbone.read_above(cut)
        sayings = Sayings(stages=kept, modality=self.modality)
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
            head=start[1].head if start is not None else None,
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
        return recognizer_key(strategy, lesson, [list(self.alphabet.characters), self.frames.to_json()])

    def teach(self, strategy: Trained, lesson: Utterances) -> Trainee:
        """Train a recogniser."""
        from headstart.engine.heads import train_head

        trainee = train_head(strategy, lesson, lambda upper: OnFrames(upper, self.frames))
        unread = [path for stage in self.backbone.stages[self.frames.stage + 1 :] for path in stage.modules]
        return replace(trainee, changes=None if trainee.changes is None else trainee.changes.without(unread))

    def made(self, strategy: Trained, trainee: Trainee) -> tuple[Any, np.ndarray]:
        """(the recogniser, what it hears in validation)."""
        plain = Recognizer(alphabet=self.alphabet, frames=self.frames, head=trainee.head, changes=trainee.changes)
        return plain, plain.read(self.said(plain, self.problem.rows["val"]))

    def network_of(self, recognizer: Recognizer | AdaptedDecoder) -> Backbone:
        """The backbone with what training changed in it."""
        if recognizer.changes is None:
            return self.runner
        return run_as(self.backbone.adapted(recognizer.changes), in_float32(self.runner.way))

    def said(self, recognizer: Recognizer | AdaptedDecoder, rows: np.ndarray) -> list[Any]:
        """What a recogniser's network says of the sounds at `rows`, as the recogniser reads it."""
        items = [self.items[row] for row in rows]
        network = recognizer.network(self.backbone)
        return listen(network, self.network_of(recognizer), self.modality, items, self.progress.bar)

    def scores(self, solved: Any, rows: np.ndarray, source: bool = False) -> np.ndarray:
        """What is heard in the sounds at `rows`, (n,) of Heard."""
        return solved.trained.read(self.said(solved.trained, rows))

    def on_log_mel(self) -> SolvedHead:
        """The head alone, trained as on a network."""
        self.way = "float32"
        epochs = epochs_of(STEPS, len(self.problem.rows["train"]))
        return self.train(Frozen(views=N_VIEWS, epochs=epochs, **ON_FRAMES), cache=True).solved

    def read_alike(self, solved: SolvedHead, like: Recognizer | AdaptedDecoder) -> SolvedHead:
        """With frames read as another recogniser reads them; along the best path beside a decoder, which is greedy."""
        if isinstance(like, AdaptedDecoder):
            return solved
        return replace(solved, trained=replace(solved.trained, beam=like.beam, language=like.language))

    def best_reading(self, solved: SolvedHead, heard: np.ndarray) -> Reading:
        """With the decoding that is best on validation, of which this was heard (n_val,) with the plainest one.

        The best path is read first; a search for texts, with or without the words of the transcripts, takes its place
        where it makes fewer errors.
        """
        plain: Recognizer = solved.trained
        said = self.said(plain, self.problem.rows["val"])
        texts = [str(text) for text in self.problem.y[self.problem.rows["train"]]]
        searches = [("beam search", replace(plain, beam=True))]
        searches += [
            (f"beam search with {one.model.unit}s of the transcripts", replace(plain, beam=True, language=one))
            for one in choices(texts)
        ]
        found = [Reading(solved, heard, "best path", self.judge.score(heard).value)]
        for name, recognizer in searches:
            own = recognizer.read(said)
            found.append(Reading(replace(solved, trained=recognizer), own, name, self.judge.score(own).value))
        best = max(found, key=lambda one: self.judge.gain(one.value))
        recognizer = replace(best.solved.trained, sure=calibrated(self.judge.y, best.heard))
        return best._replace(solved=replace(best.solved, trained=recognizer))
