"""A workshop for boxes: frozen maps in place of pooled features, detectors in place of linear heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from headstart.backbones.base import Backbone
from headstart.engine.detector import Detector, Network, Trainee, detect, head_cost, levels_of, sized
from headstart.engine.fastest import fastest
from headstart.engine.maps import Looks, Maps, cached_maps, fit_on_disk
from headstart.engine.scenes import Scenes
from headstart.engine.trials import detector_key
from headstart.engine.ways import in_float32, light, run_as
from headstart.evidence.depth import Probed
from headstart.evidence.orientation import has_an_up
from headstart.evidence.planner import Tried, Work
from headstart.evidence.sureness import sureness
from headstart.problem import Problem
from headstart.strategies.base import Strategy, Trained
from headstart.strategies.frozen import Frozen
from headstart.tasks.boxes import boxed
from headstart.tasks.detection import Detection
from headstart.tasks.pyramid import Levels
from headstart.workshop import Workshop

STEP = 32  # pixels: sides of a canvas are multiples of it
SHORTEST, LONGEST = 416, 640  # of the longer side of a canvas
LEAST_BOX = 24.0  # pixels of the canvas, that nine in ten boxes are to have at their shorter side


@dataclass(frozen=True, kw_only=True)
class SolvedBoxes:
    """A trained detector, and the strategy and cut that it belongs to."""

    strategy: Strategy
    cut: int
    detector: Detector
    first: Trained | None = None  # how the head that it started from was trained


@dataclass(kw_only=True)
class BoxWorkshop(Workshop):
    """A problem of boxes and a backbone at its canvas, with everything that strategies share."""

    first: tuple[Trained, Trainee] | None = None  # the head alone, trained: what all else starts from

    @property
    def probed(self) -> list[Probed]:
        """None: no head that finds boxes can be solved."""
        return []

    @cached_property
    def runner(self) -> Backbone:
        """The backbone as its frozen part is run here: by torch, whose hooks hand out the maps."""
        if self.way is not None:
            return run_as(self.backbone, self.way)
        found = fastest(self.backbone, self.modality, self.items, self.progress)
        return run_as(self.backbone, light(found.way))

    @property
    def task(self) -> Detection:
        """What the boxes are."""
        assert isinstance(self.problem.task, Detection), "a workshop for boxes takes boxes"
        return self.problem.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the boxes are called."""
        return self.problem.task.score_names

    @cached_property
    def levels(self) -> Levels | None:
        """What a pyramid stands on; None for a detector that has a head of its own."""
        return None if self.backbone.reads else levels_of(self.backbone, len(self.class_names))

    @property
    def read(self) -> tuple[int, ...]:
        """The stages whose maps the head reads."""
        return self.levels.stages if self.levels else self.backbone.reads

    @cached_property
    def work(self) -> Work:
        """Counts what training costs, the head included."""
        return replace(super().work, head=head_cost(self.backbone, self.levels))

    @cached_property
    def upside_down(self) -> bool:
        """Whether pictures may be learnt from upside down too: where nobody can tell which way is up."""
        rows = self.problem.rows["train"]
        with self.progress.step("which way is up"):
            tells = has_an_up(self.runner, self.modality, [self.items[row] for row in rows], self.seed)
        up = f"up and down can{'' if tells.told else 'not'} be told apart (ROC AUC {tells.roc_auc:.2f})"
        self.progress.say(f"  {up}: random views are mirrored{'' if tells.told else ' and turned upside down'}")
        return not tells.told

    def scenes(self, strategy: Trained, n_train: int | None = None, cache: bool | None = None) -> Scenes:
        """What a strategy learns from; with a `cache` (default: where it costs less), from maps that are kept."""
        rows = self.problem.rows["train"]
        if n_train is not None and n_train < len(rows):
            rows = np.sort(np.random.default_rng(self.seed).permutation(rows)[:n_train])
        moves = strategy.augment or strategy.views > 1
        looks = Looks(stages=self._kept_at(strategy), upside_down=moves and self.upside_down)
        if cache is None:
            cache = self.work.caches(strategy, len(rows))
        return Scenes(
            backbone=self.backbone,
            modality=self.modality,
            items=self.items,
            digests=self.problem.digests,
            y=self.problem.y,
            train=rows,
            looks=looks,
            views=self._maps(looks, strategy.views, rows) if cache else (),
            seed=self.seed,
            head=self.first[1].head if self.first is not None and strategy.from_probe else None,
        )

    def _kept_at(self, strategy: Trained) -> tuple[int, ...]:
        """Of the stages that the head reads those below the cut, and the one that the rest goes on from."""
        cut = strategy.cut(self.backbone.n_stages)
        if self.levels is None:
            return self.backbone.read_above(cut)
        goes_on = self.backbone.read_above(cut) if cut <= max(self.read) else ()
        return tuple(sorted({*goes_on, *(stage for stage in self.read if stage < cut)}))

    def _maps(self, looks: Looks, n_views: int, rows: np.ndarray) -> tuple[Maps, ...]:
        """Maps of these rows in every view, told of all items; none where the disk is too small."""
        if not fit_on_disk(self.backbone, looks.stages, len(rows) * n_views):
            self.progress.say("  the disk has no room for the maps of the frozen stages: they run each time")
            return ()
        items, digests = [self.items[row] for row in rows], [self.problem.digests[row] for row in rows]
        found = []
        with self.progress.step("frozen maps"):
            for view in range(n_views):
                kept = cached_maps(self.runner, self.modality, items, digests, looks.seen_as(view), self.progress)
                found.append(kept.among(rows, len(self.items)))
        return tuple(found)

    def train(self, strategy: Trained, n_train: int | None = None, cache: bool | None = None) -> Tried:
        """Run a strategy on `n_train` pictures (default: all), or read what an interrupted fit has run already."""
        from headstart.engine.detecting import train_detector

        scenes = self.scenes(strategy, n_train, cache)
        key = detector_key(strategy, scenes, self.class_names, self.levels)
        trainee = self.trials.trainee(key)
        if trainee is None:
            ready = replace(scenes, checkpoint=self.trials.checkpoint(key))
            trainee = train_detector(strategy, ready, self.levels, self.class_names)
            self.trials.put_trainee(key, trainee)
        if isinstance(strategy, Frozen) and n_train is None:
            self.first = (strategy, trainee)
        detector = Detector(
            class_names=self.class_names,
            canvas=self.canvas,
            levels=self.levels,
            head=trainee.head,
            changes=trainee.changes,
        )
        return self._tried_detector(strategy, detector, trainee.seconds, len(scenes.train))

    def _tried_detector(self, strategy: Trained, detector: Detector, seconds: float, n_train: int) -> Tried:
        """The detector with its confidences fitted on validation, and what that says of it."""
        val = self.problem.rows["val"]
        found = self.found(detector, val)
        ready = replace(detector, confidence=sureness(self.task, self.problem.y[val], found))
        scores = calibrated(ready, found)
        return Tried(
            strategy=strategy,
            solved=SolvedBoxes(
                strategy=strategy,
                cut=strategy.cut(self.backbone.n_stages),
                detector=ready,
                first=self.first[0] if self.first is not None and strategy.from_probe else None,
            ),
            scores=scores,
            score=self.judge.score(scores),
            seconds=seconds,
            n_train=n_train,
        )

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        assert self.backbone.canvas is not None, "a backbone for pictures must say what they are resized to"
        return self.backbone.canvas

    def found(self, detector: Detector, rows: np.ndarray) -> np.ndarray:
        """What a detector finds in the pictures at `rows`, (n,) of Detections in pixels, as its network scores them."""
        if detector.levels is None:
            network = self.backbone if detector.changes is None else self.backbone.adapted(detector.changes)
        elif detector.changes is not None:
            network = run_as(self.backbone.adapted(detector.changes), in_float32(self.runner.way))
        else:
            network = self.runner
        whole: Network = detector.network(network)
        found = detect(whole, network, self.modality, [self.items[row] for row in rows], self.progress.bar)
        return sized(found, [self.problem.y[row].size for row in rows])

    def scores(self, solved: Any, rows: np.ndarray, source: bool = False) -> np.ndarray:
        """What is found in the pictures at `rows`, with calibrated confidence."""
        return calibrated(solved.detector, self.found(solved.detector, rows))


def calibrated(detector: Detector, found: np.ndarray) -> np.ndarray:
    """Detections (n,) with confidences that mean what they say."""
    return boxed([detector.calibrated(one) for one in found])


def canvas_of(problem: Problem) -> tuple[int, int]:
    """Height and width to resize all pictures to: of the usual shape, and so large that nine in ten boxes are seen.

    That is, LEAST_BOX pixels at their shorter side, between SHORTEST and LONGEST pixels of the longer side.
    """
    objects = [problem.y[row] for row in problem.rows["train"]]
    wide = float(np.median([one.size[0] / one.size[1] for one in objects]))
    scales = [max(one.size) for one in objects for _ in range(len(one))]
    sides = np.concatenate([(one.boxes[:, 2:] - one.boxes[:, :2]).min(axis=1) for one in objects])
    needed = LEAST_BOX / max(1e-6, float(np.quantile(sides / np.array(scales), 0.1))) if len(sides) else SHORTEST
    own = float(np.median([max(one.size) for one in objects]))
    longer = np.clip(min(needed, own), SHORTEST, LONGEST)
    height, width = (longer / wide, longer) if wide >= 1 else (longer, longer * wide)
    return rounded(height), rounded(width)


def rounded(pixels: float) -> int:
    """To the nearest multiple of STEP, at least two of them."""
    return max(2, round(pixels / STEP)) * STEP
