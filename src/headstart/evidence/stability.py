"""How many groups the data have: whether two halves of them, grouped apart, agree, and more than chance has it.

Each half is grouped by itself, and each grouping then says where the items of the other half belong; the adjusted Rand
index of what both say is the stability of that number of groups (Tibshirani & Walther 2005,
doi:10.1198/106186005X59243, in the form of Dudoit & Fridlyand 2002, doi:10.1186/gb-2002-3-7-research0036). A long cloud
without groups is stable too, cut in two, so a cloud with the same variances is grouped alike, and what counts is the
excess over it (Ben-Hur, Elisseeff & Guyon 2002). How stable one group is, the Jaccard index says (Hennig 2007,
doi:10.1016/j.csda.2006.11.025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from headstart.evidence.base import Score
from headstart.evidence.groups import FEW, Grouping, k_means
from headstart.evidence.space import Space

MOST_ITEMS = 6000  # that the search looks at
MOST_GROUPS = 300
LEAST_IN_GROUP = 10  # items that each group has on average in the search
LEAST_ASKED = 4  # where the number of groups is asked for: two in each half
STEP = 1.25  # from one number of groups to the next, in the first round
N_FIRST, N_SECOND = 4, 40  # pairs of halves in the first round, and in the second
N_CLOUDS, N_CLOUDS_OF_FEW = 12, 40  # without groups, in the second round; few groups are cheap, and vary most
N_BETTER = 6  # numbers that the second round goes on with, beside those next to the best
LEAST_EXCESS = 0.02  # a smaller one is not worth a name
LEAST_NOISE = 0.01  # standard deviation of a cloud's stability: a dozen clouds cannot show less
N_RESAMPLES = 40  # for the stability of single groups
RISK = 0.05


@dataclass(frozen=True, kw_only=True)
class Point:
    """One number of groups that was looked at; `excess` is the stability minus that of a cloud without groups.

    Its interval is where the middle 95 % of the pairs of halves lie.
    """

    k: int
    stability: float
    chance: float  # stability of the cloud
    excess: Score


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many groups there are; the best number of 95 % of the pairs of halves lies from `low` to `high`.

    A pair of halves has only half of the data to group, so this is rather too wide than too narrow.
    """

    k: int
    low: int
    high: int
    found: bool  # False: no number is clearly more stable than in a cloud without groups
    n_items: int  # that were looked at
    at_the_edge: bool  # the best is the largest that was looked at
    points: tuple[Point, ...]

    @property
    def best(self) -> Point:
        """What was measured at the best number."""
        return next(point for point in self.points if point.k == self.k)


@dataclass
class Halves:
    """Stabilities of the data and of clouds by (which draw, number of groups), each computed once."""

    places: np.ndarray  # (N, d)
    space: Space
    seed: int
    of_data: dict[tuple[int, int], float] = field(default_factory=dict)
    of_clouds: dict[tuple[int, int], float] = field(default_factory=dict)

    def data(self, k: int, second: bool) -> np.ndarray:
        """Stabilities of the data, one a pair of halves; the same pairs for every k."""
        n = N_SECOND if second else N_FIRST
        for r in range(n):
            if (r, k) not in self.of_data:
                rows = np.random.default_rng([self.seed, r]).permutation(len(self.places))[:MOST_ITEMS]
                self.of_data[r, k] = agreement(self.places[rows], k, r)
        return np.array([self.of_data[r, k] for r in range(n)])

    def clouds(self, k: int, second: bool) -> np.ndarray:
        """Stabilities of clouds without groups, as many as the round asks for."""
        n = (N_CLOUDS_OF_FEW if k <= FEW else N_CLOUDS) if second else N_FIRST
        size = min(len(self.places), MOST_ITEMS)
        for r in range(n):
            if (r, k) not in self.of_clouds:
                cloud = self.space.cloud(size, np.random.default_rng([self.seed, r, 1]))
                self.of_clouds[r, k] = agreement(cloud, k, r)
        return np.array([self.of_clouds[r, k] for r in range(n)])

    def excess(self, k: int, second: bool) -> np.ndarray:
        """Of each pair of halves over the mean cloud."""
        return self.data(k, second) - self.clouds(k, second).mean()


def agreement(places: np.ndarray, k: int, seed: int) -> float:
    """How alike the first half and the second half of places (n, d) group each other's items, from 0 to 1."""
    from sklearn.metrics import adjusted_rand_score

    one, other = places[: len(places) // 2], places[len(places) // 2 :]
    of_one, of_other = k_means(one, k, seed), k_means(other, k, seed)
    forth = adjusted_rand_score(of_other.labels_, of_one.predict(other))
    back = adjusted_rand_score(of_one.labels_, of_other.predict(one))
    return float(forth + back) / 2


def most_groups(n: int) -> int:
    """The largest number of groups that n items are searched for; below 2 there is nothing to search."""
    return min(MOST_GROUPS, min(n, MOST_ITEMS) // LEAST_IN_GROUP)


def how_many(places: np.ndarray, space: Space, seed: int, advance: Callable[[int], None] = lambda n: None) -> Count:
    """Search the number of groups of places (N, d): coarsely over all numbers, then closely around the best.

    `advance` is told of each number that is done, `n_steps` in all.
    """
    halves = Halves(places, space, seed)
    first, means = first_round(len(places)), {}
    for k in first:
        means[k] = float(halves.excess(k, False).mean())
        advance(1)
    second = second_round(first, means)
    for k in second:
        halves.excess(k, True)
        advance(1)
    return count(halves, first, second)


def just(places: np.ndarray, space: Space, k: int, seed: int) -> Count:
    """A number of groups that was asked for, measured alone."""
    return replace(count(Halves(places, space, seed), [k], [k]), at_the_edge=False)


def n_steps(n: int) -> int:
    """At most so many numbers of groups are looked at, both rounds together."""
    return len(first_round(n)) + N_BETTER + 4


def first_round(n: int) -> list[int]:
    """2, 3, 4, 5, 6, 8, 10 …: numbers of groups, each a quarter larger than the one before."""
    most, found = max(2, most_groups(n)), [2]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, round(found[-1] * STEP))))
    return found


def second_round(first: Sequence[int], means: dict[int, float]) -> list[int]:
    """The best numbers of the first round, and up to two more on either side of the very best."""
    best = max(first, key=means.__getitem__)
    at = first.index(best)
    found = set(sorted(first, key=lambda k: -means[k])[:N_BETTER])
    for other in first[max(0, at - 1) : at + 2]:
        found |= {round(best + share * (other - best)) for share in (1 / 3, 2 / 3)}
    return sorted(found)


def count(halves: Halves, first: Sequence[int], second: Sequence[int]) -> Count:
    """The best number of the second round, in which range it lies, and whether there are groups at all."""
    excess = np.stack([halves.excess(k, True) for k in second])  # (numbers, pairs of halves)
    best = second[int(excess.mean(axis=1).argmax())]
    low, high = spread_of_best(excess, second)
    found = any(beyond_chance(halves.data(k, True), halves.clouds(k, True), len(second)) for k in second)
    return Count(
        k=best,
        low=min(low, best),
        high=max(high, best),
        found=found,
        n_items=min(len(halves.places), MOST_ITEMS),
        at_the_edge=best == max(first),
        points=tuple(_point(halves, k, k in second) for k in sorted({*first, *second})),
    )


def spread_of_best(excess: np.ndarray, numbers: Sequence[int]) -> tuple[int, int]:
    """Where the best number of the middle 95 % of the pairs of halves lies; excess is (numbers, pairs)."""
    best = np.asarray(numbers)[excess.argmax(axis=0)]
    low, high = np.percentile(best, [2.5, 97.5], method="nearest")
    return int(low), int(high)


def beyond_chance(data: np.ndarray, clouds: np.ndarray, n_tests: int = 1) -> bool:
    """Whether the stability of the data is above that of clouds without groups, with a risk of 5 % over all tests.

    The mean of the data is held against single clouds, which is cautious: they vary more than a mean does. Compared
    are logarithms of the disagreement, for near full agreement there is little room above.
    """
    from scipy.stats import t

    n, of_clouds = len(clouds), _log_disagreement(clouds)
    noise = max(LEAST_NOISE, float(of_clouds.std(ddof=1))) * math.sqrt(1 + 1 / n)
    beyond = float(of_clouds.mean() - _log_disagreement(data.mean()))
    enough = data.mean() - clouds.mean() >= LEAST_EXCESS
    return bool(enough and beyond > t.ppf(1 - RISK / n_tests, n - 1) * noise)


def _log_disagreement(stability: np.ndarray) -> np.ndarray:
    return np.log(1 + LEAST_NOISE - stability)


def jaccards(
    places: np.ndarray, grouping: Grouping, seed: int, advance: Callable[[int], None] = lambda n: None
) -> list[Score]:
    """How stable each group is: the mean over resamples of half the items, and where the middle 95 % of them lie.

    In each, the Jaccard index of the group with the most similar group of the resample: 1 is found again exactly; of
    groups below 0.5 Hennig says that they are dissolved, and of those from 0.75 on that they are stable.
    """
    k = len(grouping.centres)
    n = min(MOST_ITEMS, len(places) // 2)
    found = np.full((N_RESAMPLES, k), np.nan)
    for r in range(N_RESAMPLES):
        rows = np.random.default_rng([seed, r]).permutation(len(places))[:n]
        found[r] = best_jaccard(grouping.labels[rows], k_means(places[rows], min(k, n), r).labels_, k)
        advance(1)
    return [_spread(column[~np.isnan(column)]) for column in found.T]


def best_jaccard(labels: np.ndarray, again: np.ndarray, k: int) -> np.ndarray:
    """(k,) for each group of `labels` (n,), the largest Jaccard index with one of `again`; NaN where it is empty."""
    shared = np.zeros((k, int(again.max()) + 1))
    np.add.at(shared, (labels, again), 1)
    sizes, others = shared.sum(axis=1), shared.sum(axis=0)
    best = (shared / (sizes[:, None] + others - shared)).max(axis=1)
    return np.where(sizes > 0, best, np.nan)


def _spread(values: np.ndarray) -> Score:
    if not len(values):
        return Score(0.0, 0.0, 1.0)  # never drawn: nothing is known
    low, high = np.percentile(values, [2.5, 97.5])
    return Score(float(values.mean()), float(low), float(high))


def _point(halves: Halves, k: int, second: bool) -> Point:
    excess = halves.excess(k, second)
    low, high = np.percentile(excess, [2.5, 97.5])
    stability, chance = float(halves.data(k, second).mean()), float(halves.clouds(k, second).mean())
    return Point(k=k, stability=stability, chance=chance, excess=Score(float(excess.mean()), float(low), float(high)))
