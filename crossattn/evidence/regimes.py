"""Regime detectors: volatility, correlation and lead-lag graph of a market, as known at each bar.

A score uses nothing later than its date; only functions named ``hindsight`` use the future.

Built in chapter: Regimes and walk-forward.
"""

import numpy as np
import pandas as pd

from crossattn._validation import check_float, check_int, check_type
from crossattn.data.frame import check_numbers
from crossattn.errors import InvalidInputError, import_optional
from crossattn.evidence._two_graphs import TwoGraphDetector, check_returns, scale_by_volatility

__all__ = [
    "TwoGraphDetector",
    "correlation_breakdown",
    "correlation_level",
    "hindsight_change_points",
    "refit_times",
    "volatility_level",
]

SHORTEST = 50  # rows between two change points


def volatility_level(returns: pd.DataFrame, *, half_life: float = 24.0) -> pd.Series:
    """Volatility of the market: mean log volatility of its assets, exponentially weighted.

    Parameters
    ----------
    returns : DataFrame of shape (T, N)
        Log returns by symbol, indexed by the close time at which each row is known. NaN is skipped.
    half_life : float
        Half-life of the weights, in bars.

    Returns
    -------
    Series of shape (T,)
        Mean over assets of the log of the weighted root mean square, row t of the returns up to t;
        NaN before the first return.

    Examples
    --------
    >>> returns = pd.DataFrame({"A": [0.01, -0.01, 0.05]})
    >>> volatility_level(returns, half_life=1).round(2).tolist()
    [-4.61, -4.61, -3.26]
    """
    returns = check_returns(returns, half_life)
    variance = (returns**2).ewm(halflife=half_life, ignore_na=True).mean()
    return (0.5 * np.log(variance.where(variance > 0))).mean(axis=1).rename("volatility_level")


def correlation_level(returns: pd.DataFrame, *, half_life: float = 96.0) -> pd.Series:
    """Correlation of the market: mean pairwise correlation, exponentially weighted.

    Parameters
    ----------
    returns : DataFrame of shape (T, N)
        Log returns, at least two assets; known at the row's close time. NaN is skipped: a pair
        uses the bars that both assets have.
    half_life : float
        Half-life of the weights, in bars.

    Returns
    -------
    Series of shape (T,)
        In [-1, 1]; NaN until all pairs have returns in common.

    Notes
    -----
    Returns are first divided by the volatility known one bar before: a volatile day is not
    correlated.

    References
    ----------
    Forbes, K. and Rigobon, R. (2002), "No Contagion, Only Interdependence".

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> common = rng.normal(size=500)
    >>> together = pd.DataFrame({k: common + 0.1 * rng.normal(size=500) for k in "ABC"})
    >>> bool(correlation_level(together).iloc[-1] > 0.9)
    True
    """
    correlation = _correlations(check_returns(returns, half_life, at_least=2), half_life)
    n_assets = correlation.shape[-1]
    total = correlation.sum(axis=(1, 2)) - n_assets
    level = total / (n_assets * (n_assets - 1))
    return pd.Series(level, index=returns.index, name="correlation_level")


def correlation_breakdown(
    returns: pd.DataFrame,
    *,
    fast: float = 24.0,
    slow: float = 480.0,
    memory: int = 2_000,
    quantile: float = 0.99,
) -> pd.DataFrame:
    """Correlation breakdown alarm: the recent correlation matrix against a slow one.

    Parameters
    ----------
    returns : DataFrame of shape (T, N)
        As in :func:`correlation_level`.
    fast, slow : float
        Half-lives, in bars, of the recent correlation matrix and of the slow one.
    memory : int
        Past distances that set the threshold; no alarm before as many are known.
    quantile : float
        Quantile of the past distances that is the threshold.

    Returns
    -------
    DataFrame of shape (T, 3)
        ``distance`` (root mean square difference of the two matrices off the diagonal),
        ``threshold`` (from rows before this one), ``alarm`` (bool).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> calm = rng.normal(size=(3000, 4))
    >>> crisis = rng.normal(size=(100, 1)) + 0.2 * rng.normal(size=(100, 4))
    >>> alarms = correlation_breakdown(pd.DataFrame(np.vstack([calm, crisis])))["alarm"]
    >>> bool(alarms.iloc[-50:].all()), bool(alarms.iloc[:2000].any())
    (True, False)
    """
    check_float("fast", fast, above=0, below=check_float("slow", slow, above=0))
    check_float("quantile", quantile, above=0, below=1)
    check_int("memory", memory)
    returns = check_returns(returns, slow, at_least=2)
    gap = _correlations(returns, fast) - _correlations(returns, slow)  # (T, N, N)
    off = ~np.eye(gap.shape[-1], dtype=bool)
    distance = pd.Series(np.sqrt((gap[:, off] ** 2).mean(axis=1)), index=returns.index)
    threshold = distance.shift(1).rolling(memory, min_periods=memory).quantile(quantile)
    table = {"distance": distance, "threshold": threshold, "alarm": distance > threshold}
    return pd.DataFrame(table)


def refit_times(alarms: pd.Series, *, at_least: int = 500) -> pd.DatetimeIndex:
    """Choose refit times from alarms, with a least distance between them.

    Parameters
    ----------
    alarms : Series of bool of shape (T,)
        Known at its index, such as the ``alarm`` of
        :func:`~crossattn.evidence.regimes.correlation_breakdown`.
    at_least : int
        Bars between two refits.

    Returns
    -------
    DatetimeIndex
        Moments at which a refit starts, using bars up to then.

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=6, freq="h", tz="UTC")
    >>> alarms = pd.Series([False, True, True, False, True, False], index=times)
    >>> refit_times(alarms, at_least=3).hour.tolist()
    [1, 4]
    """
    if not isinstance(alarms, pd.Series) or alarms.dtype != bool:
        kind = getattr(alarms, "dtype", type(alarms).__name__)
        raise InvalidInputError(f"alarms must be a Series of bool, got {kind}")
    check_int("at_least", at_least)
    chosen: list[int] = []
    for row in np.flatnonzero(alarms):
        if not chosen or row - chosen[-1] >= at_least:
            chosen.append(row)
    return alarms.index[chosen]


def hindsight_change_points(score: pd.Series, *, penalty: float = 10.0) -> pd.DatetimeIndex:
    """Change points of the mean of a whole series: for analysis, never for trading.

    Parameters
    ----------
    score : Series of shape (T,)
        Any score of this module, without NaN.
    penalty : float
        Cost of one more change, in variances of the score.

    Returns
    -------
    DatetimeIndex
        First moment of each new segment. **Uses the future**: a change is dated by what came after.

    References
    ----------
    Killick, R., Fearnhead, P. and Eckley, I. (2012), "Optimal Detection of Changepoints With a
    Linear Computational Cost".
    """
    ruptures = import_optional("ruptures", "hindsight_change_points", "book")
    check_type("score", score, pd.Series, "a Series")
    check_float("penalty", penalty, above=0)
    values = check_numbers("score", score)
    if len(values) < 2 * SHORTEST or not np.isfinite(values).all():
        raise InvalidInputError(
            f"score must be at least {2 * SHORTEST} finite numbers, got shape {values.shape}"
        )
    scaled = (values - values.mean()) / (values.std() or 1.0)
    search = ruptures.KernelCPD(kernel="linear", min_size=SHORTEST).fit(scaled[:, None])
    return score.index[search.predict(pen=penalty)[:-1]]


def _correlations(returns: pd.DataFrame, half_life: float) -> np.ndarray:
    """Exponentially weighted correlation matrices of volatility-scaled returns, ``(T, N, N)``."""
    scaled = scale_by_volatility(returns, half_life).to_numpy()
    mean = _weighted_mean(scaled[:, :, None] * scaled[:, None, :], half_life)
    both = np.where(np.isnan(scaled), np.nan, 1.0)[:, None, :]
    power = _weighted_mean(scaled[:, :, None] ** 2 * both, half_life)  # of i on bars of both
    with np.errstate(invalid="ignore", divide="ignore"):
        return mean / np.sqrt(power * power.transpose(0, 2, 1))


def _weighted_mean(products: np.ndarray, half_life: float) -> np.ndarray:
    flat = pd.DataFrame(products.reshape(len(products), -1))
    mean = flat.ewm(halflife=half_life, ignore_na=True).mean()
    return mean.to_numpy().reshape(products.shape)
