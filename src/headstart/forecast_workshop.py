"""A workshop for forecasts: pieces of series in place of examples, heads that say quantiles in place of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.backbones.base import Backbone
from headstart.backbones.quantile_head import Outlooks, QuantileHead
from headstart.data.outlook import Windows
from headstart.data.stretches import LEVELS
from headstart.engine.forecaster import Forecaster, OnStates
from headstart.engine.histories import Histories, Units, anchor_for
from headstart.engine.maps import Maps, cached_maps, sounds_fit_on_disk, whole_maps
from headstart.engine.trials import Trainee, histories_key
from headstart.evidence.compare import Judge
from headstart.evidence.plan import DepthPoint
from headstart.evidence.planner import Tried, Work
from headstart.head_workshop import HeadWorkshop, Recipe, SolvedHead
from headstart.modalities.base import Modality
from headstart.panels import Posed
from headstart.progress import Progress
from headstart.strategies.base import Trained
from headstart.strategies.frozen import Frozen
from headstart.strategies.full import Full
from headstart.strategies.partial import Partial
from headstart.strategies.scratch import Scratch
from headstart.strategies.zero_shot import ZeroShot

RECIPE = Recipe(
    what="forecasts",
    passes=4_000.0,
    items=20_000,
    first_share=0.4,
    scratch_share=1.0,
    fewest=2,
    enough=4,
    most=2_000,
    on_demand=("zero_shot",),
)
PROFILE_STEPS, STEPS, STEPS_AFTERWARDS = 60, 150, 30
STEPS_OF_OWN_HEAD, STEPS_FROM_SCRATCH = 60, 150  # of a head that was pretrained; of what starts from nothing
BATCH = 16  # pieces
HEAD_ALONE: dict[str, Any] = {"learning_rate": 1e-4, "head_rate": 10.0, "batch_size": BATCH}
AFTERWARDS: dict[str, Any] = {"learning_rate": 3e-4, "head_rate": 1.0, "stage_decay": 1.0, "batch_size": BATCH}


def from_scratch(season: int) -> dict[str, Any]:
    """How a network is trained from random weights; a season can be learnt in larger steps."""
    rate = 6e-3 if season > 1 else 2e-3
    return {"learning_rate": rate, "head_rate": 1.0, "batch_size": BATCH}


def epochs_of(steps: int, n_pieces: int) -> int:
    """In which a training takes about so many steps."""
    batches = -(-n_pieces // BATCH)
    return max(1, round(steps / max(1, batches)))


@dataclass(kw_only=True)
class ForecastWorkshop(HeadWorkshop):
    """A panel and a backbone for series, with everything that strategies share."""

    recipe = RECIPE
    problem: Any  # Posed
    backbone: Any  # SeriesBackbone
    read: int | None = None  # the stage that the head reads, once it is chosen

    @property
    def posed(self) -> Posed:
        """The problem."""
        assert isinstance(self.problem, Posed), "a workshop for forecasts takes a panel"
        return self.problem

    @property
    def modality(self) -> Modality:
        """Series."""
        return self.posed.modality

    @cached_property
    def items(self) -> list[Any]:
        """All pieces as stretches of values."""
        return list(self.posed.items)

    @cached_property
    def judge(self) -> Judge:
        """Chooses on validation."""
        return Judge(
            metric=self.metric, y=self.posed.outlook.truth(self.posed.val), weights=self.weights, n_units=self.n_units
        )

    @cached_property
    def runner(self) -> Backbone:
        """In float32: these networks are small."""
        return self.backbone

    @cached_property
    def widths(self) -> dict[int, int]:
        """Stage -> numbers a state."""
        row = int(self.posed.rows["train"][0])
        inputs = self.backbone.collate([self.items[row]])
        last = torch.full((1, 1), inputs["observed"].shape[1] - 1)
        whole = whole_maps(self.backbone, inputs, range(self.backbone.n_stages))
        return {stage: int(self.backbone.states(one, inputs, last).shape[-1]) for stage, one in whole.items()}

    @property
    def outlooks(self) -> Outlooks:
        """What the head reads and writes; the one that the backbone was pretrained with where it does for this."""
        panel = self.posed.outlook.panel
        stage = self.backbone.n_stages - 1 if self.read is None else self.read
        return Outlooks(
            stage=stage,
            width=self.widths[stage],
            horizon=self.posed.outlook.horizon,
            season=panel.season,
            by_step=self.backbone.dense,
            anchor=self.anchor,
            known=tuple(sorted(panel.known)),
            static=tuple(sorted(panel.static)),
        )

    @cached_property
    def anchor(self) -> str:
        """What forecasts are relative to."""
        outlook, own = self.posed.outlook, self.backbone.own_outlooks
        if own is not None and own.season == outlook.panel.season:
            return str(own.anchor)
        return anchor_for(outlook.panel, outlook.val_from, outlook.horizon)

    @property
    def reads(self) -> tuple[int, ...]:
        """The stage that the head reads."""
        return (self.outlooks.stage,)

    @cached_property
    def units(self) -> Units:
        """Of the covariates, from what came before the first choice."""
        outlook = self.posed.outlook
        return Units.of(outlook.panel, self.outlooks, outlook.val_from)

    def untrained(self) -> list[Tried]:
        """The forecasts that the backbone makes as it was pretrained; none where it has no head for it."""
        own = own_forecaster(self.backbone, self.outlooks)
        if own is None:
            return []
        return [replace(self.tried(ZeroShot(), own, 0.0, 0), cost=1.0)]

    def tried(self, strategy: Any, forecaster: Forecaster, seconds: float, n_train: int) -> Tried:
        """What validation says of a forecaster."""
        scores = self.scores_of(forecaster, self.posed.val)
        solved = SolvedHead(strategy=strategy, cut=strategy.cut(self.backbone.n_stages), trained=forecaster)
        return Tried(
            strategy=strategy,
            solved=solved,
            scores=scores,
            score=self.judge.score(scores),
            seconds=seconds,
            n_train=n_train,
        )

    def train(self, strategy: Any, n_train: int | None = None, cache: bool | None = None) -> Tried:
        """Run a strategy, or what the backbone does without one."""
        if isinstance(strategy, ZeroShot):
            return self.untrained()[0]
        return super().train(strategy, n_train, cache)

    def profile(self, budget: float | None) -> tuple[DepthPoint, ...]:
        """A head trained for a short while on each stage; the one that is best on validation is read from now on."""
        rows = self.posed.rows["train"]
        short = Frozen(**HEAD_ALONE, epochs=epochs_of(PROFILE_STEPS, len(rows)))
        stages = sorted(self.widths)
        cost = self.work.passes(short, len(rows))
        if len(stages) == 1 or (budget is not None and len(stages) * cost > self.recipe.first_share * budget):
            return ()
        found = []
        with self.progress.step("depth profile"):
            for stage in stages:
                self.read = stage
                tried = self.told(short, self.trainee(short, rows, cache=True), len(rows))
                found.append(DepthPoint(stages=(stage,), name=self.backbone.stages[stage].name, score=tried.score))
                self.progress.say(f"  a head on {found[-1].name}: {self.metric.title} {tried.score.value:.3f}")
        self.read = max(found, key=lambda point: self.judge.gain(point.score.value)).stages[0]
        return tuple(found)

    @cached_property
    def work(self) -> Work:
        """Counts what training costs."""
        from headstart.backbones.costs import stage_costs

        train, val = self.posed.rows["train"], self.posed.rows["val"]
        shares, moves = stage_costs(self.backbone, [self.items[row] for row in train[:4]])
        return Work(shares=tuple(shares), moves=tuple(moves), n_train=len(train), n_val=len(val), head=1.0)

    @property
    def cuts(self) -> tuple[int, ...]:
        """The head alone, the upper half of the stages below it too, everything."""
        top = self.outlooks.stage
        half = (top + 1) // 2
        return (self.backbone.n_stages, *((half,) if half else ()), 0)

    def at_cut(self, freeze: int) -> Trained:
        """The way that freezes so many stages."""
        if freeze > self.outlooks.stage:
            return Frozen(**HEAD_ALONE)
        return Partial(freeze=freeze, **AFTERWARDS) if freeze else Full(**AFTERWARDS)

    def most_epochs(self, way: Trained) -> int:
        """As many as give so many steps."""
        if way.from_scratch:
            steps = STEPS_FROM_SCRATCH
        elif isinstance(way, Frozen):
            steps = STEPS if self.own_head is None else STEPS_OF_OWN_HEAD
        else:
            steps = STEPS_AFTERWARDS
        return epochs_of(steps, self.work.n_train)

    def fewest_epochs(self, way: Trained) -> int:
        """What starts from nothing needs so many steps."""
        return self.most_epochs(way) if way.from_scratch else 1

    def with_random_weights(self) -> Trained:
        """How the same network is trained from scratch."""
        return Scratch(**from_scratch(self.posed.outlook.panel.season))

    def lesson_for(self, strategy: Trained, rows: np.ndarray, cache: bool) -> Histories:
        """What a strategy learns from; with a `cache`, from states of the frozen stages that are kept."""
        posed, outlooks = self.posed, self.outlooks
        cut, start = strategy.cut(self.backbone.n_stages), self.start_of(strategy)
        kept = (outlooks.stage,) if outlooks.stage < cut else self.backbone.read_above(cut)
        histories = Histories(
            backbone=self.backbone,
            modality=posed.modality,
            panel=posed.outlook.panel,
            outlooks=outlooks,
            items=self.items,
            digests=posed.digests,
            pieces=posed.pieces,
            train=rows,
            end=posed.outlook.val_from,
            covariates=self.units.covariates(posed.outlook.panel, outlooks),
            views=self._kept(kept, rows) if cache and kept else (),
            seed=self.seed,
        )
        own = None if strategy.from_scratch else self.own_head
        head = start[1].head if start is not None else own if own is not None else fresh_head(histories)
        if own is not None:  # what reads covariates was not pretrained
            own = {name: one for name, one in own.items() if not name.startswith("beside")}
        return replace(histories, head=head, towards=own)

    @property
    def own_head(self) -> Mapping[str, Tensor] | None:
        """The head that the backbone was pretrained with, where it does for this."""
        own = own_forecaster(self.backbone, self.outlooks)
        if own is None or own.outlooks is None:
            return None
        without = replace(self.outlooks, known=(), static=())
        if own.outlooks != without:
            return None
        beside = QuantileHead(self.outlooks).state_dict()  # what reads covariates begins with saying nothing
        return {name: own.head.get(name, torch.zeros_like(one)) for name, one in beside.items()}

    def _kept(self, stages: tuple[int, ...], rows: np.ndarray) -> tuple[Maps, ...]:
        """States of these rows, told of all items; none where the disk is too small."""
        items, digests = [self.items[row] for row in rows], [self.posed.digests[row] for row in rows]
        if not sounds_fit_on_disk(self.runner, self.modality, items, stages, 1):
            self.progress.say("  the disk has no room for the states of the frozen stages: they run each time")
            return ()
        with self.progress.step("frozen states"):
            kept = cached_maps(self.runner, self.modality, items, digests, Plain(stages), self.progress)
        return (kept.among(rows, len(self.items)),)

    def key(self, strategy: Trained, lesson: Histories) -> str:
        """sha256 (hex) of all that decides what training gives."""
        return histories_key(strategy, lesson)

    def teach(self, strategy: Trained, lesson: Histories) -> Trainee:
        """Train a forecaster."""
        from headstart.engine.heads import train_head

        trainee = train_head(strategy, lesson, lambda upper: OnStates(upper, lesson.outlooks, lesson.towards))
        unread = [path for stage in self.backbone.stages[lesson.outlooks.stage + 1 :] for path in stage.modules]
        return replace(trainee, changes=None if trainee.changes is None else trainee.changes.without(unread))

    def made(self, strategy: Trained, trainee: Trainee) -> tuple[Any, np.ndarray]:
        """(the forecaster, its forecasts of validation)."""
        found = Forecaster(outlooks=self.outlooks, head=trainee.head, changes=trainee.changes, units=self.units)
        return found, self.scores_of(found, self.posed.val)

    def scores_of(self, forecaster: Forecaster, windows: Windows) -> np.ndarray:
        """Forecasts (N, H, Q) of windows."""
        network = self.backbone if forecaster.changes is None else self.backbone.adapted(forecaster.changes)
        outlook = self.posed.outlook
        found = forecaster.forecasts(network, outlook.panel, windows, outlook.horizon, Progress().bar)
        return self.posed.task.proper(found)


@dataclass(frozen=True)
class Plain:
    """Series are looked at in one view only."""

    stages: tuple[int, ...]
    suffix: str = ""

    def change(self, digest: str, opened: Any) -> Any:
        """As it is."""
        return opened


def own_forecaster(backbone: Any, outlooks: Outlooks) -> Forecaster | None:
    """The way in which a backbone was pretrained to forecast, where it does for this horizon and season."""
    own: Outlooks | None = backbone.own_outlooks
    if own is not None:
        if own.horizon < outlooks.horizon or own.season != outlooks.season or own.n_beside:
            return None
        return Forecaster(outlooks=own, head=dict(backbone.own.state_dict()))
    return Forecaster(outlooks=None) if backbone.has_own_head else None


def fresh_head(histories: Histories) -> dict[str, Tensor]:
    """A head that says, at first, how far the training windows' outcomes lie from their anchors (H, Q), in scales."""
    torch.manual_seed(histories.seed)
    head = QuantileHead(histories.outlooks)
    rng = np.random.default_rng(histories.seed)
    rows = np.sort(rng.permutation(histories.train)[:64])
    truth = histories.batch(rows, [np.random.default_rng([histories.seed, int(row)]) for row in rows]).truth
    values = torch.where(truth.there, truth.values, torch.nan).flatten(0, 1)
    with torch.no_grad():
        found = torch.nanquantile(values, torch.tensor(LEVELS), dim=0).T
        head.bias.copy_(torch.where(found.isfinite(), found, head.bias))
        head.leave.weight.zero_()
    return {name: one.detach().clone() for name, one in head.state_dict().items()}
