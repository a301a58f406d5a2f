"""A workshop for boxes: frozen maps in place of pooled features, detectors in place of linear heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from headstart.engine.detector import Detector, Network, build, detect, head_cost, levels_of, sized
from headstart.engine.maps import Looks, Maps, cached_maps, fit_on_disk
from headstart.engine.scenes import Scenes
from headstart.engine.trials import Trainee, detector_key
from headstart.engine.ways import in_float32, run_as
from headstart.evidence.orientation import has_an_up
from headstart.evidence.planner import Work
from headstart.evidence.sureness import sureness
from headstart.head_workshop import HeadWorkshop, Recipe
from headstart.problem import Problem
from headstart.strategies.base import Trained
from headstart.strategies.frozen import Frozen
from headstart.strategies.full import Full
from headstart.strategies.partial import Partial
from headstart.strategies.scratch import Scratch
from headstart.tasks.base import one_each
from headstart.tasks.detection import Detection
from headstart.tasks.pyramid import Levels

STEP = 32  # pixels: sides of a canvas are multiples of it
SHORTEST, LONGEST = 416, 640  # of the longer side of a canvas
LEAST_BOX = 24.0  # pixels of the canvas, that nine in ten boxes are to have at their shorter side


RECIPE = Recipe(
    what="boxes",
    passes=55.0,
    items=15_000,
    first_share=0.5,
    scratch_share=0.6,  # by the clock it is somewhat more than that took (docs/log.md)
    fewest=2,
    enough=20,
    most=40,
)
N_VIEWS = 4  # cached views of each picture below a cut, the plain one among them
ON_PYRAMID: dict[str, Any] = {"learning_rate": 4e-4, "head_rate": 10.0, "weight_decay": 0.05, "batch_size": 16}
AFTERWARDS: dict[str, Any] = {**ON_PYRAMID, "head_rate": 2.5}  # of a head that is trained already
READY_MADE: dict[str, Any] = {"learning_rate": 1e-4, "head_rate": 2.0, "weight_decay": 1e-4, "batch_size": 8}
FROM_SCRATCH: dict[str, Any] = {"learning_rate": 1e-3, "head_rate": 2.0, "weight_decay": 0.05, "batch_size": 16}


@dataclass(kw_only=True)
class BoxWorkshop(HeadWorkshop):
    """A problem of boxes and a backbone at its canvas, with everything that strategies share."""

    recipe = RECIPE

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

    @property
    def cuts(self) -> tuple[int, ...]:
        """The head alone, the last stages too, everything."""
        return self.backbone.n_stages, self._last_stages, 0

    @property
    def _last_stages(self) -> int:
        """Where they begin: above the finest map of a pyramid; the decoder of a ready-made detector."""
        if self.levels is not None:
            return self.levels.stages[0] + 1
        names = [stage.name for stage in self.backbone.stages]
        return next((i for i, name in enumerate(names) if name.startswith("decoder")), (len(names) + 1) // 2)

    def at_cut(self, freeze: int) -> Trained:
        """The way that freezes so many stages."""
        if freeze == self.backbone.n_stages:
            return Frozen(views=N_VIEWS, **(ON_PYRAMID if self.levels else READY_MADE))
        settings = AFTERWARDS if self.levels else READY_MADE
        return Partial(freeze=freeze, views=N_VIEWS, **settings) if freeze else Full(augment=True, **settings)

    def with_random_weights(self) -> Trained:
        """How the same network is trained from scratch."""
        return Scratch(augment=True, **FROM_SCRATCH)

    def lesson_for(self, strategy: Trained, rows: np.ndarray, cache: bool) -> Scenes:
        """What a strategy learns from; with a `cache`, from maps that are kept."""
        moves = strategy.augment or strategy.views > 1
        looks = Looks(stages=self._kept_at(strategy), upside_down=moves and self.upside_down)
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

    def key(self, strategy: Trained, lesson: Scenes) -> str:
        """sha256 (hex) of all that decides what training gives."""
        return detector_key(strategy, lesson, self.class_names, self.levels)

    def teach(self, strategy: Trained, lesson: Scenes) -> Trainee:
        """Train a detector."""
        from headstart.engine.heads import train_head

        return train_head(strategy, lesson, lambda upper: build(upper, self.levels, self.class_names))

    def made(self, strategy: Trained, trainee: Trainee) -> tuple[Detector, np.ndarray]:
        """(the detector with its confidences fitted on validation, what it finds there)."""
        detector = Detector(
            class_names=self.class_names,
            canvas=self.canvas,
            levels=self.levels,
            head=trainee.head,
            changes=trainee.changes,
        )
        val = self.problem.rows["val"]
        found = self.found(detector, val)
        ready = replace(detector, confidence=sureness(self.task, self.problem.y[val], found))
        return ready, calibrated(ready, found)

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
        return calibrated(solved.trained, self.found(solved.trained, rows))


def calibrated(detector: Detector, found: np.ndarray) -> np.ndarray:
    """Detections (n,) with confidences that mean what they say."""
    return one_each([detector.calibrated(one) for one in found])


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
