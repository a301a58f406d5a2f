"""A workshop for heads that cannot be solved: they are trained on what frozen stages hand on, and kept as they are."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from headstart.backbones.base import Backbone
from headstart.engine.fastest import fastest
from headstart.engine.trials import Trainee
from headstart.engine.ways import light, run_as
from headstart.evidence.depth import Probed
from headstart.evidence.plan import DepthPoint
from headstart.evidence.planner import Tried, Work
from headstart.strategies.base import Strategy, Trained
from headstart.strategies.frozen import Frozen
from headstart.workshop import Workshop


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How heads of one kind are trained, and how much of the budget each step may take."""

    what: str  # what is learnt, for sentences: "boxes"
    passes: float  # the default budget: frozen passes over train and validation …
    items: float  # … or items run, if that is more
    first_share: float  # of the budget, that training the head alone may take where more is to follow
    scratch_share: float  # of what the chosen way cost, that the comparison from random weights may cost
    fewest: int  # epochs
    enough: int  # epochs after which a head has learnt something that other ways can start from
    most: int  # epochs
    on_demand: tuple[str, ...] = ()  # strategies that are tried where they are named
    ways: tuple[str, ...] = ("frozen", "partial", "full")  # what else may be named


@dataclass(frozen=True, kw_only=True)
class SolvedHead:
    """What was trained, and the strategy and cut that it belongs to."""

    strategy: Strategy
    cut: int
    trained: Any  # a Detector or a Recognizer
    first: Trained | None = None  # how the head that it started from was trained


@dataclass(kw_only=True)
class HeadWorkshop(Workshop):
    """A problem whose head is trained, and a backbone, with everything that strategies share."""

    recipe: ClassVar[Recipe]
    first: tuple[Trained, Trainee] | None = None  # the head alone, trained: what all else starts from

    @property
    def probed(self) -> list[Probed]:
        """None: no such head can be solved."""
        return []

    @cached_property
    def runner(self) -> Backbone:
        """The backbone as its frozen part is run here: by torch, whose hooks hand out whole outputs of stages."""
        if self.way is not None:
            return run_as(self.backbone, self.way)
        found = fastest(self.backbone, self.modality, self.items, self.progress)
        return run_as(self.backbone, light(found.way))

    @property
    @abstractmethod
    def cuts(self) -> tuple[int, ...]:
        """The cuts that are worth trying, the head alone first."""

    def profile(self, budget: float | None) -> tuple[DepthPoint, ...]:
        """What a head says of validation on each depth that it may read, before ways are searched for; none if all.

        None, too, where the `budget` that was asked for, in passes, is too short for it.
        """
        return ()

    def untrained(self) -> list[Tried]:
        """What the backbone does as it was pretrained, where it does this task already."""
        return []

    @property
    def reads(self) -> tuple[int, ...]:
        """The stages that the head reads, where they were chosen."""
        return ()

    def most_epochs(self, way: Trained) -> int:
        """After which a training has learnt what it can."""
        return self.recipe.most

    def fewest_epochs(self, way: Trained) -> int:
        """Below which a training is not worth its while."""
        return self.recipe.fewest

    @abstractmethod
    def at_cut(self, freeze: int) -> Trained:
        """The way that freezes so many stages."""

    @property
    def on_demand(self) -> tuple[Trained, ...]:
        """Ways that are tried where they are named."""
        return ()

    def start_of(self, strategy: Trained) -> tuple[Trained, Trainee] | None:
        """The trained head that a strategy starts from."""
        return self.first if strategy.from_probe else None

    def work_of(self, strategy: Trained) -> Work:
        """Counts what a training costs."""
        return self.work

    @abstractmethod
    def with_random_weights(self) -> Trained:
        """How the same network is trained from scratch."""

    @abstractmethod
    def lesson_for(self, strategy: Trained, rows: np.ndarray, cache: bool) -> Any:
        """What a strategy learns from these rows; with a `cache`, from outputs of the frozen stages that are kept."""

    @abstractmethod
    def key(self, strategy: Trained, lesson: Any) -> str:
        """sha256 (hex) of all that decides what training gives."""

    @abstractmethod
    def teach(self, strategy: Trained, lesson: Any) -> Trainee:
        """Train."""

    @abstractmethod
    def made(self, strategy: Trained, trainee: Trainee) -> tuple[Any, np.ndarray]:
        """(what is kept of a training, its scores on validation)."""

    def train(self, strategy: Trained, n_train: int | None = None, cache: bool | None = None) -> Tried:
        """Run a strategy on `n_train` examples (default: all), or read what an interrupted fit has run already."""
        rows = self.problem.rows["train"]
        if n_train is not None and n_train < len(rows):
            rows = np.sort(np.random.default_rng(self.seed).permutation(rows)[:n_train])
        trainee = self.trainee(
            strategy, rows, self.work_of(strategy).caches(strategy, len(rows)) if cache is None else cache
        )
        if isinstance(strategy, Frozen) and n_train is None:
            self.first = (strategy, trainee)
        return self.told(strategy, trainee, len(rows))

    def trainee(self, strategy: Trained, rows: np.ndarray, cache: bool) -> Trainee:
        """What training on these rows gives, or gave an interrupted fit."""
        lesson = self.lesson_for(strategy, rows, cache)
        key = self.key(strategy, lesson)
        trainee = self.trials.trainee(key)
        if trainee is None:
            trainee = self.teach(strategy, replace(lesson, checkpoint=self.trials.checkpoint(key)))
            self.trials.put_trainee(key, trainee)
        return trainee

    def told(self, strategy: Trained, trainee: Trainee, n_train: int) -> Tried:
        """What validation says of a training."""
        trained, scores = self.made(strategy, trainee)
        start = self.start_of(strategy)
        solved = SolvedHead(
            strategy=strategy,
            cut=strategy.cut(self.backbone.n_stages),
            trained=trained,
            first=start[0] if start is not None else None,
        )
        score = self.judge.score(scores)
        return Tried(
            strategy=strategy, solved=solved, scores=scores, score=score, seconds=trainee.seconds, n_train=n_train
        )
