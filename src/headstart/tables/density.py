"""How likely a source row would be in the target: a domain classifier's odds (Bickel et al. 2009, JMLR 10:2137).

Under covariate shift (Shimodaira 2000, doi:10.1016/S0378-3758(00)00115-4), weighing by them makes losses on the source
estimates of losses on the target.
"""

from __future__ import annotations

import warnings

import numpy as np

from headstart.tables.base import Domains

STRENGTH = 0.1  # of the domain classifier: a prior that keeps the odds finite where the sides can be told apart
MOST = 20.0  # times the mean: the weight of one row


def domain_logits(source: np.ndarray, target: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Log-odds (n,) that rows `at` (n, D) are the target's; both sides count the same."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    X, side = np.concatenate([source, target]), np.repeat([0, 1], [len(source), len(target)])
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", solver="newton-cholesky", max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(model.fit(X, side).decision_function(at))


def importance(domains: Domains) -> np.ndarray:
    """Density ratios (Ns,) of the source's rows, of mean 1, none above `MOST`."""
    rows = domains.given.features
    odds = np.exp(np.clip(domain_logits(rows, domains.target, rows), -30, 30))
    odds = np.minimum(odds / odds.mean(), MOST)
    return np.asarray(odds / odds.mean())


def effective(weight: np.ndarray) -> float:
    """How many rows of equal weight say as much: (sum w)² / sum w² (Kish 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())
