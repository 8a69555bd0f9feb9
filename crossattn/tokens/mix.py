"""Mix forecasts by non-negative least squares on validation rows, shrunk by their standard errors.

Built in chapter: Honest comparison.
"""

from collections.abc import Collection, Mapping

import numpy as np

from crossattn.tokens.descent import TINY
from crossattn.tokens.sparse import TARGET_CLIP

CAUTION = 2.0
MORE_CAUTION = 2.5  # with what was chosen by the rows that it is weighed on
LARGEST_WEIGHT = 1.5


def mix_weights(
    forecasts: Mapping[str, np.ndarray],
    target: np.ndarray,
    volatility: np.ndarray,
    overlap: int = 1,
    versions: Collection[str] = (),
    flattered: Collection[str] = (),
) -> dict[str, float]:
    """Return the weight of each forecast in the mix, 0 to 1.5.

    Parameters
    ----------
    forecasts : mapping of str to ndarray of shape (n, n_assets)
        Out of sample, in the target's units.
    target, volatility : ndarray of shape (n, n_assets)
        The target's NaN are skipped; errors are divided by the volatility and the target is cut at
        six of them.
    overlap : int
        Rows over which one target extends: standard errors grow by its root.
    versions : collection of str
        Forecasts that are versions of one another: their weights sum to 1.5 at most.
    flattered : collection of str
        Forecasts of parts whose training these same rows ended, or whose penalties they chose: 2.5
        in place of 2 below.

    Notes
    -----
    Least squares with weights from 0 to 1.5, by coordinate descent, where each forecast's
    agreement with the target is first shrunk by its t-statistic (clustered by row, as assets move
    together), to ``1 - (2 / t)^2`` of itself: a forecast that validation cannot tell from luck gets
    no weight, and a clear one keeps nearly all of its own (Breiman's garrote).

    References
    ----------
    Breiman (1995), "Better subset regression using the nonnegative garrote".
    """
    y = np.clip(target / volatility, -TARGET_CLIP, TARGET_CLIP)
    known = np.isfinite(y)
    y = np.where(known, y, 0.0)
    f = np.stack([np.where(known, x / volatility, 0.0) for x in forecasts.values()])  # (M, n, N)
    gram = np.einsum("mti,kti->mk", f, f)
    agreement = np.einsum("mti,ti->mt", f, y)  # by row
    size = np.sqrt(np.maximum(np.diag(gram), TINY))
    error = np.sqrt(overlap * (agreement**2).sum(1))
    caution = np.array([MORE_CAUTION if name in flattered else CAUTION for name in forecasts])
    wanted = _shrunk(agreement.sum(1), caution * error) / size
    correlation = gram / size[:, None] / size
    np.fill_diagonal(correlation, 1.0 + 1e-6)
    weight, limit = np.zeros(len(f)), LARGEST_WEIGHT * size
    for _ in range(2000):
        before = weight.copy()
        for m in np.flatnonzero(size > TINY**0.5):
            step = (wanted[m] - correlation[m] @ weight) / correlation[m, m]
            weight[m] = np.clip(weight[m] + step, 0.0, limit[m])
        if np.abs(weight - before).max() < 1e-9 * (1 + np.abs(wanted).max()):
            break
    weights = dict(zip(forecasts, (weight / size).tolist(), strict=True))
    excess = max(1.0, sum(weights[name] for name in versions) / LARGEST_WEIGHT)
    return {k: w / excess if k in versions else w for k, w in weights.items()}


def _shrunk(agreement: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """Return what is kept of each agreement; below 0 where it is no more than luck."""
    return agreement - luck * np.minimum(luck / np.maximum(agreement, TINY), 1.0)
