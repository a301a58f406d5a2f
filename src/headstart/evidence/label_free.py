"""Judge candidates for an unlabelled target without a target label, and choose where several judges agree.

Six scorers, all of them higher for the better:

- importance: source validation, weighed as p_target(x) / p_source(x) (Sugiyama et al. 2007, JMLR 8);
- dev: the same risk with a control variate that takes variance off (You et al. 2019, ICML);
- density: how many target examples each one is softly next to (Saito et al. 2021, arXiv:2108.10860);
- circular: what a head learnt from the target's predicted labels knows of the source's true ones (Bruzzone & Marconcini
  2010, doi:10.1109/TPAMI.2009.57; Ganin et al. 2016, arXiv:1505.07818);
- entropy: how sure the predictions are (Morerio et al. 2018, arXiv:1711.10288), less how alike they are all: the
  mutual information of example and prediction, since a collapsed classifier is the surest of all;
- consensus: how often a candidate predicts what all of them do on average (Hu et al. 2024, NeurIPS, "EnsV").

No scorer is right alone: on Office-Caltech10 a pick by one of the first five loses up to 13 points against source only
(docs/log.md). The consensus never takes the worst; one more must agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from headstart.alignments.base import Outlook
from headstart.alignments.domains import domain_odds
from headstart.errors import DataError, listed
from headstart.evidence.base import Score
from headstart.evidence.intervals import PERCENTILES, resamples
from headstart.tasks import logistic
from headstart.tasks.linear import mean_squared_length

SCORERS = {  # name: for people
    "importance": "importance-weighted validation",
    "dev": "deep embedded validation",
    "density": "soft neighbourhood density",
    "circular": "circular validation",
    "entropy": "prediction entropy",
    "consensus": "consensus of the candidates",
}
N_RESAMPLES = 400
MARGIN = 1.0  # standard errors of the paired difference that a scorer must see a candidate ahead by
FEWEST = 3  # candidates that make a consensus
TEMPERATURE = 0.05  # of the soft neighbourhoods, as in the paper
TINY = 1e-12  # below it a probability has no logarithm

Statistic = Callable[[np.ndarray], np.ndarray]  # resample weights (B, n) -> values (B,)


@dataclass(frozen=True)
class Judged:
    """What a scorer says of a candidate: a number for any resample of the n examples that it rests on."""

    n: int
    compute: Statistic


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What ships, and what every scorer said of every candidate."""

    name: str  # of the candidate that ships
    trusted: bool  # an adapted candidate has taken the fallback's place
    reason: str  # one sentence
    scores: dict[str, dict[str, Score]]  # scorer -> candidate -> value; higher is better
    gains: dict[str, dict[str, Score]]  # scorer -> candidate -> candidate minus fallback, on the same resamples
    votes: dict[str, dict[str, bool]]  # scorer -> candidate -> whether it is found better than the fallback

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Choice:
        """The inverse of `to_json`."""
        both = {
            part: {scorer: {c: Score(**s) for c, s in found.items()} for scorer, found in saved[part].items()}
            for part in ("scores", "gains")
        }
        return cls(**{**saved, **both})


def choose(outlooks: Mapping[str, Outlook], fallback: str = "source only", seed: int = 0) -> Choice:
    """The candidate that the consensus prefers most to the fallback, if another scorer agrees; else the fallback.

    To prefer is to see a gain above one standard error of the paired difference (bootstrap over examples). All
    outlooks speak of the same examples in the same order; DataError when they do not, or the fallback is not there.
    """
    _check(outlooks, fallback)
    judged = {name: judge(outlook, seed) for name, outlook in outlooks.items()}
    if len(outlooks) >= FEWEST:
        together = np.mean([outlook.target_probabilities for outlook in outlooks.values()], axis=0)
        judged = {name: found | {"consensus": agreement(outlooks[name], together)} for name, found in judged.items()}
    values = {}
    for scorer, one in judged[fallback].items():
        weights = np.concatenate([np.ones((1, one.n)), resamples(one.n, N_RESAMPLES, seed)])  # the same for all
        values[scorer] = {name: found[scorer].compute(weights) for name, found in judged.items()}
    gains = {
        scorer: {name: found[name] - found[fallback] for name in found if name != fallback}
        for scorer, found in values.items()
    }
    votes = {
        scorer: {name: bool(gain[0] > MARGIN * gain[1:].std()) for name, gain in found.items()}
        for scorer, found in gains.items()
    }
    return Choice(
        **_decision(gains, votes, fallback),
        scores={scorer: {name: _score(one) for name, one in found.items()} for scorer, found in values.items()},
        gains={scorer: {name: _score(one) for name, one in found.items()} for scorer, found in gains.items()},
        votes=votes,
    )


def _decision(
    gains: dict[str, dict[str, np.ndarray]], votes: dict[str, dict[str, bool]], fallback: str
) -> dict[str, Any]:
    """Name, trusted and reason."""
    if "consensus" not in votes:
        reason = f"No adaptation is trusted: it takes {FEWEST} candidates to agree on the target. Shipped: {fallback}."
        return {"name": fallback, "trusted": False, "reason": reason}
    agreed = {
        name: [scorer for scorer in votes if scorer != "consensus" and votes[scorer][name]]
        for name, found in votes["consensus"].items()
        if found
    }
    trusted = {name: gains["consensus"][name][0] for name, others in agreed.items() if others}
    if not trusted:
        best = max(gains["consensus"], key=lambda name: gains["consensus"][name][0])
        reason = (
            f"No adaptation is trusted: without target labels none is found better than {fallback} by the consensus of "
            f"the candidates and another scorer ({best} came nearest). Shipped: {fallback}."
        )
        return {"name": fallback, "trusted": False, "reason": reason}
    name = max(trusted, key=lambda name: trusted[name])
    others = " and ".join(SCORERS[scorer] for scorer in agreed[name])
    reason = f"{name} takes the place of {fallback}, being better by the {SCORERS['consensus']} and by {others}."
    return {"name": name, "trusted": True, "reason": reason}


def _score(values: np.ndarray) -> Score:
    low, high = np.percentile(values[1:], PERCENTILES)
    return Score(float(values[0]), float(low), float(high))


def _check(outlooks: Mapping[str, Outlook], fallback: str) -> None:
    if fallback not in outlooks:
        raise DataError(f"{fallback!r} is not one of the candidates: {listed(outlooks)}. It must be, to fall back on.")
    sizes = {
        name: (len(one.y_train), len(one.y_val), *one.target_probabilities.shape) for name, one in outlooks.items()
    }
    for name, size in sizes.items():
        if size != sizes[fallback]:
            raise DataError(
                f"Candidates must be judged on the same examples: {name!r} has {size} of train, val, target and "
                f"classes, {fallback!r} {sizes[fallback]}."
            )


def judge(outlook: Outlook, seed: int) -> dict[str, Judged]:
    """What each scorer that looks at one candidate alone says of it."""
    ratio = val_ratio(outlook, seed)
    return {
        "importance": importance(outlook, ratio),
        "dev": dev(outlook, ratio),
        "density": density(outlook),
        "circular": circular(outlook),
        "entropy": entropy(outlook),
    }


def val_ratio(outlook: Outlook, seed: int) -> np.ndarray:
    """p_target / p_source (m,) of the validation examples, mean 1, by a classifier that has not seen them."""
    odds = domain_odds(np.concatenate([outlook.train, outlook.val]), outlook.target, seed)
    return replace(odds, source=odds.source[len(outlook.train) :]).ratio()


def importance(outlook: Outlook, ratio: np.ndarray) -> Judged:
    """Accuracy on source validation, each example weighed by the density ratio (m,)."""
    right = outlook.val_probabilities.argmax(axis=1) == outlook.y_val
    return Judged(len(right), lambda weights: weights @ (ratio * right) / (weights @ ratio).clip(TINY))


def dev(outlook: Outlook, ratio: np.ndarray) -> Judged:
    """Minus the density-weighted log-loss on source validation, with the ratio (m,) as its own control variate."""
    loss = -np.log(outlook.val_probabilities[np.arange(len(ratio)), outlook.y_val].clip(TINY))

    def compute(weights: np.ndarray) -> np.ndarray:
        share = weights / weights.sum(axis=1, keepdims=True)
        mean_w, mean_wl = share @ ratio, share @ (ratio * loss)
        variance = share @ ratio**2 - mean_w**2
        covariance = share @ (ratio**2 * loss) - mean_w * mean_wl
        eta = -covariance / np.where(variance > TINY, variance, np.inf)
        return np.asarray(-(mean_wl + eta * (mean_w - 1)))

    return Judged(len(ratio), compute)


def density(outlook: Outlook) -> Judged:
    """Mean entropy of the soft neighbourhoods of the target's predictions."""
    p = outlook.target_probabilities / np.linalg.norm(outlook.target_probabilities, axis=1, keepdims=True)
    near = p @ p.T / TEMPERATURE
    np.fill_diagonal(near, -np.inf)
    near = np.exp(near - near.max(axis=1, keepdims=True))
    near /= near.sum(axis=1, keepdims=True)
    entropies = entropy_of(near)
    return Judged(len(p), lambda weights: weights @ entropies / weights.sum(axis=1))


def circular(outlook: Outlook) -> Judged:
    """Accuracy on the source of a head that learnt from the target's predicted labels."""
    y = np.concatenate([outlook.y_train, outlook.y_val])
    predicted = outlook.target_probabilities.argmax(axis=1)
    source = np.concatenate([outlook.train, outlook.val])
    classes = np.unique(predicted)
    if len(classes) == 1:
        right = y == classes[0]
    else:
        right = y == classes[_learnt(outlook.target, predicted, source).argmax(axis=1)]
    return Judged(len(y), lambda weights: weights @ right / weights.sum(axis=1))


def _learnt(features: np.ndarray, y: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Logits (n, K) of others (n, D), by logistic regression on features (N, D) and y; K distinct labels."""
    rotated = logistic.Rotated.of(features)
    penalty = mean_squared_length(rotated.x[:, :-1])  # of centred features: those of a network may lie far from 0
    (weight, bias), *_ = logistic.path(rotated, y, [penalty])
    logits = others @ weight.T + bias
    return np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits


def entropy(outlook: Outlook) -> Judged:
    """Mutual information, in nats, of target examples and predictions: sure of each, and not of the same for all."""
    p = outlook.target_probabilities
    each = entropy_of(p)

    def compute(weights: np.ndarray) -> np.ndarray:
        share = weights / weights.sum(axis=1, keepdims=True)
        return entropy_of(share @ p) - share @ each

    return Judged(len(p), compute)


def agreement(outlook: Outlook, together: np.ndarray) -> Judged:
    """Share of target examples that get the label which `together` (t, K), the mean of all candidates, gives them."""
    same = outlook.target_probabilities.argmax(axis=1) == together.argmax(axis=1)
    return Judged(len(same), lambda weights: weights @ same / weights.sum(axis=1))


def entropy_of(p: np.ndarray) -> np.ndarray:
    """Entropy in nats of each row of probabilities."""
    return -(p * np.log(p.clip(TINY))).sum(axis=-1)
