"""Which ways to learn, and how much each has to say: cross-validation on the target's labels, read with its noise.

With few labels the best of twenty scores is mostly luck. So nothing is picked: the ways are averaged, each weighted by
how often it would win were the labelled rows drawn anew (pseudo-BMA+, Yao et al. 2018, arXiv:1704.02030). Ways that
cannot be told apart share the weight; with many labels it goes to the best. Ways in which the target corrects the
source begin with twice the voice, those whose answers vary most with half of it. Without target labels the losses are
those of the source's held-out rows, weighted to look like the target's (Sugiyama et al. 2007, JMLR 8:985).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from headstart import registry
from headstart.strategies.base import Part
from headstart.tables import density
from headstart.tables.base import Domains, TableTransfer
from headstart.tables.calibration import Calibration, calibrate, identity
from headstart.tables.folds import folds, strata_of
from headstart.tables.mixture import Mixture
from headstart.tables.mixture import Part as Piece
from headstart.tasks.base import LinearTask

N_FOLDS = 5
REPEATS = {50: 3, 200: 2}  # with fewer labels than this, cross-validation is repeated so often; else it is done once
N_DRAWS = 2000  # of the rows' weights
RATE = 0.5  # of a held-out loss that counts: such losses share most of what they were learnt from
LEAST_WEIGHT = 0.02  # what has less to say is left out


@dataclass(frozen=True)
class Way:
    """One way with its settings, and what was begun."""

    name: str
    transfer: TableTransfer
    begun: object


@dataclass(frozen=True)
class Tried:
    """What cross-validation found of one way."""

    way: Way
    losses: np.ndarray  # (n,) of each labelled row, by models that did not learn from it
    scores: np.ndarray  # (n, K) calibrated, of such models
    calibration: Calibration
    n_rows: float  # how many rows these amount to: fewer where they are weighted


@dataclass(frozen=True)
class Planned:
    """Every way that was tried, with its weight."""

    tried: tuple[Tried, ...]
    weights: np.ndarray  # (M,) of mean-square sum 1
    row_weights: np.ndarray | None  # (n,) of the source's rows, where the target has no labels

    def only(self, names: Sequence[str]) -> Planned:
        """The same with some ways only, weighed anew."""
        kept = tuple(one for one in self.tried if one.way.name in names)
        return Planned(kept, weigh(kept, self.row_weights), self.row_weights)

    def of(self, name: str) -> float:
        """The weight of a way, all its settings together."""
        return float(sum(w for w, one in zip(self.weights, self.tried, strict=True) if one.way.name == name))

    @property
    def names(self) -> list[str]:
        """The ways, the one with the most to say first."""
        return sorted({one.way.name for one in self.tried}, key=lambda name: (-self.of(name), name))

    def scores(self) -> np.ndarray:
        """(n, K): the mean of what the ways said of rows that they did not learn from."""
        return np.asarray(sum(w * one.scores for w, one in zip(self.weights, self.tried, strict=True)))


def begin(domains: Domains, names: Collection[str] | None = None) -> list[Way]:
    """The ways that make sense here (or those of these names), each begun once."""
    task = registry.plugin_name(domains.task)
    ways = []
    for name in registry.TABLES.names():
        kind: type[TableTransfer] = registry.TABLES.get(name)
        if task not in kind.tasks or (kind.needs_source and domains.source is None):
            continue
        if names is None or name in names:
            ways += [Way(name, one, one.begin(domains)) for one in kind.variants()]
    return ways


def plan(
    domains: Domains,
    ways: Sequence[Way],
    target: Part,
    repeats: int | None = None,
    groups: np.ndarray | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Planned:
    """Weigh the ways by what they say of labelled target rows (n, D) held out; of the source's where n is 0.

    Rows of one of the `groups` (n,) are held out together.
    """
    if not len(target.y):
        return _unlabelled(domains, ways)
    repeats = repeats_for(len(target.y)) if repeats is None else repeats
    strata = strata_of(target.y, is_number=not domains.task.score_names)
    held = [folds(strata, N_FOLDS, domains.seed + r, groups) for r in range(repeats)]
    tried = []
    for way in ways:
        tried.append(_crosswise(domains, way, target, held))
        advance(1)
    return Planned(tuple(tried), weigh(tried), None)


def repeats_for(n: int) -> int:
    """How often n labels are worth dividing anew."""
    return next((times for fewer, times in REPEATS.items() if n < fewer), 1)


def ship(domains: Domains, planned: Planned, target: Part) -> Mixture:
    """The ways with something to say, learnt from all labelled rows."""
    kept = [k for k in np.argsort(-planned.weights) if planned.weights[k] >= LEAST_WEIGHT] or [
        int(planned.weights.argmax())
    ]
    total = planned.weights[kept].sum()
    parts = []
    for k in kept:
        one = planned.tried[k]
        learnt = one.way.transfer.learn(domains, one.way.begun, target)
        settings, weight = one.way.transfer.settings(), float(planned.weights[k] / total)
        parts.append(Piece(one.way.name, settings, weight, learnt, one.calibration))
    return Mixture(tuple(parts))


def as_it_is(ways: Sequence[Way], name: str, domains: Domains) -> Mixture:
    """The plain mean of a way's settings, learnt and calibrated without any label of the target."""
    none = Part(domains.target[:0], domains.given.y[:0])
    own = [way for way in ways if way.name == name]
    parts = [
        Piece(name, way.transfer.settings(), 1 / len(own), learnt, identity(domains.n_outputs))
        for way in own
        for learnt in [way.transfer.learn(domains, way.begun, none)]
    ]
    return Mixture(tuple(parts))


def weigh(tried: Sequence[Tried], row_weights: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """(M,): how often each would win, were the rows drawn anew; ways have one voice each, shared by their settings."""
    losses = np.stack([one.losses for one in tried])  # (M, n)
    n = tried[0].n_rows
    names = [one.way.name for one in tried]
    prior = np.log([one.way.transfer.voice / names.count(one.way.name) for one in tried])
    drawn = np.random.default_rng(seed).dirichlet(np.ones(losses.shape[1]), N_DRAWS)  # Bayesian bootstrap
    if row_weights is not None:
        drawn = drawn * row_weights
        drawn /= drawn.sum(axis=1, keepdims=True)
    return np.asarray(softmax(-RATE * n * (drawn @ losses.T) + prior, axis=1).mean(axis=0))


def _crosswise(domains: Domains, way: Way, target: Part, held: Sequence[Sequence[np.ndarray]]) -> Tried:
    """`held` has for each repeat the rows of each fold."""
    said = np.stack([_held_out(domains, way, target, folds_) for folds_ in held])  # (R, n, K)
    calibration = calibrate(domains.task, said.reshape(-1, said.shape[-1]), np.tile(target.y, len(held)))
    scores = np.stack([domains.task.scores(calibration.apply(one)) for one in said])
    losses = np.mean([pointwise(domains.task, target.y, one) for one in scores], axis=0)
    return Tried(way, losses, scores.mean(axis=0), calibration, float(len(target.y)))


def _held_out(domains: Domains, way: Way, target: Part, held: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (n, K) of each row by a model that did not learn from it."""
    said = np.empty((len(target.y), domains.n_outputs))
    for fold in held:
        kept = np.setdiff1d(np.arange(len(target.y)), fold)
        learnt = way.transfer.learn(domains, way.begun, Part(target.features[kept], target.y[kept]))
        said[fold] = learnt.logits(target.features[fold])
    return said


def pointwise(task: LinearTask, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n,) losses in nats: surprise at a class, or at a number under a normal law of the mean squared error."""
    losses = task.losses(y, scores)
    if task.score_names:
        return losses
    spread = max(float(losses.mean()), 1e-12)
    return 0.5 * (losses / spread + np.log(spread))


def _unlabelled(domains: Domains, ways: Sequence[Way]) -> Planned:
    """By the source alone: its rows are held out in turn, and their losses weighted as the target would see them."""
    rows, none = domains.given, Part(domains.target[:0], domains.given.y[:0])
    weight = density.importance(domains)
    strata = strata_of(rows.y, is_number=not domains.task.score_names)
    held = folds(strata, N_FOLDS, domains.seed)
    tried = []
    for way in (way for way in ways if not way.transfer.needs_labels):
        said = np.empty((len(rows.y), domains.n_outputs))
        for fold in held:
            kept = np.setdiff1d(np.arange(len(rows.y)), fold)
            part = Part(rows.features[kept], rows.y[kept])
            inner = Domains(task=domains.task, target=domains.target, source=part, seed=domains.seed)
            learnt = way.transfer.learn(inner, way.transfer.begin(inner), none)
            said[fold] = learnt.logits(rows.features[fold])
        scores = domains.task.scores(said)
        losses = pointwise(domains.task, rows.y, scores)
        tried.append(Tried(way, losses, scores, identity(domains.n_outputs), density.effective(weight)))
    return Planned(tuple(tried), weigh(tried, weight), weight)
