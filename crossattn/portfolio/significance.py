"""Significance of Sharpe ratios: intervals, probabilistic and deflated Sharpe ratio.

Built in chapter: From paper to practice.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from crossattn._validation import check_array, check_choice, check_float, check_int
from crossattn.errors import InvalidInputError
from crossattn.portfolio.metrics import check_periods, check_returns


@dataclass(frozen=True)
class SharpeInterval:
    """An annual Sharpe ratio, its confidence interval and its standard error."""

    sharpe_ratio: float
    low: float
    high: float
    standard_error: float
    level: float  #: probability that the interval claims
    method: str  #: "hac" or "bootstrap"


def sharpe_interval(
    returns: pd.Series | np.ndarray,
    *,
    level: float = 0.95,
    method: str = "hac",
    lags: int | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    periods_per_year: float | None = None,
) -> SharpeInterval:
    """Confidence interval of a Sharpe ratio, robust to autocorrelation and fat tails.

    Parameters
    ----------
    returns : Series or ndarray of shape (T,)
        Net simple returns, at least ten.
    level : float
        Between 0 and 1.
    method : {"hac", "bootstrap"}
        ``hac``: delta method on the mean of (r, r²), whose long-run covariance is estimated with
        Bartlett weights. ``bootstrap``: percentiles over resamples in blocks of random length
        (stationary bootstrap).
    lags : int, optional
        Bartlett lags, or mean length of a block. None: 4 (T/100)^(2/9) lags, blocks of T^(1/3).
    n_resamples, seed : int
        Of the bootstrap.
    periods_per_year : float, optional
        Inferred from the index when None.

    Notes
    -----
    On 500 returns with an autocorrelation of .3, 95 % intervals cover 93 % of the time; with .8, as
    stale marks give, 80 % (89 % with 40 lags, or by bootstrap).

    References
    ----------
    Lo (2002), "The statistics of Sharpe ratios". Ledoit and Wolf (2008), "Robust performance
    hypothesis testing with the Sharpe ratio". Politis and Romano (1994), "The stationary
    bootstrap".

    Examples
    --------
    >>> r = np.random.default_rng(0).normal(0.001, 0.01, 500)
    >>> interval = sharpe_interval(r, periods_per_year=252)
    >>> interval.low < 252**0.5 * 0.1 < interval.high
    True
    """
    values = _varying(returns)
    periods = check_periods(returns, periods_per_year)
    check_float("level", level, above=0, below=1)
    check_choice("method", method, ("hac", "bootstrap"))
    if lags is not None:
        check_float("lags", lags, at_least=0, below=len(values))
    root = np.sqrt(periods)
    estimate = values.mean() / values.std(ddof=1) * root
    if method == "hac":
        error = _robust_error(values, lags) * root
        reach = ndtri((1 + level) / 2) * error
        low, high = estimate - reach, estimate + reach
    else:
        check_int("n_resamples", n_resamples, at_least=100)
        check_int("seed", seed, at_least=0)
        block = max(1.0, float(lags) if lags is not None else len(values) ** (1 / 3))
        draws = _bootstrap_sharpes(values, block, n_resamples, seed) * root
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
        error = draws.std(ddof=1)
    return SharpeInterval(float(estimate), float(low), float(high), float(error), level, method)


def probabilistic_sharpe(
    returns: pd.Series | np.ndarray,
    benchmark: float = 0.0,
    *,
    periods_per_year: float | None = None,
) -> float:
    """Probabilistic Sharpe ratio: probability that the true one exceeds a benchmark.

    Parameters
    ----------
    returns, periods_per_year
        As in :func:`sharpe_interval`.
    benchmark : float
        Annual Sharpe ratio to exceed.

    Returns
    -------
    float
        Between 0 and 1.

    Notes
    -----
    With S the Sharpe ratio a bar, S* the benchmark a bar, g3 skewness and g4 kurtosis:
    Φ((S - S*) √(T - 1) / √(1 - g3 S + (g4 - 1)/4 S²)). Independent returns are assumed.

    References
    ----------
    Bailey and López de Prado (2012), "The Sharpe ratio efficient frontier".

    Examples
    --------
    >>> r = np.random.default_rng(0).normal(0.001, 0.01, 500)
    >>> probabilistic_sharpe(r, periods_per_year=252) > 0.9
    True
    """
    from scipy.stats import kurtosis, skew  # slow to load; orders need not wait for them

    values = _varying(returns)
    check_float("benchmark", benchmark)
    root = np.sqrt(check_periods(returns, periods_per_year))
    ratio = values.mean() / values.std(ddof=1)
    tails = 1 - skew(values) * ratio + (kurtosis(values, fisher=False) - 1) / 4 * ratio**2
    return float(ndtr((ratio - benchmark / root) * np.sqrt((len(values) - 1) / tails)))


def expected_best_sharpe(n_trials: int, deviation: float) -> float:
    """Expected maximum Sharpe ratio of several strategies without skill.

    Parameters
    ----------
    n_trials : int
        All that were tried, also those without a record.
    deviation : float
        Standard deviation of the trials' Sharpe ratios.

    Returns
    -------
    float
        In the units of ``deviation``; 0 for a single trial.

    References
    ----------
    Bailey and López de Prado (2014), "The deflated Sharpe ratio".

    Examples
    --------
    >>> round(expected_best_sharpe(100, 0.5), 2)
    1.27
    """
    check_float("deviation", deviation, at_least=0)
    if check_int("n_trials", n_trials) == 1:
        return 0.0
    first, second = ndtri(1 - 1 / n_trials), ndtri(1 - 1 / (n_trials * np.e))
    return float(deviation * ((1 - np.euler_gamma) * first + np.euler_gamma * second))


def deflated_sharpe(
    returns: pd.Series | np.ndarray, trials: np.ndarray, *, periods_per_year: float | None = None
) -> float:
    """Deflated Sharpe ratio: is a strategy chosen as the best of many better than luck?

    Parameters
    ----------
    returns, periods_per_year
        As in :func:`sharpe_interval`; of the chosen strategy.
    trials : ndarray of shape (n_trials,)
        Annual Sharpe ratios of *every* strategy that was tried, the chosen one included.

    Returns
    -------
    float
        :func:`probabilistic_sharpe` against what the best of that many strategies without skill
        would show; at .95 and above the choice survives.

    Notes
    -----
    Leave no failure out of ``trials``. Counting trials that resemble each other as independent is
    the cautious side.

    References
    ----------
    Bailey and López de Prado (2014), "The deflated Sharpe ratio".

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> tries = rng.normal(0, 0.01, (200, 500))
    >>> sharpes = tries.mean(1) / tries.std(1, ddof=1) * 252**0.5
    >>> best = tries[sharpes.argmax()]
    >>> deflated_sharpe(best, sharpes, periods_per_year=252) < 0.95
    True
    >>> probabilistic_sharpe(best, periods_per_year=252) > 0.95
    True
    """
    tried = check_array("trials", trials, None).ravel()
    if not len(tried) or not np.isfinite(tried).all():
        raise InvalidInputError("trials must be finite Sharpe ratios, at least one")
    deviation = tried.std(ddof=1) if len(tried) > 1 else 0.0
    best = expected_best_sharpe(len(tried), float(deviation))
    return probabilistic_sharpe(returns, best, periods_per_year=periods_per_year)


def _varying(returns: pd.Series | np.ndarray) -> np.ndarray:
    values = check_returns(returns)
    if len(values) < 10:
        raise InvalidInputError(f"returns must have ten values or more, got {len(values)}")
    if np.ptp(values) <= 1e-14 * np.abs(values).max():
        raise InvalidInputError("returns must vary, got the same value throughout")
    return values


def _robust_error(values: np.ndarray, lags: int | None) -> float:
    """Standard error of S = mean / deviation, a bar: the delta method on (r, r²)."""
    n = len(values)
    lags = int(4 * (n / 100) ** (2 / 9)) if lags is None else int(lags)
    z = (values - values.mean()) / values.std()
    # with z the standardised return, a bar moves S by (z - S / 2 (z² - 1)) / n
    moved = z - values.mean() / values.std() / 2 * (z**2 - 1)
    long_run = moved @ moved
    for lag in range(1, lags + 1):
        long_run += 2 * (1 - lag / (lags + 1)) * (moved[lag:] @ moved[:-lag])
    return float(np.sqrt(long_run) / n)


def _bootstrap_sharpes(values: np.ndarray, block: float, n_resamples: int, seed: int) -> np.ndarray:
    """Sharpe ratio a bar of every resample, (n_resamples,)."""
    rng = np.random.default_rng(seed)
    n = len(values)
    sharpes = np.zeros(n_resamples)
    rows = max(1, 2_000_000 // n)  # resamples at a time: 16 MB of positions
    steps = np.arange(n)
    for start in range(0, n_resamples, rows):
        part = sharpes[start : start + rows]
        fresh = rng.random((len(part), n)) < 1 / block
        fresh[:, 0] = True
        origin = np.maximum.accumulate(np.where(fresh, steps, 0), axis=1)
        jump = rng.integers(0, n, fresh.shape)
        where = (np.take_along_axis(jump, origin, axis=1) + steps - origin) % n
        drawn = values[where]
        deviation = drawn.std(axis=1, ddof=1)
        np.divide(drawn.mean(axis=1), deviation, out=part, where=deviation > 0)
    return sharpes
