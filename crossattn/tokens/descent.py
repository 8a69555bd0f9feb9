"""Lasso and minimax concave penalty by coordinate descent on a Gram matrix.

References
----------
Tibshirani (1996), Regression shrinkage and selection via the lasso. Zhang (2010), Nearly unbiased
variable selection under minimax concave penalty.
"""

from dataclasses import dataclass, fields

import numpy as np

from crossattn.runtime import compiled

TOLERANCE, SWEEPS = 1e-3, 300
LENIENCE = 1.0
TINY = 1e-300


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows of one follower's tokens and target: enough to fit a regression."""

    count: float
    weight: float
    x: np.ndarray
    y: float
    xx: np.ndarray
    xy: np.ndarray
    yy: float

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def mean(self) -> np.ndarray:
        """Weighted means of the tokens."""
        return self.x / max(self.weight, TINY)

    def centred(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Return Gram matrix, cross moments and power of the target, all about their means."""
        level = self.y / max(self.weight, TINY)
        gram = self.xx - self.weight * np.outer(self.mean, self.mean)
        return gram, self.xy - self.weight * self.mean * level, self.yy - self.weight * level**2

    def with_combinations(self, combine: np.ndarray) -> "Moments":
        """Append linear combinations ``combine`` (K', K) of the tokens as further tokens."""
        mixed = combine @ self.xx
        xx = np.block([[self.xx, mixed.T], [mixed, mixed @ combine.T]])
        x = np.concatenate([self.x, combine @ self.x])
        xy = np.concatenate([self.xy, combine @ self.xy])
        return Moments(self.count, self.weight, x, self.y, xx, xy, self.yy)


def penalty_path(
    moments: Moments, price: np.ndarray, penalties: np.ndarray, concavity: float
) -> np.ndarray:
    """Return coefficients ``(n_penalties, K)``, one row per penalty, by coordinate descent.

    Tokens are scaled to one size; those of infinite price stay out.
    """
    gram, moment, power = moments.centred()
    path = np.zeros((len(penalties), len(price)))
    varies = np.diag(gram) > 1e-12 * np.diag(moments.xx)
    use = np.flatnonzero(np.isfinite(price) & varies)
    if power <= 0 or not use.size:
        return path
    spread = np.sqrt(np.diag(gram)[use])
    error = np.sqrt(power / max(moments.count, 1))
    unit = np.ascontiguousarray(gram[np.ix_(use, use)] / spread[:, None] / spread)
    moment = moment[use] / spread / error
    descend = compiled(coordinate_descent)
    beta = descend(unit, moment, price[use], penalties, concavity, TOLERANCE, SWEEPS)
    path[:, use] = beta / spread * error
    return path


def coordinate_descent(gram, moment, price, penalties, concavity, tolerance, sweeps):
    """Minimise ``beta @ gram @ beta / 2 - moment @ beta + penalty`` along falling penalties.

    ``gram`` (K, K) has a unit diagonal, so that each coordinate has a closed form: soft
    thresholding for the lasso (``concavity`` 0), firm thresholding for the minimax concave penalty,
    which leaves a coefficient alone beyond ``concavity`` times its threshold.
    """
    k = len(moment)
    path = np.zeros((len(penalties), k))
    beta = np.zeros(k)
    gradient = moment.copy()  # moment - gram @ beta
    order = np.arange(k)
    for s in range(len(penalties)):
        for sweep in range(sweeps):
            # every tenth sweep visits all coordinates, the others only those in use
            full = sweep % 10 == 0
            largest_change = 0.0
            if full:  # strongest first: the result must not depend on the order of columns
                order = np.argsort((penalties[s] * price) ** 2 - (gradient + beta) ** 2)
            for j in order:
                if not full and beta[j] == 0.0:
                    continue
                old, z = beta[j], gradient[j] + beta[j]
                threshold, size = penalties[s] * price[j], abs(z)
                if size <= threshold:
                    new = 0.0
                elif concavity > 0.0 and size > concavity * threshold:
                    new = z
                elif concavity > 0.0:
                    new = np.sign(z) * (size - threshold) / (1.0 - 1.0 / concavity)
                else:
                    new = np.sign(z) * (size - threshold)
                if new != old:
                    change = new - old
                    beta[j] = new
                    for m in range(k):
                        gradient[m] -= gram[j, m] * change
                    largest_change = max(largest_change, abs(change))
            if full and largest_change < tolerance:
                break
        path[s] = beta
    return path


def sparsest_of_the_best(agreement: np.ndarray, power: np.ndarray) -> int:
    """Return the largest penalty that is not clearly worse than the best on validation rows.

    ``agreement`` and ``power`` (n, n_penalties) are forecast times target and forecast squared.
    Each forecast is judged at its best common scale, which the mix sets later: shrinkage is no
    fault.
    """
    scale = np.maximum(agreement.sum(0), 0.0) / np.maximum(power.sum(0), TINY)
    saved = 2 * scale * agreement - scale**2 * power  # squared error saved, by row
    best = int(np.argmax(saved.sum(0)))
    lost = saved[:, [best]] - saved
    error = np.sqrt(((lost - lost.mean(0)) ** 2).sum(0))
    return int(np.argmax(lost.sum(0) <= LENIENCE * error))
