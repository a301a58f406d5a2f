"""Logistic regression on dense features along a path of L2 penalties: one factorisation, then Newton-CG.

- The features are centred and turned into the eigenbasis of their Gram matrix once, for all penalties and labels.
- There the curvature is nearly diagonal: the mean covariance of the classes (K, K) times the eigenvalues, plus the
  penalty. Böhning 1992 (doi:10.1007/BF00048682) bounds it in that form; like Martens & Grosse 2015 (arXiv:1503.05671)
  we take the mean in place of the bound. It preconditions the conjugate gradients of a truncated Newton method (Lin,
  Weng & Keerthi 2008, JMLR 9).
- Each penalty starts from where the last three solutions point to (a predictor, as in Park & Hastie 2007,
  doi:10.1111/j.1467-9868.2007.00607.x): half the products of a start from the last solution alone.
- Matrix products are in float32, the loss is summed in float64. Every stopping rule is free of the features' unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

Solved = tuple[np.ndarray, np.ndarray]  # weight (K, D) and bias (K,)

MOST_STEPS = 50  # of Newton, for one penalty
MOST_PRODUCTS = 200  # with the curvature, in one Newton step
RESIDUAL = 0.1  # that a Newton step may leave of the gradient, in the preconditioner's norm
DECREMENT = 1e-6  # nats an example, the square of Newton's decrement: a step that promises no more is the last
SUFFICIENT = 1e-4  # share of the promised descent that a step has to bring (Armijo)
ROUNDING = 1e-7  # of a loss whose terms are float32
NO_VARIANCE = 1e-9  # of the largest eigenvalue: a direction with less holds rounding errors
BLOCK = 128  # rows: still in the cache for the second product, and too few for BLAS to copy them; 2 times as fast …
FEW_CLASSES = 16  # … for up to so many classes
FLATTEST = 1e-6  # mean curvature of a class: below it the penalty rules


@dataclass(frozen=True)
class Rotated:
    """Features in the eigenbasis of their Gram matrix on its smaller side; R ≤ min(N, D) directions."""

    x: np.ndarray  # (N, R + 1) float32: centred and rotated, then a column of ones for the bias
    mean: np.ndarray  # (D,) float32
    basis: np.ndarray  # (D, R) float32, orthonormal columns

    @classmethod
    def of(cls, features: np.ndarray) -> Rotated:
        """One factorisation of features (N, D) float32."""
        mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = features - mean
        n, d = centred.shape
        if n > d:
            _, basis = np.linalg.eigh((centred.T @ centred).astype(np.float64))
            rotated = centred @ basis.astype(np.float32)
        else:  # the left singular vectors; float64, since dividing by a singular value amplifies errors
            rows = centred.astype(np.float64)
            values, vectors = np.linalg.eigh(rows @ rows.T)
            kept = values > NO_VARIANCE * values[-1]
            rotated = vectors[:, kept] * np.sqrt(values[kept])
            basis = rows.T @ (vectors[:, kept] / np.sqrt(values[kept]))
        x = np.concatenate([rotated, np.ones((n, 1))], axis=1, dtype=np.float32)
        return cls(x, mean, basis.astype(np.float32))

    def back(self, theta: np.ndarray) -> Solved:
        """(weight (K, D), bias (K,)) on the features themselves, of theta (K, R + 1)."""
        weight = theta[:, :-1] @ self.basis.T
        return weight, theta[:, -1] - weight @ self.mean


def path(
    rotated: Rotated, y: np.ndarray, penalties: Iterable[float], sample_weight: np.ndarray | None = None
) -> Iterator[Solved]:
    """Minimise sum_i sample_weight_i loss_i + penalty/2 |weight|² for each penalty, from strong to weak.

    The predictor wants steps of one ratio. y (N,) holds two or more distinct values: one row of weights for two (the
    logit of the larger), one each for more.
    """
    problem = _Problem.of(rotated.x, y, sample_weight)
    theta, found = problem.start(), list[np.ndarray]()
    for penalty in penalties:
        theta = problem.solve(theta, penalty)
        yield rotated.back(theta)
        found = [*found[-2:], theta]
        theta = _next(found)


def _next(found: list[np.ndarray]) -> np.ndarray:
    """Where the polynomial through the last one, two or three points comes to next."""
    factors = {1: (1,), 2: (-1, 2), 3: (1, -3, 3)}[len(found)]
    return np.sum([np.float32(f) * theta for f, theta in zip(factors, found, strict=True)], axis=0)


@dataclass(frozen=True)
class _Problem:
    """A softmax over K rows of logits; where there is one row, the other class has the logit 0."""

    x: np.ndarray  # (N, R + 1) float32, a column of ones last
    squares: np.ndarray  # (R + 1,) float32: sums of x² down the columns, the eigenvalues
    truth: np.ndarray  # (K, N) 0/1 float32
    sample_weight: np.ndarray  # (N,) float32

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> _Problem:
        values = np.unique(y)
        truth = (y == values[-1:, None] if len(values) == 2 else y == values[:, None]).astype(np.float32)
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        return cls(x, np.einsum("ij,ij->j", x, x), truth, weight.astype(np.float32))

    def start(self) -> np.ndarray:
        """Theta (K, R + 1) of the classes' frequencies alone."""
        theta = np.zeros((len(self.truth), self.x.shape[1]), dtype=np.float32)
        share = self.truth @ self.sample_weight / self.sample_weight.sum()
        theta[:, -1] = np.log(share / (1 - share)) if len(share) == 1 else np.log(share) - np.log(share).mean()
        return theta

    def solve(self, theta: np.ndarray, penalty: float) -> np.ndarray:
        """Newton steps from theta, halved until they descend, until one promises next to nothing."""
        penalties = np.full(self.x.shape[1], penalty, dtype=np.float32)
        penalties[-1] = 0  # of the bias
        p, loss = self._at(theta, penalties)
        for _ in range(MOST_STEPS):
            step, decrement = self._newton_step(theta, p, penalties)
            for share in 0.5 ** np.arange(11, dtype=np.float32):
                new = theta + share * step
                new_p, new_loss = self._at(new, penalties)
                if new_loss <= loss - SUFFICIENT * share * decrement + ROUNDING * loss:
                    break
            else:
                return theta  # float32 knows no better
            theta, p, loss = new, new_p, new_loss
            if decrement <= DECREMENT * len(self.x):
                break
        return theta

    def _at(self, theta: np.ndarray, penalties: np.ndarray) -> tuple[np.ndarray, float]:
        """(probabilities (K, N), penalised loss) at theta."""
        z = self._logits(theta)
        highest = z.max(axis=0) if len(z) > 1 else np.maximum(z[0], 0)
        p = np.exp(z - highest)
        total = p.sum(axis=0) if len(z) > 1 else p[0] + np.exp(-highest)
        p /= total
        losses = np.log(total) + highest - (z * self.truth).sum(axis=0)
        loss = (self.sample_weight * losses).sum(dtype=np.float64)
        return p, float(loss + 0.5 * (theta**2 @ penalties).sum(dtype=np.float64))

    def _newton_step(self, theta: np.ndarray, p: np.ndarray, penalties: np.ndarray) -> tuple[np.ndarray, float]:
        """(step (K, R + 1), square of Newton's decrement) by preconditioned conjugate gradients from 0."""
        pw = p * self.sample_weight
        precondition = self._preconditioner(p, pw, penalties)
        residual = -(((p - self.truth) * self.sample_weight) @ self.x + theta * penalties)
        ahead = precondition(residual)
        square = float(np.vdot(residual, ahead))
        enough = RESIDUAL**2 * max(square, DECREMENT * len(self.x))
        step, decrement, direction = np.zeros_like(theta), 0.0, ahead
        for _ in range(MOST_PRODUCTS):
            if square <= enough:
                break
            bent = self._curvature(p, pw, direction) + direction * penalties
            length = square / float(np.vdot(direction, bent))
            step = step + np.float32(length) * direction
            decrement += length * square
            residual = residual - np.float32(length) * bent
            ahead = precondition(residual)
            before, square = square, float(np.vdot(residual, ahead))
            direction = ahead + np.float32(square / before) * direction
        return step, decrement

    def _preconditioner(
        self, p: np.ndarray, pw: np.ndarray, penalties: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Nearly the inverse of the curvature: what it makes of a gradient (K, R + 1)."""
        covariance = (np.diag(pw.sum(axis=1)) - pw @ p.T).astype(np.float64) / len(self.x)
        values, rotation = np.linalg.eigh(covariance)
        inverse = 1 / (np.maximum(values, FLATTEST).astype(np.float32)[:, None] * self.squares + penalties)
        rotation = rotation.astype(np.float32)

        def precondition(gradient: np.ndarray) -> np.ndarray:
            found = rotation @ (inverse * (rotation.T @ gradient))
            # A shift of all the classes' logits changes no probability: rounding errors must not build one up.
            return found - found.mean(axis=0) if len(p) > 1 else found

        return precondition

    def _curvature(self, p: np.ndarray, pw: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The loss's second derivative times a direction (K, R + 1)."""
        found = np.zeros_like(direction)
        n, rows = len(self.x), BLOCK if 1 < len(p) <= FEW_CLASSES else len(self.x)
        for block in (slice(start, start + rows) for start in range(0, n, rows)):
            z = np.ascontiguousarray((self.x[block] @ direction.T).T)
            z -= (p[:, block] * z).sum(axis=0)
            z *= pw[:, block]
            found += z @ self.x[block]
        return found

    def _logits(self, theta: np.ndarray) -> np.ndarray:
        """theta Xᵀ (K, N), made the way round that BLAS is quicker at."""
        return np.ascontiguousarray((self.x @ theta.T).T)
