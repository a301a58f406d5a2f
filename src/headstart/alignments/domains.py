"""Tell source from target: a linear domain classifier, judged and read on examples that it has not seen.

Its probabilities give the density ratio p_target(x) / p_source(x) that reweighting needs (Bickel et al. 2007,
doi:10.1145/1273496.1273507), its mistakes the distance of the domains (Ben-David et al. 2010,
doi:10.1007/s10994-009-5152-4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.strategies.probe import standardised
from headstart.tasks import logistic
from headstart.tasks.linear import mean_squared_length

N_FOLDS = 5
C_TIMES_ROW = np.logspace(-3, 1, 5)  # strongest first


@dataclass(frozen=True, kw_only=True)
class DomainOdds:
    """log of P(target | x) / P(source | x), each from a classifier that has not seen x."""

    source: np.ndarray  # (n,)
    target: np.ndarray  # (t,)

    def ratio(self) -> np.ndarray:
        """p_target / p_source (n,) of the source examples, with mean 1 as a density ratio has."""
        # of logits: no exponent overflows, since the largest is taken off before the mean is made 1
        odds = np.exp(self.source - self.source.max())
        return np.asarray(odds / odds.mean())


def domain_odds(source: np.ndarray, target: np.ndarray, seed: int) -> DomainOdds:
    """Log odds of every example by five-fold cross-validation, for source (n, D) and target (t, D).

    The regularisation is the one whose odds on the held-out examples have the least log-loss. One eigenbasis serves
    all folds: the penalty does not depend on the basis, and the bias absorbs the mean.
    """
    both, _ = standardised(np.concatenate([source, target]).astype(np.float32))
    is_target = np.repeat([0, 1], [len(source), len(target)])
    folds = _folds(is_target, seed)
    rotated = logistic.Rotated.of(both)
    balance = np.where(is_target == 1, len(source), len(target)).astype(float)  # either domain counts the same
    balance *= len(both) / balance.sum()
    penalties = mean_squared_length(both) / C_TIMES_ROW
    logits = np.empty((len(penalties), len(both)))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(both)), fold)
        rows = logistic.Rotated(rotated.x[rest], rotated.mean, rotated.basis)
        for k, (weight, bias) in enumerate(logistic.path(rows, is_target[rest], penalties, balance[rest])):
            logits[k, fold] = both[fold] @ weight[0] + bias[0]
    losses = np.logaddexp(0, np.where(is_target == 1, -1, 1) * logits) @ balance
    best = logits[losses.argmin()]
    return DomainOdds(source=best[: len(source)], target=best[len(source) :])


def _folds(y: np.ndarray, seed: int) -> list[np.ndarray]:
    """Rows of each of five folds, both domains spread over them."""
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    return [order[k::N_FOLDS] for k in range(N_FOLDS)]
