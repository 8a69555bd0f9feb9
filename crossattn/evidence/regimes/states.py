"""The states that returns show by themselves: how large they are, how much they move together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError


def volatility_level(returns: pd.DataFrame, *, half_life: float = 24.0) -> pd.Series:
    """Score how volatile the market is now: the mean log volatility of its assets.

    Parameters
    ----------
    returns : DataFrame of shape (T, N)
        Log returns by symbol, indexed by the close time at which each row is known. NaN is skipped.
    half_life : float
        Of the exponential weights, in bars.

    Returns
    -------
    Series of shape (T,)
        Mean over assets of the log of the weighted root mean square; NaN before the first return.

    Raises
    ------
    InvalidInputError
        ``returns`` is not a table of finite numbers or NaN, or ``half_life`` is not positive.

    Notes
    -----
    Known at the row's close time: row t weighs the returns up to t.
    Built in chapter: Regimes and walk-forward.

    Examples
    --------
    >>> returns = pd.DataFrame({"A": [0.01, -0.01, 0.05]})
    >>> volatility_level(returns, half_life=1).round(2).tolist()
    [-4.61, -4.61, -3.26]
    """
    returns = _check(returns, half_life)
    variance = (returns**2).ewm(halflife=half_life, ignore_na=True).mean()
    return (0.5 * np.log(variance.where(variance > 0))).mean(axis=1).rename("volatility_level")


def correlation_level(returns: pd.DataFrame, *, half_life: float = 96.0) -> pd.Series:
    """Score how much assets move together now: the mean pairwise correlation.

    Parameters
    ----------
    returns : DataFrame of shape (T, N)
        Log returns, at least two assets; known at the row's close time. NaN is skipped: a pair
        is measured on the bars that both assets have.
    half_life : float
        Of the exponential weights, in bars.

    Returns
    -------
    Series of shape (T,)
        In [-1, 1]; NaN until all assets have moved together.

    Raises
    ------
    InvalidInputError
        Fewer than two assets, or a value that is infinite.

    Notes
    -----
    Returns are first divided by the volatility known one bar before, so that a volatile day does
    not count as a correlated one (Forbes and Rigobon, 2002). With weights of effective length n
    the score has a standard error of about 1/sqrt(n) under independence.

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
    correlation = _correlations(_check(returns, half_life, at_least=2), half_life)
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
    """Alarm when the correlations of today are not those of the past months.

    Parameters
    ----------
    returns : DataFrame of shape (T, N)
        Log returns, at least two assets; known at the row's close time.
    fast, slow : float
        Half-lives, in bars, of today's correlation matrix and of the one it is held against.
    memory : int
        Bars of its own past that set the alarm's threshold; no alarm before as many are known.
    quantile : float
        The alarm sounds above this quantile of the past distances.

    Returns
    -------
    DataFrame of shape (T, 3)
        ``distance`` (root mean square difference of the two matrices off the diagonal),
        ``threshold`` (from rows before this one), ``alarm`` (bool).

    Raises
    ------
    InvalidInputError
        ``fast`` is not below ``slow``, ``quantile`` is not inside (0, 1), or there is no memory.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> calm = rng.normal(size=(3000, 4))
    >>> crisis = rng.normal(size=(100, 1)) + 0.2 * rng.normal(size=(100, 4))
    >>> alarms = correlation_breakdown(pd.DataFrame(np.vstack([calm, crisis])))["alarm"]
    >>> bool(alarms.iloc[-50:].all()), bool(alarms.iloc[:2000].any())
    (True, False)
    """
    if not 0 < fast < slow:
        raise InvalidInputError(f"fast must be above 0 and below slow, got {fast} and {slow}")
    if not 0 < quantile < 1:
        raise InvalidInputError(f"quantile must be inside (0, 1), got {quantile}")
    if memory < 1:
        raise InvalidInputError(f"memory must be at least 1, got {memory}")
    returns = _check(returns, slow, at_least=2)
    gap = _correlations(returns, fast) - _correlations(returns, slow)  # (T, N, N)
    off = ~np.eye(gap.shape[-1], dtype=bool)
    distance = pd.Series(np.sqrt((gap[:, off] ** 2).mean(axis=1)), index=returns.index)
    threshold = distance.shift(1).rolling(memory, min_periods=memory).quantile(quantile)
    return pd.DataFrame(
        {"distance": distance, "threshold": threshold, "alarm": distance > threshold}
    )


def markov_volatility(returns: pd.Series, *, n_train: int, seed: int = 0) -> pd.Series:
    """Filter the probability that one asset is in its volatile state (two states, Hamilton 1989).

    Parameters
    ----------
    returns : Series of shape (T,)
        Log returns of an asset or of an index; no NaN.
    n_train : int
        The model is fitted on the first ``n_train`` returns alone; later rows are only filtered.
    seed : int
        Of the search for starting values.

    Returns
    -------
    Series of shape (T,)
        Filtered, not smoothed: row t uses returns up to t. Rows before ``n_train`` used parameters
        fitted on them, and are for looking at, not for backtests.

    Raises
    ------
    InvalidInputError
        There is a NaN, or fewer than 100 returns to fit on, or none of them moves.

    References
    ----------
    Hamilton, J. (1989), "A New Approach to the Economic Analysis of Nonstationary Time Series and
    the Business Cycle". Through statsmodels' ``MarkovRegression``.
    """
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    values = np.asarray(returns, float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InvalidInputError("returns must be one series of finite numbers")
    if not 100 <= n_train <= len(values):
        raise InvalidInputError(f"n_train must be in [100, {len(values)}], got {n_train}")
    if not np.ptp(values[:n_train]) > 0:
        raise InvalidInputError(f"returns must vary in the first {n_train}, got {values[0]} always")
    scaled = values / values[:n_train].std()
    options = {"k_regimes": 2, "trend": "n", "switching_variance": True}
    fitted = MarkovRegression(scaled[:n_train], **options).fit(
        search_reps=5, search_iter=5, disp=False, rng=np.random.default_rng(seed)
    )
    filtered = MarkovRegression(scaled, **options).filter(fitted.params)
    volatile = int(np.argmax(fitted.params[-2:]))
    probability = filtered.filtered_marginal_probabilities[:, volatile]
    return pd.Series(probability, index=returns.index, name="volatile_state")


def _correlations(returns: pd.DataFrame, half_life: float) -> np.ndarray:
    """Exponentially weighted correlation matrices of volatility-scaled returns, ``(T, N, N)``."""
    variance = (returns**2).ewm(halflife=half_life, ignore_na=True).mean().shift(1)
    scaled = (returns / np.sqrt(variance.where(variance > 0))).clip(-6, 6).to_numpy()
    mean = _weighted_mean(scaled[:, :, None] * scaled[:, None, :], half_life)
    both = np.where(np.isnan(scaled), np.nan, 1.0)[:, None, :]
    power = _weighted_mean(scaled[:, :, None] ** 2 * both, half_life)  # of i where j is there too
    with np.errstate(invalid="ignore", divide="ignore"):
        return mean / np.sqrt(power * power.transpose(0, 2, 1))


def _weighted_mean(products: np.ndarray, half_life: float) -> np.ndarray:
    flat = pd.DataFrame(products.reshape(len(products), -1))
    mean = flat.ewm(halflife=half_life, ignore_na=True).mean()
    return mean.to_numpy().reshape(products.shape)


def _check(returns: pd.DataFrame, half_life: float, at_least: int = 1) -> pd.DataFrame:
    if not isinstance(returns, pd.DataFrame) or returns.shape[1] < at_least or not len(returns):
        raise InvalidInputError(
            f"returns must be a DataFrame (time, asset) of at least {at_least} assets, "
            f"got {type(returns).__name__} of shape {np.shape(returns)}"
        )
    if not half_life > 0:
        raise InvalidInputError(f"half_life must be above 0, got {half_life}")
    try:
        values = returns.astype(float)
    except (TypeError, ValueError):
        raise InvalidInputError("returns must hold numbers") from None
    if np.isinf(values.to_numpy()).any():
        raise InvalidInputError("returns must be finite or NaN, got an infinite value")
    return values
