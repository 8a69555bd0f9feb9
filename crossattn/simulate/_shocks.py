"""Heavy-tailed shocks with common factors, stochastic and GARCH volatility, two-state regimes."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

# Shares of the common variance: of all assets, of the asset's market, of its sector.
_FACTOR_SHARES = (0.55, 0.15, 0.30)
_MOST_CORRELATED, _MOST_ALIKE = 0.95, 0.97

# Standard deviations and half-lives (bars) of the parts of log-volatility.
_COMMON = (0.40, 240.0)
_OWN = (0.40, 30.0)
_SPILL_OVER = (0.20, 12.0)

_ARCH, _GARCH = 0.06, 0.92
_SPILL_ARCH, _SPILL_GARCH = 0.08, 0.70


@dataclass(frozen=True)
class Groups:
    """Which sector and which market each asset belongs to, as integers of shape (N,)."""

    sector: np.ndarray
    market: np.ndarray


def factor_loadings(groups: Groups, correlation: float) -> np.ndarray:
    """Return loadings (N, K) on the K factors whose mean pairwise correlation is ``correlation``.

    A row's squares sum to at most 1; the rest is the asset's own variance.
    """
    labels = np.zeros_like(groups.sector), groups.market, groups.sector
    members = [(label == np.unique(label)[:, None]).astype(float) for label in labels]
    blocks = [share * part for share, part in zip(_FACTOR_SHARES, members, strict=True)]
    together = sum(part.T @ block for part, block in zip(members, blocks, strict=True))
    off = together[~np.eye(len(together), dtype=bool)]
    mean, spread = off.mean(), off.max() - off.mean()
    correlation = min(correlation, _MOST_CORRELATED)
    scale = correlation / mean
    if spread > 0:
        scale = min(scale, (_MOST_ALIKE - correlation) / spread)
    if correlation + scale * (1 - mean) > 1:  # sectors of one asset are in no pair
        scale = (_MOST_ALIKE - correlation) / (1 - mean)
    # what groups cannot carry without making their members one asset goes to the market factor
    blocks[0] = blocks[0] + (correlation - scale * mean) / (scale or 1.0)
    return np.sqrt(scale * np.concatenate(blocks)).T


def draw_shocks(
    rng: np.random.Generator, loadings: np.ndarray, tail: float, n_steps: int
) -> np.ndarray:
    """Return shocks (N, T) of unit variance: Student-t factors plus a Student-t part of their own.

    ``loadings`` is (N, K), or (N, K, T) where they change with the bar.
    """
    n_assets, n_factors = loadings.shape[:2]
    draws = rng.standard_t(tail, size=(n_factors + n_assets, n_steps))
    draws *= np.sqrt((tail - 2) / tail)
    own = np.sqrt(np.maximum(1 - (loadings**2).sum(axis=1), 0.0))  # but for rounding
    if loadings.ndim == 2:
        return loadings @ draws[:n_factors] + own[:, None] * draws[n_factors:]
    return np.einsum("nkt,kt->nt", loadings, draws[:n_factors]) + own * draws[n_factors:]


def draw_log_volatility(
    rng: np.random.Generator, n_assets: int, n_steps: int, *, shared: float = 1.0
) -> np.ndarray:
    """Return log-volatility (N, T) around its mean, such that the variance has mean 1.

    A slow common part, a faster part of each asset's own, and a spill-over: what two other assets'
    own parts did before. ``shared`` multiplies the common part.
    """
    common = shared * draw_autoregression(rng, (1, n_steps), *_COMMON)
    own = draw_autoregression(rng, (n_assets, n_steps), *_OWN)
    assets = np.arange(n_assets)
    sources = np.array([rng.choice(np.delete(assets, i), 2) for i in assets])  # (N, 2)
    deviation, half_life = _SPILL_OVER
    decay = 0.5 ** (1 / half_life)
    smooth = lfilter([1 - decay], [1.0, -decay], own, axis=1)
    spilled = smooth[sources].mean(axis=1)  # (N, T)
    spilled *= deviation / (spilled.std() or 1.0)
    spilled = np.concatenate([np.zeros((n_assets, 1)), spilled[:, :-1]], axis=1)
    log_volatility = common + own + spilled
    variance = (shared * _COMMON[0]) ** 2 + _OWN[0] ** 2 + deviation**2
    return log_volatility - variance


def garch_log_volatility(shocks: np.ndarray) -> np.ndarray:
    """Return the log-volatility (N, T) that a GARCH(1, 1) of unit variance gives to ``shocks``."""
    variance = np.ones(len(shocks))
    path = np.empty_like(shocks)
    constant = 1 - _ARCH - _GARCH
    for t, shock in enumerate(shocks.T):
        path[:, t] = variance
        variance = constant + variance * (_ARCH * shock**2 + _GARCH)
    return 0.5 * np.log(path)


def spillover_log_volatility(
    shocks: np.ndarray, leader: np.ndarray, follower: np.ndarray, lag: np.ndarray, weight: float
) -> np.ndarray:
    """Return the log-volatility (N, T) of GARCH(1, 1) variances that spread along edges (E,).

    A leader's squared return, relative to its ordinary variance, adds ``weight`` times itself to
    its follower's variance ``lag`` bars later, from where it fades like the follower's own news.
    """
    n_assets, n_steps = shocks.shape
    squares, path = np.ones((n_steps, n_assets)), np.ones((n_steps, n_assets))
    received = weight * np.bincount(follower, minlength=n_assets)
    constant = 1 - _SPILL_ARCH - _SPILL_GARCH - received
    squares[0] = shocks[:, 0] ** 2
    for t in range(1, n_steps):
        spread = weight * squares[np.maximum(t - lag, 0), leader]
        path[t] = constant + _SPILL_ARCH * squares[t - 1] + _SPILL_GARCH * path[t - 1]
        path[t] += np.bincount(follower, spread, minlength=n_assets)
        squares[t] = path[t] * shocks[:, t] ** 2
    return 0.5 * np.log(path.T)


def draw_regimes(rng: np.random.Generator, n_steps: int, durations: tuple[int, int]) -> np.ndarray:
    """Return a two-state Markov path (T,) that starts in state 0; ``durations`` are mean stays."""
    n_stays = 2
    while True:
        stays = np.stack([rng.geometric(1 / mean, n_stays) for mean in durations], axis=1).ravel()
        if stays.sum() >= n_steps:
            return np.repeat(np.arange(stays.size) % 2, stays)[:n_steps]
        n_stays *= 2


def draw_autoregression(
    rng: np.random.Generator, shape: tuple[int, int], deviation: float, half_life: float
) -> np.ndarray:
    """Return stationary first-order autoregressions, one a row."""
    decay = 0.5 ** (1 / half_life)
    noise = rng.standard_normal(shape) * deviation * np.sqrt(1 - decay**2)
    noise[:, 0] /= np.sqrt(1 - decay**2)
    return lfilter([1.0], [1.0, -decay], noise, axis=1)
