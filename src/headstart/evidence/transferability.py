"""How well frozen features would transfer, before anything is trained (LogME: You et al. 2021, arXiv:2102.11005).

Every function takes features (N, D) of any scale and labels y as the tasks encode them: class indices (N,) of an
integer type, numbers (N,) float, or 0/1 labels (N, K) float. More is better for each score. They rank candidates on
one set of examples; how far a score is from another says nothing, and none replaces a look at validation.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import weightedtau
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from headstart.errors import DataError

MOST_EXAMPLES = 2000  # that `score_features` looks at
RANGE = (1e-12, 1e12)  # of LogME's alpha / beta, where the largest squared singular value is 1
LOGIT_VARIANCE = 10.0  # prior variance of the linear probe's logits: a standard deviation of about 3

Kind = Literal["classes", "labels", "number"]


@dataclass(frozen=True, kw_only=True)
class Transferability:
    """What the features of one stage promise; None where a score is not defined for the task."""

    stage: int  # index, from 0 at the input
    name: str  # "layer 5"
    logme: float | None
    h_score: float | None
    transrate: float | None
    probe_cv: float | None  # accuracy, R² or mean average precision of a cross-validated linear probe
    leep: float | None  # leep and nce need the probabilities of the source head
    nce: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def score_features(
    features: np.ndarray,
    y: np.ndarray,
    *,
    source_probabilities: np.ndarray | None = None,
    stage: int,
    name: str,
    seed: int = 0,
) -> Transferability:
    """All scores that are defined for features (N, D) and y, on at most 2,000 examples drawn with `seed`.

    Classes are drawn in proportion, at least two examples of each. Class indices get every score (leep and nce with
    `source_probabilities` (N, Z) only), numbers and 0/1 labels logme and probe_cv. TransRate depends on the scale of
    the features, which differs from stage to stage, so it sees them at a total variance of 1.
    """
    y = np.asarray(y)
    if len(features) != len(y):
        raise _mismatch("features", len(features), len(y))
    if source_probabilities is not None and len(source_probabilities) != len(y):
        raise _mismatch("source_probabilities", len(source_probabilities), len(y))
    drawn = _subsample(y, MOST_EXAMPLES, seed)
    X, y = _checked_features(features[drawn], len(drawn)), y[drawn]
    by_class = _kind(y) == "classes"
    source = np.asarray(source_probabilities)[drawn] if by_class and source_probabilities is not None else None
    return Transferability(
        stage=stage,
        name=name,
        logme=logme(X, y),
        h_score=h_score(X, y) if by_class else None,
        transrate=transrate(X / np.sqrt(X.var(axis=0).sum()), y) if by_class else None,
        probe_cv=linear_probe_cv(X, y, seed=seed),
        leep=leep(source, y) if source is not None else None,
        nce=nce(source.argmax(axis=1), y) if source is not None else None,
    )


def logme(features: np.ndarray, y: np.ndarray) -> float:
    """LogME: the log evidence of y per example under a Bayesian linear model, in nats (arXiv:2102.11005).

    y = Fw + noise, w ~ N(0, 1/alpha), noise ~ N(0, 1/beta), so that y ~ N(0, I/beta + F Fᵀ/alpha); the evidence is
    maximised over alpha and beta by the fixed point of You et al. 2022 (arXiv:2110.10545). With F = U S Vᵀ,
    x = Uᵀy and t = alpha/beta:

        t <- gamma / |m|² · |y - Fm|² / (N - gamma),   gamma = Σ s² / (s² + t)

    The mean over one-vs-rest targets for classes, over the columns for 0/1 labels (those of one value tell nothing
    and are left out); numbers are standardised first. The features are neither centred nor scaled.
    """
    X, targets = _checked_features(features, len(y)), _targets(np.asarray(y))
    U, s, _ = np.linalg.svd(X, full_matrices=False)  # (N, k), (k,), k = min(N, D)
    projected = (U.T @ targets) ** 2  # (k, K)
    outside = np.maximum((targets**2).sum(axis=0) - projected.sum(axis=0), 0)  # (K,): what no w explains
    return float(_evidence((s / s[0]) ** 2, projected, outside, len(X)).mean() / len(X))


def h_score(features: np.ndarray, y: np.ndarray, *, shrinkage: bool = True) -> float:
    """H-score: tr(cov(f)⁻¹ cov(E[f|y])), the between-class share of the variance, summed over directions.

    With `shrinkage`, that of Ibrahim et al. 2021 (arXiv:2110.06893), for many dimensions and few examples:
    tr(cov_a(f)⁻¹ (1 - a) cov(E[f|y])), cov_a(f) = (1 - a) cov(f) + a tr(cov(f))/D I, a by Ledoit and Wolf. Without
    it, the pseudo-inverse of Bao et al. 2019 (ICIP, doi:10.1109/ICIP.2019.8803726), at most min(C - 1, D).
    """
    X, classes = _checked_features(features, len(y)), _checked_classes(y, "h_score")
    X = X - X.mean(axis=0)
    counts = np.bincount(classes)
    sums = np.zeros((len(counts), X.shape[1]))
    np.add.at(sums, classes, X)
    root = sums / np.sqrt(counts * len(X))[:, None]  # (C, D): cov(E[f|y]) = rootᵀ root
    if not shrinkage:
        return float(np.trace(root @ np.linalg.pinv(X.T @ X / len(X), hermitian=True) @ root.T))
    covariance, amount = ledoit_wolf(X)
    if amount == 0:  # hardly ever, but then nothing makes it invertible
        return h_score(features, y, shrinkage=False)
    return float((1 - amount) * np.trace(root @ np.linalg.solve(covariance, root.T)))


def transrate(features: np.ndarray, y: np.ndarray, eps: float = 1e-4) -> float:
    """TransRate: how many nats the classes save in coding the features up to eps (Huang et al. 2022, arXiv:2106.09362).

    R(Z) - Σ_c N_c/N R(Z_c), R(Z) = ½ log det(I + Zᵀ Z / (N eps)), with Z centred over all examples. Never negative.
    The authors' listing has 1/C for N_c/N, which is the same for classes of one size. It depends on the scale of
    the features.
    """
    if eps <= 0:
        raise DataError(f"eps={eps}, but a precision is above 0. The paper has 1e-4.")
    X, classes = _checked_features(features, len(y)), _checked_classes(y, "transrate")
    X = X - X.mean(axis=0)
    within = [(classes == c).mean() * _coding_rate(X[classes == c], eps) for c in range(classes.max() + 1)]
    return _coding_rate(X, eps) - float(sum(within))


def leep(source_probabilities: np.ndarray, y: np.ndarray) -> float:
    """LEEP: mean log Σ_z P(y|z) θ(x)_z, at most 0 (Nguyen et al. 2020, arXiv:2002.12462).

    θ(x) (N, Z) are the probabilities that the pretrained network gives to its own classes z, and
    P(y, z) = 1/N Σ_i θ(x_i)_z [y_i = y].
    """
    classes = _checked_classes(y, "leep")
    theta = _checked_probabilities(source_probabilities, len(classes))
    joint = np.zeros((classes.max() + 1, theta.shape[1]))
    np.add.at(joint, classes, theta)
    mass = joint.sum(axis=0)
    given = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)  # (C, Z): P(y|z)
    return float(np.log((given[classes] * theta).sum(axis=1)).mean())


def nce(source_labels: np.ndarray, y: np.ndarray) -> float:
    """NCE: -H(Y|Z), minus the entropy of y given source labels (N,), in nats (Tran et al. 2019, arXiv:1908.08142).

    It is LEEP of probabilities that are all 0 or 1.
    """
    classes, source = _checked_classes(y, "nce"), np.asarray(source_labels)
    if source.ndim != 1 or source.dtype.kind not in "biu":
        raise DataError(
            f"source_labels are {source.dtype} of shape {source.shape}, but nce needs one class index an example. "
            "Pass probabilities to leep, or their argmax(axis=1) here."
        )
    if len(source) != len(classes):
        raise _mismatch("source_labels", len(source), len(classes))
    z = np.unique(source, return_inverse=True)[1]
    joint = np.zeros((classes.max() + 1, z.max() + 1))
    np.add.at(joint, (classes, z), 1)
    return float(np.log(joint[classes, z] / joint.sum(axis=0)[z]).mean())


def linear_probe_cv(features: np.ndarray, y: np.ndarray, n_folds: int = 5, seed: int = 0) -> float:
    """What a linear probe on standardised features scores out of fold (Alain & Bengio 2016, arXiv:1610.01644).

    Accuracy for classes (logistic regression, stratified folds), R² for numbers, the mean over labels of average
    precision for 0/1 labels (both ridge regression). The strength is fixed, by the width D of the features, so that
    it is fast. Each example is predicted once, by a probe that has not seen it; the score is of all of them together.
    """
    X, y = _checked_features(features, len(y)), np.asarray(y)
    kind, targets = _kind(y), _targets(y)
    if n_folds < 2:
        raise DataError(f"n_folds={n_folds}, but cross-validation needs at least 2 folds.")
    if kind == "classes" and (targets.sum(axis=0) >= 2).sum() < 2:
        raise DataError("Cross-validation needs at least two classes with two examples or more. Add examples.")
    values = targets.argmax(axis=1) if kind == "classes" else targets
    order = _shuffled(y, seed)
    fold = np.empty(len(y), dtype=np.int64)
    fold[order] = np.arange(len(y)) % n_folds
    predicted = np.empty_like(values)
    for k in np.unique(fold):
        predicted[fold == k] = _probe(X[fold != k], values[fold != k], X[fold == k], kind)
    if kind == "labels":
        return float(
            np.mean([average_precision_score(*columns) for columns in zip(values.T, predicted.T, strict=True)])
        )
    if kind == "classes":
        return float((predicted == values).mean())
    return float(1 - ((values - predicted) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def weighted_kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Weighted Kendall's tau of two scorings, -1 to 1: do they agree on the order, at the top above all?

    `scipy.stats.weightedtau` with its hyperbolic weights (Vigna 2015, arXiv:1404.3325), which LogME's authors judge
    scores by: exchanging ranks r and s counts 1/(r+1) + 1/(s+1), and the mean of ranking by a and by b is taken.
    NaN where all of a or all of b are equal.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise DataError(f"The scores have shapes {a.shape} and {b.shape}; pass two rows of one length, 2 or more.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("The scores hold NaN or infinite values, which have no rank. Leave these candidates out.")
    return float(weightedtau(a, b).statistic)


def _evidence(sigma: np.ndarray, projected: np.ndarray, outside: np.ndarray, n: int) -> np.ndarray:
    """(K,) greatest log evidence given squared singular values (k,), squared projections (k, K) and the rest (K,).

    The evidence may have several maxima in t, above all where one direction (the mean) outweighs the rest, so that the
    fixed point starts from the best of a grid. The range of t keeps it finite where y is fitted without any error.
    """
    sigma = np.where(sigma > np.finfo(float).eps ** 2 * n, sigma, 0)[:, None]

    def at(t: np.ndarray) -> np.ndarray:
        noise = t / (sigma + t)  # (k, K): the share of each direction that w leaves to noise
        per_beta = (noise * projected).sum(axis=0) + outside  # yᵀ (I + F Fᵀ/t)⁻¹ y; the best beta is N / it
        return 0.5 * (np.log(noise).sum(axis=0) - n * (np.log(2 * np.pi * per_beta / n) + 1))

    grid = np.geomspace(*RANGE, 73)
    t = grid[np.argmax([at(point) for point in grid], axis=0)]
    start = at(t)
    for _ in range(100):
        weights = (sigma * projected / (sigma + t) ** 2).sum(axis=0)  # |m|²
        errors = ((t / (sigma + t)) ** 2 * projected).sum(axis=0) + outside  # |y - Fm|²
        gamma, left = (sigma / (sigma + t)).sum(axis=0), (t / (sigma + t)).sum(axis=0) + n - len(sigma)
        with np.errstate(divide="ignore"):  # features that know nothing of y: alpha goes to infinity
            before, t = t, np.clip(gamma / weights * (errors / left), *RANGE)
        if np.allclose(t, before, rtol=1e-6, atol=0):
            break
    return np.maximum(start, at(t))


def _coding_rate(Z: np.ndarray, eps: float) -> float:
    """½ log det(I + Zᵀ Z / (N eps)) by the smaller of the two Gram matrices, which have the same determinant."""
    gram = Z.T @ Z if Z.shape[0] > Z.shape[1] else Z @ Z.T
    return float(0.5 * np.linalg.slogdet(np.eye(len(gram)) + gram / (len(Z) * eps))[1])


def _probe(train: np.ndarray, values: np.ndarray, held_out: np.ndarray, kind: Kind) -> np.ndarray:
    """Predictions on held_out of a probe fitted on train: class indices (M,), or numbers (M, K)."""
    scaler = StandardScaler().fit(train)
    width = train.shape[1]
    if kind != "classes":
        ridge = Ridge(alpha=width).fit(scaler.transform(train), values)  # a prior of as much signal as noise
        return ridge.predict(scaler.transform(held_out)).reshape(-1, values.shape[1])
    model = LogisticRegression(solver="newton-cg", C=LOGIT_VARIANCE / width, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an optimum that is not met to the last digit will do for a ranking
        model.fit(scaler.transform(train), values)
    return model.predict(scaler.transform(held_out))


def _shuffled(y: np.ndarray, seed: int) -> np.ndarray:
    """A seeded order of all examples; class by class where y are class indices."""
    order = np.random.default_rng(seed).permutation(len(y))
    return order[np.argsort(y[order], kind="stable")] if _kind(y) == "classes" else order


def _subsample(y: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Indices, ascending, of at most `most` examples; classes in proportion, two of each before any third."""
    if len(y) <= most:
        return np.arange(len(y))
    order = _shuffled(y, seed)
    if _kind(y) != "classes":
        return np.sort(order[:most])
    _, start, counts = np.unique(y[order], return_index=True, return_counts=True)
    rank, size = np.arange(len(y)) - np.repeat(start, counts), np.repeat(counts, counts)
    place = np.where(rank < 2, 0, (rank + 0.5) / size)  # 0 to 1 within each class
    return np.sort(order[np.argsort(place, kind="stable")[:most]])


def _kind(y: np.ndarray) -> Kind:
    """What y holds, by its shape and dtype."""
    if y.ndim == 2:
        return "labels"
    if y.ndim == 1 and y.dtype.kind in "biuf":
        return "number" if y.dtype.kind == "f" else "classes"
    raise DataError(
        f"y is {y.dtype} of shape {y.shape}. Pass class indices (N,) as integers, numbers (N,) as floats, "
        "or 0/1 labels (N, K)."
    )


def _targets(y: np.ndarray) -> np.ndarray:
    """(N, K) float: one-hot classes, standardised numbers, or the 0/1 labels that take both values."""
    kind = _kind(y)
    if kind == "classes":
        classes = _checked_classes(y, "a score by class")
        return np.eye(classes.max() + 1)[classes]
    y = y.astype(np.float64)
    if not np.isfinite(y).all():
        raise DataError("y holds NaN or infinite values. Drop or fill these examples first.")
    if kind == "number":
        if np.ptp(y) == 0:
            raise DataError("Every number in y is the same, so that no feature can tell anything about it.")
        return ((y - y.mean()) / y.std())[:, None]
    if not np.isin(y, (0, 1)).all():
        raise DataError(
            "y of shape (N, K) holds values other than 0 and 1. Pass one column a label, 1 where it applies."
        )
    varied = y[:, np.ptp(y, axis=0) > 0]
    if not varied.shape[1]:
        raise DataError("Every label is given to all examples or to none, so that no feature can tell them apart.")
    return varied


def _checked_features(features: np.ndarray, n: int) -> np.ndarray:
    """Features as float64 (N, D); DataError unless there are n rows, finite, that are not all the same."""
    X = np.asarray(features, dtype=np.float64)
    if X.ndim != 2:
        raise DataError(f"features have shape {X.shape}, but must be (N, D). Pool each example to one vector first.")
    if len(X) != n:
        raise _mismatch("features", len(X), n)
    if len(X) < 2:
        raise DataError(f"{len(X)} example(s) given; a transferability score needs at least 2.")
    if not np.isfinite(X).all():
        bad = int((~np.isfinite(X)).any(axis=1).sum())
        raise DataError(
            f"features of {bad:,} of {n:,} examples hold NaN or infinite values. Run the backbone in float32."
        )
    if not np.ptp(X, axis=0).any():
        raise DataError("The features are the same for every example. Check that the backbone reads its input.")
    return X


def _checked_classes(y: np.ndarray, score: str) -> np.ndarray:
    """Class indices 0 … C-1 (N,), with no gaps; DataError unless there are two classes."""
    y = np.asarray(y)
    if y.ndim != 1 or y.dtype.kind not in "biu":
        raise DataError(
            f"y is {y.dtype} of shape {y.shape}, but {score} needs class indices (N,) of an integer type. "
            "For numbers or several labels an example, use logme or linear_probe_cv."
        )
    found, classes = np.unique(y, return_inverse=True)
    if len(found) < 2:
        raise DataError(f"y holds {len(found)} class(es), but {score} needs at least 2. Add examples of another class.")
    return classes


def _checked_probabilities(probabilities: np.ndarray, n: int) -> np.ndarray:
    """Source probabilities as float64 (N, Z); DataError unless each of n rows is a distribution."""
    theta = np.asarray(probabilities, dtype=np.float64)
    if theta.ndim != 2:
        raise DataError(
            f"source_probabilities have shape {theta.shape}, but must be (N, Z). Pass source labels to nce."
        )
    if len(theta) != n:
        raise _mismatch("source_probabilities", len(theta), n)
    if not np.isfinite(theta).all():
        raise DataError("source_probabilities hold NaN or infinite values. Run the source head in float32.")
    if (theta < 0).any() or not np.allclose(theta.sum(axis=1), 1, atol=1e-2):
        raise DataError("source_probabilities must be 0 or more and sum to 1 in each row. Pass the logits' softmax.")
    return theta


def _mismatch(what: str, given: int, expected: int) -> DataError:
    return DataError(f"{what} has {given:,} rows, but y has {expected:,}. Pass one row for each example, in one order.")
