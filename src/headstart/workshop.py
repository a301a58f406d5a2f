"""A problem and a backbone, with everything that ways to learn share: the frozen pass, the judge, the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import places, registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.backbones.costs import stage_costs
from headstart.engine import freeze
from headstart.engine.fastest import fastest
from headstart.engine.features import Activations, Features
from headstart.engine.trials import Trials, key_of
from headstart.engine.ways import in_float32, run_as
from headstart.errors import PlanError
from headstart.evidence import depth
from headstart.evidence.calibration import fit_temperature
from headstart.evidence.compare import Judge
from headstart.evidence.depth import Probed, Probing
from headstart.evidence.planner import Solved, Tried, Work
from headstart.evidence.weigh import Scales, defined_on
from headstart.modalities.base import Modality
from headstart.problem import Problem, some_of_each
from headstart.progress import Progress
from headstart.strategies.base import Adapted, Strategy, Trained
from headstart.strategies.probe import Probe
from headstart.tasks.base import Metric
from headstart.wishes import Wishes

if TYPE_CHECKING:
    from headstart.engine.lesson import Lesson, Restated


@dataclass(kw_only=True)
class Workshop:
    """A problem and a backbone, with everything that strategies share; computed when first asked for."""

    problem: Problem
    backbone: Backbone
    metric: Metric
    weights: np.ndarray  # (B, n_val) resamples of validation
    n_units: int | None
    seed: int
    progress: Progress
    class_weight: str | None = None
    way: str | None = None  # in which the frozen network is run; None is measured
    trials: Trials = field(default_factory=lambda: Trials(places.trials()))
    _measured: dict[tuple[Any, ...], Restated | None] = field(default_factory=dict, repr=False)

    @property
    def modality(self) -> Modality:
        """What comes in."""
        return self.problem.modality

    @cached_property
    def frozen(self) -> Features:
        """Pooled features of all examples at every stage."""
        with self.progress.step("frozen pass"):
            return freeze.features(self.runner, self.modality, self.items, self.problem.digests, self.progress)

    @cached_property
    def runner(self) -> Backbone:
        """The backbone as its frozen part is run here: in float32, or faster where that agrees; or as a plan says."""
        if self.way is not None:
            return run_as(self.backbone, self.way)
        return fastest(self.backbone, self.modality, self.items, self.progress)

    @cached_property
    def items(self) -> list[Any]:
        """All N stored items."""
        return self.problem.dataset.inputs

    @cached_property
    def judge(self) -> Judge:
        """Chooses on validation."""
        y = self.problem.y[self.problem.rows["val"]]
        return Judge(metric=self.metric, y=y, weights=self.weights, n_units=self.n_units)

    @cached_property
    def work(self) -> Work:
        """Counts what training costs."""
        train, val = self.problem.rows["train"], self.problem.rows["val"]
        sample = [self.modality.open(self.items[row], self.backbone.detail) for row in train[:4]]
        shares, moves = stage_costs(self.backbone, sample)
        n_target = 0 if self.problem.target is None else len(self.problem.target)
        return Work(shares=tuple(shares), moves=tuple(moves), n_train=len(train), n_val=len(val), n_target=n_target)

    @cached_property
    def probed(self) -> list[Probed]:
        """A probe at every stage, and of the best side by side."""
        frozen = self.frozen
        with self.progress.step("depth profile"):
            return depth.profile(self._probing(frozen))

    def _probing(self, frozen: Features) -> Probing:
        return Probing(
            task=self.problem.linear,
            features=frozen,
            y=self.problem.y,
            train=self.problem.rows["train"],
            val=self.problem.rows["val"],
            names=tuple(stage.name for stage in self.backbone.stages),
            judge=self.judge,
            seed=self.seed,
            class_weight=self.class_weight,
            groups=self.problem.all_groups,
        )

    @cached_property
    def variants(self) -> tuple[Features, ...]:
        """Pooled features of the training examples in the other forms that the modality knows."""
        rows = self.problem.rows["train"]
        items, digests = [self.items[row] for row in rows], [self.problem.digests[row] for row in rows]
        with self.progress.step("frozen pass"):
            return tuple(
                freeze.features(self.runner, self.modality, items, digests, self.progress, number)
                for number in range(1, self.modality.n_variants + 1)
            )

    def with_variants(self, probed: Probed) -> Probed:
        """The same probe, taught by the other forms of each example too."""
        probing = replace(self._probing(self.frozen), variants=self.variants)
        return probing.solve(probed.strategy.read(self.backbone.n_stages))

    def solve(self, strategy: Probe) -> Solved:
        """A probe as it was asked for: learnt on train; strength and temperature chosen on validation."""
        probing = self._probing(self.frozen)
        if strategy.variants:
            probing = replace(probing, variants=self.variants)
        probed = probing.solve(strategy.read(self.backbone.n_stages))
        return self._solved(replace(strategy, class_weight=self.class_weight), probed.adapted, probed.val_logits)

    def train(self, strategy: Trained, n_train: int | None = None, cache: bool | None = None) -> Tried:
        """Run a strategy on `n_train` examples (default: all), or read what an interrupted fit has run already.

        What is frozen is cached, or not; the default is what costs less.
        """
        from headstart.engine.train import train

        lesson = self.lesson(strategy, n_train, cache)
        key = key_of(strategy, lesson, self.problem.digests)
        learnt = self.trials.get(key)
        if learnt is None:
            ready = replace(lesson, checkpoint=self.trials.checkpoint(key), restated=self._restated(strategy, lesson))
            learnt = train(strategy, ready)
            self.trials.put(key, learnt)
        solved = self._solved(strategy, learnt.adapted, learnt.val_logits)
        return self._tried(solved, learnt.val_logits, learnt.seconds, len(lesson.train))

    def tried_probe(self, probed: Probed) -> Tried:
        """A probe of the depth profile, as one of the ways that were tried."""
        solved = self._solved(probed.strategy, probed.adapted, probed.val_logits)
        seconds = sum(self.progress.seconds.get(step, 0.0) for step in ("frozen pass", "depth profile"))
        return replace(self._tried(solved, probed.val_logits, seconds, len(self.problem.rows["train"])), cost=1.0)

    def lesson(self, strategy: Trained, n_train: int | None = None, cache: bool | None = None) -> Lesson:
        """What a strategy learns from: some of each class, in a seeded draw, when not all examples are asked for."""
        from headstart.engine.lesson import Lesson

        rows, val = self.problem.rows["train"], self.problem.rows["val"]
        target = self.problem.target if strategy.needs_target else None
        if n_train is not None and n_train < len(rows):
            rows = rows[some_of_each(self.problem.y[rows], n_train, self.seed)]
        if cache is None:
            cache = self.work.caches(strategy, len(rows))
        pretrained, last = not strategy.from_scratch, self.backbone.n_stages - 1
        return Lesson(
            backbone=self.backbone,
            modality=self.modality,
            task=self.problem.linear,
            items=self.items,
            y=self.problem.y,
            train=rows,
            val=val,
            target=target,
            seed=self.seed,
            head=self.probed[last].adapted.head if pretrained else None,
            pooled=self.frozen.stage(last, rows) if pretrained else None,
            views=self._views(strategy, np.concatenate([rows, val, *([] if target is None else [target])]))
            if cache
            else (),
        )

    def _views(self, strategy: Trained, rows: np.ndarray) -> tuple[Activations, ...]:
        """Activations of these rows at the cut, aligned with all items; none where the disk is too small."""
        cut = strategy.cut(self.backbone.n_stages)
        items = [self.items[row] for row in rows]
        if not freeze.fits_on_disk(self.runner, self.modality, items, cut):
            self.progress.say(f"  the disk has no room for the activations at stage {cut}: its stages run each time")
            return ()
        digests = [self.problem.digests[row] for row in rows]
        found = []
        for view in range(strategy.views):
            kept = freeze.activations(self.runner, self.modality, items, digests, cut, self.progress, view)
            shard_of, row_of = (np.full(len(self.items), -1) for _ in range(2))
            shard_of[rows], row_of[rows] = kept.shard_of, kept.row_of
            found.append(Activations(kept.shards, shard_of, row_of))
        return tuple(found)

    def _restated(self, strategy: Trained, lesson: Lesson) -> Restated | None:
        """Batch norms of both domains for strategies that want them, measured once for each cut."""
        from headstart.engine.restate import measured

        if not strategy.needs_target:
            return None
        settings = strategy.settings()
        key = (strategy.cut(self.backbone.n_stages), len(lesson.train), settings.get("most"), settings.get("own_norms"))
        if key not in self._measured:
            self._measured[key] = measured(strategy, lesson)
        return self._measured[key]

    def _solved(self, strategy: Strategy, adapted: Adapted, val_logits: np.ndarray) -> Solved:
        n_stages = self.backbone.n_stages
        stages = strategy.read(n_stages) if isinstance(strategy, Probe) else (n_stages - 1,)
        temperature = fit_temperature(self.problem.linear, val_logits, self.judge.y)
        return Solved(
            strategy=strategy, cut=strategy.cut(n_stages), adapted=adapted, temperature=temperature, stages=stages
        )

    def _tried(self, solved: Solved, val_logits: np.ndarray, seconds: float, n_train: int) -> Tried:
        scores = self.problem.linear.scores(val_logits, solved.temperature)
        return Tried(
            strategy=solved.strategy,
            solved=solved,
            scores=scores,
            score=self.judge.score(scores),
            seconds=seconds,
            n_train=n_train,
        )

    def scores(self, solved: Solved, rows: np.ndarray, source: bool = False) -> np.ndarray:
        """Calibrated scores (n, K) of the examples at `rows`; `source` as for `embedded`."""
        features = self.embedded(solved, rows, source)
        return self.problem.linear.scores(solved.adapted.head.logits(features), solved.temperature)

    def embedded(self, solved: Solved, rows: np.ndarray, source: bool = False) -> np.ndarray:
        """Features (n, D) that the head reads of the examples at `rows`.

        Give `source` for labelled examples of a problem with a target: some networks read the two domains differently.
        """
        changes = solved.adapted.changes_for(source)
        if changes is None:
            return freeze.side_by_side(self.frozen, solved.stages, rows)
        network = run_as(self.backbone.adapted(changes), in_float32(self.runner.way))
        items, digests = [self.items[row] for row in rows], [self.problem.digests[row] for row in rows]
        return freeze.embed(network, self.modality, items, digests, solved.stages, self.progress.bar)


def open_workshop(
    problem: Problem,
    network: Backbone,
    metrics: tuple[Metric, ...],
    wishes: Wishes,
    seed: int,
    progress: Progress,
    kind: type[Workshop] = Workshop,
) -> Any:
    """The problem and a backbone as a workshop under one judge: the first metric that validation defines."""
    rows = problem.rows["val"]
    scales = Scales(metrics=metrics, groups=problem.groups("val"), seed=seed)
    metric = defined_on(metrics, problem.task, problem.y[rows], problem.y[problem.rows["train"]])
    return kind(
        problem=problem,
        backbone=network,
        metric=metric,
        weights=scales.resamples(len(rows)) if len(rows) else np.ones((1, 0)),
        n_units=scales.n_groups,
        seed=seed,
        progress=progress,
        class_weight=wishes.weighs(metrics[0]),
        way=wishes.plan.way if wishes.plan is not None else None,
    )


def load_backbones(backbone: str | Sequence[str] | None, modality: str, progress: Progress) -> list[Backbone]:
    """One or several backbones for a modality, its own where none is named; PlanError when one takes other input."""
    given = [backbone] if backbone is None or isinstance(backbone, str) else backbone
    references: list[str | None] = [*given] or [None]
    return [load_backbone(reference, registry.modality(modality), progress) for reference in references]


def load_backbone(reference: str | None, modality: Modality, progress: Progress) -> Backbone:
    """The backbone called `reference` (default: the modality's); PlanError when it takes another kind of input."""
    if not modality.default_backbone:
        raise PlanError(
            f"Nothing is pretrained for {modality.noun[1]} of a table, so that no backbone can be ranked or compared. "
            "Learn them with `headstart fit TABLE`, and --source for another table to carry over from."
        )
    with progress.step("load the backbone"):
        network = catalog.load(reference or modality.default_backbone, progress)
    if network.modality != registry.plugin_name(modality):
        raise PlanError(
            f"The backbone {reference!r} takes {registry.modality(network.modality).noun[1]}, but the data are "
            f"{modality.noun[1]}. `headstart models` lists the others; the default is {modality.default_backbone!r}."
        )
    return network
