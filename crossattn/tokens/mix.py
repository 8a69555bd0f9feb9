"""Mix forecasts by non-negative least squares on validation rows, shrunk by their standard errors.

Built in chapter: Honest comparison.
"""

from collections.abc import Collection, Mapping

import numpy as np

from crossattn.tokens.descent import TINY
from crossattn.tokens.sparse import TARGET_CLIP

CAUTION = 2.0
LARGEST_WEIGHT = 1.25
DRIFT_CAUTION = 2.0


def mix_weights(
    forecasts: Mapping[str, np.ndarray],
    target: np.ndarray,
    volatility: np.ndarray,
    overlap: int = 1,
    versions: Collection[str] = (),
) -> dict[str, float]:
    """Return the weight of each forecast in the mix, 0 to 1.25.

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
        Forecasts that are versions of one another: their weights sum to 1.25 at most.

    Notes
    -----
    Least squares with weights from 0 to 1.25, by coordinate descent, where each forecast's
    agreement with the target is first lowered by two standard errors (clustered by row, as assets
    move together): a forecast that validation cannot tell from luck gets no weight.
    """
    y = np.clip(target / volatility, -TARGET_CLIP, TARGET_CLIP)
    known = np.isfinite(y)
    y = np.where(known, y, 0.0)
    f = np.stack([np.where(known, x / volatility, 0.0) for x in forecasts.values()])  # (M, n, N)
    gram = np.einsum("mti,kti->mk", f, f)
    agreement = np.einsum("mti,ti->mt", f, y)  # by row
    size = np.sqrt(np.maximum(np.diag(gram), TINY))
    error = np.sqrt(overlap * (agreement**2).sum(1))
    wanted = (agreement.sum(1) - CAUTION * error) / size
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


def common_drift(target: np.ndarray, volatility: np.ndarray, overlap: int = 1) -> np.ndarray:
    """Return one drift for all assets, ``(n_assets,)``, in units of each one's volatility, shrunk.

    Assets drift by luck far more than they differ: only what all share may become an intercept,
    and that only where its t-statistic, clustered by row, is well above one.
    """
    y = np.clip(target / volatility, -TARGET_CLIP, TARGET_CLIP)
    known = np.isfinite(y)
    if not known.any():
        return np.zeros(y.shape[1])
    together = np.where(known, y, 0.0).sum(1)
    mean = together.sum() / known.sum()
    error = np.sqrt(overlap * ((together - mean * known.sum(1)) ** 2).sum()) / known.sum()
    kept = max(0.0, 1.0 - DRIFT_CAUTION * (error / mean) ** 2) if mean else 0.0
    weight = np.where(known, 1.0 / volatility, 0.0).sum(0)
    level = np.divide(known.sum(0), weight, out=np.zeros(y.shape[1]), where=weight > 0)
    return kept * mean * level
